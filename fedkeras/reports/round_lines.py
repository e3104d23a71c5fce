"""What a client's own terminal shows of rounds: a line each, in training and on its test set, and its part in all."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fedkeras.reports.headline import figure

MOST = 10
"""Clients of one process that get a line each; of more, only the end is said."""

Figures = Mapping[str, int | float | list[int] | list[float]]
"""A reply's metrics, as Flower's MetricRecord holds them."""

COLUMNS = (
    *(("round", 9), ("examples", 10), ("loss", 9), ("accuracy", 10), ("seconds", 9)),
    *(("test loss", 11), ("accuracy", 10)),
)
"""Titles and widths: with the program's name before them, and a client's number, a line fits 80 columns."""


@dataclass
class _Client:
    trained: set[int] = field(default_factory=set)
    rounds: int = 0
    waiting: tuple[int, list[str]] | None = None
    """A round whose training is done: its number, and the first cells of its line."""


class RoundLines:
    """Says what came of a client's training and test; a line waits for the test that mostly follows.

    Its methods may be called from any thread. `say`: where lines go; None: nowhere.
    """

    def __init__(self, say: Callable[[str], None] | None = None, clients: int = 1) -> None:
        self._say, self._each, self._alone = say, clients <= MOST, clients == 1
        self._clients: dict[int, _Client] = {}
        self._titled = False
        self._lock = threading.Lock()

    def trained(self, cid: int, number: int, rounds: int, figures: Figures) -> None:
        """A client has trained in round `number` of `rounds`."""
        with self._lock:
            client = self._clients.setdefault(cid, _Client())
            self._flush(cid, client)
            client.trained.add(number)
            client.rounds = rounds
            examples, seconds = f"{int(figures.get('num-examples', 0))}", f"{float(figures.get('seconds', 0.0)):.2f}"
            client.waiting = (number, [examples, *_shown(figures), seconds])

    def tested(self, cid: int, number: int, rounds: int, figures: Figures) -> None:
        """A client has tested the global model of a round."""
        with self._lock:
            client = self._clients.setdefault(cid, _Client())
            client.rounds = rounds
            if client.waiting and client.waiting[0] != number:
                self._flush(cid, client)
            cells = client.waiting[1] if client.waiting else ["-"] * 4
            client.waiting = None
            self._line(cid, client, number, [*cells, *_shown(figures)])

    def close(self) -> None:
        """The process has no more to do: what was waiting is said, and what each client took part in."""
        with self._lock:
            for cid, client in sorted(self._clients.items()):
                self._flush(cid, client)
                if self._say and self._each:
                    whose = "" if self._alone else f"client {cid} "
                    self._say(f"{whose}trained in {len(client.trained)} of {client.rounds} rounds")
            if self._say and not self._each and self._clients:
                count = sum(len(client.trained) for client in self._clients.values())
                self._say(f"{len(self._clients)} clients of this process trained {count} times")
            self._clients.clear()

    def _flush(self, cid: int, client: _Client) -> None:
        if client.waiting is not None:
            self._line(cid, client, client.waiting[0], [*client.waiting[1], "-", "-"])
            client.waiting = None

    def _line(self, cid: int, client: _Client, number: int, cells: list[str]) -> None:
        if not (self._say and self._each):
            return
        if not self._titled:
            self._titled = True
            self._say(("" if self._alone else "cid") + "".join(f"{title:>{width}}" for title, width in COLUMNS))
        cells = [f"{number}/{client.rounds}", *cells]
        line = "".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, COLUMNS, strict=True))
        self._say(("" if self._alone else f"{cid:>3}") + line)


def _shown(figures: Figures) -> list[str]:
    return [figure(figures.get(name)) for name in ("loss", "accuracy")]


shown = RoundLines()
"""This process's; client.py puts one in its place that speaks."""
