"""Processes that share partitions (`--shared`): whoever is free takes the next message, and one may die."""

import asyncio
import time
from collections import Counter

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from processes import Process, Starter, until

from fedkeras.flower.identity import cid_of
from fedkeras.runtime.client_connection import IN_FLIGHT, ClientConnection
from fedkeras.runtime.federation_pb2 import Header, Join
from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.runtime.sessions import Sessions

CIDS = "0,1,2,3,4,5,6,7"


@pytest.fixture
def pool(start: Starter, grid: GrpcGrid) -> tuple[Process, Process]:
    """Two processes that serve clients 0 to 7 between them."""
    members = tuple(start.toy(grid.address, CIDS, "--shared") for _ in range(2))
    for member in members:
        member.said("joined")
    return members


def test_messages_go_to_whoever_is_free(pool: tuple, grid: GrpcGrid, question) -> None:
    """Client 0's answer takes long: the other process does all the rest but for what already waits behind client 0."""
    asked = [question(0, "pid", seconds=2.0)] + [question(cid, "pid", seconds=0.02) for cid in range(1, 8)]
    replies = list(grid.send_and_receive(asked, timeout=60))
    by = {cid_of(reply.metadata.src_node_id): reply.content["config"]["pid"] for reply in replies}
    assert sorted(by) == list(range(8))
    assert set(by.values()) == {member.popen.pid for member in pool}
    assert Counter(by.values())[by[0]] <= 2  # IN_FLIGHT


def test_all_end_when_the_run_ends_also_while_one_works(pool: tuple, grid: GrpcGrid, question) -> None:
    list(grid.push_messages([question(cid, "pid", seconds=0.5) for cid in range(8)]))
    pool[0].said("working")
    started = time.monotonic()
    grid.stop()
    assert [member.ended(20) for member in pool] == [0, 0]
    assert time.monotonic() - started < 15


def test_what_one_held_that_dies_is_done_by_the_other(pool: tuple, grid: GrpcGrid, question) -> None:
    message_ids = list(grid.push_messages([question(cid, "pid", seconds=1.0) for cid in range(8)]))
    pool[0].said("working")
    pool[0].popen.kill()
    replies = {}

    def complete() -> bool:
        replies.update({reply.metadata.reply_to_message_id: reply for reply in grid.wait_for_replies(message_ids, 1)})
        return len(replies) == 8

    until(complete, "8 replies")
    assert {reply.content["config"]["pid"] for reply in replies.values()} == {pool[1].popen.pid}
    assert sorted(grid.cids().values()) == list(range(8))  # the other goes on with all of them
    (reply,) = grid.send_and_receive([question(0, "pid", seconds=0.0)], timeout=60)
    assert reply.content["config"]["pid"] == pool[1].popen.pid


@pytest.mark.parametrize("flags", [("3",), ("3", "--shared"), (CIDS,)])
def test_who_is_not_of_the_pool_may_not_take_its_partitions(pool: tuple, start: Starter, grid, flags: tuple) -> None:
    """Another set of partitions, or the same without --shared, would make it unclear who serves what."""
    stranger = start.toy(grid.address, *flags)
    assert stranger.ended() == 2
    assert "already connected" in stranger.err
    assert len(stranger.err.splitlines()) == 1


def test_weights_that_a_process_has_already_are_not_sent_again(start: Starter, grid: GrpcGrid, question) -> None:
    """Clients of one process, and evaluation after training, get the right arrays whether sent or referred to."""
    start.toy(grid.address, CIDS)
    until(lambda: len(grid.cids()) == 8, "clients")
    first, second = (ArrayRecord({"w": Array(np.full(300_000, number, np.float32))}) for number in (1, 2))
    for weights in (first, first, second, first):
        content = RecordDict({"arrays": weights, "config": ConfigRecord({"round": 1})})
        asked = [question(cid, "echo", content) for cid in range(8)]
        replies = list(grid.send_and_receive([*asked, question(0, "pid", seconds=0.0)], timeout=60))
        echoed = [reply.content["arrays"] for reply in replies if "arrays" in reply.content]
        assert len(echoed) == 8
        assert all(record == weights for record in echoed)


def test_stragglers_that_are_given_up_do_not_use_a_process_up(start: Starter, grid: GrpcGrid, question) -> None:
    """As many time-outs as a process may hold messages, at work and not begun: afterwards it is as free as before."""
    member = start.toy(grid.address, CIDS, "--shared")
    member.said("joined")
    for _ in range(2):
        late = [question(cid, "pid", seconds=2.0) for cid in range(3)]
        assert list(grid.send_and_receive(late, timeout=0.2)) == []
        (reply,) = grid.send_and_receive([question(5, "pid", seconds=0.0)], timeout=20)
        assert reply.content["config"]["pid"] == member.popen.pid


def test_what_was_given_up_during_a_break_does_not_count_afterwards() -> None:
    """A message of which the process knows nothing, since the connection broke under way, is not held by it."""
    sessions = Sessions(30.0, lambda *_: None)
    join = Join(cids=[0, 1], shared=True)
    connection, _ = sessions.join(join, (0, 1), "here")
    for name in ("a", "b", "c"):
        sessions.put(0, name, (Header(message_id=name), []))
    held = [connection.session.next_message()[0].message_id for _ in range(IN_FLIGHT)]
    assert held == ["a", "b"] and connection.session.next_message() is None

    async def break_and_return() -> ClientConnection:
        sessions.lost(connection, "lost its connection", final=False)
        sessions.forget(["a", "b"])
        return sessions.join(
            Join(cids=[0, 1], shared=True, session=connection.session.name, held=["a"]), (0, 1), "here"
        )[0]

    again = asyncio.run(break_and_return())
    assert again.session.holding == {"a": None}, "the process may be at work on a, and b is gone"
    assert again.session.next_message()[0].message_id == "c" and again.session.next_message() is None
    sessions.dropped(again.session, "a")
    sessions.put(0, "d", (Header(message_id="d"), []))
    assert again.session.next_message()[0].message_id == "d"


@pytest.mark.slow
def test_a_run_whose_clients_keep_something_takes_no_pools(start: Starter) -> None:
    server, address = start.server("--split", "shared", "--num-partitions", 2)
    client = start.client(address, "0-1", "--shared")
    assert client.ended(60) == 2
    assert "cannot share partitions: leave out --shared" in client.err
    assert server.popen.poll() is None
