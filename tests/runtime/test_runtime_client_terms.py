"""What a client demands of a run, what it takes at most, and what it notes of all that it sends."""

import csv
import threading
import time

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from processes import until

from fedkeras.client_config import ClientConfig
from fedkeras.client_terms import ClientTerms, Withdrawn
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.records import record
from fedkeras.flags import parse_flags
from fedkeras.flower.identity import SERVER_NODE_ID, act_as, node_id_of
from fedkeras.runtime import node, wire
from fedkeras.runtime.client_app import error_reply
from fedkeras.runtime.federation_pb2 import Frame, Header
from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.runtime.passphrase import Access
from fedkeras.runtime.sent_log import SentLog

RUN = Config(num_server_rounds=50, mods="stragglers:share=0.5;mine:Clip:norm=1,seed=3", local_epochs=2).for_clients()


@pytest.mark.parametrize(
    ("demand", "is_met"),
    [
        ("rounds<=50", True),
        ("rounds<=49", False),
        ("rounds=50", True),
        ("num-server-rounds >= 50", True),
        ("num-server-rounds>=50.5", False),
        ("local-epochs<=1.5", False),
        ("mods=mine:Clip", True),
        ("mods=mine:Clip:norm=1.0", True),
        ("mods=mine:Clip:norm=2", False),
        ("mods=mine:Clip:seed=3,norm=1; stragglers", True),
        ("mods=mine:Noise", False),
        ("split=off", True),
        ("mode=collect", False),
        ("central-evaluation=true", True),
        ("central-evaluation=false", False),
        ("dataset<=3", False),
        ("learning-rate=0.1", True),
        ("learning-rate<=nothing", None),
        ("rounds<=nan", None),
        ("rounds", None),
        ("hours>=3", None),
        ("hours<=0", None),
        ("port=9080", None),  # a server's own: clients are not told it
        ("rounds<50", None),
        ("<=50", None),
    ],
)
def test_a_demand_is_met_refused_or_none(demand: str, is_met: bool | None) -> None:
    if is_met is None:
        with pytest.raises(UserError, match="--require: "):
            parse_flags(ClientConfig, ["--require", demand], "client.py").check()
        return
    terms = parse_flags(ClientConfig, ["--require", demand, "--require", "split=off"], "client.py").terms()
    if is_met:
        terms.check_run(RUN)
    else:
        with pytest.raises(UserError, match=r"this client demands --require '.*', and in this run .* is "):
            terms.check_run(RUN)


@pytest.mark.parametrize(
    ("demand", "mods", "is_met"),
    [
        ("mods=dp-sgd:epsilon=2", "dp-sgd:epsilon=2,delta=1e-5", True),
        ("mods=dp-sgd:epsilon=2", "dp-sgd:epsilon=2,delta=1e-5,study=false", True),
        ("mods=dp-sgd:epsilon=2", "dp-sgd:epsilon=8,delta=1e-5", False),
        ("mods=dp-sgd:epsilon=2", "", False),
        ("mods=dp-sgd:epsilon=2", "dp-sgd:epsilon=2,delta=1e-5,study=true", False),
        ("mods=dp", "dp:epsilon=2,delta=1e-5,study=true", False),
        ("mods=dp-sgd:study=true", "dp-sgd:epsilon=2,delta=1e-5,study=true", True),
    ],
)
def test_a_study_is_private_for_nobody_and_must_be_demanded(demand: str, mods: str, is_met: bool) -> None:
    terms = parse_flags(ClientConfig, ["--require", demand], "client.py").terms()
    run = Config(mods=mods).for_clients()
    if is_met:
        terms.check_run(run)
    else:
        with pytest.raises(UserError, match="this client demands"):
            terms.check_run(run)


def test_a_run_that_does_not_say_it_is_refused() -> None:
    """Another app's configuration may have any keys."""
    with pytest.raises(UserError, match="demands --require 'lr<=1', and the run says no lr"):
        ClientTerms(["lr<=1"]).check_run({"rate": 1})


def test_a_server_that_goes_on_beyond_what_it_said_is_left() -> None:
    terms = ClientTerms(["rounds<=2"])
    for _ in range(3 * 2):  # each round may be repeated twice
        terms.check_message(0, "train")
    terms.check_message(0, "evaluate")
    terms.check_message(1, "train")
    with pytest.raises(Withdrawn, match=r"7 times, and this client demands --require 'rounds<=2'") as left:
        terms.check_message(0, "train.again")
    assert left.value.status == 3


def test_a_connection_is_as_demanded() -> None:
    for text, connection in (("tls", (False, True)), ("passphrase", (True, False))):
        with pytest.raises(UserError, match=f"--require {text}, and the connection to the server is without"):
            ClientTerms([text]).begin(*connection)
        ClientTerms([text]).begin(True, True)


def serve(grid: GrpcGrid, terms: ClientTerms, sent_log: SentLog | None = None, access: Access = Access()) -> str:  # noqa: B008 - frozen
    def echo(message: Message, context: object) -> Message:
        return Message(RecordDict({"metrics": MetricRecord({"loss": 0.5})}), reply_to=message)

    own = {"terms": terms, "sent_log": sent_log, "access": access, "holder_key": b"k" * 32}
    return node.serve(echo, grid.address, [0], {}, 5.0, **own)


def question(size: int = 0) -> Message:
    content = RecordDict({"config": ConfigRecord({"lr": 1})})
    if size:
        content["arrays"] = record({"w": np.zeros(size, np.uint8)})
    return Message(content, node_id_of(0), "train")


def ask(grid: GrpcGrid, message: Message) -> list[Message]:
    act_as(SERVER_NODE_ID, grid.run.run_id)
    return list(grid.send_and_receive([message], timeout=30))


