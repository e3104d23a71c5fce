"""How much may be under way to the server at once, so that 300 clients that answer together do not fill its memory."""

import asyncio
import contextlib
import ctypes
import sys
from collections import deque


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


def release_free_memory() -> None:
    """Give the system back what is free. glibc keeps it between the small pieces gRPC reads: 2 MB a connection."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library; then it is as it is
            ctypes.CDLL("libc.so.6").malloc_trim(0)
