"""What one client may keep from the others: memory, and turns to write. It is little, however slow that client is."""

import asyncio
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from processes import until

from fedkeras.errors import RunFailed
from fedkeras.flower.internals import set_message_id
from fedkeras.runtime import budget as budgets
from fedkeras.runtime import wire
from fedkeras.runtime.budget import Budget, Reservation, Slots
from fedkeras.runtime.client_channel import ClientChannel
from fedkeras.runtime.federation_pb2 import Frame, Goodbye, Join
from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.runtime.mailbox import Mailbox
from fedkeras.runtime.passphrase import Access
from fedkeras.runtime.server_connection import ServerConnection
from fedkeras.runtime.service import SLOW_SENDER_SECONDS, UNDER_WAY_BYTES, WRITING
from fedkeras.runtime.shared_payloads import SharedPayloads


def test_a_slow_reply_makes_room_for_others_and_counts_until_it_is_freed() -> None:
    """It moves to the memory for slow ones; where that is full too, it stays, unless it is whole."""

    async def waits(budget: Budget, slow: Budget, count: int) -> Reservation | None:
        made = Reservation(budget, slow, 60)
        try:
            await asyncio.wait_for(made.acquire(count), 0.02)
        except TimeoutError:
            return None
        return made

    async def run() -> None:
        budget, slow = Budget(10), Budget(10)
        first, second, third = (Reservation(budget, slow, 0.05) for _ in range(3))
        await first.acquire(900)  # more than there is: alone it may
        assert await waits(budget, slow, 1) is None
        await asyncio.sleep(0.1)
        assert (budget._used, slow._used) == (0, 900)
        await second.acquire(10)
        await asyncio.sleep(0.1)
        assert (budget._used, slow._used) == (10, 900), "its time is over, and there is no room"
        assert await waits(budget, slow, 1) is None
        first.release()
        first.release()
        await asyncio.sleep(budgets.MOVE_SECONDS + 0.1)
        assert (budget._used, slow._used) == (0, 10)
        await third.acquire(5)
        third.deliver()
        await asyncio.sleep(0.1)
        assert (budget._used, slow._used) == (0, 10), "nobody but the round loop holds it, which may want another first"
        third.release()
        second.release()
        assert (budget._used, slow._used) == (0, 0)

    asyncio.run(run())


def test_room_is_given_by_place_and_those_of_one_place_as_they_came() -> None:
    async def run() -> None:
        budget, let_in = Budget(10), []

        async def wait(place: int, count: int, name: str) -> None:
            await budget.acquire(count, place)
            let_in.append(name)

        await budget.acquire(10, 9)
        asked = [(7, 4, "7"), (3, 4, "3"), (5, 4, "first 5"), (5, 4, "second 5"), (0, 9, "0")]
        waiting = [asyncio.ensure_future(wait(*each)) for each in asked]
        await asyncio.sleep(0)
        waiting[1].cancel()
        await asyncio.sleep(0)
        for expected in (["0"], ["first 5", "second 5"], ["7"]):
            budget.release(budget._used)
            await asyncio.sleep(0.01)
            assert let_in == expected
            let_in.clear()

    asyncio.run(run())


def test_a_slot_is_free_again_while_a_write_hangs() -> None:
    async def run() -> None:
        slots, hangs = Slots(1, 0.05), asyncio.Event()

        async def write(until: asyncio.Event | None = None) -> None:
            async with slots.slot() as one_write:
                with one_write():
                    await (until.wait() if until else asyncio.sleep(0))

        first = asyncio.ensure_future(write(hangs))
        await asyncio.sleep(0)
        await asyncio.wait_for(write(), 5)
        hangs.set()
        await first
        await write()
        assert slots._free._value == 1, "given back once"

    asyncio.run(run())


def test_of_what_many_are_sent_a_frame_is_made_once_and_for_one_alone_nothing_is_kept() -> None:
    """Chunks are kept only while two are being sent the same buffers, the same objects."""
    shared, most = SharedPayloads(), wire.TO_CLIENT.chunk_bytes
    buffers = [bytes(most), b"the rest"]
    expected = [wire.serialise(chunk) for chunk in wire.chunks(buffers, wire.TO_CLIENT)]
    with shared.chunks(buffers) as alone:
        assert wire.serialise(next(alone)) == expected[0]
        assert not shared._payloads[tuple(map(id, buffers))].made
        with shared.chunks(list(buffers)) as other, shared.chunks([bytes(most)]) as equal:
            first, second = list(other)
            assert [wire.serialise(first), wire.serialise(second)] == expected
            assert wire.serialise(next(alone)) is wire.serialise(second)
            assert wire.serialise(next(equal)) == expected[0]
            assert len(shared._payloads) == 2
        assert not shared._payloads[tuple(map(id, buffers))].made
    assert not shared._payloads


