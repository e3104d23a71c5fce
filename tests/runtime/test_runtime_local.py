"""InProcessGrid: the same app in this process."""

import pickle
import time

import pytest
import toy_client
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

from fedkeras.errors import UserError
from fedkeras.flower.identity import cid_of, node_id_of
from fedkeras.runtime.client_app import error_replies, new_context
from fedkeras.runtime.in_process import InProcessGrid


@pytest.fixture
def local() -> InProcessGrid:
    return InProcessGrid(toy_client.app, 4, {"dataset": "digits"}, {"seconds": 0.0})


def test_nodes_know_who_they_are(local: InProcessGrid, question) -> None:
    replies = list(local.send_and_receive([question(cid, "who") for cid in (3, 0)]))
    assert [reply.content["config"]["node.partition-id"] for reply in replies] == [3, 0]
    assert [cid_of(reply.metadata.src_node_id) for reply in replies] == [3, 0]
    assert replies[0].content["config"]["run.dataset"] == "digits"


def test_replies_come_one_by_one_and_once(local: InProcessGrid, question) -> None:
    message_ids = list(local.push_messages([question(cid) for cid in range(3)]))
    assert len(local.wait_for_replies(message_ids, 0)) == 1
    rest = list(local.pull_messages(message_ids))
    assert [cid_of(reply.metadata.src_node_id) for reply in rest] == [1, 2]
    assert list(local.pull_messages(message_ids)) == []


def test_a_failing_client_is_an_error_reply(local: InProcessGrid, question) -> None:
    replies = list(local.send_and_receive([question(0, "misbehave", how="raise"), question(1, x=1)]))
    assert "ValueError: the disk is on fire" in replies[0].error.reason
    assert replies[1].content["config"]["x"] == 1


def test_with_a_mod_the_reason_survives_flowers_runtimes(question) -> None:
    """They call the app themselves and put words of their own in an exception's place, so the app must not raise it."""

    def broken(message: Message, context: object, call_next: object) -> Message:
        raise UserError("this mod needs an option")

    message, context = question(0, "misbehave", how="raise"), new_context(0, 1, 1, {}, {})
    with pytest.raises(ValueError, match="on fire"):
        toy_client.app(message, context)
    app = ClientApp(mods=[error_replies])
    app.query("misbehave")(toy_client.misbehave)
    assert app(message, context).error.reason.startswith("ValueError: the disk is on fire (toy_client.py:")
    outermost = ClientApp(mods=[error_replies, broken])
    outermost.query("misbehave")(toy_client.misbehave)
    assert outermost(message, context).error.reason == "this mod needs an option"
    assert pickle.loads(pickle.dumps(error_replies)) is error_replies, "sent by name with every simulated message"


@pytest.mark.parametrize("how", ["no-reply", "nothing"])
def test_an_app_that_returns_no_reply_does_not_hang_the_run(local: InProcessGrid, question, how: str) -> None:
    started = time.monotonic()
    (reply,) = local.send_and_receive([question(0, "misbehave", how=how)], timeout=20)
    assert "the ClientApp returned" in reply.error.reason
    assert time.monotonic() - started < 10


def test_a_message_to_a_node_that_does_not_exist(local: InProcessGrid, question) -> None:
    asked, other = question(9), question(0)
    replies = {reply.metadata.src_node_id: reply for reply in local.send_and_receive([asked, other], timeout=20)}
    assert replies[node_id_of(9)].error.reason == "is not connected"
    assert not replies[node_id_of(0)].has_error()


def test_an_app_that_writes_to_its_message_does_not_reach_the_others(question) -> None:
    def writing(message: Message, context: object) -> Message:
        seen = int(message.content["config"]["n"])
        message.content["config"]["n"] = seen + 1
        return Message(RecordDict({"config": ConfigRecord({"seen": seen})}), reply_to=message)

    local, shared = InProcessGrid(writing, 3, {}), RecordDict({"config": ConfigRecord({"n": 0})})
    replies = list(local.send_and_receive([question(cid, content=shared) for cid in range(3)]))
    assert [reply.content["config"]["seen"] for reply in replies] == [0, 0, 0]


def test_abandoned_messages_are_never_run(question) -> None:
    ran = []

    def noting(message: Message, context: object) -> Message:
        ran.append(message.metadata.message_id)
        return Message(message.content, reply_to=message)

    local = InProcessGrid(noting, 3, {})
    message_ids = list(local.push_messages([question(cid) for cid in range(3)]))
    local.abandon(message_ids[:2])
    assert [reply.metadata.reply_to_message_id for reply in local.pull_messages(message_ids)] == message_ids[2:]
    assert ran == message_ids[2:]
