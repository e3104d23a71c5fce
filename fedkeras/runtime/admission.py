"""Admission of clients: what a connection may do, and for how long, before it has proved that it may join."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from importlib.metadata import version
from typing import TypeVar

import grpc

from fedkeras.errors import one_line
from fedkeras.runtime import handshake, wire
from fedkeras.runtime.connections import Connections
from fedkeras.runtime.endpoints import network_of
from fedkeras.runtime.federation_pb2 import Challenge, Frame, Goodbye, Hello, Join, Proof
from fedkeras.runtime.guesses import Guesses, TooManyGuesses
from fedkeras.runtime.spake2 import InvalidShare

log = logging.getLogger("fedkeras")

HANDSHAKE_SECONDS = 10.0
"""How long a connection may take to authenticate itself."""

WAITING = 48
"""Handshakes under way at the same time; the connection that has taken longest makes room for a new one."""

LOGIN_FRAME_BYTES = 16 << 10
"""The longest frame of a connection that has not authenticated itself: parsed, it may take 16 times its length."""

BYTES_A_PARTITION = 64
"""What a client that has authenticated itself may say of each partition: that it serves it, which message it holds."""

TURN_SECONDS = 60.0
"""How long a login waits for its turn while others try wrong passphrases."""

T = TypeVar("T")


class AdmissionRefused(Exception):
    """The connection may not join; `goodbye` is the answer to it, with the reason."""

    def __init__(self, reason: str, again: bool = False) -> None:
        super().__init__(reason)
        self.goodbye = Goodbye(reason=reason, again=again)


class CrowdedOut(AdmissionRefused):
    """Others need its place, and the memory that its frames take, at once: it has no time to read why."""


class Admission:
    """Takes a connection's Hello and checks its proof. Its length is the number of handshakes under way.

    A client may serve all of the run's `num_partitions`, and hold a message for each. `holds(ticket, share)` says
    whether a client that comes back has a session; `connections` are to keep those that wait for their turn. `run` is
    the run's name, which clients are told.
    """

    def __init__(
        self,
        authenticator: handshake.Authenticator,
        num_partitions: int,
        holds: Callable[[bytes, bytes], bool],
        connections: Connections,
        run: bytes = b"",
    ) -> None:
        self._run = run
        self._authenticator, self._version = authenticator, version("fedkeras")
        self._join_bytes = LOGIN_FRAME_BYTES + BYTES_A_PARTITION * num_partitions
        self._holds, self._connections = holds, connections
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._guesses = Guesses()

    def __len__(self) -> int:
        return len(self._waiting)

    async def admit(self, context: grpc.aio.ServicerContext) -> Join:
        """What a client that knows the passphrase asks for. Raises AdmissionRefused."""
        claim = await self._in_place(self._first_words(context))
        if isinstance(claim, Join):
            return claim
        peer = context.peer()
        self._connections.logged_in(peer)  # it is let wait: those who do are few, and nothing is read of them
        try:
            await self._judge(claim, network_of(peer))
        finally:
            self._connections.logged_out(peer)
        await context.write(Frame(proof=Proof(mac=claim.login.own)))
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                return await self._join(context)
        except TimeoutError:
            raise AdmissionRefused(f"it did not say which client it is within {HANDSHAKE_SECONDS:g} s", True) from None

    async def _in_place(self, handshake: Coroutine[None, None, T]) -> T:
        """Run this within its time, as one of the handshakes that are under way."""
        crowded_out = asyncio.get_running_loop().create_future()
        while len(self._waiting) >= WAITING:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.set_result(None)
        self._waiting[crowded_out] = None
        handshaking = asyncio.ensure_future(handshake)
        either = (handshaking, crowded_out)
        try:
            await asyncio.wait(either, timeout=HANDSHAKE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if handshaking.done():
                return handshaking.result()
            if crowded_out.done():
                raise CrowdedOut("too many connections are waiting to be let in", again=True)
            raise AdmissionRefused(f"it did not show who it is within {HANDSHAKE_SECONDS:g} s", again=True)
        finally:
            handshaking.cancel()
            self._waiting.pop(crowded_out, None)

    async def _hello(self, context: grpc.aio.ServicerContext) -> Hello:
        frame = await _next_frame(context)
        hello = frame.hello if isinstance(frame, Frame) and frame.HasField("hello") else None
        if hello is None:
            raise AdmissionRefused("it did not say hello; is it a fedkeras client?")
        if (hello.protocol, hello.version) != (wire.PROTOCOL, self._version):
            raise AdmissionRefused(
                f"it runs fedkeras {one_line(hello.version)} (protocol {hello.protocol}) and the server "
                f"{self._version} (protocol {wire.PROTOCOL}); install the same version on both sides"
            )
        return hello

    async def _join(self, context: grpc.aio.ServicerContext) -> Join:
        frame = await _next_frame(context, self._join_bytes)
        if not (isinstance(frame, Frame) and frame.HasField("join")):
            raise AdmissionRefused("it did not say which client it is")
        return frame.join

    async def _first_words(self, context: grpc.aio.ServicerContext) -> "Claim | Join":
        """What the client says of the passphrase, which has yet to be looked at; without one, what it asks for."""
        hello = await self._hello(context)
        login = self._authenticator.login()
        if login is None:
            await context.write(Frame(challenge=Challenge(run=self._run)))
            return await self._join(context)
        await context.write(Frame(challenge=Challenge(share=login.share, run=self._run)))
        frame = await _next_frame(context)
        if not (isinstance(frame, Frame) and frame.HasField("proof")):
            raise AdmissionRefused("it did not answer the challenge")
        if not hello.share or not frame.proof.mac:
            raise AdmissionRefused("it gave no passphrase")
        return Claim(login, hello, frame.proof.mac)

    async def _judge(self, claim: "Claim", network: str) -> None:
        """Return if the client knows the passphrase. A client that has a session waits for no turn."""
        share = claim.hello.share
        known = self._holds(claim.hello.ticket, share)
        if not known:
            try:
                async with asyncio.timeout(TURN_SECONDS):
                    await self._guesses.turn(network)
            except (TooManyGuesses, TimeoutError):
                raise AdmissionRefused("too many wrong passphrases are being tried; wait a little", True) from None
        reason = "the passphrase is wrong, or what is sent is changed on the way"
        try:
            claim.login.meet(share)
            if claim.login.accepts(claim.mac):
                if not known:
                    self._guesses.right()
                return
        except InvalidShare as error:
            reason = f"it sent {error}"
        await asyncio.sleep(self._guesses.wrong(network))
        raise AdmissionRefused(reason)


@dataclass(frozen=True)
class Claim:
    """A client's claim to know the passphrase: the server's side of this login, and the two words it has said."""

    login: handshake.Login
    hello: Hello
    mac: bytes


async def _next_frame(context: grpc.aio.ServicerContext, most: int = LOGIN_FRAME_BYTES) -> wire.Parsed:
    """The next frame of somebody who has not logged in, unless it is longer than any that such a one may send."""
    data = await context.read()
    if not isinstance(data, bytes):
        raise AdmissionRefused("it ended its stream before it had logged in")
    if (size := len(data)) > most:
        del data  # the exception below keeps this call's names, and is kept itself until the garbage is collected
        raise AdmissionRefused(f"it sent {size} bytes before it had logged in; at most {most} are taken")
    return wire.parse(data)
