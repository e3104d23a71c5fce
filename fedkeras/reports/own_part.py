"""What one client took part in: rounds trained and tested, on how many examples, its best loss; or one training."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedkeras.reports.headline import figure

Figures = Mapping[str, int | float | list[int] | list[float]]
"""A reply's metrics, as Flower's MetricRecord holds them."""


@dataclass(frozen=True)
class BestLoss:
    """The lowest loss, of `what` ("test" or "training"), and where it was."""

    what: str
    loss: float
    accuracy: float | None
    number: int

    def __str__(self) -> str:
        accuracy = "" if self.accuracy is None else f", accuracy {figure(self.accuracy)}"
        return f"best {self.what} loss {figure(self.loss)}{accuracy}, in round {self.number}"


@dataclass
class OwnPart:
    """Counts as things happen; `lines` says it in the end."""

    rounds: int = 0
    trained: set[int] = field(default_factory=set)
    tested: set[int] = field(default_factory=set)
    _examples: dict[str, int] = field(default_factory=dict)
    _best: dict[str, BestLoss] = field(default_factory=dict)
    _collected: str = ""
    _delivered: bool = False

    @property
    def last(self) -> int:
        """The newest round in which it trained; 0: none."""
        return max(self.trained, default=0)

    def has_trained(self, number: int, figures: Figures) -> None:
        """In round `number`, with these figures."""
        self.trained.add(number)
        self._note("training", number, figures)

    def has_tested(self, number: int, figures: Figures) -> None:
        """The global model of round `number`."""
        self.tested.add(number)
        self._note("test", number, figures)

    def has_collected(self, how: str) -> None:
        """It has trained once and for all: "k-fold on 150 examples"."""
        self._collected = how

    def has_delivered(self) -> None:
        """The server has confirmed a result."""
        self._delivered = True

    def lines(self) -> list[str]:
        """What it came to, each line a half sentence."""
        if self._collected:
            where = "the server has its model" if self._delivered else "its model is kept here, to be delivered later"
            return [f"trained once: {self._collected}", where]
        if not self.rounds:
            return ["delivered what it held"] if self._delivered else []
        part = f"trained in {len(self.trained)} of {self.rounds} rounds{self._on('training')}"
        part += f", tested in {len(self.tested)}{self._on('test', '')}" if self.tested else ""
        best = self._best.get("test") or self._best.get("training")
        return [part, *([str(best)] if best else [])]

    def _on(self, what: str, unit: str = " example") -> str:
        count = self._examples.get(what, 0)
        return f" on {count:,}{unit}{'s' * bool(unit and count != 1)}" if count else ""

    def _note(self, what: str, number: int, figures: Figures) -> None:
        self._examples[what] = int(figures.get("num-examples", 0))
        loss, accuracy = figures.get("loss"), figures.get("accuracy")
        if not isinstance(loss, int | float) or loss != loss:
            return
        before = self._best.get(what)
        if before is None or loss < before.loss:
            known = float(accuracy) if isinstance(accuracy, int | float) else None
            self._best[what] = BestLoss(what, float(loss), known, number)
