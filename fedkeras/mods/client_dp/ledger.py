"""What a run has spent: privacy.json in its folder, one entry a round, written before the round's model is used.

Whoever sees a model has seen it: after `kill -9` the entry stands whether the round was finished or not, and a round
that is done again costs again. Nothing is ever taken out of the file, not even by a resumption from a checkpoint.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from fedkeras.accountant import Mechanism
from fedkeras.atomic import replace_file
from fedkeras.errors import RunFailed, UserError

NAME = "privacy.json"

Terms = Mapping[str, float | int | bool | None]
"""What all entries have in common: noise, rate, delta, clients, budget, study."""


@dataclass(frozen=True)
class Entry:
    """A round that was paid for: epsilon is what all rounds up to it cost together, `bound` its clipping bound."""

    round: int
    epsilon: float
    bound: float
    share_within: float | None = None
    """The noisy share of clients within the bound; None where the bound is fixed."""


class Ledger:
    """The entries of one run. Without a path they are in memory: for a run that leaves nothing behind."""

    def __init__(self, mechanism: Mechanism, terms: Terms, path: Path | None = None, begun: bool = False) -> None:
        """Go on with the file at `path` if there is one; `begun`: the run has done rounds, so there must be.

        Raises UserError for a file that is missing, damaged, or of a run with other terms.
        """
        self._mechanism, self._terms, self._path = mechanism, dict(terms), path
        self.entries: list[Entry] = []
        if path is not None and (begun or path.exists()):
            before, self.entries = read(path)
            if before != self._terms:
                raise UserError(f"--resume: {path} was written with other terms than this run's; start a new run")

    @property
    def spent(self) -> float:
        """Epsilon of all entries together."""
        return self._mechanism.epsilon(len(self.entries))

    def has_room(self) -> bool:
        """Whether one more round keeps within the budget."""
        budget = self._terms.get("budget")
        return budget is None or self._mechanism.epsilon(len(self.entries) + 1) <= budget

    def charge(self, server_round: int, bound: float, share_within: float | None) -> float:
        """Enter a round whose result is about to be used; what is spent by then. It is on the disk when this returns.

        Raises RunFailed, before anything is entered, if the budget does not allow it.
        """
        if not self.has_room():
            raise RunFailed(f"another attempt at round {server_round} would exceed the privacy budget")
        epsilon = self._mechanism.epsilon(len(self.entries) + 1)
        entries = [*self.entries, Entry(server_round, epsilon, bound, share_within)]
        if self._path is not None:
            table = {"terms": self._terms, "rounds": [asdict(entry) for entry in entries]}
            replace_file(self._path, f"{json.dumps(table, indent=1)}\n".encode())
        self.entries = entries
        return epsilon


def read(path: Path) -> tuple[Terms, list[Entry]]:
    """The terms and entries of a file. Raises UserError where it is missing or is none."""
    try:
        table = json.loads(path.read_text())
        return dict(table["terms"]), [Entry(**entry) for entry in table["rounds"]]
    except FileNotFoundError:
        raise UserError(f"{path} is missing, so nobody knows what was spent; start a new run") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read, so nobody knows what was spent: {error}; start a new run") from error
