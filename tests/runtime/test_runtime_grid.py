"""The gRPC grid and the node loop: real client processes on 127.0.0.1, light ones without Keras."""

import os
import queue
import signal
import socket
import threading
import time
from importlib.metadata import version

import grpc
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from processes import Starter, until

from fedkeras.flower.identity import cid_of, node_id_of
from fedkeras.runtime import wire
from fedkeras.runtime.federation_pb2 import Frame, Header, Hello, Join
from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.runtime.own_grid import Ending

ENDS_SOON = 15.0
"""Seconds a client has to end by itself; it takes well under one on an idle machine."""


def with_array(array: np.ndarray) -> RecordDict:
    return RecordDict({"arrays": ArrayRecord({"w": Array(array)})})


def test_content_comes_back_as_it_was_sent(toy, ask) -> None:
    toy(3)
    content = RecordDict({
        "arrays": ArrayRecord({"b": Array(np.arange(6.0).reshape(2, 3)), "a": Array(np.array(7))}),
        "metrics": MetricRecord({"loss": 0.25, "all": [1, 2]}),
        "config": ConfigRecord({"s": "ü", "none": [], "yes": True, "raw": b"\xff"}),
    })  # fmt: skip
    reply = ask(3, content=content)
    assert reply.content == content
    assert list(reply.content["arrays"]) == ["b", "a"]
    assert reply.metadata.src_node_id == node_id_of(3)
    assert reply.metadata.message_type == "query.echo"


def test_the_node_knows_who_it_is(toy, ask) -> None:
    toy(3)
    told = ask(3, "who").content["config"]
    assert dict(told) == {
        "run.dataset": "digits", "run.num-partitions": 50, "node.seconds": 0.0, "node.partition-id": 3,
        "node.num-partitions": 50, "node_id": node_id_of(3), "run_id": 1,
    }  # fmt: skip


def test_several_messages_in_flight_to_one_node(toy, grid: GrpcGrid, question) -> None:
    """All are sent before the first is answered; each reply belongs to its message."""
    toy(0)
    asked = [question(0, content=with_array(np.full(10 + n, n))) for n in range(20)]
    asked.insert(0, question(0, "wait", seconds=2.0))
    message_ids = list(grid.push_messages(asked))
    assert len(set(message_ids)) == 21
    assert not grid.pull_messages(message_ids)
    replies = {}

    def complete() -> bool:
        replies.update({r.metadata.reply_to_message_id: r for r in grid.wait_for_replies(message_ids, 1)})
        return len(replies) == 21

    until(complete, "21 replies")
    for number, message_id in enumerate(message_ids[1:]):
        assert replies[message_id].content["arrays"]["w"].numpy().tolist() == [number] * (10 + number)


def test_one_process_serves_many_partitions(toy, grid: GrpcGrid, question) -> None:
    process = toy(*range(50))
    replies = list(grid.send_and_receive([question(cid, "who") for cid in range(50)], timeout=60))
    assert sorted(cid_of(r.metadata.src_node_id) for r in replies) == list(range(50))
    for reply in replies:
        assert reply.content["config"]["node.partition-id"] == cid_of(reply.metadata.src_node_id)
        assert reply.content["config"]["node_id"] == reply.metadata.src_node_id
    grid.stop()
    assert process.ended(ENDS_SOON) == 0


def test_messages_to_many_nodes_share_their_content(toy, grid: GrpcGrid, question) -> None:
    toy(0, 1)
    shared = with_array(np.arange(5))
    replies = list(grid.send_and_receive([question(cid, content=shared) for cid in (0, 1, 0)], timeout=60))
    assert [reply.content["arrays"]["w"].numpy().tolist() for reply in replies] == [[0, 1, 2, 3, 4]] * 3