def test_of_a_payload_above_the_bound_no_frame_is_kept(monkeypatch) -> None:
    monkeypatch.setattr("fedkeras.runtime.shared_payloads.MOST_BYTES", 10)
    shared, buffers = SharedPayloads(), [b"eleven byte"]
    with shared.chunks(buffers) as one, shared.chunks(buffers) as two:
        assert list(one) == list(two) == [[b"eleven byte"]]
        assert not shared._payloads


def join(grid: GrpcGrid, cid: int) -> ServerConnection:
    """Log in, and no more."""
    return ServerConnection(grid.address, ClientChannel(grid.address, Access()), None, Join(cids=[cid]))


@pytest.fixture
def deaf(grid: GrpcGrid) -> Iterator[list[int]]:
    """As many clients as may be written to at once, which log in and then read nothing."""

    connections = [join(grid, cid) for cid in range(WRITING)]
    yield list(range(WRITING))
    for connection in connections:
        connection.close()


def test_clients_that_do_not_read_do_not_stop_the_others(toy, grid: GrpcGrid, deaf: list[int], question) -> None:
    toy(WRITING)
    weights = ArrayRecord({"w": Array(np.zeros(5_000_000, np.float32))})
    content = RecordDict({"arrays": weights, "config": ConfigRecord({"n": 1})})
    asked = [question(cid, "echo", content) for cid in [*deaf, WRITING]]
    (reply,) = grid.wait_for_replies(grid.push_messages(asked), timeout=20)
    assert reply.content["arrays"] == weights


def test_a_message_larger_than_allowed_is_not_sent(question) -> None:
    grid = GrpcGrid("127.0.0.1", 0, 1, {}, max_message_bytes=1000)
    content = RecordDict({"arrays": ArrayRecord({"w": Array(np.zeros(500_000, np.float32))})})
    with pytest.raises(RunFailed, match=r"a message has 2 MB, 0\.001 are allowed: give --max-message-mb"):
        grid.push_messages([question(0, "echo", content)])


def test_replies_that_nobody_takes_keep_the_next_ones_away(toy, grid: GrpcGrid, question) -> None:
    """The round loop may be slower than the network; what it has not taken yet is within the bound as well."""
    toy(0, 1, 2, 3)
    third = ArrayRecord({"w": Array(np.zeros(UNDER_WAY_BYTES // 3 // 4 - 1000, np.float32))})
    content = RecordDict({"arrays": third})
    waiting = set(grid.push_messages([question(cid, "echo", content) for cid in range(4)]))
    until(lambda: len(grid._mailbox._replies) == 3, "as many as there is room for")
    time.sleep(1.0)
    started = time.monotonic()
    replies = grid.wait_for_replies(waiting, timeout=0)
    assert len(replies) == 3
    while len(replies) < 4:
        replies += grid.wait_for_replies(waiting, timeout=20)
    assert time.monotonic() - started < SLOW_SENDER_SECONDS / 2, "at once, not when the first one's time is over"


def test_the_mailbox_reports_when_it_no_longer_holds_a_reply(question) -> None:
    mailbox, released = Mailbox(), []
    for name in ("taken", "given up", "late"):
        message = question(0, n=1)
        set_message_id(message, name)
        mailbox.expect(message)
        if name == "late":
            mailbox.abandon([name])
        mailbox.deliver(Message(RecordDict(), reply_to=message), lambda name=name: released.append(name))
    assert released == ["late"]
    mailbox.abandon(["given up"])
    assert released == ["late", "given up"]
    assert len(mailbox.take(["taken", "given up", "late"])) == 1
    assert released == ["late", "given up", "taken"]


def test_a_connection_that_is_closed_leaves_no_thread_behind(grid: GrpcGrid) -> None:
    """Python freezes gRPC's threads when it ends, with the locks they hold, and then may wait for one for ever."""

    def clients() -> set[threading.Thread]:
        """All threads but the worker of the server's event loop, which the server ends."""
        return {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}

    before = clients()
    for cid in range(20):
        join(grid, cid).close()
        assert clients() <= before


def test_a_last_word_is_heard_before_the_connection_is_closed(grid: GrpcGrid, caplog) -> None:
    """Else the server waits for a client that has gone."""
    with caplog.at_level("WARNING", "fedkeras"):
        for cid in range(20):
            connection = join(grid, cid)
            connection.send((Frame(goodbye=Goodbye(reason="its work is done")),))
            connection.end()
            connection.close()
        until(lambda: not grid.cids(), "the end of all")
    assert sum("leaves: its work is done" in message for message in caplog.messages) == 20


def test_a_cancelled_wait_at_the_head_of_the_queue_holds_nobody_up() -> None:
    async def run() -> None:
        for before in (True, False):  # who comes after waits already when it is cancelled, or comes then
            budget = Budget(64)
            await budget.acquire(30, 5)
            large = asyncio.create_task(budget.acquire(60, 0))
            await asyncio.sleep(0)
            small = asyncio.create_task(budget.acquire(10, 9)) if before else None
            await asyncio.sleep(0)
            large.cancel()
            await asyncio.sleep(0)
            await asyncio.wait_for(small or budget.acquire(10, 9), 1)

    asyncio.run(run())
