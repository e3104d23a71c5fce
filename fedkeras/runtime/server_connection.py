"""One connection to the server, from the handshake to its end: frames in, frames out."""

from collections.abc import Iterable, Iterator
from importlib.metadata import version

from fedkeras.errors import UserError
from fedkeras.runtime import wire
from fedkeras.runtime.client_channel import ClientChannel
from fedkeras.runtime.federation_pb2 import Challenge, Frame, Goodbye, Hello, Join, Proof, Welcome
from fedkeras.runtime.grpc_stream import GrpcStream
from fedkeras.runtime.handshake import Login, password_of, ticket
from fedkeras.runtime.holder_key import secret_for
from fedkeras.runtime.passphrase import NeedsPassphrase
from fedkeras.runtime.pipe import ClientPipe
from fedkeras.runtime.spake2 import InvalidShare
from fedkeras.runtime.tls_probe import Unreachable


class PutOff(Unreachable):
    """The server asks this client to come again a little later."""


class Unconfirmed(Unreachable):
    """The login ended when this client had given its proof and the server none: it may have been a guess.

    `put_off`: with a word, to come again.
    """

    def __init__(self, reason: Unreachable) -> None:
        super().__init__(str(reason))
        self.put_off = isinstance(reason, PutOff)


class JoinRefused(UserError):
    """The server refuses this client for good."""


class ServerConnection:
    """Opens a stream to the server, logs in and sends `join`; `welcome` is the server's answer.

    `passphrase`: None if this client has none. `holder_key`: with it the server is shown who this client is. `pipe`:
    the stream that a server has given to a process of its own, which needs no other. Raises Unreachable, or UserError
    where trying again is no use.
    """

    def __init__(
        self,
        server: str,
        channel: ClientChannel,
        passphrase: str | None,
        join: Join,
        holder_key: bytes = b"",
        pipe: ClientPipe | None = None,
    ) -> None:
        self._server, self._passphrase, self._knows_server = server, passphrase, channel.knows_server
        self._proved = False
        if passphrase is not None:
            password_of(passphrase)  # takes its time: before the server waits for this client's first word
        certificate = b""
        if pipe is None:
            opened, certificate = channel.open()
        self._stream = pipe or GrpcStream(server, opened)
        try:
            run = self._log_in(certificate, join.session)
            if holder_key:
                join.holder_secret = secret_for(holder_key, run)
            self.send((Frame(join=join),))
            self.welcome: Welcome = self._expect("welcome")
        except BaseException:
            self.close()
            raise

    def send(self, frames: Iterable[Frame | wire.Chunk]) -> None:
        """Queue frames; they are sent in a thread."""
        self._stream.send(frames)

    def frames(self) -> Iterator[wire.Parsed]:
        """The frames that the server sends, as they come. Raises Unreachable when the connection is lost."""
        while True:
            yield self._stream.next()

    def end(self) -> None:
        """Send what is queued and no more; the server then ends the stream."""
        self._stream.end()

    def close(self) -> None:
        """End the connection at once, or after `end` when all is sent."""
        self._stream.close()

    def _log_in(self, certificate: bytes, session: bytes) -> bytes:
        """Show that this client knows the passphrase, and see that the server does. Nothing is believed before.

        Returns the name of the server's run.
        """
        login = None if self._passphrase is None else Login(self._passphrase, certificate, client=True)
        share = login.share if login else b""
        shown = ticket(session, share)
        hello = Hello(protocol=wire.PROTOCOL, version=version("fedkeras"), share=share, ticket=shown)
        self.send((Frame(hello=hello),))
        challenge: Challenge = self._expect("challenge")
        if login is None:
            self._require_open(challenge)
            return challenge.run
        if not challenge.share:
            raise UserError(
                f"the server at {self._server} asks for no passphrase, so it may be any; "
                "start it with the passphrase too, or this client without"
            )
        try:
            own = login.meet(challenge.share)
        except InvalidShare as error:
            raise UserError(f"what answers at {self._server} sent {error}; it is not your server") from error
        self.send((Frame(proof=Proof(mac=own)),))
        try:
            proof: Proof = self._expect("proof")
        except Unreachable as error:
            raise Unconfirmed(error) from error
        if not login.accepts(proof.mac):
            raise UserError(
                f"what answers at {self._server} does not know the passphrase, or changes what is sent; it is not your "
                "server"
            )
        self._proved = True
        return challenge.run

    def _require_open(self, challenge: Challenge) -> None:
        """Raise UserError if the server demands a passphrase, or if nothing shows that it is the right one."""
        if challenge.share:
            raise NeedsPassphrase(self._server, asked=True)
        if not self._knows_server:
            raise UserError(
                f"the server at {self._server} asks for no passphrase, so it may be any: start it with a passphrase, "
                "or give its certificate's authority with --tls-ca"
            )
        self._proved = True

    def _expect(self, kind: str) -> Challenge | Proof | Welcome:
        frame = self._stream.next()
        found = None if isinstance(frame, memoryview) else frame.WhichOneof("content")
        if found == "goodbye":
            raise refusal(frame.goodbye, self._proved)
        if found != kind:
            raise UserError(f"what answers at {self._server} is no fedkeras server of this version")
        return getattr(frame, kind)


class RunOver(UserError):
    """The run has ended; `goodbye` says how."""

    def __init__(self, goodbye: Goodbye) -> None:
        super().__init__(f"the run is over{'' if goodbye.finished else ': ' + goodbye.reason}")
        self.goodbye = goodbye


def refusal(goodbye: Goodbye, proved: bool) -> Exception:
    """A Goodbye before the Welcome, as an exception.

    Unless the server has `proved` who it is, it may refuse this client; that a run is over is not believed.
    """
    if goodbye.over and proved:
        return RunOver(goodbye)
    if goodbye.again:
        return PutOff(f"the server says: {goodbye.reason}")
    return JoinRefused(f"the server refused this client: {goodbye.reason}")
