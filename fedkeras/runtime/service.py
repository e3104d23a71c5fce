"""The server's end of a stream: lets a client in, sends it what waits for it, takes its replies."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping

import grpc

from fedkeras.runtime import wire
from fedkeras.runtime.admission import Admission, AdmissionRefused
from fedkeras.runtime.budget import Budget, Share, Slots
from fedkeras.runtime.client_connection import ClientConnection, label
from fedkeras.runtime.content import Altered, WireError
from fedkeras.runtime.federation_pb2 import Frame, Goodbye, Header, Hello, Welcome
from fedkeras.runtime.handshake import Authenticator
from fedkeras.runtime.sessions import Sessions
from fedkeras.runtime.wire import Assembler

log = logging.getLogger("fedkeras")

UNDER_WAY_BYTES = 64 << 20
"""Replies that are received or wait for the round loop; a client beyond that waits, and holds its own meanwhile."""

WRITING = 8
"""Clients that a message is being written to at once: each has a part of it in gRPC's buffers meanwhile."""

GOODBYE_SECONDS = 2.0
"""How long a client has to take its goodbye."""

STALL_SECONDS = 60.0
"""How long a client may stop in the middle of a message, sending or reading."""

SLOW_READER_SECONDS, SLOW_SENDER_SECONDS = 2.0, 15.0
"""After how long for a frame, or for a message, a client no longer counts among those that may work at once."""

QUIET_SECONDS = 5.0
"""Refusals of one address are logged this often at most."""

Take = Callable[[Header, list[memoryview], Callable[[], None]], None]


