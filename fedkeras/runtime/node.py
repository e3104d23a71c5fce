"""A client's end: joins the server, answers its messages with a ClientApp until the server says goodbye.

gRPC has threads of its own for sending and receiving; the app runs in the thread that called `serve`, one message at a
time, while further messages already arrive.
"""

import json
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version

import grpc
from flwr.app import Context, Message

from fedkeras.errors import RunFailed, UserError
from fedkeras.runtime import wire
from fedkeras.runtime.answering import App, answer, failure, new_context
from fedkeras.runtime.channel import channel_options
from fedkeras.runtime.federation_pb2 import Frame, Goodbye, Hello, Welcome
from fedkeras.runtime.identity import SERVER_NODE_ID, be, node_id_of

log = logging.getLogger("fedkeras")

REPORT_SECONDS = 5.0


class LostConnection(RunFailed):
    """The stream broke while the run was still going on."""


def serve(
    app: App,
    server: str,
    cids: Sequence[int],
    node_config: Mapping,
    max_wait: float,
    prepare: Callable[[Sequence[Context]], None] = lambda contexts: None,
    say: Callable[[str], None] = log.info,
    shared: bool = False,
) -> None:
    """Serve the partitions `cids` at the server `host:port`; return when the run is finished.

    `node_config` is what Flower calls so: this node's own settings, given to the app. Waits up to `max_wait` seconds
    for the server to be there. `prepare` is called with all partitions' Contexts after joining. With `shared` this and
    other processes that say so serve the partitions between them.

    Raises UserError if the server refuses this client or cannot be reached, RunFailed if the run ends otherwise than
    well.
    """
    with grpc.insecure_channel(server, options=channel_options(wire.MAX_FRAME_BYTES)) as channel:
        _wait_for_server(channel, server, max_wait, say)
        stream = _Stream(channel, cids, shared)
        try:
            welcome = stream.welcome()
            say(f"joined {server} as client {', '.join(map(str, cids))}")
            run_config = json.loads(welcome.run_config)
            contexts = {
                cid: new_context(cid, welcome.num_partitions, welcome.run_id, run_config, node_config) for cid in cids
            }
            try:
                prepare(list(contexts.values()))
            except UserError as error:
                stream.leave(str(error))
                raise
            _answer_all(app, stream, welcome.run_id, contexts)
        finally:
            stream.close()


def _wait_for_server(channel: grpc.Channel, server: str, max_wait: float, say: Callable[[str], None]) -> None:
    ready, waited = grpc.channel_ready_future(channel), 0.0
    while True:
        step = min(REPORT_SECONDS if waited else 1.0, max_wait - waited)
        try:
            return ready.result(timeout=step)
        except grpc.FutureTimeoutError:
            waited += step
        if waited >= max_wait:
            ready.cancel()
            raise UserError(f"no server answers at {server} after {max_wait:g} s: start it first, or give --server")
        say(f"waiting for the server at {server} ({max_wait - waited:.0f} s more)")


def _answer_all(app: App, stream: "_Stream", run_id: int, contexts: Mapping[int, Context]) -> None:
    while (received := stream.receive()) is not None:
        header, pieces = received
        if header.cid not in contexts:
            raise LostConnection(f"the server sent a message for client {header.cid}, which is not served here")
        be(node_id_of(header.cid), run_id)
        try:
            message = wire.decode(header, pieces, run_id, SERVER_NODE_ID, node_id_of(header.cid))
        except wire.WireError as error:
            raise LostConnection(f"the server sent {error}") from error
        del received, pieces  # the message has its own copy; the next one may be large
        reply = answer(app, message, contexts[header.cid])
        if reply.has_error():
            log.error("client %d could not answer: %s", header.cid, reply.error.reason)
        try:
            stream.send(reply, header.cid)
        except ValueError as error:
            log.error("client %d's answer cannot be sent: %s", header.cid, error)
            stream.send(failure(error, message), header.cid)


class _Stream:
    """The bidirectional stream: frames in, frames out, and how it ended."""

    def __init__(self, channel: grpc.Channel, cids: Sequence[int], shared: bool) -> None:
        self._outgoing: queue.SimpleQueue = queue.SimpleQueue()
        self._incoming: queue.SimpleQueue = queue.SimpleQueue()
        hello = Hello(protocol=wire.PROTOCOL, version=version("fedkeras"), cids=cids, shared=shared)
        self._outgoing.put((Frame(hello=hello),))
        join = channel.stream_stream(wire.METHOD, wire.serialise, wire.parse)
        self._call = join(self._requests())
        threading.Thread(target=self._read, name="fedkeras-read", daemon=True).start()

    def welcome(self) -> Welcome:
        """The server's Welcome. Raises UserError with its reason if it says Goodbye."""
        first = self._next()
        if isinstance(first, Welcome):
            return first
        raise UserError(f"the server refused this client: {first.reason if isinstance(first, Goodbye) else first}")

    def receive(self) -> tuple | None:
        """The next message as (header, pieces), or None when the run is finished. Raises RunFailed if it failed."""
        received = self._next()
        if not isinstance(received, Goodbye):
            return received
        if received.finished:
            return None
        raise RunFailed(f"the server ended the run: {received.reason}")

    def send(self, reply: Message, cid: int) -> None:
        """Queue a reply; it is sent while the next message is worked on. Raises ValueError if it cannot be encoded."""
        self._outgoing.put(wire.frames(*wire.encode(reply, cid)))

    def leave(self, reason: str) -> None:
        """Tell the server why this client goes before it was asked for anything, and wait until that is sent."""
        self._outgoing.put((Frame(goodbye=Goodbye(reason=reason)),))
        self._outgoing.put(None)
        try:
            self._call.code()  # the server ends the stream when it has read this
        except grpc.RpcError as error:
            log.debug("the server could not be told: %s", error)

    def close(self) -> None:
        """End the stream."""
        self._outgoing.put(None)
        self._call.cancel()

    def _next(self) -> object:
        received = self._incoming.get()
        if isinstance(received, Exception):
            raise received
        return received

    def _requests(self) -> Iterator:
        while (frames := self._outgoing.get()) is not None:
            yield from frames

    def _read(self) -> None:
        """Runs in a thread: put messages, the Welcome and the Goodbye into the queue, at last an exception."""
        assembler = wire.Assembler(keep=True)
        try:
            for frame in self._call:
                kind = None if isinstance(frame, memoryview) else frame.WhichOneof("content")
                if kind in ("welcome", "goodbye"):
                    self._incoming.put(getattr(frame, kind))
                elif complete := assembler.add(frame):
                    self._incoming.put(complete)
            self._incoming.put(LostConnection("the server closed the connection without a word"))
        except grpc.RpcError as error:
            detail = error.details() if hasattr(error, "details") else str(error)
            self._incoming.put(LostConnection(f"the connection to the server was lost: {detail}"))
        except wire.WireError as error:
            self._incoming.put(LostConnection(f"the server sent {error}"))
