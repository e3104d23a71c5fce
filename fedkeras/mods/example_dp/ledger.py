"""What a run has asked of each client and what that has cost: example-privacy.json in its folder.

A client is entered before it is asked: whatever becomes of its answer, it may have sent one. After `kill -9` the entry
stands, and a round that is done again costs again. What one training is, a client says when it answers, from its number
of examples; of who has never answered nothing has been learned.
"""

import json
import statistics
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fedkeras.atomic import replace_file
from fedkeras.errors import UserError
from fedkeras.mods.example_dp.privacy_terms import PrivacyTerms, Table, Training

NAME = "example-privacy.json"


@dataclass
class Account:
    """One client's: how often it was asked to train, how many examples it has, and the costliest of its trainings."""

    asked: int = 0
    examples: int = 0
    training: Training | None = None

    def epsilon(self, delta: float) -> float | None:
        """What it may have spent; None while it has never answered."""
        return None if self.training is None else self.training.epsilon(delta, self.asked)


@dataclass(frozen=True)
class SpentRound:
    """A round that is over: the worst and the median epsilon of all clients that have answered by then."""

    round: int
    worst: float | None
    median: float | None


@dataclass
class ExampleLedger:
    """The accounts of one run. Without a path they are in memory: for a run that leaves nothing behind."""

    terms: PrivacyTerms
    path: Path | None = None
    accounts: dict[int, Account] = field(default_factory=dict)
    rounds: list[SpentRound] = field(default_factory=list)
    attempts: int = 0
    """Rounds that were begun, those that were done again too."""
    shows_clients: bool = True
    """False: another mod keeps single clients out of all that is kept; each is then taken to train in every attempt."""

    def open(self, path: Path, begun: bool) -> None:
        """Go on with the file at `path` if there is one; `begun`: the run has done rounds, so there must be.

        Raises UserError for a file that is missing, damaged, or of a run with other terms.
        """
        self.path = path
        if not begun and not path.exists():
            return
        terms, self.accounts, self.rounds, self.attempts = read(path)
        if terms != self.terms.table:
            raise UserError(f"--resume: {path} was written with other terms than this run's; start a new run")

    def charge(self, cids: Collection[int]) -> None:
        """These clients are about to be asked to train; it is on the disk when this returns."""
        self.attempts += 1
        for cid in cids if self.shows_clients else ():
            self.accounts.setdefault(cid, Account()).asked += 1
        self._write()

    def learn(self, cid: int, examples: int, training: Training) -> None:
        """What a client's answer says of its training. A round of fewer epochs counts as a whole one."""
        account = self.accounts.setdefault(cid, Account())
        account.examples = max(account.examples, examples)
        if account.training is None or training.steps > account.training.steps:
            account.training = training

    def end_round(self, server_round: int) -> SpentRound:
        """Enter what all have spent by now."""
        spent = self.spent()
        worst, median = (max(spent.values()), statistics.median(spent.values())) if spent else (None, None)
        entry = SpentRound(server_round, worst, median)
        self.rounds.append(entry)
        self._write()
        return entry

    def spent(self) -> dict[int, float]:
        """Epsilon of each client that has answered."""
        found = {cid: account.epsilon(self.terms.delta) for cid, account in sorted(self.accounts.items())}
        return {cid: epsilon for cid, epsilon in found.items() if epsilon is not None}

    def exhausted(self) -> str | None:
        """Whom one more round would take beyond the budget, in a few words; None: nobody."""
        if self.terms.calibrated and self.attempts >= self.terms.rounds:
            return "every client's noise is computed for no more rounds"
        for cid, account in self.accounts.items():
            if account.training is not None and not self.terms.allow(account.training, account.asked + 1):
                return f"client {cid}"
        return None

    def _write(self) -> None:
        if self.path is not None:
            table = {
                "terms": self.terms.table,
                "attempts": self.attempts,
                "clients": {str(cid): asdict(account) for cid, account in sorted(self.accounts.items())},
                "rounds": [asdict(entry) for entry in self.rounds],
            }
            replace_file(self.path, f"{json.dumps(table, indent=1)}\n".encode())


def read(path: Path) -> tuple[Table, dict[int, Account], list[SpentRound], int]:
    """Terms, accounts by cid, rounds and attempts of a file. Raises UserError where it is missing or is none."""
    try:
        table = json.loads(path.read_text())
        accounts = {int(cid): _account(**account) for cid, account in table["clients"].items()}
        return (
            dict(table["terms"]),
            accounts,
            [SpentRound(**entry) for entry in table["rounds"]],
            int(table["attempts"]),
        )
    except FileNotFoundError:
        raise UserError(f"{path} is missing, so nobody knows what was spent; start a new run") from None
    except (AttributeError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read, so nobody knows what was spent: {error}; start a new run") from error


def _account(asked: int, examples: int, training: dict[str, float] | None) -> Account:
    return Account(asked, examples, None if training is None else Training(**training))
