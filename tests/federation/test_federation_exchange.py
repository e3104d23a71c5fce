"""Replies are handed on in the order of cid, and those that wait do not fill the memory."""

import io
import tempfile
import time

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from hypothesis import given
from hypothesis import strategies as some
from toy_federation import Silent, ToyClients, content, federate, flowers_own, reply

from fedkeras.federation.dispatcher import Dispatcher
from fedkeras.federation.grids import CohortGrid
from fedkeras.federation.records import payload, views
from fedkeras.federation.reply_order import EarlyReplies, in_order
from fedkeras.flower.identity import cid_of, node_id_of
from fedkeras.flower.internals import set_message_id
from fedkeras.runtime.in_process import InProcessGrid
from fedkeras.strategies.fedavg import FedAvg


def exchange(grid, messages, timeout):
    return Dispatcher(grid, {cid_of(node_id): node_id for node_id in grid.get_node_ids()}, timeout).exchange(messages)


def answers(*cids):
    return {cid: reply(cid, content({"w": np.full(1000, cid, np.float32)}, cid + 1, loss=0.5)) for cid in cids}


def test_in_order_holds_early_replies_back_and_lets_them_go_at_once():
    """After each arrival: what has come out so far."""
    replies, out, trace = answers(0, 1, 2, 3), [], []

    def arriving():
        for cid in (2, 1, 0, 3):
            yield cid, replies[cid]
            trace.append(list(out))

    for cid, message in in_order(arriving(), range(4)):
        assert message is replies[cid]
        out.append(cid)
    assert out == [0, 1, 2, 3]
    assert trace == [[], [], [0, 1, 2], [0, 1, 2, 3]]


def test_a_failure_frees_those_who_waited_for_it():
    replies, out, trace = answers(1, 2), [], []

    def arriving():
        for cid, message in ((1, replies[1]), (0, None), (2, replies[2])):
            yield cid, message
            trace.append(list(out))

    for cid, _ in in_order(arriving(), range(3)):
        out.append(cid)
    assert trace == [[], [1], [1, 2]]


def test_who_never_arrives_is_passed_over_at_the_end():
    replies = answers(1, 3)
    assert [cid for cid, _ in in_order([(3, replies[3]), (1, replies[1])], range(5))] == [1, 3]
    assert list(in_order([], range(5))) == []


@given(some.permutations(range(6)), some.sets(some.integers(0, 5)), some.sets(some.integers(0, 5)))
def test_in_order_gives_all_good_replies_ascending(order, failed, absent):
    arriving = [(cid, None if cid in failed else cid) for cid in order if cid not in absent]
    expected = [cid for cid in range(6) if cid not in failed | absent]

    class Light:
        """A reply without arrays."""

        def has_error(self):
            return True

    arriving = [(cid, None if reply is None else Light()) for cid, reply in arriving]
    assert [cid for cid, _ in in_order(arriving, range(6))] == expected


def test_waiting_replies_above_the_limit_go_to_disk_and_come_back_equal(monkeypatch):
    """Each has 4,128 bytes of arrays: two fit in 10,000, the other two are spooled."""
    files = []
    temporary = tempfile.TemporaryFile

    def noting(**options):
        files.append(temporary(**options))
        return files[-1]

    monkeypatch.setattr("tempfile.TemporaryFile", noting)
    originals, waiting = answers(0, 1, 2, 3), EarlyReplies(limit=10_000)
    for cid, message in originals.items():
        waiting.put(cid, message)
    assert [file.tell() > 8000 for file in files] == [True]  # one file for both: descriptors are few
    for cid in (3, 0, 2, 1):
        assert cid in waiting
        message = waiting.take(cid)
        assert cid not in waiting
        assert (message is originals[cid]) == (cid < 2)
        assert message.metadata == originals[cid].metadata
        np.testing.assert_array_equal(views(message.content["arrays"])["w"], np.full(1000, cid, np.float32))
        assert dict(message.content["metrics"]) == {"num-examples": cid + 1, "loss": 0.5}
    assert files[0].closed
    waiting.put(4, originals[0])  # what was taken no longer counts
    assert len(files) == 1


def test_failures_and_errors_take_no_room():
    waiting = EarlyReplies(limit=0)
    error = Message(Error(1, "broken"), reply_to=reply(0, RecordDict()))
    waiting.put(0, None)
    waiting.put(1, error)
    assert waiting.take(0) is None
    assert waiting.take(1) is error


def questions(*cids):
    return [Message(RecordDict({"config": ConfigRecord()}), node_id_of(cid), "query.identify") for cid in cids]


def cids_of(replies):
    return sorted(message.metadata.src_node_id - node_id_of(0) for message in replies)


