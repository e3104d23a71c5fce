"""What is asked is never lost: after any end of any session each message waits, is held by a live process, or failed.

The real grid, its service and its sessions, in one thread, with a clock that the test turns and clients that are the
test's own: they join, share, replace each other, come back, leave, are cut off, stall, and answer well, badly, twice,
or what they were never asked.
"""

import asyncio
import contextlib

import grpc
import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fedkeras.federation.records import record
from fedkeras.flower.identity import SERVER_NODE_ID, node_id_of
from fedkeras.runtime import wire
from fedkeras.runtime.admission import AdmissionRefused
from fedkeras.runtime.federation_pb2 import Frame, Goodbye, Header, Join, Settled, Value
from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.runtime.holders import Identity

GRACE = 30.0
PROCESSES = ((0,), (1, 2), (1,), (0, 1))
USELESS = ("digest", "kind", "twice a name", "mixed", "no value", "id", "sum", "frame")
FAULTS = (*USELESS, "another's", "never asked", "not its cid")
WEIGHTS = np.arange(5, dtype=np.float32)


class Process:
    """A client process: what it has received and not answered, and its connection, which is a gRPC context too."""

    def __init__(self, cids: tuple[int, ...], shared: bool) -> None:
        self.cids, self.shared = cids, shared
        self.session, self.received, self.answered = b"", {}, []
        self.connection: Connection | None = None


class Connection:
    """The context that gRPC would give the service."""

    def __init__(self, process: Process) -> None:
        self.process, self.frames, self.reads = process, asyncio.Queue(), True
        self.task: asyncio.Task[None] | None = None
        self.assembler = wire.Assembler(wire.TO_CLIENT)

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    async def read(self) -> object:
        frame = await self.frames.get()
        if isinstance(frame, Exception):
            raise frame
        return frame

    async def write(self, frame: Frame | wire.Chunk) -> None:
        while not self.reads:
            await asyncio.sleep(1)
        frame = wire.parse(wire.serialise(frame))
        kind = None if isinstance(frame, memoryview) else frame.WhichOneof("content")
        if kind == "welcome":
            wanted = set(frame.welcome.wanted) if frame.welcome.resumed else set()
            self.process.session = frame.welcome.session
            self.process.received = {key: cid for key, cid in self.process.received.items() if key in wanted}
        elif kind == "settled":
            if self.process.received.pop(frame.settled.message_id, None) is not None:
                self.frames.put_nowait(Frame(settled=frame.settled))
        elif kind == "goodbye":
            self.frames.put_nowait(Frame(goodbye=Goodbye(over=True)))
        elif complete := self.assembler.add(frame):
            self.process.received[complete[0].message_id] = complete[0].cid


