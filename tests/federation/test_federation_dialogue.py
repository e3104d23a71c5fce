"""Scripts go on side by side; who fails in one, by an error, a refusal or silence, fails alone."""

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict

from fedkeras.federation.dispatcher import AHEAD, Ask, ClientRefused, ScriptedTalks, talk
from fedkeras.federation.records import record
from fedkeras.runtime.in_process import InProcessGrid


def content(**values):
    return RecordDict({"config": ConfigRecord(values)})


class Clients:
    """Three clients in this process, and what was said to them in what order."""

    def __init__(self):
        self.heard = []
        self.grid = InProcessGrid(self.app, 3, {})

    def app(self, message: Message, context: Context) -> Message:
        cid, number = context.node_config["partition-id"], message.content["config"]["number"]
        self.heard.append((cid, number))
        if (cid, number) == (1, 2):
            raise ValueError("no more")
        return Message(content(number=number * 10), reply_to=message)

    def talk(self, script):
        return talk(self.grid, {cid: node for node, cid in self.grid.cids().items()}, script, 10.0)


def test_answers_come_back_and_results_are_in_the_order_of_cid():
    def script(cid):
        answer = yield Ask("query.number", content(number=cid + 5))
        return answer["config"]["number"]

    assert Clients().talk(script) == ({0: 50, 1: 60, 2: 70}, {})


def test_an_error_ends_one_script_and_no_other():
    ended = []

    def script(cid):
        try:
            for number in range(4):
                yield Ask("query.number", content(number=number))
            return "done"
        finally:
            ended.append(cid)

    clients = Clients()
    results, failures = clients.talk(script)
    assert results == {0: "done", 2: "done"}
    assert list(failures) == [1]
    assert "no more" in failures[1]
    assert (1, 3) not in clients.heard
    assert sorted(ended) == [0, 1, 2]


def test_a_script_may_refuse_an_answer():
    def script(cid):
        answer = yield Ask("query.number", content(number=0))
        if cid == 2:
            raise ClientRefused(f"said {answer['config']['number']}")

    assert Clients().talk(script) == ({0: None, 1: None}, {2: "said 0"})


def test_an_answer_that_a_script_stumbles_over_is_its_clients_failure_and_says_where():
    def script(cid):
        answer = yield Ask("query.number", content(number=cid + 5))
        return {50: 1, 70: 1}[answer["config"]["number"]]

    results, failures = Clients().talk(script)
    assert results == {0: 1, 2: 1}
    assert list(failures) == [1] and failures[1].startswith("KeyError: 60 (test_federation_dialogue.py:")


def test_a_conversation_may_be_left_and_is_told_of_once():
    def script(cid):
        for number in (0, 1):
            answer = yield Ask("query.number", content(number=number))
        return answer["config"]["number"]

    clients = Clients()
    talks, node_of = ScriptedTalks(clients.grid, 10.0), {cid: node for node, cid in clients.grid.cids().items()}
    talks.begin(0, node_of[0], script(0))
    talks.begin(2, node_of[2], script(2))
    assert clients.heard == [] and talks.with_whom() == {0, 2} and talks.ended() == ({}, {})
    while 0 in talks.with_whom():
        assert talks.listen(0.0)
    assert talks.ended() == ({0: 10}, {})
    while talks.with_whom():
        talks.listen(0.0)
    assert talks.ended() == ({2: 10}, {})
    talks.begin(1, node_of[1], script(1))
    while talks.with_whom():
        talks.listen(0.0)
    assert talks.ended() == ({1: 10}, {}) and talks.ended() == ({}, {})


def test_messages_that_are_not_waited_for_are_few_and_in_order():
    most = []

    def script(cid):
        for number in (0, 1, 3, 4, 5, 6, 7):
            yield Ask("query.number", content(number=number), wait=number == 7)
            most.append(number)
        return cid

    clients = Clients()
    results, failures = clients.talk(script)
    assert (results, failures) == ({0: 0, 1: 1, 2: 2}, {})
    for cid in range(3):
        assert [number for who, number in clients.heard if who == cid] == [0, 1, 3, 4, 5, 6, 7]


def test_an_error_in_a_message_that_was_not_waited_for_counts():
    def script(cid):
        for number in range(5):
            yield Ask("query.number", content(number=number), wait=number == 4)

    _, failures = Clients().talk(script)
    assert list(failures) == [1]


def test_bytes_under_way_are_bounded(monkeypatch):
    """Above the bound a script waits for an answer before it says more, though AHEAD would let it."""
    import numpy as np

    monkeypatch.setattr("fedkeras.federation.dispatcher.UNDER_WAY", 10_000)
    clients, under_way, peak = Clients(), [0], [0]
    push, wait = clients.grid.push_messages, clients.grid.wait_for_replies

    def pushing(messages):
        under_way[0] += 1
        peak[0] = max(peak[0], under_way[0])
        return push(messages)

    def waiting(message_ids, timeout):
        replies = wait(message_ids, timeout)
        under_way[0] -= len(replies)
        return replies

    monkeypatch.setattr(clients.grid, "push_messages", pushing)
    monkeypatch.setattr(clients.grid, "wait_for_replies", waiting)

    def script(cid):
        for number in (0, 1, 3, 4):
            large = content(number=number)
            large["arrays"] = record({"x": np.zeros(6000, np.uint8)})
            yield Ask("query.number", large, wait=number == 4)
        return cid

    results, _ = clients.talk(script)
    assert results == {0: 0, 1: 1, 2: 2}
    assert peak[0] <= 4 < 3 * AHEAD


def test_silence_is_a_failure(monkeypatch):
    clients = Clients()
    monkeypatch.setattr(clients.grid, "patient", False, raising=False)  # in one process nobody is late otherwise
    monkeypatch.setattr(clients.grid, "wait_for_replies", lambda message_ids, timeout: [])

    def script(cid):
        yield Ask("query.number", content(number=0))

    results, failures = talk(clients.grid, {cid: node for node, cid in clients.grid.cids().items()}, script, 0.05)
    assert results == {}
    assert failures[0] == pytest.approx("no answer within 0.05 s")
