"""What a client's own terminal shows of its work: a line a round, a bar meanwhile, and its part in all at the end."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from fedkeras.reports.headline import figure
from fedkeras.reports.own_part import Figures, OwnPart
from fedkeras.reports.progress_bar import ProgressBar

MOST = 10
"""Clients of one process that get a line each; of more, only the end is said."""

COLUMNS = (
    *(("round", 9), ("examples", 10), ("loss", 9), ("accuracy", 10), ("seconds", 9)),
    *(("test loss", 11), ("accuracy", 10)),
)
"""Titles and widths: with the program's name before them, and a client's number, a line fits 80 columns."""

WAITING = "waiting for the others"


@dataclass
class _Client:
    part: OwnPart = field(default_factory=OwnPart)
    waiting: tuple[int, list[str]] | None = None
    """A round whose training is done: its number, and the first cells of its line."""


class RoundLines:
    """Says what came of a client's training and test; a line waits for the test that mostly follows.

    Its methods may be called from any thread. `say`: where lines go; None: nowhere. `bar` shows, on a terminal, how far
    the rounds are: one for all clients of the process.
    """

    def __init__(
        self, say: Callable[[str], None] | None = None, clients: int = 1, bar: ProgressBar | None = None
    ) -> None:
        self._say, self._each, self._count, self._bar = say, clients <= MOST, clients, bar
        self._clients: dict[int, _Client] = {}
        self._titled = False
        self._lock = threading.Lock()

    @property
    def draws(self) -> bool:
        """Whether there is a bar to move within a round."""
        return self._bar is not None and self._bar.draws

    def at(self, cid: int, number: int, rounds: int, doing: str, share: float = 0.0) -> None:
        """A client is `doing` something in round `number` of `rounds`, of whose training `share` is done (0 to 1)."""
        if self._bar is None or not self._bar.draws:
            return
        with self._lock:
            others = sum(number in client.part.trained for other, client in self._clients.items() if other != cid)
            whose = "" if self._count == 1 else f"client {cid} "
            done = number - 1 + min((others + share) / self._count, 1.0)
            self._bar.in_rounds(f"round {number}/{rounds}", whose + doing, done, rounds)

    def trained(self, cid: int, number: int, rounds: int, figures: Figures) -> None:
        """A client has trained in round `number` of `rounds`."""
        with self._lock:
            client = self._clients.setdefault(cid, _Client())
            self._flush(cid, client)
            client.part.rounds = rounds
            client.part.has_trained(number, figures)
            examples, seconds = f"{int(figures.get('num-examples', 0))}", f"{float(figures.get('seconds', 0.0)):.2f}"
            client.waiting = (number, [examples, *_shown(figures), seconds])
        self.at(cid, number, rounds, WAITING, 1.0)

    def tested(self, cid: int, number: int, rounds: int, figures: Figures) -> None:
        """A client has tested the global model of a round; 0: of that in which it has trained last."""
        with self._lock:
            client = self._clients.setdefault(cid, _Client())
            number = number or client.part.last
            client.part.rounds = rounds
            client.part.has_tested(number, figures)
            if client.waiting and client.waiting[0] != number:
                self._flush(cid, client)
            cells = client.waiting[1] if client.waiting else ["-"] * 4
            client.waiting = None
            self._line(cid, client, number, [*cells, *_shown(figures)])
        self.at(cid, max(number, 1), rounds, WAITING if number < rounds else "done", 1.0)

    def collected(self, cid: int, how: str, figures: Figures) -> None:
        """A client has trained once and for all, `how`: "k-fold, 5 folds of 10 epochs"."""
        with self._lock:
            how = f"{how} on {int(figures.get('num-examples', 0)):,} examples"
            self._clients.setdefault(cid, _Client()).part.has_collected(how)
            named = [name for name in figures if name not in ("num-examples", "seconds")]
            shown = ", ".join(f"{name} {figure(figures[name])}" for name in named)
            if self._say and self._each:
                self._say(f"{self._whose(cid)}trained: {shown}; {float(figures.get('seconds', 0.0)):.1f} s")

    def delivered(self, cid: int) -> None:
        """The server has confirmed a result of a client's."""
        with self._lock:
            self._clients.setdefault(cid, _Client()).part.has_delivered()

    def close(self) -> None:
        """The process has no more to do: what was waiting is said, and what each client took part in."""
        if self._bar is not None:
            self._bar.close()
        with self._lock:
            for cid, client in sorted(self._clients.items()):
                self._flush(cid, client)
                for line in client.part.lines() if self._say and self._each else ():
                    self._say(f"{self._whose(cid)}{line}")
            if self._say and not self._each and self._clients:
                count = sum(len(client.part.trained) for client in self._clients.values())
                self._say(f"{len(self._clients)} clients of this process trained {count} times")
            self._clients.clear()

    def _whose(self, cid: int) -> str:
        return "" if self._count == 1 else f"client {cid} "

    def _flush(self, cid: int, client: _Client) -> None:
        if client.waiting is not None:
            self._line(cid, client, client.waiting[0], [*client.waiting[1], "-", "-"])
            client.waiting = None

    def _line(self, cid: int, client: _Client, number: int, cells: list[str]) -> None:
        if not (self._say and self._each):
            return
        if not self._titled:
            self._titled = True
            self._say(("" if self._count == 1 else "cid") + "".join(f"{title:>{width}}" for title, width in COLUMNS))
        cells = [f"{number}/{client.part.rounds}", *cells]
        line = "".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, COLUMNS, strict=True))
        self._say(("" if self._count == 1 else f"{cid:>3}") + line)


def _shown(figures: Figures) -> list[str]:
    return [figure(figures.get(name)) for name in ("loss", "accuracy")]


shown = RoundLines()
"""This process's; client.py puts one in its place that speaks."""
