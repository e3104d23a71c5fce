"""What a process that has joined may cost the other side: what it sends is expected, of a size, and soon whole."""

import asyncio
import logging
import queue
import threading

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from test_runtime_obligations import Obligations, Process

from fedkeras.flower.identity import node_id_of
from fedkeras.runtime import client_connection, service, wire
from fedkeras.runtime.client_session import ClientSession
from fedkeras.runtime.content import WireError
from fedkeras.runtime.federation_pb2 import ArrayInfo, Frame, Header, Join, Record, Value
from fedkeras.runtime.sessions import Sessions

MEGABYTE = np.zeros(1_000_000, np.uint8)


@pytest.fixture
def world():
    """The grid and its service in one thread, with a clock that the test turns."""
    made = Obligations()
    yield made
    made.teardown()


def asked(world: Obligations, limit: int | None, cid: int = 0, shared: bool = False) -> tuple[str, Process]:
    """A message to a client, whose reply may have so many bytes of arrays; and the process that holds it."""
    if not world.connected():
        world.join((1, 2) if shared else (cid,), shared, False)
    content = RecordDict({"config": ConfigRecord({"n": 1})})
    (message_id,) = world.grid.push_within([Message(content, node_id_of(cid), "query.echo")], [limit])
    world.pushed.append(message_id)
    world.settle()
    (process,) = [each for each in world.connected() if message_id in each.received]
    return message_id, process


def answer(message_id: str, cid: int, content: RecordDict) -> list[wire.Parsed]:
    """The frames of a reply."""
    message = Message(content, node_id_of(cid), "query.echo")
    header, buffers = wire.encode(message, cid)
    header.reply_to_message_id, header.message_id = message_id, "reply"
    return [wire.parse(wire.serialise(frame)) for frame in wire.frames(header, buffers, wire.TO_SERVER)]


def arrays(**named: np.ndarray) -> RecordDict:
    return RecordDict({"arrays": ArrayRecord({name: Array(array) for name, array in named.items()})})


def send(world: Obligations, process: Process, frames: list[wire.Parsed]) -> None:
    for frame in frames:
        process.connection.frames.put_nowait(frame)
    world.settle()


def reason(world: Obligations, message_id: str) -> str:
    (reply,) = world.mailbox.take([message_id])
    return reply.error.reason


def test_a_reply_larger_than_expected_is_refused_by_its_header(world) -> None:
    """The message has failed before a byte of the reply is there; what comes is not kept, and the client goes on."""
    message_id, process = asked(world, 500_000)
    begin, *chunks = answer(message_id, 0, arrays(w=MEGABYTE))
    send(world, process, [begin])
    assert reason(world, message_id) == f"sent {len(MEGABYTE) + 128} bytes of arrays, where 500000 are allowed"
    assert world.service._budget._used == 0
    send(world, process, chunks)
    again, _ = asked(world, 2_000_000)
    send(world, process, answer(again, 0, arrays(w=MEGABYTE)))
    (reply,) = world.mailbox.take([again])
    assert np.array_equal(reply.content["arrays"]["w"].numpy(), MEGABYTE)


def test_of_replies_that_wait_for_room_the_one_to_the_oldest_message_is_next(world) -> None:
    """Whoever was asked first is summed first: a reply that came before its turn would have to be kept meanwhile."""
    messages = [asked(world, None, cid)[0] for cid in _joined(world, 3)]
    budget = world.service._budget
    assert budget.take(service.UNDER_WAY_BYTES)
    for cid in (2, 0, 1):
        send(world, world.connected()[cid], answer(messages[cid], cid, arrays(w=MEGABYTE)))
    assert not world.mailbox._replies
    budget.release(1_100_000)  # enough for one, and so for the next one when that has been taken
    for cid in range(3):
        world.settle()
        assert [reply.metadata.src_node_id for reply in world.mailbox.take(messages)] == [node_id_of(cid)]


def _joined(world: Obligations, count: int) -> range:
    """So many clients of one partition each."""
    for cid in range(count):
        world.join((cid,), False, False)
    return range(count)


def test_a_large_header_is_refused(world) -> None:
    """A message of a few bytes lets no megabytes of names and values expect; nobody has to make objects of them."""
    message_id, process = asked(world, None)
    text = "x" * (wire.HEADER_SPARE_BYTES + 1000)
    send(world, process, answer(message_id, 0, RecordDict({"config": ConfigRecord({"text": text})})))
    world.wait(3.0)
    assert reason(world, message_id).startswith("is gone: it sent more than 10")
    assert process.connection.task.done()


