"""What one client may keep from the others: memory, and turns to write. It is little, however slow that client is."""

import asyncio
from collections.abc import Iterator
from importlib.metadata import version

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fedkeras.errors import RunFailed
from fedkeras.runtime import handshake, wire
from fedkeras.runtime.access import Access
from fedkeras.runtime.budget import Budget, Share, Slots
from fedkeras.runtime.federation_pb2 import Hello
from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.runtime.link import Link
from fedkeras.runtime.service import WRITING


def test_a_share_is_free_again_when_its_time_is_over() -> None:
    async def run() -> None:
        budget = Budget(10)
        slow, next_one = Share(budget, 0.05), Share(budget, 60)
        await slow.take(900)  # more than there is: alone it may
        waiting = asyncio.ensure_future(next_one.take(10))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await asyncio.wait_for(waiting, 5)
        slow.give_back()  # too late to free anything twice
        third = asyncio.ensure_future(Share(budget, 60).take(1))
        await asyncio.sleep(0.01)
        assert not third.done()
        next_one.give_back()
        await asyncio.wait_for(third, 5)

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


@pytest.fixture
def deaf(grid: GrpcGrid) -> Iterator[list[int]]:
    """As many clients as may be written to at once, which log in and then read nothing."""

    def join(cid: int) -> Link:
        own = Hello(protocol=wire.PROTOCOL, version=version("fedkeras"), cids=[cid], nonce=handshake.new_nonce())
        return Link(grid.address, own, Access())

    links = [join(cid) for cid in range(WRITING)]
    yield list(range(WRITING))
    for link in links:
        link.close()


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
