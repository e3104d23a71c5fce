"""One connection to the server, from the handshake to its end: frames in, frames out."""

import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future

import grpc

from fedkeras.errors import UserError
from fedkeras.runtime import handshake, passphrase, wire
from fedkeras.runtime.channel import channel_options
from fedkeras.runtime.federation_pb2 import Challenge, Frame, Goodbye, Hello, Proof, Welcome
from fedkeras.runtime.passphrase import Access

LAST_FRAME_SECONDS = 1.0
"""How long the server may take to end the stream when the client has sent its last frame."""

CLOSE_SECONDS = 5.0
"""How long the threads of a closed connection are waited for."""


class Unreachable(Exception):
    """There is no connection now; there may be one later."""


class JoinRefused(UserError):
    """The server refuses this client for good."""


class ServerConnection:
    """Opens a stream to the server and joins with `hello`; `welcome` is the server's answer.

    Raises Unreachable, or UserError where trying again is no use.
    """

    def __init__(
        self, server: str, hello: Hello, access: Access, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        self._server, self._access = server, access
        self._outgoing: queue.SimpleQueue[Iterable[Frame | wire.Chunk] | None] = queue.SimpleQueue()
        self._sender: Future[threading.Thread] = Future()  # these two are gRPC's threads for this call
        self._receiver: Future[threading.Thread | None] = Future()
        self._ended = False
        options = channel_options(wire.MAX_FRAME_BYTES)
        self._channel = (
            grpc.insecure_channel(server, options)
            if credentials is None
            else grpc.secure_channel(server, credentials, options)
        )
        join = self._channel.stream_stream(wire.METHOD, wire.serialise, wire.parse)
        self.send((Frame(hello=hello),))
        self._call = join(self._requests())
        if not self._call.add_callback(lambda: self._receiver.set_result(threading.current_thread())):
            self._receiver.set_result(None)  # it is over already
        try:
            self.welcome = self._shake_hands(hello)
        except BaseException:
            self.close()
            raise

    def send(self, frames: Iterable[Frame | wire.Chunk]) -> None:
        """Queue frames; they are sent in a thread of gRPC's."""
        self._outgoing.put(frames)

    def frames(self) -> Iterator[wire.Parsed]:
        """The frames that the server sends, as they come. Raises Unreachable when the connection is lost."""
        while True:
            yield self._next()

    def end(self) -> None:
        """Send what is queued and no more; the server then ends the stream."""
        self._ended = True
        self._outgoing.put(None)

    def close(self) -> None:
        """End the connection at once, or after `end` when all is sent, and gRPC's threads with it.

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

    def _next(self) -> wire.Parsed:
        try:
            return next(self._call)
        except StopIteration:
            raise Unreachable("the server closed the connection without a word") from None
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                raise UserError(f"what answers at {self._server} is no fedkeras server") from None
            raise Unreachable(error.details() or error.code().name) from None

    def _shake_hands(self, hello: Hello) -> Welcome:
        challenge = self._expect("challenge")
        key = self._key(challenge)
        self.send((Frame(proof=Proof(mac=key and handshake.proof(key, handshake.NODE, hello, challenge))),))
        welcome = self._expect("welcome")
        if key and not handshake.proves(welcome.mac, key, handshake.SERVER, hello, challenge):
            raise UserError(f"what answers at {self._server} does not know the passphrase; it is not your server")
        return welcome

    def _key(self, challenge: Challenge) -> bytes:
        known = self._access.passphrase
        if not challenge.scrypt_n:
            if known is not None:
                raise UserError(
                    f"the server at {self._server} asks for no passphrase, so it may be any; "
                    "start it with the passphrase too, or this client without"
                )
            return b""
        if known is None:
            raise NeedsPassphrase(self._server)
        return handshake.key_for(challenge, known)

    def _expect(self, kind: str) -> Challenge | Welcome:
        frame = self._next()
        found = None if isinstance(frame, memoryview) else frame.WhichOneof("content")
        if found == "goodbye":
            raise refusal(frame.goodbye)
        if found != kind:
            raise UserError(f"what answers at {self._server} is no fedkeras server of this version")
        return getattr(frame, kind)

    def _requests(self) -> Iterator[Frame | wire.Chunk]:
        self._sender.set_result(threading.current_thread())
        while (frames := self._outgoing.get()) is not None:
            yield from frames


class NeedsPassphrase(UserError):
    """The server demands one and this client has none."""

    def __init__(self, server: str) -> None:
        super().__init__(
            f"the server at {server} demands a passphrase: give --passphrase-file or set {passphrase.VARIABLE}"
        )


class RunOver(UserError):
    """The run has ended; `goodbye` says how."""

    def __init__(self, goodbye: Goodbye) -> None:
        super().__init__(f"the run is over{'' if goodbye.finished else ': ' + goodbye.reason}")
        self.goodbye = goodbye


def refusal(goodbye: Goodbye) -> Exception:
    """A Goodbye before the Welcome, as an exception."""
    if goodbye.over:
        return RunOver(goodbye)
    if goodbye.again:
        return Unreachable(f"the server says: {goodbye.reason}")
    return JoinRefused(f"the server refused this client: {goodbye.reason}")
