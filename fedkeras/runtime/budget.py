"""How much may be under way to the server at once, so that 300 clients that answer together do not fill its memory."""

import asyncio
import contextlib
import ctypes
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator


class Budget:
    """Bytes that messages under way may take; each waits for its share, first come first served.

    One that is larger than the whole budget goes when nothing else is under way. Used in one asyncio loop.
    """

    def __init__(self, size: int) -> None:
        self._size, self._used, self._passed = size, 0, 0
        self._queue: deque[tuple[int, asyncio.Future]] = deque()

    async def take(self, count: int) -> None:
        """Wait until `count` bytes are free."""
        turn = asyncio.get_running_loop().create_future()
        self._queue.append((count, turn))
        self._next()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(count)
            raise

    def give_back(self, count: int) -> None:
        """Free what was taken."""
        self._used -= count
        self._passed += count
        if self._passed > self._size:
            self._passed = 0
            release_free_memory()
        self._next()

    def _next(self) -> None:
        while self._queue and (not self._used or self._used + self._queue[0][0] <= self._size):
            count, turn = self._queue.popleft()
            if not turn.done():  # else whoever waited is gone
                self._used += count
                turn.set_result(None)


class Share:
    """What one message takes of a Budget until nobody holds it any more, or for `seconds`.

    Whoever is slower than that goes on beside the others, for they would wait for nothing else.
    """

    def __init__(self, budget: Budget, seconds: float) -> None:
        self._budget, self._seconds = budget, seconds
        self._count, self._timer = 0, None

    async def take(self, count: int) -> None:
        """Wait until `count` bytes are free."""
        await self._budget.take(count)
        self._count = count
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self.give_back)

    def give_back(self) -> None:
        """Free what was taken, if it is not free yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._budget.give_back(self._count)


class Slots:
    """So many may write at once; one that waits longer than `seconds` for its peer to read holds nobody up any more."""

    def __init__(self, count: int, seconds: float) -> None:
        self._free, self._seconds = asyncio.Semaphore(count), seconds

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[Callable[[], contextlib.AbstractContextManager]]:
        """Hold a slot meanwhile. Gives a context for each single write, which is what may take too long."""
        await self._free.acquire()
        held = True

        def release() -> None:
            nonlocal held
            if held:
                held = False
                self._free.release()

        @contextlib.contextmanager
        def one_write() -> Iterator[None]:
            timer = asyncio.get_running_loop().call_later(self._seconds, release)
            try:
                yield
            finally:
                timer.cancel()

        try:
            yield one_write
        finally:
            release()


def release_free_memory() -> None:
    """Give the system back what is free. glibc keeps it between the small pieces gRPC reads: 2 MB a connection."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library; then it is as it is
            ctypes.CDLL("libc.so.6").malloc_trim(0)
