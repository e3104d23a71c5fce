"""Admission of clients: what a connection may do, and for how long, before it has proved that it may join."""

import asyncio
import logging
import time
from importlib.metadata import version

import grpc

from fedkeras.runtime import handshake, wire
from fedkeras.runtime.federation_pb2 import Challenge, Frame, Goodbye, Hello, Join, Proof
from fedkeras.runtime.spake2 import InvalidShare

log = logging.getLogger("fedkeras")

HANDSHAKE_SECONDS = 10.0
"""How long a connection may take to authenticate itself."""

WAITING = 64
"""Handshakes under way at the same time; the connection that has taken longest makes room for a new one."""

LOGIN_FRAME_BYTES = 16 << 10
"""The longest frame of a connection that has not authenticated itself: parsed, it may take 16 times its length."""

BYTES_A_PARTITION = 64
"""What a client that has authenticated itself may say of each partition: that it serves it, which message it holds."""

FIRST_DELAY, LONGEST_DELAY = 0.25, 8.0
"""Seconds between two attempts from an address that gave a wrong passphrase; doubled with each further one."""

FORGET_SECONDS = 600.0
ADDRESSES = 4096
"""Addresses with wrong passphrases that are remembered, and for how long."""


class AdmissionRefused(Exception):
    """The connection may not join; `goodbye` is the answer to it, with the reason."""

    def __init__(self, reason: str, again: bool = False) -> None:
        super().__init__(reason)
        self.goodbye = Goodbye(reason=reason, again=again)


class CrowdedOut(AdmissionRefused):
    """Others need its place, and the memory that its frames take, at once: it has no time to read why."""


class Admission:
    """Takes a connection's Hello and checks its proof. Its length is the number of handshakes under way.

    A client may serve all of the run's `num_partitions`, and hold a message for each.
    """

    def __init__(self, authenticator: handshake.Authenticator, num_partitions: int) -> None:
        self._authenticator, self._version = authenticator, version("fedkeras")
        self._join_bytes = LOGIN_FRAME_BYTES + BYTES_A_PARTITION * num_partitions
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._rate_limit = RateLimit()

    def __len__(self) -> int:
        return len(self._waiting)

    async def admit(self, context: grpc.aio.ServicerContext) -> Join:
        """What a client that knows the passphrase asks for. Raises AdmissionRefused."""
        crowded_out = asyncio.get_running_loop().create_future()
        while len(self._waiting) >= WAITING:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.set_result(None)
        self._waiting[crowded_out] = None
        handshaking = asyncio.ensure_future(self._shake_hands(context))
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

    async def _shake_hands(self, context: grpc.aio.ServicerContext) -> Join:
        frame = await _next_frame(context)
        hello = frame.hello if isinstance(frame, Frame) and frame.HasField("hello") else None
        if hello is None:
            raise AdmissionRefused("it did not say hello; is it a fedkeras client?")
        if (hello.protocol, hello.version) != (wire.PROTOCOL, self._version):
            raise AdmissionRefused(
                f"it runs fedkeras {hello.version} (protocol {hello.protocol}) and the server {self._version} "
                f"(protocol {wire.PROTOCOL}); install the same version on both sides"
            )
        await self._log_in(context, hello)
        frame = await _next_frame(context, self._join_bytes)
        if not (isinstance(frame, Frame) and frame.HasField("join")):
            raise AdmissionRefused("it did not say which client it is")
        return frame.join

    async def _log_in(self, context: grpc.aio.ServicerContext, hello: Hello) -> None:
        """Return when the client has shown that it knows the passphrase, and was shown that the server does."""
        login = self._authenticator.login()
        if login is None:
            await context.write(Frame(challenge=Challenge()))
            return
        await context.write(Frame(challenge=Challenge(share=login.share)))
        frame = await _next_frame(context)
        if not (isinstance(frame, Frame) and frame.HasField("proof")):
            raise AdmissionRefused("it did not answer the challenge")
        if not hello.share or not frame.proof.mac:
            raise AdmissionRefused("it gave no passphrase")
        address = context.peer().rpartition(":")[0]
        await self._rate_limit.wait(address)
        try:
            own = login.meet(hello.share)
        except InvalidShare as error:
            raise AdmissionRefused(f"it sent {error}") from error
        if not login.accepts(frame.proof.mac):
            self._rate_limit.note_failure(address)
            raise AdmissionRefused("the passphrase is wrong, or what is sent is changed on the way")
        await context.write(Frame(proof=Proof(mac=own)))


async def _next_frame(context: grpc.aio.ServicerContext, most: int = LOGIN_FRAME_BYTES) -> wire.Parsed:
    """The next frame of somebody who has not logged in, unless it is longer than any that such a one may send."""
    data = await context.read()
    if not isinstance(data, bytes):
        raise AdmissionRefused("it ended its stream before it had logged in")
    if (size := len(data)) > most:
        del data  # the exception below keeps this call's names, and is kept itself until the garbage is collected
        raise AdmissionRefused(f"it sent {size} bytes before it had logged in; at most {most} are taken")
    return wire.parse(data)


class RateLimit:
    """Lets an address that gave wrong passphrases try again only slowly, and slows down no other address.

    A right passphrase from such an address waits as long as a wrong one: else a quick answer would tell which it is.
    """

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, float]] = {}
        self._next_attempt: dict[str, float] = {}

    async def wait(self, address: str) -> None:
        """Wait until this address may try again. Raises AdmissionRefused if that is too far away."""
        count, last = self._failures.get(address, (0, 0.0))
        now = time.monotonic()
        if not count or now - last > FORGET_SECONDS:
            self._failures.pop(address, None)
            self._next_attempt.pop(address, None)
            return
        due = max(now, self._next_attempt.get(address, 0.0))
        if due - now > HANDSHAKE_SECONDS / 2:
            raise AdmissionRefused("too many wrong passphrases came from its address; wait a minute", again=True)
        self._next_attempt[address] = due + self.delay(count)
        await asyncio.sleep(due - now)

    def note_failure(self, address: str) -> None:
        """Note a wrong passphrase."""
        count = self._failures.pop(address, (0, 0.0))[0] + 1
        if len(self._failures) >= ADDRESSES:
            forgotten = next(iter(self._failures))
            del self._failures[forgotten]
            self._next_attempt.pop(forgotten, None)
        self._failures[address] = count, time.monotonic()
        self._next_attempt[address] = max(self._next_attempt.get(address, 0.0), time.monotonic() + self.delay(count))

    @staticmethod
    def delay(count: int) -> float:
        """Seconds from one attempt to the next after `count` wrong ones."""
        return min(FIRST_DELAY * 2 ** (count - 1), LONGEST_DELAY)
