"""The server's end of a stream: admits a client, sends it the messages that wait for it, receives its replies."""

import asyncio
import functools
import itertools
import json
import logging
import math
from collections.abc import AsyncIterator, Callable, Sequence

import grpc

from fedkeras.errors import one_line
from fedkeras.runtime import wire
from fedkeras.runtime.admission import Admission, AdmissionRefused, CrowdedOut
from fedkeras.runtime.budget import Budget, Reservation, Slots
from fedkeras.runtime.client_app import Settings
from fedkeras.runtime.client_connection import PROCESSES, ClientConnection, Session, cids_text
from fedkeras.runtime.connections import Connections
from fedkeras.runtime.content import Altered, WireError
from fedkeras.runtime.federation_pb2 import Frame, Goodbye, Header, Join, Welcome
from fedkeras.runtime.handshake import Authenticator
from fedkeras.runtime.holders import Holders, Identity, identity_of
from fedkeras.runtime.replies import Replies
from fedkeras.runtime.sessions import Sessions
from fedkeras.runtime.shared_payloads import SharedPayloads
from fedkeras.runtime.wire import Assembler

UNDER_WAY_BYTES, SLOW_BYTES = 64 << 20, 128 << 20
"""Bytes of replies that are being received or wait for the round loop, from clients that send them soon, and from those
that take longer. Further clients wait, and keep their own. A reply that is larger is taken alone."""

HEADER_COST, SMALL_HEADER = 16, 16 << 10
"""Bytes in memory of a byte of a Header, which is many small things; small ones count with their arrays alone."""

WRITING = 8
"""Clients to which messages are written at once: each has a part of its message in gRPC's buffers meanwhile."""

GOODBYE_SECONDS = 2.0
"""How long a client has to take its goodbye."""

FAREWELL_SECONDS = 1.0
"""How long a stranger has to read why it is sent away: a line, for which there is room if it reads at all."""

STALL_SECONDS = 60.0
"""How long a client may stop in the middle of a message, sending or reading."""

REPLY_SECONDS, SLOWEST = 60.0, 64_000
"""A whole reply may take this long, and a second more for each so many bytes: half a megabit a second."""

SLOW_READER_SECONDS, SLOW_SENDER_SECONDS = 2.0, 15.0
"""A client that takes longer to read a frame, or to send a message, no longer holds up the others."""

LOST = "lost its connection", False
"""Why a stream ended, and whether for good, where nothing else is known of it."""