@pytest.mark.parametrize("kind", ["records", "arrays", "values", "strings"])
def test_many_small_things_are_not_taken(kind: str) -> None:
    header = Header(message_id="a")
    if kind == "records":
        header.records.extend(Record(name=str(number)) for number in range(wire.MAX_RECORDS + 1))
    elif kind == "arrays":
        for _ in range(2):
            found = header.records.add().arrays.arrays
            found.extend([ArrayInfo(name="w")] * (wire.MAX_ENTRIES // 2 + 1))
    elif kind == "values":
        header.records.add().config.values.extend([Value()] * (wire.MAX_ENTRIES + 1))
    else:
        header.records.add().config.values.add(type=Value.STRING, strings=[""] * (wire.MAX_ENTRIES + 1))
    with pytest.raises(WireError, match=r"a message of \d+ .*; at most \d+ are taken"):
        wire.Assembler(wire.TO_SERVER).add(Frame(header=header))


def test_an_answer_to_what_was_never_sent_ends_the_connection(world) -> None:
    _, process = asked(world, None)
    send(world, process, answer("0" * 32, 0, arrays(w=MEGABYTE))[:1])
    world.wait(3.0)
    assert process.connection.task.done()


def test_a_second_answer_passes_by(world) -> None:
    """It may be a network's fault; its bytes are not kept."""
    message_id, process = asked(world, None)
    frames = answer(message_id, 0, arrays(w=MEGABYTE))
    send(world, process, frames)
    assert len(world.mailbox.take([message_id])) == 1
    send(world, process, frames[:1])
    assert world.service._budget._used == 0
    send(world, process, frames[1:])
    assert not process.connection.task.done()


def test_a_reply_that_never_becomes_whole_fails_by_its_size(world) -> None:
    """A chunk now and then keeps no message under way for ever, and its memory counts as long as it is there."""
    message_id, process = asked(world, None)
    begin, *chunks = answer(message_id, 0, arrays(w=np.zeros(5 * wire.TO_SERVER.chunk_bytes, np.uint8)))
    due = service.seconds_for(5 * wire.TO_SERVER.chunk_bytes + 128)
    assert due == pytest.approx(60 + 5 * wire.TO_SERVER.chunk_bytes / 64_000, abs=0.1)
    send(world, process, [begin])
    for chunk in chunks[:4]:
        world.wait(due / 5)
        send(world, process, [chunk])
        assert world.service._budget._used + world.service._slow._used > 5 * wire.TO_SERVER.chunk_bytes
        assert not world.mailbox._replies
    world.wait(due / 5 + 1)
    assert f"was not whole within {due:.0f} s" in reason(world, message_id)
    world.wait(3.0)
    assert process.connection.task.done()
    assert world.service._budget._used + world.service._slow._used == 0


def test_what_is_given_up_in_the_middle_is_forgotten(world) -> None:
    """As at a time-out: the rest of it passes by."""
    message_id, process = asked(world, None)
    begin, *chunks = answer(message_id, 0, arrays(w=np.zeros(3 * wire.TO_SERVER.chunk_bytes, np.uint8)))
    send(world, process, [begin, chunks[0]])
    world.grid._mailbox.abandon([message_id])
    world.loop.call_soon(world.sessions.forget, [message_id])
    world.settle()
    send(world, process, chunks[1:2])
    assert world.service._budget._used == 0
    send(world, process, chunks[2:])
    again, _ = asked(world, None)
    send(world, process, answer(again, 0, arrays(w=MEGABYTE)))
    assert len(world.mailbox.take([again])) == 1


def test_a_pool_has_so_many_processes_and_no_more(monkeypatch) -> None:
    """Of those that are away one makes room; if all are there, the next one is told to come later."""
    monkeypatch.setattr("fedkeras.runtime.sessions.PROCESSES", 3)
    assert client_connection.PROCESSES == 256
    sessions, join = Sessions(30.0, lambda *_: None), Join(cids=[0, 1], shared=True)

    async def run() -> None:
        connections = [sessions.join(join, (0, 1), "here")[0] for _ in range(3)]
        assert sessions.is_full(join)
        sessions.lost(connections[1], "lost its connection", final=False)
        assert not sessions.is_full(join)
        sessions.join(join, (0, 1), "here")
        assert len(sessions) == 3
        assert connections[1].session.name not in sessions._by_name
        assert sessions.is_full(join)

    asyncio.run(run())


def test_a_client_reads_no_more_than_one_message_ahead() -> None:
    """A server may send as it likes: what the app has not taken yet stays in the network."""
    session = ClientSession.__new__(ClientSession)
    session._inbox, session._leaving = queue.SimpleQueue(), threading.Event()
    session._unread, session._taken, session._held = 0, threading.Condition(), {"a": None, "b": None, "c": None}
    headers = [Header(message_id=name, payload_bytes=600) for name in "abc"]
    session._keep((headers[0], []), 1000)
    keeping = threading.Thread(target=session._keep, args=((headers[1], []), 1000))
    keeping.start()
    keeping.join(0.2)
    assert keeping.is_alive(), "600 and 600 are more than 1000"
    assert session.receive()[0].message_id == "a"
    keeping.join(10)
    assert not keeping.is_alive()
    assert session.receive()[0].message_id == "b"
    assert session._unread == 0


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL, "fedkeras")