def test_contents_that_are_soon_forgotten_are_not_taken_for_each_other(toy, grid: GrpcGrid, question) -> None:
    """Messages to nobody are answered and freed while the next are made, whose contents then lie in the same place."""
    toy(0)

    def messages():
        for number in range(20):
            for _ in range(2):
                message = question(40, content=with_array(np.full(3, -1)))
                yield message
                message_id = message.metadata.message_id
                del message
                until(lambda message_id=message_id: grid.wait_for_replies([message_id], 1), "the error reply")
            yield question(0, content=with_array(np.full(3, number)))

    message_ids, arrived = list(grid.push_messages(messages())), []
    until(lambda: arrived.extend(grid.wait_for_replies(message_ids, 1)) or len(arrived) == 20, "20 replies")
    assert sorted(int(reply.content["arrays"]["w"].numpy()[0]) for reply in arrived) == list(range(20))


FAILURES = {
    "raise": "ValueError: the disk is on fire (toy_client.py:",
    "user-error": "no such file: x.csv",
    "surrogate": "ValueError: a name that is no text: ?",
    "nothing": "TypeError: the ClientApp returned NoneType, not a Message",
    "no-reply": "ValueError: the ClientApp returned a message that is no reply",
    "large-integer": "ValueError: ",
    "large-config": "put large values into an ArrayRecord",
}


def test_a_client_that_fails_says_why_and_lives_on(toy, ask) -> None:
    process = toy(0)
    for how, reason in FAILURES.items():
        reply = ask(0, "misbehave", how=how)
        assert reply.has_error(), how
        assert reason in reply.error.reason
        assert "\n" not in reply.error.reason
        assert ask(0, text="still there?").content["config"]["text"] == "still there?"
    assert process.popen.poll() is None
    assert "Traceback" not in process.err


def test_late_joiners_are_welcome(toy, ask, grid: GrpcGrid) -> None:
    toy(0)
    assert not ask(0).has_error()
    toy(1)
    assert list(grid.get_node_ids()) == [node_id_of(0), node_id_of(1)]
    assert not ask(1).has_error()


def test_a_client_killed_at_work_is_answered_for_at_once(toy, grid: GrpcGrid, question) -> None:
    """The others do not notice; its partition may be served again by a new process."""
    victim, other = toy(0, 2), toy(1)
    asked = [question(0, "wait", seconds=300.0), question(0), question(2), question(1, "wait", seconds=1.0)]
    message_ids = list(grid.push_messages(asked))
    victim.said("working for client 0")
    victim.popen.kill()
    started, replies = time.monotonic(), []
    until(lambda: replies.extend(grid.wait_for_replies(message_ids[:3], 1)) or len(replies) == 3, "three errors")
    assert time.monotonic() - started < 20
    assert all(reply.has_error() and reply.error.reason.startswith("is gone") for reply in replies)
    assert [cid_of(reply.metadata.src_node_id) for reply in replies].count(0) == 2
    (reply,) = until(lambda: grid.wait_for_replies(message_ids[3:], 1), "the other client's reply")
    assert reply.content["config"]["seconds"] == 1.0
    assert list(grid.get_node_ids()) == [node_id_of(1)]
    toy(0)
    grid.stop()
    assert other.ended(ENDS_SOON) == 0


def test_a_client_killed_while_much_is_sent_to_it(toy, ask, grid: GrpcGrid, question, capfd) -> None:
    """Stopped, so that its messages pile up in the server, then killed: an error reply, and not a word of traceback."""
    victim = toy(0)
    toy(1)
    victim.popen.send_signal(signal.SIGSTOP)
    message_ids = list(grid.push_messages([question(0, content=with_array(np.zeros(4_000_000)))]))
    assert not ask(1).has_error()
    victim.popen.kill()
    (reply,) = until(lambda: grid.wait_for_replies(message_ids, 1), "the error reply")
    assert reply.has_error()
    grid.stop()
    assert "Traceback" not in capfd.readouterr().err


def test_a_message_to_a_node_that_is_not_connected(ask) -> None:
    reply = ask(17)
    assert reply.has_error()
    assert reply.error.reason == "is not connected"
    assert reply.metadata.src_node_id == node_id_of(17)


def test_a_reply_after_the_time_out_is_dropped(toy, grid: GrpcGrid, question, ask) -> None:
    toy(0)
    assert list(grid.send_and_receive([question(0, "wait", seconds=2.0)], timeout=0.1)) == []
    assert ask(0, text="next").content["config"]["text"] == "next"