class Service:
    """Handles each stream, in the network's loop. `take(header, pieces, gone)` is given each whole reply, and calls
    `gone`, in this loop, when it no longer holds it."""

    def __init__(
        self,
        sessions: Sessions,
        lock: Authenticator,
        num_partitions: int,
        run_config: Mapping,
        run_id: int,
        take: Take,
        max_message_bytes: int,
        capacity: int,
        shareable: bool = True,
    ) -> None:
        self._sessions, self._door, self._lock, self._take = sessions, Admission(lock), lock, take
        self._num_partitions, self._max_message_bytes, self._capacity = num_partitions, max_message_bytes, capacity
        self._about_run = {
            "run_id": run_id,
            "num_partitions": num_partitions,
            "run_config": json.dumps(dict(run_config)),
        }
        self._budget, self._writing = Budget(UNDER_WAY_BYTES), Slots(WRITING, SLOW_READER_SECONDS)
        self._shareable = shareable
        self._told: dict[str, float] = {}
        self.goodbye: Goodbye | None = None
        """Once the run is over: what whoever still comes is told."""

    async def join(self, _: object, context: grpc.aio.ServicerContext) -> None:
        """One client process, from its Hello to the end of its stream."""
        try:
            if len(self._door) + len(self._sessions) >= self._capacity:
                raise AdmissionRefused(f"the server is full: it takes {self._capacity} connections", again=True)
            hello, challenge = await self._door.admit(context)
            self._check(hello)
            cids = tuple(hello.cids) or self._free()
        except AdmissionRefused as refusal:
            self._tell(context.peer(), "refused a client from %s: %s", context.peer(), refusal)
            await context.write(Frame(goodbye=refusal.goodbye))
            return
        link, resumed = self._sessions.join(hello, cids, context.peer())
        log.info("client %s %s from %s", label(link.session.cids), "is back" if resumed else "joined", link.peer)
        wanted = [key for key in hello.held if link.session.holding.get(key)] if resumed else []
        welcome = Welcome(
            **self._about_run, mac=self._lock.own_proof(hello, challenge), session=link.session.name, resumed=resumed,
            wanted=wanted, cids=cids, max_message_bytes=self._max_message_bytes,
        )  # fmt: skip
        reading = asyncio.ensure_future(self._read(link, context))
        writing = asyncio.ensure_future(self._write(link, context, welcome))
        try:
            await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
            if link.goodbye:  # the client says goodbye too when it has read it; else it may not have come
                await asyncio.wait((reading, writing), timeout=GOODBYE_SECONDS)
        finally:
            reading.cancel()
            writing.cancel()
            end, _ = await asyncio.gather(reading, writing, return_exceptions=True)
            reason, final = end if isinstance(end, tuple) else ("lost its connection", False)
            self._sessions.lost(link, reason, final)

    def _check(self, hello: Hello) -> None:
        """Raise Refused if a client that knows the passphrase may not join all the same."""
        if self.goodbye is not None:
            refusal = AdmissionRefused("the run is over")
            refusal.goodbye = self.goodbye
            self._sessions.forget_session(hello.session)
            raise refusal
        if outside := [cid for cid in hello.cids if cid >= self._num_partitions]:
            raise AdmissionRefused(
                f"--cid {outside[0]} does not exist: the run has {self._num_partitions} partitions, "
                f"0 to {self._num_partitions - 1} (the server's --num-partitions)"
            )
        if hello.shared and not self._shareable:
            raise AdmissionRefused(
                "clients of this run keep something between two messages and cannot share partitions: "
                "leave out --shared, and give each a --cid of its own"
            )
        if (taken := self._sessions.taken(hello)) is not None:
            raise AdmissionRefused(
                f"--cid {taken} is already connected; give each client a cid of its own, or --replace the other one"
            )

    def _free(self) -> tuple[int, ...]:
        """A partition for a client that takes any."""
        taken = set(self._sessions.cids())
        free = next((cid for cid in range(self._num_partitions) if cid not in taken), None)
        if free is None:
            raise AdmissionRefused(f"all {self._num_partitions} partitions have a client already", again=True)
        return (free,)

    def _tell(self, peer: str, text: str, *values: object) -> None:
        """Log a warning about a peer, unless there was one about its address just before."""
        address, now = peer.rpartition(":")[0], time.monotonic()
        self._told = {key: when for key, when in self._told.items() if now - when < QUIET_SECONDS}
        log.log(logging.DEBUG if address in self._told else logging.WARNING, text, *values)
        self._told.setdefault(address, now)

    async def _write(self, link: ClientConnection, context: grpc.aio.ServicerContext, welcome: Welcome) -> None:
        """Send what waits, until there is a Goodbye; writing waits for the client to read (gRPC's flow control)."""
        await context.write(Frame(welcome=welcome))
        last: list[bytes] = []
        while True:
            item = await link.next()
            if isinstance(item, Frame):
                await context.write(item)
                if item.HasField("goodbye"):
                    return
                continue
            header, buffers = item
            # The same weights for the next client of this process, or for training what was just evaluated: it has them
            header.same_payload = bool(buffers) and wire.same_buffers(buffers, last)
            async with self._writing.slot() as one_write:
                for frame in wire.frames(header, () if header.same_payload else buffers):
                    with one_write():
                        await self._write_frame(link, context, frame)
            last = buffers or last

    async def _write_frame(self, link: ClientConnection, context: grpc.aio.ServicerContext, frame: object) -> None:
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await context.write(frame)
        except TimeoutError:
            self._tell(link.peer, "closing the stream of client %s, which does not read", label(link.session.cids))
            raise

    async def _read(self, link: ClientConnection, context: grpc.aio.ServicerContext) -> tuple[str, bool]:
        """Take replies until the stream ends; return why it ended, and whether for good."""
        assembler, cids = Assembler(max_bytes=self._max_message_bytes), link.session.cids
        share = self._share()
        try:
            while (frame := await self._next_frame(context, assembler.missing)) is not grpc.aio.EOF:
                if isinstance(frame, Frame) and frame.HasField("goodbye") and frame.goodbye.over:
                    return "the run is over", True
                if isinstance(frame, Frame) and frame.HasField("goodbye"):
                    log.warning("client %s leaves: %s", label(cids), frame.goodbye.reason)
                    return f"it left: {frame.goodbye.reason}", True
                if isinstance(frame, Frame) and frame.HasField("settled"):
                    self._sessions.dropped(link.session, frame.settled.message_id)
                    continue
                complete = assembler.add(frame)
                if assembler.missing and isinstance(frame, Frame):  # the header of what is about to come
                    await share.take(assembler.missing)
                if complete:
                    self._accept(link, *complete, share.give_back)
                    share = self._share()
                frame = complete = None  # a client's last reply is not to be kept while its next one is waited for
        except WireError as error:
            self._tell(link.peer, "closing the stream of client %s, which sent %s", label(cids), error)
            link.close(Goodbye(reason=f"this client sent {error}", again=isinstance(error, Altered)))
            return f"it sent {error}", not isinstance(error, Altered)
        except TimeoutError:
            self._tell(link.peer, "closing the stream of client %s, which stopped in mid-message", label(cids))
            return "stopped in the middle of a message", False
        finally:
            share.give_back()
        return "lost its connection", False

    def _share(self) -> Share:
        return Share(self._budget, SLOW_SENDER_SECONDS)

    @staticmethod
    async def _next_frame(context: grpc.aio.ServicerContext, missing: int) -> wire.Parsed:
        return await (asyncio.wait_for(context.read(), STALL_SECONDS) if missing else context.read())

    def _accept(
        self, link: ClientConnection, header: Header, pieces: list[memoryview], gone: Callable[[], None]
    ) -> None:
        if header.cid not in link.session.cids:
            raise WireError(f"a message of client {header.cid}, which it is not")
        if not self._sessions.answered(link.session, header.reply_to_message_id):
            raise WireError("a reply to a message that it was never sent")
        self._take(header, pieces, gone)
