"""A client's gRPC stream to the server: frames out and in, in gRPC's own threads."""

import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future

import grpc

from fedkeras.errors import UserError
from fedkeras.runtime import wire
from fedkeras.runtime.federation_pb2 import Frame
from fedkeras.runtime.tls_probe import Unreachable

LAST_FRAME_SECONDS = 1.0
"""How long the server may take to end the stream when the client has sent its last frame."""

CLOSE_SECONDS = 5.0
"""How long the threads of a closed stream are waited for."""


class GrpcStream:
    """Opens the stream to `server` on this channel, which it closes too."""

    def __init__(self, server: str, channel: grpc.Channel) -> None:
        self._server, self._channel = server, channel
        self._outgoing: queue.SimpleQueue[Iterable[Frame | wire.Chunk] | None] = queue.SimpleQueue()
        self._sender: Future[threading.Thread] = Future()  # these two are gRPC's threads for this call
        self._receiver: Future[threading.Thread | None] = Future()
        self._ended = False
        method = channel.stream_stream(wire.METHOD, wire.serialise, wire.parse)
        self._call = method(self._requests())
        if not self._call.add_callback(lambda: self._receiver.set_result(threading.current_thread())):
            self._receiver.set_result(None)  # it is over already

    def send(self, frames: Iterable[Frame | wire.Chunk]) -> None:
        """Queue frames; they are sent in a thread of gRPC's."""
        self._outgoing.put(frames)

    def next(self) -> wire.Parsed:
        """Wait for the next frame. Raises Unreachable when the stream has ended, UserError for another server."""
        try:
            return next(self._call)
        except StopIteration:
            raise Unreachable("the server closed the connection without a word") from None
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                raise UserError(f"what answers at {self._server} is no fedkeras server") from None
            raise Unreachable(error.details() or error.code().name) from None

    def end(self) -> None:
        """Send what is queued and no more; the server then ends the stream."""
        self._ended = True
        self._outgoing.put(None)

    def close(self) -> None:
        """End the stream at once, or after `end` when all is sent, and gRPC's threads with it.

        A thread that is left running may hold the call's lock when Python ends, which freezes the thread there; the
        last garbage collection then waits for that lock, and the process never ends.
        """
        self._outgoing.put(None)
        if self._ended:
            with contextlib.suppress(TimeoutError):
                self._receiver.result(LAST_FRAME_SECONDS)
        self._call.cancel()
        self._channel.close()
        for grpc_thread in (self._sender, self._receiver):
            with contextlib.suppress(TimeoutError):
                if thread := grpc_thread.result(CLOSE_SECONDS):
                    thread.join(CLOSE_SECONDS)

    def _requests(self) -> Iterator[Frame | wire.Chunk]:
        self._sender.set_result(threading.current_thread())
        while (frames := self._outgoing.get()) is not None:
            yield from frames