REFUSALS = [
    (("50",), "--cid 50 does not exist: the run has 50 partitions, 0 to 49"),
    (("0,99",), "--cid 99 does not exist"),
    (("4",), "--cid 4 is already connected"),
    (("1,4",), "--cid 4 is already connected"),
    (("1", "--protocol", 99), "(protocol 99) and the server"),
    (("1", "--version", "9.9"), "it runs fedkeras 9.9"),
]


def test_clients_that_may_not_join(toy, ask, start: Starter, grid: GrpcGrid) -> None:
    """Each ends with one line that says why; the server and the client that is there go on."""
    toy(4)
    refused = [start.toy(grid.address, *flags) for flags, _ in REFUSALS]
    for process, (_, reason) in zip(refused, REFUSALS, strict=True):
        assert process.ended() == 2
        (line,) = process.err.splitlines()
        assert line.startswith("toy: the server refused this client: ")
        assert reason in line
    assert list(grid.get_node_ids()) == [node_id_of(4)]
    assert not ask(4).has_error()


def test_when_the_run_ends_all_clients_end_well(toy, grid: GrpcGrid) -> None:
    processes = [toy(0), toy(1), toy(2, 3)]
    grid.stop()
    assert [process.ended(ENDS_SOON) for process in processes] == [0, 0, 0]
    assert all(process.err == "" for process in processes)


def test_a_client_at_work_when_the_run_ends_finishes_its_work(toy, grid: GrpcGrid, question) -> None:
    process = toy(0)
    grid.push_messages([question(0, "wait", seconds=1.0)])
    process.said("working")
    grid.stop()
    assert process.ended(ENDS_SOON) == 0


def test_a_client_that_hangs_does_not_keep_the_server(toy, grid: GrpcGrid) -> None:
    hanging, other = toy(0), toy(1)
    hanging.popen.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    grid.stop()
    assert time.monotonic() - started < 20
    assert other.ended(ENDS_SOON) == 0


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ValueError("no such strategy"), "the run failed: no such strategy"), (KeyboardInterrupt(), "was interrupted")],
)
def test_when_the_server_fails_the_clients_say_so(start: Starter, error: BaseException, reason: str) -> None:
    with pytest.raises(type(error)), GrpcGrid("127.0.0.1", 0, 2, {}) as grid:
        clients = [start.toy(grid.address, cid) for cid in (0, 1)]
        until(lambda: len(grid.cids()) == 2, "both clients")
        raise error
    for client in clients:
        assert client.ended(ENDS_SOON) == 3
        (line,) = client.err.splitlines()
        assert line.startswith("toy: the server ended the run: ")
        assert reason in line


def test_small_messages_go_on_beside_a_big_one(toy, grid: GrpcGrid, question, ask) -> None:
    """100 MB there and back; meanwhile another client answers within a fraction of the time that takes."""
    toy(0)
    toy(1)
    array = np.random.default_rng(0).integers(0, 255, 100_000_000, dtype=np.uint8)
    message_ids = list(grid.push_messages([question(0, content=with_array(array))]))
    done, small, big = threading.Event(), [], []

    def take_big() -> None:
        big.extend(until(lambda: grid.wait_for_replies(message_ids, 5), "the big reply"))
        done.set()

    taker = threading.Thread(target=take_big)
    started = time.monotonic()
    taker.start()
    while not done.is_set():
        asked = time.monotonic()
        assert not ask(1).has_error()
        small.append(time.monotonic() - asked)
    taker.join()
    seconds = time.monotonic() - started
    assert np.array_equal(big[0].content["arrays"]["w"].numpy(), array)
    assert len(small) >= 5
    assert np.median(small) < seconds / 5


def test_garbage_on_the_port_does_no_harm(toy, ask, grid: GrpcGrid) -> None:
    """A connection that speaks no gRPC, and a stream that speaks no Federation."""
    toy(0)
    host, port = grid.address.split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with grpc.insecure_channel(grid.address) as channel:
        raw = channel.stream_stream(wire.METHOD)
        for first in (b"\xff" * 40, b"", wire.serialise([memoryview(b"abc")])):
            (answer,) = list(raw(iter([first]), timeout=10))
            assert "it did not say hello" in wire.parse(answer).goodbye.reason
    assert not ask(0).has_error()


