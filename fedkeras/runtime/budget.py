"""How much may be under way to the server at once, so that 300 clients that reply together do not fill its memory."""

import asyncio
import contextlib
import ctypes
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator


class Budget:
    """Bytes of memory that messages under way may take; each waits for its own, first come first served.

    A message that is larger than the whole budget is let in when nothing else is under way. For one asyncio loop.
    """

    def __init__(self, size: int) -> None:
        self._size, self._used, self._passed = size, 0, 0
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def acquire(self, count: int) -> None:
        """Wait until `count` bytes are free."""
        granted = asyncio.get_running_loop().create_future()
        self._queue.append((count, granted))
        self._next()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.release(count)
            raise

    def release(self, count: int) -> None:
        """Free what was taken."""
        self._used -= count
        self._passed += count
        if self._passed > self._size:
            self._passed = 0
            return_free_memory()
        self._next()

    def _next(self) -> None:
        while self._queue and (not self._used or self._used + self._queue[0][0] <= self._size):
            count, granted = self._queue.popleft()
            if not granted.done():  # else the waiting task was cancelled
                self._used += count
                granted.set_result(None)


class Reservation:
    """What one message takes of a Budget: until nobody holds the message any more, but at most for `seconds`.

    A client that is slower than that keeps sending, and no longer holds up the others.
    """

    def __init__(self, budget: Budget, seconds: float) -> None:
        self._budget, self._seconds = budget, seconds
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    async def acquire(self, count: int) -> None:
        """Wait until `count` bytes are free."""
        await self._budget.acquire(count)
        self._count = count
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self.release)

    def release(self) -> None:
        """Free what was taken, if it is not free yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._budget.release(self._count)


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
