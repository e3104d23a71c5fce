"""The server's end: a Grid whose nodes are client processes, each connected by one bidirectional gRPC stream.

The network has a thread and an asyncio loop of its own, so no pool of threads bounds the number of streams. The round
loop's thread hands messages over to it, and waits for replies in a Mailbox.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from types import TracebackType

import grpc
from flwr.app import Message

from fedkeras.address import require_free
from fedkeras.errors import RunFailed, UserError
from fedkeras.flower.identity import cid_of, node_id_of
from fedkeras.flower.internals import ErrorCode
from fedkeras.runtime import tls, wire
from fedkeras.runtime.channel import server_options
from fedkeras.runtime.client_app import Settings
from fedkeras.runtime.connections import MOST_STRANGERS, Connections
from fedkeras.runtime.content import encode_content
from fedkeras.runtime.federation_pb2 import Goodbye
from fedkeras.runtime.handshake import Authenticator
from fedkeras.runtime.holders import Holders
from fedkeras.runtime.own_grid import Ending, HoldersTable, OwnGrid
from fedkeras.runtime.passphrase import Access
from fedkeras.runtime.peer_log import PeerLog
from fedkeras.runtime.pipe import ServerPipe
from fedkeras.runtime.replies import Replies
from fedkeras.runtime.service import Service
from fedkeras.runtime.sessions import Sessions

log = logging.getLogger("fedkeras")

AWAY_SECONDS = 3.0
"""How long clients have to read their Goodbye when the server stops, and to reconnect for it if they are absent."""

STOP_SECONDS = 2.0
"""How long gRPC then has to end the streams that are left."""

SPARE_FILES = 128
"""File descriptors that are left for other things than connections: the run's files, libraries, temporary files."""


