"""The server's end: a Grid whose nodes are client processes, each connected by one bidirectional gRPC stream.

The network has a thread and an asyncio loop of its own, so that the number of streams is bounded by no pool of threads.
The round loop's thread hands messages over and waits for replies in a Mailbox.
"""

import asyncio
import json
import logging
import threading
from collections.abc import Iterable, Mapping
from importlib.metadata import version

import grpc
from flwr.app import Message
from flwr.common.constant import ErrorCode

from fedkeras.errors import RunFailed, UserError
from fedkeras.runtime import wire
from fedkeras.runtime.channel import server_options
from fedkeras.runtime.federation_pb2 import Frame, Goodbye, Hello, Welcome
from fedkeras.runtime.identity import SERVER_NODE_ID, cid_of, node_id_of
from fedkeras.runtime.own_grid import OwnGrid
from fedkeras.runtime.sessions import Session, Sessions

log = logging.getLogger("fedkeras")

HELLO_SECONDS = 20.0
"""How long a connection may take to say who it is."""

STOP_SECONDS = 5.0
"""How long clients have to take their goodbye when the server stops."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class GrpcGrid(OwnGrid):
    """Listens on host:port from `start` to `stop`; clients may join at any time. Usable as a context manager.

    `run_config` is what clients are told of the run; cids from 0 to num_partitions - 1 may join.
    """

    def __init__(self, host: str, port: int, num_partitions: int, run_config: Mapping, run_id: int = 1) -> None:
        super().__init__(run_id)
        if host not in LOOPBACK:
            raise UserError(f"--host is {host}; without encryption the server listens on loopback only: 127.0.0.1")
        self._host, self._port, self._num_partitions = host, port, num_partitions
        self._welcome = Welcome(run_id=run_id, num_partitions=num_partitions, run_config=json.dumps(dict(run_config)))
        self._sessions = Sessions()
        self._goodbye = Goodbye(reason="the server stopped before the run was finished")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fedkeras-grpc", daemon=True)
        self._server: grpc.aio.Server | None = None
        self._failure = ""

    @property
    def address(self) -> str:
        """host:port, with the port that was really bound."""
        host = f"[{self._host}]" if ":" in self._host else self._host  # IPv6
        return f"{host}:{self._port}"

    def start(self) -> "GrpcGrid":
        """Listen. Raises UserError if the port is in use or not allowed."""
        self._thread.start()
        self._run_in_loop(self._start())
        return self

    def stop(self, finished: bool = True, reason: str = "") -> None:
        """Send every client away, and end. `finished`: the run ended well; else `reason` is shown to the clients."""
        if not self._thread.is_alive():
            return
        if finished or reason:
            self._goodbye = Goodbye(finished=finished, reason=reason)
        if self._server is not None:
            self._run_in_loop(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> "GrpcGrid":
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            self.stop()
        elif issubclass(kind, Exception):
            self.stop(finished=False, reason=f"the run failed: {str(error) or kind.__name__}")
        else:
            self.stop(finished=False, reason="the server was interrupted")

    def fail(self, reason: str) -> None:
        """Let the run fail with this reason the next time it asks who is connected."""
        self._failure = reason

    def cids(self) -> dict[int, int]:
        """Connected nodes as {node id: cid}. Raises RunFailed once `fail` was called."""
        if self._failure:
            raise RunFailed(self._failure)
        return {node_id_of(cid): cid for cid in self._sessions.cids()}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue messages for their nodes. One to a node that is not connected is answered with an error at once."""
        message_ids, encoded = [], {}
        for message in messages:
            message_ids.append(self._register(message))
            content = message.content
            if id(content) not in encoded:  # a strategy's messages to all nodes share one content: encode it once
                encoded[id(content)] = wire.encode_content(content), content  # kept, so that its id is not used again
            cid = cid_of(message.metadata.dst_node_id)
            outgoing = wire.encode(message, cid, encoded[id(content)][0])
            self._loop.call_soon_threadsafe(self._send, cid, message_ids[-1], outgoing)
        return message_ids

    def _run_in_loop(self, coroutine: object) -> object:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _start(self) -> None:
        server = grpc.aio.server(options=server_options(wire.MAX_FRAME_BYTES))
        handler = grpc.stream_stream_rpc_method_handler(self._join, wire.parse, wire.serialise)
        service, method = wire.METHOD.strip("/").split("/")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        try:
            self._port = server.add_insecure_port(self.address)
        except RuntimeError as error:
            raise UserError(
                f"cannot listen on {self.address}: the port is in use or not allowed; "
                "stop the other server or choose another --port"
            ) from error
        await server.start()
        self._server = server

    async def _stop(self) -> None:
        self._sessions.dismiss()
        await self._server.stop(STOP_SECONDS)
        # The streams' handlers are gone, gRPC's own tasks around them may have a step left: closing the loop complains.
        if left := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(left, timeout=1.0)

    def _send(self, cid: int, message_id: str, outgoing: tuple) -> None:
        if not self._sessions.put(cid, message_id, outgoing):
            self._mailbox.fail(message_id, ErrorCode.NODE_UNAVAILABLE, "is not connected")

    async def _join(self, _: object, context: grpc.aio.ServicerContext) -> None:
        """One client process, from its Hello to the end of its stream."""
        try:
            first = await asyncio.wait_for(context.read(), HELLO_SECONDS)
        except TimeoutError:
            return
        hello = first.hello if isinstance(first, Frame) and first.HasField("hello") else None
        if refusal := self._refusal(hello):
            log.warning("refused a client from %s: %s", context.peer(), refusal)
            await context.write(Frame(goodbye=Goodbye(reason=refusal)))
            return
        session = self._sessions.join(tuple(hello.cids), context.peer(), hello.shared)
        log.info("client %s joined from %s", _name(session.cids), session.peer)
        reading = asyncio.ensure_future(self._read(session, context))
        writing = asyncio.ensure_future(self._write(session, context))
        try:
            await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            reading.cancel()
            writing.cancel()
            self._leave(session, (await asyncio.gather(reading, return_exceptions=True))[0])

    def _refusal(self, hello: Hello | None) -> str:
        """Why a client that said `hello` may not join; empty if it may."""
        if hello is None or not hello.cids:
            return "it did not say which partitions it serves; is it a fedkeras client?"
        if (hello.protocol, hello.version) != (wire.PROTOCOL, version("fedkeras")):
            return (
                f"it runs fedkeras {hello.version} (protocol {hello.protocol}) and the server {version('fedkeras')} "
                f"(protocol {wire.PROTOCOL}); install the same version on both sides"
            )
        if outside := [cid for cid in hello.cids if cid >= self._num_partitions]:
            return (
                f"--cid {outside[0]} does not exist: the run has {self._num_partitions} partitions, "
                f"0 to {self._num_partitions - 1} (the server's --num-partitions)"
            )
        if (taken := self._sessions.taken(tuple(hello.cids), hello.shared)) is not None:
            return f"--cid {taken} is already connected; give each client a cid of its own"
        return ""

    async def _write(self, session: Session, context: grpc.aio.ServicerContext) -> None:
        """Send what is queued, until there is a None; writing waits for the client to read (gRPC's flow control)."""
        await context.write(Frame(welcome=self._welcome))
        last: list[bytes] = []
        while (outgoing := await session.next()) is not None:
            header, buffers = outgoing
            if buffers and wire.same_buffers(buffers, last):  # the same weights for the next client of this process,
                header.same_payload, buffers = True, []  # or for training what was just evaluated: it has them
            for frame in wire.frames(header, buffers):
                await context.write(frame)
            last = buffers or last
        await context.write(Frame(goodbye=self._goodbye))

    async def _read(self, session: Session, context: grpc.aio.ServicerContext) -> str:
        """Take replies until the stream ends; return why it ended."""
        assembler = wire.Assembler()
        while (frame := await context.read()) is not grpc.aio.EOF:
            if isinstance(frame, Frame) and frame.HasField("goodbye"):
                log.warning("client %s cannot take part: %s", _name(session.cids), frame.goodbye.reason)
                return f"cannot take part: {frame.goodbye.reason}"
            try:
                if complete := assembler.add(frame):
                    self._take(session, *complete)
            except wire.WireError as error:
                log.warning("closing the stream of client %s, which sent %s", _name(session.cids), error)
                return "broke the protocol"
        return "left"

    def _take(self, session: Session, header: wire.Header, pieces: list[memoryview]) -> None:
        if header.cid not in session.cids:
            raise wire.WireError(f"a message of client {header.cid}, which it is not")
        asked = self._mailbox.asked(header.reply_to_message_id)
        if asked is not None and cid_of(asked.metadata.dst_node_id) != header.cid:
            raise wire.WireError("a reply to another client's message")
        session.answered(header.reply_to_message_id)
        self._mailbox.deliver(wire.decode(header, pieces, self.run.run_id, node_id_of(header.cid), SERVER_NODE_ID))

    def _leave(self, session: Session, why: object) -> None:
        """Forget a client, and answer in its place what it still owes: all of it, unless a pool goes on without it."""
        owed = set(session.holding)
        if self._sessions.leave(session):
            owed.update(self._mailbox.outstanding(node_id_of(cid) for cid in session.cids))
        reason = why if isinstance(why, str) else "the connection was lost"
        log.info("client %s is gone: %s", _name(session.cids), reason)
        for message_id in owed:
            self._mailbox.fail(message_id, ErrorCode.NODE_UNAVAILABLE, f"is gone: {reason}")


def _name(cids: tuple[int, ...]) -> str:
    return str(cids[0]) if len(cids) == 1 else f"{cids[0]}-{cids[-1]}"
