"""A client whose connection breaks comes back: its work is not done twice, not lost, and counted once."""

import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict
from processes import Process, Starter, until
from proxy import DOWN, UP, Proxy

from fedkeras.runtime.client_session import LONGEST_PAUSE
from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.runtime.passphrase import Access

MEGABYTES = RecordDict({"arrays": ArrayRecord({"w": Array(np.arange(3_000_000, dtype=np.float32))})})


@pytest.fixture
def patient() -> Iterator[GrpcGrid]:
    """A grid that waits long for lost clients."""
    with GrpcGrid("127.0.0.1", 0, 4, {"round": 1}, reconnect_grace=60) as grid:
        yield grid


@pytest.fixture
def proxy(patient: GrpcGrid) -> Iterator[Proxy]:
    with Proxy(patient.address) as listening:
        yield listening


@pytest.fixture
def client(start: Starter, patient: GrpcGrid, proxy: Proxy) -> Iterator[Process]:
    """A toy client that reaches the grid through the proxy."""
    process = start.toy(proxy.address, 0)
    process.said("joined")  # the server may know of it earlier, and a run that ends then is none of the client's
    yield process
    patient.stop()  # before the proxy ends: the grid would wait some seconds for a client that cannot reach it


def reply_of(grid: GrpcGrid, message_id: str) -> Message:
    (reply,) = until(lambda: grid.wait_for_replies([message_id], 1), "the reply")
    return reply


@pytest.mark.parametrize("reset", [False, True])
def test_a_reply_that_was_computed_while_away_is_delivered(client, patient, proxy, question, reset: bool) -> None:
    (message_id,) = patient.push_messages([question(0, "wait", seconds=1.0)])
    client.said("working for client 0")
    proxy.refuse()
    proxy.cut(reset)
    client.said("lost the connection")
    assert patient.cids()  # expected back
    time.sleep(1.5)
    proxy.accept()
    assert reply_of(patient, message_id).content["config"]["seconds"] == 1.0
    assert client.out.count("working for client 0") == 1


def test_a_connection_cut_again_and_again_while_a_client_works(client, patient, proxy, question) -> None:
    (message_id,) = patient.push_messages([question(0, "wait", seconds=2.0)])
    client.said("working for client 0")
    for number in range(1, 5):
        proxy.cut()
        until(lambda number=number: client.out.count("connected again") == number, "a new connection")
    assert not reply_of(patient, message_id).has_error()
    assert client.out.count("working for client 0") == 1


@pytest.mark.parametrize("direction", [UP, DOWN])
@pytest.mark.parametrize("end", ["cut_after", "truncate"])
def test_a_connection_cut_in_the_middle_of_a_message(client, patient, proxy, question, direction, end: str) -> None:
    """12 MB each way, of which 5 pass (or 100 bytes); it is sent again from its beginning, and comes whole."""
    getattr(proxy, end)(5_000_000 if end == "cut_after" else 100, direction)
    (message_id,) = patient.push_messages([question(0, content=MEGABYTES)])
    assert reply_of(patient, message_id).content == MEGABYTES
    client.said("connected again")


def test_several_messages_under_way(client, patient, proxy, question) -> None:
    """Answered, held, waiting and half sent: each is answered once, with its own content."""
    asked = [question(0, "wait", seconds=0.2, n=n) for n in range(5)]
    asked += [question(0, content=MEGABYTES), question(0, n=6)]
    message_ids, replies = list(patient.push_messages(asked)), {}
    proxy.cut_after(6_000_000, DOWN)

    def complete() -> bool:
        replies.update({r.metadata.reply_to_message_id: r for r in patient.wait_for_replies(message_ids, 1)})
        return len(replies) == len(asked)

    until(complete, "all replies")
    assert [replies[key].content["config"]["n"] for key in message_ids[:5]] == list(range(5))
    assert replies[message_ids[5]].content == MEGABYTES
    assert client.out.count("working for client 0") == 5


def test_who_does_not_come_back_in_time_has_failed(start: Starter, question) -> None:
    with GrpcGrid("127.0.0.1", 0, 1, {}, reconnect_grace=1.0) as grid, Proxy(grid.address) as proxy:
        client = start.toy(proxy.address, 0)
        until(lambda: grid.cids(), "the client")
        (message_id,) = grid.push_messages([question(0, "wait", seconds=3.0)])
        client.said("working for client 0")
        cut = time.monotonic()
        proxy.refuse()
        proxy.cut()
        reply = reply_of(grid, message_id)
        assert reply.error.reason == "is gone: lost its connection"
        assert 0.9 < time.monotonic() - cut < 10
        assert not grid.cids()
        proxy.accept()
        until(lambda: grid.cids(), "the client, as a new one")
        client.said("connected again")
        (again,) = grid.push_messages([question(0, n=1)])
        assert reply_of(grid, again).content["config"]["n"] == 1  # and nothing of the message that was given up
        grid.stop()  # before the proxy, as above


def test_a_new_process_takes_over_what_one_that_was_killed_has_left(client, patient, start, question) -> None:
    (message_id,) = patient.push_messages([question(0, "wait", seconds=0.5)])
    client.said("working for client 0")
    client.popen.kill()
    client.popen.wait()
    other = start.toy(patient.address, 0)
    assert not reply_of(patient, message_id).has_error()
    assert other.out.count("working for client 0") == 1


