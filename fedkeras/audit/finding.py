"""What an attack found, what the run claims against it, and whether the two contradict."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fedkeras.reports.run_folder import JsonTable

REFUTED, HOLDS, NO_CLAIM, NO_BOUND = "refuted", "not refuted", "nothing is claimed", "no bound"
BESIDE = "shown beside"


@dataclass(frozen=True)
class Scores:
    """The attacker's statistic, of what was trained on and of what was not, for a picture of both."""

    label: str
    """What it is, for the axis."""
    included: Sequence[float]
    left_out: Sequence[float]


@dataclass(frozen=True)
class Finding:
    """One attack's result. `bound` is a lower bound on epsilon that holds at `confidence`."""

    attack: str
    """Its name, as --attacks has it."""
    title: str
    """What was tried, in a few words: for the table."""
    sees: str
    """What the attacker sees and knows, in a sentence."""
    unit: str = ""
    """Whose presence epsilon is about: client, or example."""
    claimed: float | None = None
    """The epsilon that the run claims for that unit; None: it claims none."""
    delta: float = 0.0
    bound: float | None = None
    """None: the attack gives no bound."""
    confidence: float = 0.95
    most: float | None = None
    """The bound if every guess were right: no larger one could have come of this attack."""
    estimate: float | None = None
    """What epsilon looks like, without any confidence."""
    figures: Mapping[str, float | int | str] = field(default_factory=dict)
    """What else was measured, by a name that a reader understands."""
    decides: bool = True
    """False: another finding of the same attack decides about the claim, so that confidence is not spent twice."""
    notes: Sequence[str] = ()
    """What must be known to read it, a sentence each."""
    scores: Scores | None = None
    tables: Sequence["FigureTable"] = ()
    pictures: Sequence[str] = ()
    """Names of image files (SVG or PNG) that the attack has written into the audit's folder."""

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if self.bound is None:
            return NO_BOUND
        if self.claimed is None:
            return NO_CLAIM
        if not self.decides:
            return BESIDE
        return REFUTED if self.bound > self.claimed else HOLDS

    def to_json(self) -> JsonTable:
        """As audit.json has it."""
        return dataclasses.asdict(self) | {"verdict": self.verdict}


@dataclass(frozen=True)
class FigureTable:
    """More figures of a finding, such as a line a client."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[float | int | str | None]]


def of_json(table: JsonTable) -> Finding:
    """The finding that `to_json` has written. Raises TypeError or KeyError for another table."""
    own = {key: value for key, value in table.items() if key != "verdict"}
    own["scores"] = Scores(**own["scores"]) if own.get("scores") else None
    own["tables"] = [FigureTable(**each) for each in own.get("tables", ())]
    return Finding(**own)