class GrpcGrid(OwnGrid):
    """Listens on host:port from `start` to `stop`; clients may join at any time. Usable as a context manager.

    `run_config` is what clients are told of the run; cids from 0 to num_partitions - 1 may join, if they have what
    `access` demands. A client that loses its connection has `reconnect_grace` seconds to come back. Messages of up to
    `max_message_bytes` are sent and received. `shareable`: several processes may share partitions (`--shared`), which
    is wrong where clients keep something between two messages. `holders`: who holds which cid; unset: nobody yet.
    Raises UserError for certificates that are of no use, and where anybody on the network could join or read.
    """

    def __init__(
        self,
        host: str,
        port: int,
        num_partitions: int,
        run_config: Settings,
        run_id: int = 1,
        *,
        access: Access = Access(),  # noqa: B008 - frozen
        reconnect_grace: float = 30.0,
        max_message_bytes: int = wire.MAX_MESSAGE_BYTES,
        shareable: bool = True,
        holders: Holders | None = None,
    ) -> None:
        super().__init__(run_id)
        self._host, self._port, self._channel = host, port, tls.server_channel(host, access)
        self._max_connections = _max_connections()
        self._connections = Connections(lambda: self._port, min(MOST_STRANGERS, self._max_connections // 4))
        self._holders = holders or Holders()
        self._sessions = Sessions(reconnect_grace, self._fail_messages, PeerLog(num_partitions))
        self._service = Service(
            self._sessions, Authenticator(access.passphrase, self._channel.certificate), num_partitions, run_config,
            run_id, Replies(self._mailbox, lambda: self.run.run_id, self._in_loop), max_message_bytes,
            self._max_connections - self._connections.most_strangers, self._connections,
            self._holders, shareable,
        )  # fmt: skip
        self._max_message_bytes = max_message_bytes
        self._goodbye = Goodbye(over=True, reason="the server stopped before the run was finished")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fedkeras-grpc", daemon=True)
        self._server: grpc.aio.Server | None = None
        self._watching: asyncio.Task[None] | None = None
        self._failure = ""
        self._pipes: list[ServerPipe] = []
        self._endings: dict[int, Ending] = {}

    @property
    def address(self) -> str:
        """host:port, with the port that was really bound."""
        host = f"[{self._host}]" if ":" in self._host else self._host  # IPv6
        return f"{host}:{self._port}"

    @property
    def port(self) -> int:
        """The port that was really bound."""
        return self._port

    @property
    def protection(self) -> str:
        """What protects its connections, in a few words for the person who starts the server."""
        return self._channel.protection

    def start(self) -> "GrpcGrid":
        """Listen. Raises UserError if that is not possible, with the reason."""
        require_free(self._host, self._port)
        self._thread.start()
        self._run_in_loop(self._start())
        return self

    def pipe(self) -> socket.socket | None:
        """Another way in, for a process that this one starts: the socket to hand to it. None: it takes the port.

        That is so where connections are encrypted, and where sockets cannot be handed on (Windows).
        """
        if os.name == "nt" or self._channel.credentials is not None:
            return None
        ours, theirs = socket.socketpair()
        asyncio.run_coroutine_threadsafe(self._serve_pipe(ours), self._loop)
        return theirs

    def stop(self, finished: bool = True, reason: str = "") -> None:
        """Send every client away, and end. `finished`: the run ended well; else `reason` is shown to the clients."""
        if not self._thread.is_alive():
            return
        if finished or reason:
            self._goodbye = Goodbye(over=True, finished=finished, reason=reason)
        if self._server is not None:
            self._run_in_loop(self._stop())
        self._run_in_loop(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> "GrpcGrid":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        elif issubclass(kind, Exception):
            self.stop(finished=False, reason=f"the run failed: {str(error) or kind.__name__}")
        else:
            self.stop(finished=False, reason="the server was interrupted")

    def fail(self, reason: str) -> None:
        """Let the run fail with this reason the next time it looks who is connected."""
        self._failure = reason

    def holders(self) -> HoldersTable:
        """Who holds which client id, for a checkpoint."""
        return self._holders.to_table()

    def set_endings(self, endings: Mapping[int, Ending]) -> None:
        """Each client process is told of its own when it is sent away."""
        self._endings = dict(endings)

    def abandon(self, message_ids: Iterable[str]) -> None:
        """Give these messages up; clients that have not begun them need not."""
        message_ids = list(message_ids)
        super().abandon(message_ids)
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._sessions.forget, message_ids)

    def cids(self) -> dict[int, int]:
        """Connected nodes as {node id: cid}. Raises RunFailed once `fail` was called."""
        if self._failure:
            raise RunFailed(self._failure)
        return {node_id_of(cid): cid for cid in self._sessions.cids()}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue messages for their nodes. One to a node that is not connected is answered with an error at once.

        Raises RunFailed for one that is too large.
        """
        return self._push(zip(messages, itertools.repeat(None)))

    def push_within(self, messages: Sequence[Message], reply_limits: Sequence[int | None]) -> Iterable[str]:
        """The same; a reply beyond its limit is refused by its header."""
        return self._push(zip(messages, reply_limits, strict=True))

    def _push(self, messages: Iterable[tuple[Message, int | None]]) -> list[str]:
        message_ids, encoded = [], {}
        for message, reply_limit in messages:
            content = message.content
            if id(content) not in encoded:  # a strategy's messages to all nodes share one content: encode it once
                encoded[id(content)] = encode_content(content), content  # kept, so that its id is not used again
            cid = cid_of(message.metadata.dst_node_id)
            outgoing = wire.encode(message, cid, encoded[id(content)][0])
            if (size := outgoing[0].payload_bytes) > self._max_message_bytes:
                most = self._max_message_bytes / 1e6
                raise RunFailed(f"a message has {size / 1e6:.3g} MB, {most:.3g} are allowed: give --max-message-mb")
            # Only now that it can be sent: until then nothing is owed.
            message_ids.append(self._register(message, reply_limit))
            outgoing[0].message_id = message_ids[-1]
            self._loop.call_soon_threadsafe(self._send, cid, message_ids[-1], outgoing)
        return message_ids

    def _run_in_loop(self, coroutine: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _start(self) -> None:
        largest = wire.TO_CLIENT.max_frame_bytes, wire.TO_SERVER.max_frame_bytes
        server = grpc.aio.server(options=server_options(*largest, self._max_connections))
        # Frames are taken as bytes: of strangers' the length is looked at before anything else.
        handler = grpc.stream_stream_rpc_method_handler(self._service.join, None, wire.serialise)
        service, method = wire.METHOD.strip("/").split("/")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        try:
            if self._channel.credentials is None:
                self._port = server.add_insecure_port(self.address)
            else:
                self._port = server.add_secure_port(self.address, self._channel.credentials)
        except RuntimeError as error:
            raise UserError(
                f"cannot listen on {self.address}: the port is in use or not allowed; "
                "stop the other server or choose another --port"
            ) from error
        await server.start()
        self._server = server
        self._watching = asyncio.ensure_future(self._connections.watch())

    async def _serve_pipe(self, ours: socket.socket) -> None:
        """Serve the process at the other end, from its first word on."""
        pipe = ServerPipe(f"spawned:{len(self._pipes) + 1}")
        self._pipes.append(pipe)
        try:
            await self._loop.create_unix_connection(lambda: pipe, sock=ours)
            if await pipe.begins():
                await self._service.join(None, pipe)
        except Exception:  # nobody waits for this task, so nobody else would tell
            log.exception("the server's end of a pipe to a process of its own failed")
            ours.close()  # also where no transport has it yet; else `close` below sends what is queued first
        finally:
            pipe.close()

    async def _stop(self) -> None:
        self._service.goodbye_to = self._goodbye_to
        self._sessions.dismiss(self._goodbye_to)
        deadline = self._loop.time() + AWAY_SECONDS
        while len(self._sessions) and self._loop.time() < deadline:
            await asyncio.sleep(0.01)
        for pipe in self._pipes:  # of a process that has not said a word yet, and those that did not go by themselves
            pipe.close()
        await self._server.stop(STOP_SECONDS)
        self._watching.cancel()
        # The streams' handlers have ended, gRPC's own tasks around them perhaps not: closing the loop would complain.
        if left := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(left, timeout=1.0)

    def _goodbye_to(self, cids: Sequence[int]) -> Goodbye:
        """The last word to the process that serves these clients: that it had no part in the run, if that is so."""
        endings = {cid: self._endings[cid] for cid in cids if cid in self._endings}
        failed = {cid: ending.reason for cid, ending in endings.items() if ending.failed}
        if not self._goodbye.finished or not (failed or len(endings) == len(cids) > 0):
            return self._goodbye
        if not failed:
            return Goodbye(over=True, finished=True, reason=next(iter(endings.values())).reason)
        whom = [f"client {cid} ({reason})" for cid, reason in failed.items()]
        return Goodbye(over=True, reason=f"it is finished, without {', '.join(whom[:3])}{' ...' * (len(whom) > 3)}")

    def _send(self, cid: int, message_id: str, outgoing: wire.Outgoing) -> None:
        if self._mailbox.expected(message_id) and (why_not := self._sessions.put(cid, message_id, outgoing)):
            self._mailbox.fail(message_id, ErrorCode.NODE_UNAVAILABLE, why_not)

    def _in_loop(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nothing waits in it any more
            self._loop.call_soon_threadsafe(call)

    def _fail_messages(self, message_ids: Iterable[str], cids: Iterable[int], reason: str) -> None:
        failed = {*message_ids, *self._mailbox.outstanding(node_id_of(cid) for cid in cids)}
        for message_id in failed:
            self._mailbox.fail(message_id, ErrorCode.NODE_UNAVAILABLE, reason)


def _max_connections() -> int:
    """Connections that this process may have open; its limit of open files is raised as far as it may be."""
    try:
        import resource  # not on Windows
    except ImportError:
        return 512
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # then the limit stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(limit - SPARE_FILES, limit // 2)
