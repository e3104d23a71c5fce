"""How much may be under way to the server at once, so that 300 clients that reply together do not fill its memory."""

import asyncio
import contextlib
import ctypes
import heapq
import itertools
import sys
from collections.abc import AsyncIterator, Callable, Iterator

MOVE_SECONDS = 1.0
"""How often it is tried again to take a slow reply from the budget for slow ones."""


class Budget:
    """Bytes of memory that messages under way may take; each waits for its own, by place, then first come first served.

    With replies in the order in which they were asked for, which is that in which they are summed, few come before
    their turn and must be kept. A message that is larger than the whole budget is let in when nothing else is under
    way. For one asyncio loop.
    """

    def __init__(self, size: int) -> None:
        self._size, self._used, self._passed = size, 0, 0
        self._queue: list[tuple[int, int, int, asyncio.Future[None]]] = []
        self._arrivals = itertools.count()

    async def acquire(self, count: int, place: int = 0) -> None:
        """Wait until `count` bytes are free; who has a lower place is let in before."""
        granted = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (place, next(self._arrivals), count, granted))
        self._next()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.release(count)
            else:
                self._next()  # who waited behind it need not wait for a release
            raise

    def take(self, count: int) -> bool:
        """Take `count` bytes if they are free at once; True if they were."""
        if self._queue or not self._fits(count):
            return False
        self._used += count
        return True

    def release(self, count: int) -> None:
        """Free what was taken."""
        self._used -= count
        self._passed += count
        if self._passed > self._size:
            self._passed = 0
            return_free_memory()
        self._next()

    def _next(self) -> None:
        # A waiting task that was cancelled leaves the queue, whether or not there would have been room for it.
        while self._queue and (self._queue[0][3].done() or self._fits(self._queue[0][2])):
            *_, count, granted = heapq.heappop(self._queue)
            if not granted.done():
                self._used += count
                granted.set_result(None)

    def _fits(self, count: int) -> bool:
        return not self._used or self._used + count <= self._size


class Reservation:
    """What one reply takes of the memory for replies, until nobody holds it any more.

    After `seconds` it is taken from the budget for `slow` ones, where that has room, and no longer holds up the others.
    """

    def __init__(self, budget: Budget, slow: Budget, seconds: float) -> None:
        self._held_of, self._slow, self._seconds = budget, slow, seconds
        self._count = 0
        self._delivered = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_held(self) -> bool:
        """True from `acquire` to `release`."""
        return self._timer is not None

    async def acquire(self, count: int, place: int = 0) -> None:
        """Wait until `count` bytes are free; who has a lower place is let in before."""
        await self._held_of.acquire(count, place)
        self._count = count
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._move)

    def deliver(self) -> None:
        """The reply is whole and lies ready for the round loop, which may wait for another one first.

        If neither budget has room for it for long, it no longer counts: that other one could never arrive.
        """
        self._delivered = True

    def release(self) -> None:
        """Free what was taken, if it is not free yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._held_of.release(self._count)

    def _move(self) -> None:
        if self._slow.take(self._count):
            self._held_of.release(self._count)
            self._held_of = self._slow
        elif self._delivered:
            self.release()
        else:
            self._timer = asyncio.get_running_loop().call_later(MOVE_SECONDS, self._move)


class Slots:
    """How many may write at once.

    A write that takes longer than `seconds`, as its peer does not read, no longer counts among them.
    """

    def __init__(self, count: int, seconds: float) -> None:
        self._free, self._seconds = asyncio.Semaphore(count), seconds

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[Callable[[], contextlib.AbstractContextManager]]:
        """Hold a slot meanwhile. Gives a context manager for each single write, which is what may take too long."""
        await self._free.acquire()
        held = True

        def free_slot() -> None:
            nonlocal held
            if held:
                held = False
                self._free.release()

        @contextlib.contextmanager
        def one_write() -> Iterator[None]:
            timer = asyncio.get_running_loop().call_later(self._seconds, free_slot)
            try:
                yield
            finally:
                timer.cancel()

        try:
            yield one_write
        finally:
            free_slot()


def return_free_memory() -> None:
    """Return free memory to the system: glibc keeps it between the small pieces that gRPC reads, 2 MB a connection."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library, where nothing can be done
            ctypes.CDLL("libc.so.6").malloc_trim(0)