class Service:
    """Handles each client's stream, in the network's loop.

    `run_config` is what clients are told of the run, `capacity` how many clients are admitted, `connections` who ends
    those of all others. `shareable`: several processes may share partitions.
    """

    def __init__(
        self,
        sessions: Sessions,
        authenticator: Authenticator,
        num_partitions: int,
        run_config: Settings,
        run_id: int,
        replies: Replies,
        max_message_bytes: int,
        capacity: int,
        connections: Connections,
        holders: Holders,
        shareable: bool = True,
    ) -> None:
        self._sessions = sessions
        self._admission = Admission(authenticator, num_partitions, sessions.holds, connections, holders.run)
        self._replies, self._holders = replies, holders
        self._num_partitions, self._max_message_bytes, self._capacity = num_partitions, max_message_bytes, capacity
        self._about_run = {
            "run_id": run_id,
            "num_partitions": num_partitions,
            "run_config": json.dumps(dict(run_config)),
        }
        self._budget, self._slow = Budget(UNDER_WAY_BYTES), Budget(SLOW_BYTES)
        self._writing, self._payloads = Slots(WRITING, SLOW_READER_SECONDS), SharedPayloads()
        self._connections, self._shareable = connections, shareable
        self._peer_log = sessions.peer_log
        self.goodbye_to: Callable[[Sequence[int]], Goodbye] | None = None
        """Once the run is over: the answer to every client that still comes, by its cids."""

    async def join(self, _: AsyncIterator[wire.Parsed], context: grpc.aio.ServicerContext) -> None:
        """Serve one client process, from its Hello to the end of its stream: gRPC's handler."""
        peer = context.peer()
        try:
            if len(self._admission) + len(self._sessions) >= self._capacity:
                raise AdmissionRefused(f"the server is full: it takes {self._capacity} connections", again=True)
            join = await self._admission.admit(context)
            identity = identity_of(join.holder_secret, context.auth_context())
            self._check(join, identity)
            cids = tuple(join.cids) or self._free_partition(identity)
        except AdmissionRefused as refusal:
            self._peer_log.about_stranger(peer, "refused a client from %s: %s", peer, refusal)
            await self._send_away(context, peer, refusal)
            return
        self._connections.logged_in(peer)
        self._holders.claim(identity, cids)
        await self._attend(join, cids, context)

    async def _attend(self, join: Join, cids: tuple[int, ...], context: grpc.aio.ServicerContext) -> None:
        """Serve a client that may join, until its stream ends."""
        connection, resumed = self._sessions.join(join, cids, context.peer())
        end = LOST
        try:
            session = connection.session
            how = "is back" if resumed else "joined"
            self._tell(logging.INFO, connection, "client %s %s from %s", cids_text(cids), how, connection.peer)
            welcome = Welcome(
                **self._about_run,
                session=session.name,
                resumed=resumed,
                wanted=[key for key in join.held if session.holding.get(key)] if resumed else [],
                cids=cids,
                max_message_bytes=self._max_message_bytes,
            )
            end = await self._exchange(connection, context, welcome)
        finally:  # whatever ended it, a cancellation too: what the process owes is somebody else's now
            self._connections.logged_out(connection.peer)
            self._sessions.lost(connection, *end)

    async def _exchange(
        self, connection: ClientConnection, context: grpc.aio.ServicerContext, welcome: Welcome
    ) -> tuple[str, bool]:
        """Read and write until one of them ends; return why, and whether for good."""
        reading = asyncio.ensure_future(self._read(connection, context))
        writing = asyncio.ensure_future(self._write(connection, context, welcome))
        closing = asyncio.ensure_future(connection.closing.wait())
        try:
            await asyncio.wait((reading, writing, closing), return_when=asyncio.FIRST_COMPLETED)
            if connection.goodbye:  # the client returns it when it has read it; else it may not have arrived
                await asyncio.wait((reading, writing), timeout=GOODBYE_SECONDS)
        finally:
            for task in (reading, writing, closing):
                task.cancel()
            end, *_ = await asyncio.gather(reading, writing, closing, return_exceptions=True)
        return end if isinstance(end, tuple) else LOST

    async def _send_away(self, context: grpc.aio.ServicerContext, peer: str, refusal: AdmissionRefused) -> None:
        """Tell a stranger why, unless it does not read: what is written to it would keep the stream for ever."""
        try:
            async with asyncio.timeout(0 if isinstance(refusal, CrowdedOut) else FAREWELL_SECONDS):
                await context.write(Frame(goodbye=refusal.goodbye))
        except TimeoutError:
            self._connections.hang_up(peer)

    def _check(self, join: Join, identity: Identity) -> None:
        """Raise AdmissionRefused if a client that knows the passphrase may not join all the same."""
        if self.goodbye_to is not None:
            refusal = AdmissionRefused("the run is over")
            refusal.goodbye = self.goodbye_to(join.cids)
            self._sessions.forget_session(join.session)
            raise refusal
        if outside := [cid for cid in join.cids if cid >= self._num_partitions]:
            raise AdmissionRefused(
                f"--cid {outside[0]} does not exist: the run has {self._num_partitions} partitions, "
                f"0 to {self._num_partitions - 1} (the server's --num-partitions)"
            )
        if join.shared and not self._shareable:
            raise AdmissionRefused(
                "clients of this run keep something between two messages and cannot share partitions: "
                "leave out --shared, and give each a --cid of its own"
            )
        if len(set(join.cids)) < len(join.cids):
            raise AdmissionRefused("it names a --cid twice")
        if refusal := self._holders.refusal(identity, join.cids):
            raise AdmissionRefused(refusal)
        if self._sessions.is_full(join):
            raise AdmissionRefused(f"{PROCESSES} processes share these partitions already", again=True)
        if (taken := self._sessions.taken(join)) is not None:
            raise AdmissionRefused(
                f"--cid {taken} is already connected; give each client a cid of its own, or --replace the other one"
            )

    def _free_partition(self, identity: Identity) -> tuple[int, ...]:
        """A partition for a client that takes any: the one that it had before, if it had. Raises AdmissionRefused."""
        taken = set(self._sessions.cids())
        may_have = self._holders.may_have(identity, self._num_partitions)
        free = next((cid for cid in may_have if cid not in taken), None)
        if free is not None:
            return (free,)
        kept = self._num_partitions - len(taken)
        away = f", {kept} of them one that is away" if kept else ""
        raise AdmissionRefused(f"all {self._num_partitions} partitions have a client already{away}", again=True)

    def _tell(self, level: int, connection: ClientConnection, text: str, *values: str | Exception) -> None:
        self._peer_log.about_client(level, connection.peer, text, *values)

    async def _write(self, connection: ClientConnection, context: grpc.aio.ServicerContext, welcome: Welcome) -> None:
        """Send what waits, up to a Goodbye; a write waits until the client reads (gRPC's flow control)."""
        await self._write_frame(connection, context, Frame(welcome=welcome))
        last: list[bytes] = []
        while True:
            item = await connection.next()
            if isinstance(item, Frame):
                await self._write_frame(connection, context, item)
                if item.HasField("goodbye"):
                    return
                continue
            header, buffers = item
            # The process has these arrays already if another of its clients, or the last phase of a round, needed them.
            header.same_payload = bool(buffers) and wire.same_buffers(buffers, last)
            to_send = () if header.same_payload else buffers
            async with self._writing.slot() as one_write:
                with self._payloads.chunks(to_send) as payload:
                    for frame in itertools.chain(wire.header_frames(header, wire.TO_CLIENT), payload):
                        with one_write():
                            await self._write_frame(connection, context, frame)
            last = buffers or last

    async def _write_frame(
        self, connection: ClientConnection, context: grpc.aio.ServicerContext, frame: Frame | wire.Chunk
    ) -> None:
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await context.write(frame)
        except TimeoutError:
            cids = cids_text(connection.session.cids)
            self._tell(logging.WARNING, connection, "closing the stream of client %s, which does not read", cids)
            raise

    async def _read(self, connection: ClientConnection, context: grpc.aio.ServicerContext) -> tuple[str, bool]:
        """Receive replies until the stream ends; return why it ended, and whether for good."""
        session, cids = connection.session, connection.session.cids
        judge, most = functools.partial(self._judge, session), functools.partial(_header_limit, session)
        assembler = Assembler(wire.TO_SERVER, self._max_message_bytes, judge, most)
        reservation, deadline = self._reservation(), math.inf
        try:
            while (frame := await self._next_frame(context, assembler.midway, deadline)) is not grpc.aio.EOF:
                if isinstance(frame, Frame) and frame.HasField("goodbye") and frame.goodbye.over:
                    return "the run is over", True
                if isinstance(frame, Frame) and frame.HasField("goodbye"):
                    reason = one_line(frame.goodbye.reason)
                    self._tell(logging.WARNING, connection, "client %s leaves: %s", cids_text(cids), reason)
                    return f"it left: {reason}", True
                if isinstance(frame, Frame) and frame.HasField("settled"):
                    self._sessions.dropped(session, frame.settled.message_id)
                    continue
                midway = assembler.midway
                complete = assembler.add(frame)
                begun = assembler.header
                if begun and not session.holding.get(begun.reply_to_message_id):  # given up meanwhile
                    assembler.skip()
                    reservation.release()
                elif begun and not reservation.is_held:  # the header of what is about to come
                    size = begun.payload_bytes + HEADER_COST * begun.ByteSize()
                    await reservation.acquire(size, self._replies.place(begun))
                if assembler.midway and (not midway or (isinstance(frame, Frame) and assembler.missing)):
                    deadline = asyncio.get_running_loop().time() + seconds_for(assembler.missing)
                if complete and not reservation.is_held and (size := complete[0].ByteSize()) > SMALL_HEADER:
                    await reservation.acquire(HEADER_COST * size)
                if complete:
                    self._accept(session, *complete, reservation)
                    reservation = self._reservation()
                frame = complete = begun = None  # else a client's last reply would be kept until its next one begins
        except WireError as error:
            text = "closing the stream of client %s, which sent %s"
            self._tell(logging.WARNING, connection, text, cids_text(cids), error)
            connection.close(Goodbye(reason=f"this client sent {error}", again=isinstance(error, Altered)))
            return f"it sent {error}", not isinstance(error, Altered)
        except TimeoutError:
            text = "closing the stream of client %s, which stopped in mid-message"
            header, late = assembler.header, asyncio.get_running_loop().time() >= deadline
            if header and late and session.holding.get(header.reply_to_message_id):
                took = f"its reply of {header.payload_bytes / 1e6:.3g} MB"
                took += f" was not whole within {seconds_for(header.payload_bytes):.0f} s"
                self._sessions.answered(session, header.reply_to_message_id)
                self._replies.fail(header.reply_to_message_id, took)
                text = f"closing the stream of client %s: {took}"
            self._tell(logging.WARNING, connection, text, cids_text(cids))
            return "stopped in the middle of a message", False
        finally:
            reservation.release()
        return LOST

    def _reservation(self) -> Reservation:
        return Reservation(self._budget, self._slow, SLOW_SENDER_SECONDS)

    @staticmethod
    async def _next_frame(context: grpc.aio.ServicerContext, midway: bool, deadline: float) -> wire.Parsed:
        left = deadline - asyncio.get_running_loop().time()
        patience = min(STALL_SECONDS, max(0.0, left)) if midway else None
        async with asyncio.timeout(patience):  # not wait_for, which makes a task of each read
            data = await context.read()
        return wire.parse(data) if isinstance(data, bytes) else data

    def _judge(self, session: Session, header: Header) -> bool:
        """Whether the reply with this header is wanted. Raises WireError for what this process cannot have to say."""
        message_id = header.reply_to_message_id
        if header.cid not in session.cids:
            raise WireError(f"a message of client {header.cid}, which it is not")
        if message_id not in session.recent:
            raise WireError("a reply to a message that it was never sent")
        asked = session.holding.get(message_id)
        fault = self._replies.fault(header, asked[0]) if asked else ""
        if asked and not fault:
            return True
        if fault:
            self._sessions.answered(session, message_id)
            self._replies.fail(message_id, fault)
        else:  # it was given up, answered before, or taken from this process for another one, which has it still
            self._sessions.answered_in_vain(session, message_id)
        return False

    def _accept(self, session: Session, header: Header, buffers: list[bytes], reservation: Reservation) -> None:
        """Take a whole reply. It is looked at first and noted afterwards: one that is of no use answers nothing."""
        reply = self._replies.read(header, buffers)
        self._sessions.answered(session, header.reply_to_message_id)
        reservation.deliver()
        self._replies.deliver(reply, reservation.release)


def _header_limit(session: Session) -> int:
    """The most bytes of a Header that this process may have to send now."""
    return wire.header_limit(max((asked[0].ByteSize() for asked in session.holding.values() if asked), default=0))


def seconds_for(size: int) -> float:
    """How long a reply of so many bytes may take to arrive."""
    return REPLY_SECONDS + size / SLOWEST
