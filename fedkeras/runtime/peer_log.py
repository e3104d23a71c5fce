"""What the log says about a peer: enough to see what it does, and never more, whatever it does and how fast.

A client that joins and leaves a thousand times a second, or a stranger that is refused as often, would else fill the
disk and the terminal with lines that the server wrote itself.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from fedkeras.runtime.endpoints import network_of

log = logging.getLogger("fedkeras")

STRANGER_SECONDS, ALL_STRANGERS_SECONDS = 5.0, 1.0
"""Seconds from one line to the next about the same address, and about all addresses, while nobody has logged in."""

STRANGERS_AT_ONCE = 10
"""Lines about different addresses that may come together."""

CLIENT_SECONDS = 1.0
"""Seconds from one line to the next about clients at the same address, when the first ones are used up."""

Told = str | float | Exception
"""What a line's text has places for."""

LINES_AT_ONCE, LINE_SECONDS = 30, 2.0
"""Lines on a client's terminal about its connection: so many together, and one more each so many seconds."""

ADDRESSES = 4096
"""Addresses that are remembered."""


@dataclass
class Allowance:
    """Lines that may be written: up to `most`, one more each `seconds`. `left_out` were not written since the last."""

    most: float
    seconds: float
    lines: float
    since: float
    left_out: int = 0

    def take(self, now: float) -> bool:
        """True if there is a line, which is used up then."""
        self.lines = min(self.most, self.lines + (now - self.since) / self.seconds)
        self.since = now
        if self.lines < 1:
            return False
        self.lines -= 1
        return True


class LimitedLines:
    """Passes lines about one peer on to `write`: some at once, then one each few seconds, which counts the others."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._allowance = Allowance(LINES_AT_ONCE, LINE_SECONDS, LINES_AT_ONCE, clock())

    def __call__(self, line: str) -> None:
        """Pass a line on, or count it."""
        if not self._allowance.take(self._clock()):
            self._allowance.left_out += 1
            return
        left_out, self._allowance.left_out = self._allowance.left_out, 0
        self._write(f"{line} ({left_out} more lines are left out)" if left_out else line)


class PeerLog:
    """Writes lines about peers, each with an allowance of lines by its address (see `network_of`).

    `clients`: how many clients the run may have, all of whom may be at one address, join together and leave together.
    """

    def __init__(self, clients: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._client_lines = 20 + 4 * clients
        self._allowances: dict[tuple[bool, str], Allowance] = {}
        self._of_all_strangers = Allowance(STRANGERS_AT_ONCE, ALL_STRANGERS_SECONDS, STRANGERS_AT_ONCE, clock())

    def about_stranger(self, peer: str, text: str, *values: Told) -> None:
        """Warn about a peer that has not logged in."""
        self._write(logging.WARNING, False, peer, text, values)

    def about_client(self, level: int, peer: str, text: str, *values: Told) -> None:
        """Log something about a peer that has logged in."""
        self._write(level, True, peer, text, values)

    def _write(self, level: int, known: bool, peer: str, text: str, values: tuple[Told, ...]) -> None:
        address, now = network_of(peer), self._clock()
        allowance = self._allowances.pop((known, address), None) or (
            Allowance(self._client_lines, CLIENT_SECONDS, self._client_lines, now)
            if known
            else Allowance(1, STRANGER_SECONDS, 1, now)
        )
        while len(self._allowances) >= ADDRESSES:
            del self._allowances[next(iter(self._allowances))]
        self._allowances[known, address] = allowance  # the last one now: who is silent longest is forgotten first
        if not allowance.take(now) or not (known or self._of_all_strangers.take(now)):
            allowance.left_out += 1
            return
        more = f" ({allowance.left_out} more lines about {address} are left out)" if allowance.left_out else ""
        allowance.left_out = 0
        log.log(level, f"{text}%s", *values, more)