@pytest.mark.parametrize("wrap", [lambda grid: grid, flowers_own], ids=["ours", "Flower's"])
def test_exchange_yields_every_reply_and_ends_with_the_last(wrap):
    started = time.monotonic()
    assert cids_of(exchange(wrap(InProcessGrid(ToyClients(), 4, {})), questions(0, 1, 2, 3), 30)) == [0, 1, 2, 3]
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("wrap", [lambda grid: grid, flowers_own], ids=["ours", "Flower's"])
def test_exchange_ends_when_the_time_is_up(wrap):
    grid = Silent(ToyClients(), 4, silent=[2])
    started = time.monotonic()
    assert cids_of(exchange(wrap(grid), questions(0, 1, 2, 3), 0.2)) == [0, 1, 3]
    assert 0.2 <= time.monotonic() - started < 3


class Refusing(CohortGrid):
    """As Flower's SuperLink refuses what is too large: no id comes back, though the message has one already."""

    def push_messages(self, messages):
        for message in messages:
            if cid_of(message.metadata.dst_node_id) == 2:
                set_message_id(message, "refused")
                yield None
            else:
                yield from super().push_messages([message])


def test_a_message_that_a_grid_refuses_is_an_error_at_once():
    ours = InProcessGrid(ToyClients(), 4, {})
    grid = Refusing(ours, list(ours.get_node_ids()))
    started = time.monotonic()
    replies = {cid_of(reply.metadata.src_node_id): reply for reply in exchange(grid, questions(0, 1, 2, 3), 30)}
    assert sorted(replies) == [0, 1, 2, 3] and [cid for cid, reply in replies.items() if reply.has_error()] == [2]
    assert "has refused the message" in replies[2].error.reason
    dispatcher = Dispatcher(grid, {cid: node_id_of(cid) for cid in range(4)}, 30)
    dispatcher.send([1, 2], "query.identify", "who", RecordDict({"config": ConfigRecord()}))
    assert set(dispatcher.failures) == {2} and dispatcher.take(1, "who") is not None
    assert time.monotonic() - started < 5


def test_exchange_sends_before_the_first_reply_is_asked_for():
    """The server evaluates meanwhile."""
    grid, sent = InProcessGrid(ToyClients(), 2, {}), []
    push = grid.push_messages
    grid.push_messages = lambda messages: sent.extend(messages) or push(messages)
    replies = exchange(grid, questions(0, 1), 30)
    assert len(sent) == 2
    assert cids_of(replies) == [0, 1]


def test_replies_that_came_while_nobody_asked_count_although_the_time_is_up():
    """Central evaluation may take longer than the round's time-out."""
    clients = ToyClients()
    grid = flowers_own(InProcessGrid(clients, 3, {}))
    replies = exchange(grid, questions(0, 1, 2), 0.05)
    time.sleep(0.1)
    assert cids_of(replies) == [0, 1, 2]


def test_clients_in_this_process_are_never_late():
    """They work one after the other: the last has not begun when the time for one is over."""

    def slow(message, context):
        time.sleep(0.05)
        return Message(RecordDict(), reply_to=message)

    grid = InProcessGrid(slow, 4, {})
    asked = [Message(RecordDict(), node_id, "query.x") for node_id in grid.get_node_ids()]
    assert len(list(exchange(grid, asked, timeout=0.01))) == 4


def test_a_disk_that_is_full_loses_no_reply(monkeypatch, caplog):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    waiting, replies = EarlyReplies(limit=1), answers(0, 1)
    for cid, message in replies.items():
        waiting.put(cid, message)
    assert [waiting.take(cid) for cid in replies] == list(replies.values())
    assert "stays in memory: [Errno 28] No space left" in caplog.text


def test_a_file_that_takes_little_at_a_time_has_all_in_the_end_and_a_full_one_keeps_what_it_has(monkeypatch, tmp_path):
    class Narrow(io.FileIO):
        left = 6_000  # one reply and a half

        def write(self, data):
            if not self.left:
                raise OSError(28, "No space left on device")
            count = super().write(memoryview(data)[: min(700, self.left)])
            self.left -= count
            return count

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Narrow(tmp_path / "spool", "w+b"))
    waiting, replies = EarlyReplies(limit=1), answers(0, 1)
    for cid, message in replies.items():
        waiting.put(cid, message)
    first, second = (waiting.take(cid) for cid in replies)
    assert first is not replies[0]
    assert dict(first.content) == dict(replies[0].content)
    assert second is replies[1]


def test_a_grid_is_told_how_large_each_reply_may_be():
    """A training's reply has the arrays that were sent, an evaluation's has none; both have a little to spare."""
    told = []

    class Told(InProcessGrid):
        def push_within(self, messages, reply_limits):
            told.extend(
                (m.metadata.message_type, payload(m.content), limit)
                for m, limit in zip(messages, reply_limits, strict=True)
            )
            return super().push_within(messages, reply_limits)

    grid = Told(ToyClients(), 2, {})
    federate(FedAvg(), grid._app, {"w": np.zeros(1000, np.float32)}, grid, num_partitions=2, num_server_rounds=1)
    assert told == [("train", 4128, 1_004_128)] * 2 + [("evaluate", 4128, 1_000_000)] * 2
