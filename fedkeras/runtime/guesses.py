"""How many passphrases strangers may try: so many a minute between them all, whoever and wherever they are.

A login is looked at as soon as it comes, as long as few were wrong lately; a right one costs nothing. When too many
were wrong, the others wait for their turn: those first from whose network the fewest wrong ones came, and of a network
the newest first, so that a client that comes now does not stand behind all the guesses that came before. Nothing is
ever locked: an address from which others guess is slower to join from, and only while they do.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

A_MINUTE = 20
"""Wrong passphrases a minute, of all strangers together; as many may come at once."""

IN_TURN, IN_TURN_OF_NETWORK = 64, 16
"""Logins that wait for their turn, and how many of them from one network; of more, the oldest are sent away."""

FIRST_DELAY, LONGEST_DELAY = 0.25, 8.0
"""Seconds after which a wrong passphrase is answered: more with each further one from the same network."""

FORGET_SECONDS = 600.0
NETWORKS = 4096
"""Networks with wrong passphrases that are remembered, and for how long."""


class TooManyGuesses(Exception):
    """Others wait for the turn of this login, and it has waited longest."""


@dataclass(eq=False)
class Turn:
    """A login that waits; `granted` is set when it may be looked at, or when it is sent away."""

    network: str
    granted: asyncio.Future[None]


class Guesses:
    """Gives logins their turns. For one asyncio loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left, self._since = float(A_MINUTE), clock()
        self._failures: dict[str, tuple[int, float]] = {}
        self._waiting: list[Turn] = []
        self._timer: asyncio.TimerHandle | None = None

    async def turn(self, network: str) -> None:
        """Wait until a login from this network may be looked at. Raises TooManyGuesses."""
        self._refill()
        if not self._waiting and self._left >= 1:
            self._left -= 1
            return
        turn = Turn(network, asyncio.get_running_loop().create_future())
        self._make_room(turn)
        self._waiting.append(turn)
        self._grant()
        try:
            await turn.granted
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif turn.granted.done() and not turn.granted.cancelled() and turn.granted.exception() is None:
                self.right()  # it left just when its turn had come
            raise

    def right(self) -> None:
        """The passphrase was right: that was no guess."""
        self._left = min(float(A_MINUTE), self._left + 1)
        self._grant()

    def wrong(self, network: str) -> float:
        """The passphrase was wrong. Returns after how many seconds that is to be said."""
        count = self._count(network) + 1
        self._failures.pop(network, None)
        if len(self._failures) >= NETWORKS:
            del self._failures[next(iter(self._failures))]
        self._failures[network] = count, self._clock()
        return min(FIRST_DELAY * 2 ** min(count - 1, 30), LONGEST_DELAY)

    def _count(self, network: str) -> int:
        count, last = self._failures.get(network, (0, 0.0))
        return count if self._clock() - last < FORGET_SECONDS else 0

    def _refill(self) -> None:
        now = self._clock()
        self._left = min(float(A_MINUTE), self._left + (now - self._since) * A_MINUTE / 60)
        self._since = now

    def _make_room(self, turn: Turn) -> None:
        """Send the oldest away where too many wait: of this network, or of the one that waits most."""
        own = [other for other in self._waiting if other.network == turn.network]
        if len(own) >= IN_TURN_OF_NETWORK:
            self._send_away(own[0])
        elif len(self._waiting) >= IN_TURN:
            networks = [other.network for other in self._waiting]
            busiest = max(networks, key=networks.count)
            self._send_away(next(other for other in self._waiting if other.network == busiest))

    def _send_away(self, turn: Turn) -> None:
        self._waiting.remove(turn)
        turn.granted.set_exception(TooManyGuesses())

    def _grant(self) -> None:
        """Give turns as long as there are any, and come back when there is the next one."""
        self._refill()
        while self._waiting and self._left >= 1:
            self._left -= 1
            self._waiting.pop(self._first()).granted.set_result(None)
        if self._waiting and self._timer is None:
            seconds = (1 - self._left) * 60 / A_MINUTE
            self._timer = asyncio.get_running_loop().call_later(seconds, self._next)

    def _first(self) -> int:
        """The place of whose turn it is: of the network with the fewest wrong ones, the newest."""
        return min(range(len(self._waiting)), key=lambda place: (self._count(self._waiting[place].network), -place))

    def _next(self) -> None:
        self._timer = None
        self._grant()