def test_a_client_takes_anothers_place_if_it_is_told_to(client, patient, start, question) -> None:
    (message_id,) = patient.push_messages([question(0, "wait", seconds=5.0)])
    client.said("working for client 0")
    other = start.toy(patient.address, 0, "--replace")
    assert client.ended() == 3
    assert "another client took its place (--replace)" in client.err
    assert not reply_of(patient, message_id).has_error()
    assert other.out.count("working for client 0") == 1


def test_work_that_was_given_up_is_not_begun(client, patient, question) -> None:
    """The one at work when the time-out comes goes on; the two behind it do not keep the client from the next."""
    first = list(patient.push_messages([question(0, "wait", seconds=3.0) for _ in range(3)]))
    client.said("working for client 0")
    patient.abandon(first)
    (reply,) = patient.send_and_receive([question(0, n=1)], timeout=60)
    assert reply.content["config"]["n"] == 1
    assert client.out.count("working for client 0") == 1


@pytest.mark.parametrize("passphrase", [None, "a long passphrase"])
def test_clients_find_the_server_that_was_started_again(start: Starter, question, monkeypatch, passphrase) -> None:
    """It knows nothing of their session, tells them of another run, and shows another certificate than the first."""
    if passphrase:
        monkeypatch.setenv("FEDKERAS_PASSPHRASE", passphrase)
    access = Access(passphrase)
    first = GrpcGrid("127.0.0.1", 0, 1, {"round": 1}, access=access).start()
    port = int(first.address.rpartition(":")[2])
    with Proxy(first.address) as proxy:
        client = start.toy(proxy.address, 0)
        until(lambda: first.cids(), "the client")
        first.push_messages([question(0, "wait", seconds=1.0)])
        client.said("working for client 0")
        proxy.refuse()
        proxy.cut()
        first.stop()
        with GrpcGrid("127.0.0.1", port, 1, {"round": 2}, access=access) as second:
            proxy.accept()
            until(lambda: second.cids(), "the client")
            (reply,) = second.send_and_receive([question(0, "who")], timeout=60)
            assert reply.content["config"]["run.round"] == 2
        assert client.ended() == 0


def test_a_run_that_ends_while_a_client_is_away_tells_it_all_the_same(client, patient, proxy) -> None:
    proxy.cut()
    patient.stop()
    assert client.ended() == 0


def test_a_client_stopped_for_a_while_goes_on(client, patient, question) -> None:
    (message_id,) = patient.push_messages([question(0, "wait", seconds=0.5)])
    client.said("working for client 0")
    client.popen.send_signal(signal.SIGSTOP)
    time.sleep(2)
    client.popen.send_signal(signal.SIGCONT)
    assert not reply_of(patient, message_id).has_error()


def test_a_client_that_is_interrupted_says_so(client, patient, question) -> None:
    """Nobody waits for it then, however long the grace."""
    (message_id,) = patient.push_messages([question(0, "wait", seconds=300.0)])
    client.said("working for client 0")
    client.popen.send_signal(signal.SIGINT)
    assert reply_of(patient, message_id).error.reason == "is gone: it left: it was interrupted"
    client.popen.wait(20)


@pytest.mark.slow
def test_a_machine_that_vanishes_is_noticed(client, patient, proxy, question) -> None:
    """Nothing is closed and nothing comes any more; gRPC's pings tell both sides within half a minute."""
    (message_id,) = patient.push_messages([question(0, "wait", seconds=1.0)])
    client.said("working for client 0")
    proxy.stall()
    stalled = time.monotonic()
    assert not reply_of(patient, message_id).has_error()
    assert time.monotonic() - stalled < 45
    assert client.out.count("working for client 0") == 1


def test_a_client_without_a_cid_gets_a_free_one_and_keeps_it(start: Starter, question) -> None:
    with GrpcGrid("127.0.0.1", 0, 3, {}, reconnect_grace=60) as grid, Proxy(grid.address) as proxy:
        start.toy(grid.address, 1).said("as client 1")
        anyone = start.toy(proxy.address, "")
        anyone.said("as client 0")
        start.toy(grid.address, "").said("as client 2")
        proxy.cut()
        anyone.said("connected again")
        (reply,) = grid.send_and_receive([question(0, "who")], timeout=60)
        assert reply.content["config"]["node.partition-id"] == 0
        late = start.toy(grid.address, "", "--max-wait", 0.5)
        assert late.ended() == 3
        assert "all 3 partitions have a client already" in late.err
        grid.stop()  # before the proxy, as above


def test_a_connection_that_was_silent_for_long_is_made_again(start: Starter, question) -> None:
    """A client that waits for others to join is asked nothing; its patience begins when the connection breaks."""
    with GrpcGrid("127.0.0.1", 0, 2, {}, reconnect_grace=60) as grid, Proxy(grid.address) as proxy:
        client = start.toy(proxy.address, 0, "--max-wait", 2.0)
        client.said("joined")
        time.sleep(LONGEST_PAUSE + 1)
        proxy.cut()
        client.said("connected again")
        (reply,) = grid.send_and_receive([question(0, n=1)], timeout=60)
        assert reply.content["config"]["n"] == 1
        grid.stop()  # before the proxy, as above
