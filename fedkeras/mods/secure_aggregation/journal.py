"""What became of each attempt at a secure sum, in the run's folder: clients lost by phase, clipping, times."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedkeras.atomic import replace_file
from fedkeras.errors import UserError
from fedkeras.mods.secure_aggregation.encoding import Quantised
from fedkeras.mods.secure_aggregation.plan import Outcome

NAME = "secure_aggregation.json"


@dataclass(frozen=True)
class SumEntry:
    """One attempt. Nothing in it is of a single client."""

    round: int
    kind: str
    attempt: int
    asked: int
    summed: int
    """Clients in the sum; 0: there was none."""
    lost: Mapping[str, int]
    """Clients by phase."""
    seconds: Mapping[str, float]
    degree: int = 0
    threshold: int = 0
    bits: int = 0
    """A value's, of a client that counts for one example; 0 where no update was summed."""
    clip: float = 0.0
    clipped: float = 0.0
    """Share of all clients' values that were cut off."""
    reason: str = ""


def entry_of(outcome: Outcome) -> SumEntry:
    """An attempt's line."""
    plan, terms = outcome.plan, outcome.terms
    seconds = {phase: round(value, 4) for phase, value in outcome.seconds.items()}
    common = (plan.round, plan.kind, plan.number, outcome.asked, outcome.clients, dict(outcome.lost), seconds)
    if terms is None:
        return SumEntry(*common, reason=outcome.reason)
    own = terms.encoding if isinstance(terms.encoding, Quantised) else None
    return SumEntry(
        *common,
        degree=terms.degree,
        threshold=terms.threshold,
        bits=own.bits if own else 0,
        clip=own.clip if own else 0.0,
        clipped=outcome.clipped / max(1, outcome.values),
        reason=outcome.reason,
    )


def write(path: Path, entries: Sequence[Mapping[str, object]]) -> None:
    """All entries anew, as tables."""
    replace_file(path, f"{json.dumps(list(entries), indent=1)}\n".encode())


def read(path: Path) -> list[SumEntry]:
    """The entries of a file; none if there is no file. Raises UserError for a damaged one."""
    try:
        return [SumEntry(**entry) for entry in json.loads(path.read_text())]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
