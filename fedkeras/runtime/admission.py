"""Where strangers wait: what a connection may do, and for how long, before it has shown that it may join."""

import asyncio
import logging
import time
from importlib.metadata import version

import grpc

from fedkeras.runtime import handshake, wire
from fedkeras.runtime.federation_pb2 import Challenge, Frame, Goodbye, Hello

log = logging.getLogger("fedkeras")

HANDSHAKE_SECONDS = 10.0
"""How long a connection may take to show who it is."""

WAITING = 64
"""Connections that may be at it at the same time; the one that has waited longest makes room for a new one."""

FIRST_DELAY, LONGEST_DELAY = 0.25, 8.0
"""Seconds between two attempts from an address that gave a wrong passphrase; doubled with each further one."""

FORGET_SECONDS = 600.0
ADDRESSES = 4096
"""Addresses with wrong passphrases that are remembered, and for how long."""


class AdmissionRefused(Exception):
    """The connection may not join; the Goodbye says why."""

    def __init__(self, reason: str, again: bool = False) -> None:
        super().__init__(reason)
        self.goodbye = Goodbye(reason=reason, again=again)


class Admission:
    """Takes a connection's Hello and its proof."""

    def __init__(self, lock: handshake.Authenticator) -> None:
        self._lock = lock
        self._waiting: dict[asyncio.Future, None] = {}
        self.patience = RateLimit()

    def __len__(self) -> int:
        return len(self._waiting)

    async def admit(self, context: grpc.aio.ServicerContext) -> tuple[Hello, Challenge]:
        """The Hello of one that knows the passphrase, and the challenge it answered. Raises Refused."""
        crowded_out = asyncio.get_running_loop().create_future()
        while len(self._waiting) >= WAITING:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.set_result(None)
        self._waiting[crowded_out] = None
        shaking = asyncio.ensure_future(self._shake_hands(context))
        try:
            await asyncio.wait(
                (shaking, crowded_out), timeout=HANDSHAKE_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )  # fmt: skip
            if shaking.done():
                return shaking.result()
            if crowded_out.done():
                raise AdmissionRefused("too many connections are waiting to be let in", again=True)
            raise AdmissionRefused(f"it did not show who it is within {HANDSHAKE_SECONDS:g} s", again=True)
        finally:
            shaking.cancel()
            self._waiting.pop(crowded_out, None)

    async def _shake_hands(self, context: grpc.aio.ServicerContext) -> tuple[Hello, Challenge]:
        frame = await context.read()
        hello = frame.hello if isinstance(frame, Frame) and frame.HasField("hello") else None
        if hello is None:
            raise AdmissionRefused("it did not say hello; is it a fedkeras client?")
        if (hello.protocol, hello.version) != (wire.PROTOCOL, version("fedkeras")):
            raise AdmissionRefused(
                f"it runs fedkeras {hello.version} (protocol {hello.protocol}) and the server {version('fedkeras')} "
                f"(protocol {wire.PROTOCOL}); install the same version on both sides"
            )
        challenge = self._lock.challenge()
        await context.write(Frame(challenge=challenge))
        frame = await context.read()
        if not (isinstance(frame, Frame) and frame.HasField("proof")):
            raise AdmissionRefused("it did not answer the challenge")
        address = context.peer().rpartition(":")[0]
        await self.patience.turn(address)
        if not self._lock.opens(frame.proof.mac, hello, challenge):
            self.patience.failed(address)
            raise AdmissionRefused("the passphrase is wrong" if frame.proof.mac else "it gave no passphrase")
        return hello, challenge


class RateLimit:
    """Makes each address that gave wrong passphrases wait before the next is looked at, and no other address.

    Whoever comes from such an address waits, right or wrong, or else a quick answer would be an answer.
    """

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, float]] = {}
        self._turns: dict[str, float] = {}

    async def turn(self, address: str) -> None:
        """Wait for this address's turn. Raises Refused if that is too far away."""
        count, last = self._failures.get(address, (0, 0.0))
        now = time.monotonic()
        if not count or now - last > FORGET_SECONDS:
            self._failures.pop(address, None)
            self._turns.pop(address, None)
            return
        turn = max(now, self._turns.get(address, 0.0))
        if turn - now > HANDSHAKE_SECONDS / 2:
            raise AdmissionRefused("too many wrong passphrases came from its address; wait a minute", again=True)
        self._turns[address] = turn + self.delay(count)
        await asyncio.sleep(turn - now)

    def failed(self, address: str) -> None:
        """Note a wrong passphrase."""
        count = self._failures.pop(address, (0, 0.0))[0] + 1
        if len(self._failures) >= ADDRESSES:
            forgotten = next(iter(self._failures))
            del self._failures[forgotten]
            self._turns.pop(forgotten, None)
        self._failures[address] = count, time.monotonic()
        self._turns[address] = max(self._turns.get(address, 0.0), time.monotonic() + self.delay(count))

    @staticmethod
    def delay(count: int) -> float:
        """Seconds from one attempt to the next after `count` wrong ones."""
        return min(FIRST_DELAY * 2 ** (count - 1), LONGEST_DELAY)
