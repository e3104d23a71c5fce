"""A TCP proxy under a test's control: it cuts, stalls, delays, truncates and records what passes through it.

`up` is from the client to the server, `down` the way back. The proxy has a thread and an asyncio loop of its own; its
methods may be called from any thread and have taken effect when they return.
"""

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable

UP, DOWN = "up", "down"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
CHUNK_BYTES = 1 << 16


class Connection:
    """One client's connection: a pair of streams, and for each direction a gate that a stall closes."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.writers = {UP: server, DOWN: client}
        self.gates = {UP: asyncio.Event(), DOWN: asyncio.Event()}
        for gate in self.gates.values():
            gate.set()

    def close(self, reset: bool) -> None:
        """End both sides at once; what is in the proxy's buffers is lost."""
        for gate in self.gates.values():
            gate.set()
        for writer in self.writers.values():
            if reset:
                with contextlib.suppress(OSError):
                    peer = writer.get_extra_info("socket")
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            writer.transport.abort()


class Proxy:
    """Listens on a free loopback port until it is left as a context manager.

    `target` is the server's "host:port", which may be changed; `delay` are seconds before each chunk of up to 64 kB;
    `rate` are bytes a second that each connection carries in each direction, 0: as many as come.
    With `record`, `recorded[UP]` and `recorded[DOWN]` are all bytes that passed, over all connections.
    """

    def __init__(self, target: str, record: bool = False) -> None:
        self.target, self.delay, self.rate = target, 0.0, 0.0
        self.recorded = {UP: bytearray(), DOWN: bytearray()} if record else None
        self.passed = {UP: 0, DOWN: 0}
        """Bytes forwarded so far."""
        self.accepted = 0
        """Connections so far."""
        self.last_cut = 0.0
        """When connections were ended by the proxy, on time.monotonic's clock."""
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task] = set()
        self._left: dict[str, int | None] = {UP: None, DOWN: None}
        self._last_chunk: dict[str, int | None] = {UP: None, DOWN: None}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._port, self._listener = 0, None

    @property
    def address(self) -> str:
        """What clients connect to."""
        return f"127.0.0.1:{self._port}"

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._connections)

    def cut(self, reset: bool = False) -> None:
        """End all connections now, with FIN, or with RST as where a machine was switched off and on again."""
        self._call(lambda: self._cut(reset))

    def cut_after(self, count: int, direction: str) -> None:
        """End all connections when `count` more bytes have gone in this direction."""
        self._left[direction] = count

    def truncate(self, count: int, direction: str) -> None:
        """Forward `count` bytes of the next chunk in this direction, then end all connections."""
        self._last_chunk[direction] = count

    def stall(self, *directions: str) -> None:
        """Forward nothing more on the connections that are open, not even their end: the peer's machine has vanished.

        New connections pass. Without a direction it is both.
        """
        self._call(lambda: self._gates(directions, asyncio.Event.clear))

    def go_on(self) -> None:
        """End the stall; what was held back is forwarded."""
        self._call(lambda: self._gates((), asyncio.Event.set))

    def refuse(self) -> None:
        """Refuse new connections."""
        self._call(self._listener.close)

    def accept(self) -> None:
        """Take new connections again, on the same port."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def __enter__(self) -> "Proxy":
        self._thread.start()
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Callable[[], None]) -> None:
        async def run() -> None:
            work()
            await asyncio.sleep(0)  # asyncio closes an aborted socket in the loop's next turn

        asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._connected, "127.0.0.1", self._port, backlog=1024)
        self._port = self._listener.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._listener.close()
        self._cut(False)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _cut(self, reset: bool) -> None:
        self.last_cut = time.monotonic()
        for connection in self._connections:
            connection.close(reset)
        self._connections.clear()

    def _gates(self, directions: tuple[str, ...], change: Callable[[asyncio.Event], None]) -> None:
        for connection in self._connections:
            for direction in directions or (UP, DOWN):
                change(connection.gates[direction])

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.accepted += 1
        host, _, port = self.target.rpartition(":")
        try:
            from_server, to_server = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()  # nobody is there
            return
        connection = Connection(writer, to_server)
        self._connections.add(connection)
        try:
            await asyncio.gather(self._pump(connection, UP, reader), self._pump(connection, DOWN, from_server))
        except (OSError, asyncio.CancelledError):
            pass  # one side reset it, so the other is ended too; or the proxy stops, over which asyncio would complain
        finally:
            connection.close(False)
            self._connections.discard(connection)

    async def _pump(self, connection: Connection, direction: str, reader: asyncio.StreamReader) -> None:
        writer, gate = connection.writers[direction], connection.gates[direction]
        free = 0.0  # when the link has carried what came before, on the loop's clock
        while True:
            try:
                data = await reader.read(CHUNK_BYTES)
            finally:
                await gate.wait()  # also before an end or an error is passed on
            if not data:
                break
            if self.delay:
                await asyncio.sleep(self.delay)
            if self.rate:
                free = max(free, self._loop.time()) + len(data) / self.rate
                await asyncio.sleep(free - self._loop.time())
            data, last = self._allowed(direction, data)
            self.passed[direction] += len(data)
            if self.recorded:
                self.recorded[direction] += data
            writer.write(data)
            await writer.drain()
            if last:
                await asyncio.sleep(0.02)  # the kernel has these bytes before the connections are ended
                self._cut(False)
                return
        writer.write_eof()

    def _allowed(self, direction: str, data: bytes) -> tuple[bytes, bool]:
        """What of a chunk may still pass, and whether it is the last."""
        if (count := self._last_chunk[direction]) is not None:
            self._last_chunk[direction] = None
            return data[:count], True
        if (left := self._left[direction]) is None:
            return data, False
        self._left[direction] = left - len(data) if left > len(data) else None
        return data[:left], left <= len(data)
