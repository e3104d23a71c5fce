"""What a run with `--mods dp-sgd` promises each example, and what that allows to be done with it."""

from collections.abc import Mapping
from dataclasses import dataclass

from fedkeras.accountant import Mechanism

Table = Mapping[str, float | int | bool | None]


@dataclass(frozen=True)
class Training:
    """One client's training in a round: the noise multiplier, the rate of its Poisson batches, and noisy sums made."""

    noise: float
    rate: float
    steps: int

    def epsilon(self, delta: float, times: int = 1) -> float:
        """What so many trainings cost."""
        return Mechanism(self.noise, self.rate, delta).epsilon(self.steps * times)


@dataclass(frozen=True)
class PrivacyTerms:
    """`noise` 0: each client computes its own, so that `rounds` trainings keep within `budget`, which is then there.

    `budget` None: nothing ends a run. `epochs` are those of a whole training.
    """

    delta: float
    clip: float
    budget: float | None
    noise: float
    rounds: int
    epochs: int
    study: bool

    @property
    def calibrated(self) -> bool:
        """Whether the noise is computed for the budget, rather than given."""
        return not self.noise

    @property
    def objective(self) -> str:
        """The client's objective, as a train message names it."""
        numbers = f"clip={self.clip!r},study={str(self.study).lower()}"
        if not self.calibrated:
            return f"dp-sgd:{numbers},noise={self.noise!r}"
        return (
            f"dp-sgd:{numbers},epsilon={self.budget!r},delta={self.delta!r},rounds={self.rounds},epochs={self.epochs}"
        )

    def allow(self, training: Training, times: int, sums: int | None = None) -> bool:
        """Whether a client may have trained so often: by what one training is, or by the noisy `sums` before this."""
        if self.budget is None:
            return True
        if self.calibrated:  # the noise was computed for just so many
            return times <= self.rounds
        if sums is None:
            return training.epsilon(self.delta, times) <= self.budget
        return Mechanism(training.noise, training.rate, self.delta).epsilon(sums + training.steps) <= self.budget

    @property
    def table(self) -> Table:
        """For the ledger."""
        return {
            "delta": self.delta,
            "clip": self.clip,
            "budget": self.budget,
            "noise": self.noise or None,
            # Where the noise is given, a resumed run may do more rounds
            "rounds": self.rounds if self.calibrated else None,
            "study": self.study,
        }