@pytest.mark.parametrize(
    ("forged", "fault"),
    [(0, "a message of client 0, which it is not"), (7, "a reply to a message that it was never sent")],
)
def test_a_client_that_breaks_the_protocol_is_closed_and_named(
    toy, grid: GrpcGrid, question, caplog, forged: int, fault: str
) -> None:
    """Client 7 answers a message that client 0 was asked, in client 0's name or in its own."""
    toy(0)
    hello = Hello(protocol=wire.PROTOCOL, version=version("fedkeras"))
    to_server = queue.SimpleQueue()
    to_server.put(Frame(hello=hello).SerializeToString())
    to_server.put(Frame(join=Join(cids=[7])).SerializeToString())
    with grpc.insecure_channel(grid.address) as channel:
        stream = channel.stream_stream(wire.METHOD)(iter(to_server.get, None), timeout=60)
        assert wire.parse(next(stream)).HasField("challenge")
        assert wire.parse(next(stream)).HasField("welcome")
        until(lambda: 7 in grid.cids().values(), "client 7")
        (other,) = grid.push_messages([question(0, "wait", seconds=1.0)])
        (own,) = grid.push_messages([question(7)])
        reply = Header(cid=forged, reply_to_message_id=other, message_type="train")
        to_server.put(Frame(header=reply).SerializeToString())
        (reply,) = until(lambda: grid.wait_for_replies([own], 1), "the error reply")
        assert reply.error.reason == f"is gone: it sent {fault}"
        to_server.put(None)
    assert f"closing the stream of client 7, which sent {fault}" in caplog.text
    (reply,) = until(lambda: grid.wait_for_replies([other], 1), "client 0's own reply")
    assert not reply.has_error()


def test_the_server_vanishes(start: Starter) -> None:
    """Killed, it says nothing; its clients notice, and end with a line."""
    server, address = start.server("--num-partitions", 1)
    client = start.toy(address, 0, "--seconds", 0.05, "--max-wait", 1.0)
    client.said("joined")
    os.kill(server.popen.pid, signal.SIGKILL)
    assert client.ended(ENDS_SOON) == 3
    (line,) = client.err.splitlines()
    assert line.startswith("toy: the connection to the server was lost")


@pytest.mark.slow
def test_an_idle_stream_lives(toy, ask) -> None:
    """90 s without a message, in which the client pings; a default server ends such a stream after 40 s."""
    process = toy(0)
    assert not ask(0).has_error()
    deadline = time.monotonic() + 90
    until(lambda: process.popen.poll() is not None or time.monotonic() > deadline, "90 s", seconds=100)
    assert process.popen.poll() is None
    assert ask(0, text="awake").content["config"]["text"] == "awake"


def has_ipv6_loopback() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6_loopback(), reason="this machine has no ::1")
def test_ipv6_addresses_stand_in_brackets(start: Starter) -> None:
    """Else the port cannot be told from the address, and what the server prints is no use to a client."""
    with GrpcGrid("::1", 0, 1, {}) as grid:
        assert grid.address.startswith("[::1]:")
        client = start.toy(grid.address, 0)
        until(lambda: grid.cids(), "the client")
    assert client.ended(ENDS_SOON) == 0


def test_a_client_without_a_part_is_told_and_ends_with_status_3(toy, grid: GrpcGrid) -> None:
    worked, failed, idle = toy(0), toy(1), toy(2)
    grid.set_endings({1: Ending(True, "no good answer in 2 attempts"), 2: Ending(False, "it was not asked")})
    grid.stop()
    assert [process.ended(ENDS_SOON) for process in (worked, failed, idle)] == [0, 3, 0]
    assert (
        failed.err == "toy: the server ended the run: it is finished, without client 1 (no good answer in 2 attempts)\n"
    )
    assert "it was not asked" in idle.out and "not asked" not in worked.out