class Obligations(RuleBasedStateMachine):
    """Everything that can happen to a session, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.grid = GrpcGrid("127.0.0.1", 0, 3, {}, reconnect_grace=GRACE)
        self.loop, self.now = self.grid._loop, 1000.0
        self.loop.time = lambda: self.now
        self.sessions, self.service, self.mailbox = self.grid._sessions, self.grid._service, self.grid._mailbox
        self.processes: list[Process] = []
        self.pushed: list[str] = []

    def settle(self) -> None:
        """Let the network's loop do what there is to do."""

        async def turns() -> None:
            for _ in range(25):
                await asyncio.sleep(0)

        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(turns())

    def connect(self, process: Process, join: Join) -> None:
        async def check() -> None:
            self.service._check(join, Identity())
            connection = process.connection = Connection(process)
            attend = self.service._attend(join, process.cids, connection)
            connection.task = asyncio.ensure_future(attend)

        with contextlib.suppress(AdmissionRefused):
            self.loop.run_until_complete(check())
        self.settle()

    def some(self, data: st.DataObject) -> list[str]:
        """Any of the messages there have been."""
        return data.draw(st.lists(st.sampled_from(self.pushed), unique=True))

    def connected(self) -> list[Process]:
        return [each for each in self.processes if each.connection and not each.connection.task.done()]

    @rule(cid=st.integers(0, 2), large=st.booleans())
    def push(self, cid: int, large: bool) -> None:
        content = RecordDict({"config": ConfigRecord({"n": 1})})
        if large:
            content["arrays"] = record({"w": WEIGHTS})
        self.pushed += self.grid.push_messages([Message(content, node_id_of(cid), "query.echo")])
        self.settle()

    @initialize(pool=st.integers(0, 3), messages=st.integers(0, 4))
    def begin(self, pool: int, messages: int) -> None:
        """A pool, and somebody alone, with something to do."""
        self.join((0,), False, False)
        for _ in range(pool):
            self.join((1, 2), True, False)
        for number in range(messages):
            self.push(number % 3, True)

    @rule(cids=st.sampled_from(PROCESSES), shared=st.booleans(), replace=st.booleans())
    def join(self, cids: tuple[int, ...], shared: bool, replace: bool) -> None:
        process = Process(cids, shared)
        self.processes.append(process)
        self.connect(process, Join(cids=cids, shared=shared, replace=replace))

    @precondition(lambda self: self.processes)
    @rule(data=st.data(), lies=st.booleans())
    def come_back(self, data: st.DataObject, lies: bool) -> None:
        """Under its session's name, while the old connection may still be there; and it may lie about what it has."""
        process = data.draw(st.sampled_from(self.processes))
        held = self.some(data) if lies and self.pushed else process.received
        self.connect(process, Join(cids=process.cids, shared=process.shared, session=process.session, held=held))

    @precondition(lambda self: any(each.received for each in self.connected()))
    @rule(data=st.data(), how=st.sampled_from(["good", "error", "cut", "again"]))
    def answer(self, data: st.DataObject, how: str) -> None:
        process = data.draw(st.sampled_from([each for each in self.connected() if each.received]))
        message_id = data.draw(st.sampled_from(list(process.received)))
        header, buffers = self.reply(message_id, process.received[message_id], failed=how == "error")
        frames = [wire.parse(wire.serialise(frame)) for frame in wire.frames(header, buffers, wire.TO_SERVER)]
        for frame in frames[: 1 if how == "cut" else None] * (2 if how == "again" else 1):
            process.connection.frames.put_nowait(frame)
        if how == "cut":
            process.connection.frames.put_nowait(OSError("cut"))
        self.settle()

    @precondition(lambda self: self.connected() and self.pushed)
    @rule(data=st.data(), fault=st.sampled_from(FAULTS))
    def answer_badly(self, data: st.DataObject, fault: str) -> None:
        process = data.draw(st.sampled_from(self.connected()))
        message_id = data.draw(st.sampled_from(list(process.received) or self.pushed))
        self.send_bad(process, message_id, data.draw(st.sampled_from(self.pushed)), fault)

    def send_bad(self, process: Process, message_id: str, other: str, fault: str) -> None:
        """A reply to a message that is wrong in one way; `other` is another message."""
        header, buffers = self.reply(message_id, process.received.get(message_id, process.cids[0]))
        arrays = header.records[0].arrays.arrays
        if fault == "digest":
            header.digest = b"another"
        elif fault == "kind":
            header.records.add(name="of no kind")
        elif fault == "twice a name":
            header.records.add(name=header.records[0].name).config.values.add(name="x", is_list=True)
        elif fault == "mixed":
            header.records.add(name="m").metrics.values.add(name="x", type=Value.STRING, strings=["no number"])
        elif fault == "no value":
            header.records.add(name="m").metrics.values.add(name="x")
        elif fault == "id":
            header.message_id, header.message_type, header.ttl = "", "no such type", -1.0
        elif fault == "another's":
            header.reply_to_message_id = other
        elif fault == "never asked":
            header.reply_to_message_id = "an id"
        elif fault == "not its cid":
            header.cid = (header.cid + 1) % 3
        elif fault == "sum":
            arrays[0].num_bytes += 1
        frames = [wire.parse(wire.serialise(frame)) for frame in wire.frames(header, buffers, wire.TO_SERVER)]
        for frame in [Frame()] if fault == "frame" else frames:
            process.connection.frames.put_nowait(frame)
        self.settle()

    @precondition(lambda self: self.connected())
    @rule(data=st.data(), how=st.sampled_from(["end", "error", "goodbye", "cancel", "cancel twice", "settled"]))
    def end(self, data: st.DataObject, how: str) -> None:
        connection = data.draw(st.sampled_from(self.connected())).connection
        if how.startswith("cancel"):
            connection.task.cancel()
            if how == "cancel twice":
                self.loop.run_until_complete(asyncio.sleep(0))
                connection.task.cancel()
        elif how == "settled" and self.pushed:
            connection.frames.put_nowait(Frame(settled=Settled(message_id=data.draw(st.sampled_from(self.pushed)))))
        else:
            frame = {"error": OSError("reset"), "goodbye": Frame(goodbye=Goodbye(reason="it leaves"))}
            connection.frames.put_nowait(frame.get(how, grpc.aio.EOF))
        self.settle()

    @precondition(lambda self: self.connected())
    @rule(data=st.data())
    def stop_reading(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(self.connected())).connection
        connection.reads = not connection.reads

    @rule(seconds=st.sampled_from([0.5, 3.0, 31.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.settle()

    @precondition(lambda self: self.pushed)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """As at a time-out."""
        message_ids = self.some(data)
        self.mailbox.abandon(message_ids)
        self.loop.call_soon(self.sessions.forget, message_ids)
        self.settle()

    @rule()
    def take(self) -> None:
        self.mailbox.take(self.pushed)
        self.settle()

    @invariant()
    def each_message_is_somebodys(self) -> None:
        live = self.sessions._by_name.values()
        assert all(each.connection or each.expiry for each in live), "a session that nothing will ever end"
        queued = {key for each in live for key in each.queue.waiting if each in each.queue.sessions}
        held = {key for each in live for key, outgoing in each.holding.items() if outgoing}
        assert not self.mailbox._outstanding.keys() - queued - held

    def teardown(self) -> None:
        """When all are gone for good, nothing is waited for any more."""
        for process in self.connected():
            process.connection.frames.put_nowait(OSError("cut"))
        self.settle()
        for _ in range(5):
            self.now += GRACE + 1
            self.settle()
        assert not asyncio.all_tasks(self.loop), "a stream's handler that does not end"
        assert not self.mailbox._outstanding
        assert not self.sessions._queues
        self.loop.close()

    @staticmethod
    def reply(message_id: str, cid: int, failed: bool = False) -> tuple[Header, list[bytes]]:
        content = RecordDict({"arrays": record({"w": WEIGHTS}), "metrics": ConfigRecord({"n": 1})})
        asked = wire.decode(
            Header(message_id=message_id, cid=cid, message_type="query.echo", created_at=1.0, ttl=60.0),
            [], 1, SERVER_NODE_ID, node_id_of(cid),
        )  # fmt: skip
        reply = Message(Error(1, "no"), reply_to=asked) if failed else Message(content, reply_to=asked)
        return wire.encode(reply, cid)


TestObligations = Obligations.TestCase
TestObligations.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize("fault", USELESS)
def test_what_one_of_a_pool_answers_badly_another_is_asked(fault: str) -> None:
    """And where that one answers badly too, the message has failed: the round need not wait for its time-out."""
    world = Obligations()
    world.begin(pool=3, messages=0)
    world.push(1, True)
    (message_id,) = world.pushed
    for _ in range(2):
        (holder,) = [process for process in world.connected() if message_id in process.received]
        assert not world.mailbox._replies
        world.send_bad(holder, message_id, message_id, fault)
        world.wait(3.0)
        assert holder.connection.task.done()
    (reply,) = world.mailbox.take([message_id])
    assert reply.error.reason.startswith("is gone: it sent ")
    assert reply.error.reason.endswith("as the process before it")
    world.teardown()