def test_over_grpc_a_client_leaves_as_it_demands(tmp_path) -> None:
    """At joining, on a message that is too large, and when its hours are over though nothing comes."""
    sent_log = SentLog(tmp_path / "own" / "sent.csv", "there")
    with GrpcGrid("127.0.0.1", 0, 1, RUN) as grid:
        with pytest.raises(UserError, match="demands --require 'rounds<=3', and in this run num-server-rounds is 50"):
            serve(grid, ClientTerms(["rounds<=3"]), sent_log)
        with pytest.raises(UserError, match="demands --require tls"):
            serve(grid, ClientTerms(["tls"]), sent_log)
        began = time.monotonic()
        with pytest.raises(Withdrawn, match="longer than this client takes part"):
            serve(grid, ClientTerms([f"hours<={0.3 / 3600}"]), sent_log)
        assert 0.2 < time.monotonic() - began < 30
        asker = threading.Thread(target=lambda: until(grid.cids, "the client") and ask(grid, question(2000)))
        asker.start()
        with pytest.raises(UserError, match=r"a message of 2\d\d\d bytes; at most 1000 are taken \(--max-message-mb\)"):
            serve(grid, ClientTerms(max_message_bytes=1000), sent_log)
        asker.join()
    rows = list(csv.DictReader((tmp_path / "own" / "sent.csv").open()))
    assert [row["answer_to"] for row in rows] == ["join", "leave"] * 4
    assert "demands --require tls" in rows[3]["content"] and rows[0]["content"].endswith("client 0")


def test_each_message_that_is_sent_is_a_line_of_the_clients_own_log(tmp_path) -> None:
    sent_log = SentLog(tmp_path / "sent.csv", "there")
    with GrpcGrid("127.0.0.1", 0, 1, {}) as grid:
        thread = threading.Thread(target=serve, args=(grid, ClientTerms(), sent_log))
        thread.start()
        until(grid.cids, "the client")
        (reply,) = ask(grid, question())
    thread.join(30)
    assert reply.content["metrics"]["loss"] == 0.5
    row = next(row for row in csv.DictReader((tmp_path / "sent.csv").open()) if row["answer_to"] == "train")
    assert (row["server"], row["client"], row["content"]) == ("there", "0", "metrics: loss=0.5")
    assert 40 < int(row["bytes"]) < 400


def test_the_log_is_of_bytes_on_the_wire_and_stays_short(tmp_path, monkeypatch, caplog) -> None:
    path = tmp_path / "sent.csv"
    sent_log = SentLog(path, "=there")
    act_as(SERVER_NODE_ID, 1)
    asked = question()
    arrays = record({f"w{number}": np.zeros((2, 3), np.float32) for number in range(3)})
    config = ConfigRecord({"text": "x" * 100, "blob": b"1234", "list": [1, 2]})
    reply = Message(RecordDict({"arrays": arrays, "config": config}), reply_to=asked)
    header, buffers = wire.encode(reply, 0)
    sent_log.note(asked, reply, (header, buffers))
    failed = error_reply(ValueError("=cmd|' /C calc'\x1b[2J\nnext"), asked)
    sent_log.note(asked, failed, wire.encode(failed, 0))
    one, two = csv.DictReader(path.open())
    size = sum(len(array.data) for array in arrays.values())
    assert int(one["bytes"]) == len(header.SerializeToString()) + sum(map(len, buffers)) > size
    assert one["content"].startswith(f"arrays: 3 arrays of {size} bytes; config: text={'x' * 60}... (100 characters)")
    assert "blob=4 bytes list=[1, 2]" in one["content"]
    assert two["content"].startswith("error: ValueError: =cmd") and "\x1b" not in two["content"]
    monkeypatch.setattr("fedkeras.runtime.sent_log.LONGEST_BYTES", 100)
    sent_log.note_words("0", "leave", "-words")
    assert len(list(csv.DictReader((tmp_path / "sent-older.csv").open()))) == 2
    assert [row["content"] for row in csv.DictReader(path.open())] == ["'-words"]
    path.unlink()
    path.mkdir()
    sent_log.note_words("0", "leave", "more")
    sent_log.note_words("0", "leave", "more")
    assert len([record for record in caplog.records if "no longer noted" in record.message]) == 1
    with pytest.raises(UserError, match="--sent-log names another file"):
        SentLog(path, "there")


@pytest.mark.parametrize(
    ("flags", "name"),
    [([], "127.0.0.1-9080-cid-any.csv"), (["--cid", "0-9"], "127.0.0.1-9080-cid-0-9.csv"),
     (["--server", "a/../b:1"], "a-..-b-1-cid-any.csv"), (["--sent-log", "none"], None)],
)  # fmt: skip
def test_where_the_log_lies(tmp_path, flags: list[str], name: str | None) -> None:
    path = parse_flags(ClientConfig, flags, "client.py").sent_log_path(tmp_path)
    assert path == (None if name is None else tmp_path / name)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": null}', '{"a": [1]}', "[" * 100_000, '"x"'])
def test_a_run_configuration_that_cannot_be_read_is_one_line(text: str) -> None:
    welcome = node.Welcome(run_config=text, num_partitions=1, run_id=1)
    with pytest.raises(UserError, match="the server's run configuration cannot be read"):
        node._contexts(welcome, [0], {}, ClientTerms())


def test_a_length_beyond_all_is_refused_before_a_byte_is_kept() -> None:
    header = Header(message_id="1", payload_bytes=2**63)
    with pytest.raises(wire.TooLarge):
        wire.Assembler(wire.TO_CLIENT, max_bytes=10**9).add(Frame(header=header))
