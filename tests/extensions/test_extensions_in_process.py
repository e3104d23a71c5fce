"""Mods, a workflow and an objective from a test's own folder, in one process; what each of them does, by hand."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from toys import Clip, Int8

from fedkeras import client, server
from fedkeras.commands import report
from fedkeras.config import Config
from fedkeras.errors import RunFailed, UserError
from fedkeras.mods.chain import ModChain, make_mods
from fedkeras.named_code import Permission
from fedkeras.reports import Checkpoint, read_rows
from fedkeras.reports.checkpoints import newest_checkpoint
from fedkeras.reports.run_folder import RunFolder


@pytest.fixture
def run(tmp_path: Path):
    """A run with all clients in this process."""

    def made(app=client.app, **fields):
        settings = {"num_partitions": 2, "num_server_rounds": 1, "seed": 3, **fields}
        return server.in_process(Config(**settings), app, tmp_path / "runs")

    return made


def rows(folder: RunFolder, phase: str = "train") -> dict[str, dict]:
    """The lines of history.csv of a phase, by client; of the last round."""
    return {row["client"]: row for row in read_rows(folder.history_path) if row["phase"] == phase}


def checkpoint(folder: RunFolder) -> Checkpoint:
    found = newest_checkpoint(folder)
    assert found is not None
    return found


def test_a_mod_clips_on_the_client_and_counts_on_the_server(run):
    folder = run(mods="toys:Clip:norm=0.01", num_server_rounds=2)
    for cid in ("0", "1"):
        assert rows(folder)[cid]["norm"] == pytest.approx(0.01) and rows(folder)[cid]["clipped"] == 1
    table = checkpoint(folder).strategy["mods"]
    assert table == [{"norm": 0.01, "clipped": 4}], "two clients, two rounds"


def test_what_a_mod_counts_goes_on_after_a_resumption(run):
    folder = run(mods="toys:Clip:norm=0.01", num_server_rounds=2)
    run(mods="toys:Clip:norm=0.01", num_server_rounds=3, resume=str(folder.path))
    assert checkpoint(folder).strategy["mods"] == [{"norm": 0.01, "clipped": 6}]


def test_another_encoding_is_decoded_before_it_is_checked(run):
    plain, packed = run(), run(mods="toys:Int8")
    assert rows(packed)["0"]["bytes_up"] < rows(plain)["0"]["bytes_up"] / 3
    assert rows(packed)["0"]["bytes_down"] == rows(plain)["0"]["bytes_down"]
    assert rows(packed)["0"]["loss"] == rows(plain)["0"]["loss"]
    before, after = checkpoint(plain).weights, checkpoint(packed).weights
    assert {name: array.dtype for name, array in after.items()} == {name: array.dtype for name, array in before.items()}
    for name in before:
        assert np.abs(after[name] - before[name]).max() < 0.01


def test_what_cannot_be_decoded_is_its_clients_failure(run, monkeypatch):
    """The server decodes, and nobody has encoded: the metrics lack what decoding needs."""

    class OnlyServer(Int8):
        """Its client half sends floats."""

        def client(self, message, context, call_next):
            return call_next(message, context)

        def decode(self, reply, sent):
            raise ValueError("these are no int8")

    monkeypatch.setattr("toys.OnlyServer", OnlyServer, raising=False)
    with pytest.raises(RunFailed, match="client 0: sent what cannot be decoded: these are no int8"):
        run(mods="toys:OnlyServer", max_retries=0)


def test_a_mod_asks_every_client_twice_in_one_round(run):
    asked = []

    def counting(message, context):
        asked.append((message.metadata.message_type, context.node_config["partition-id"]))
        return client.app(message, context)

    once, twice = run(), run(app=counting, mods="toys:Twice")
    assert sorted(asked).count(("train", 0)) == 2 and sorted(asked).count(("train", 1)) == 2
    assert rows(twice)["0"]["bytes_down"] == 2 * rows(once)["0"]["bytes_down"]
    # The second time a client trains from what it has trained itself.
    assert rows(twice)["0"]["loss"] < rows(once)["0"]["loss"]


def test_a_mod_chooses_the_cohort_and_hides_what_single_clients_gave(run):
    folder = run(mods="toys:Chosen:cids=1", num_partitions=3)
    assert list(rows(folder)) == ["all"] and set(rows(folder, "evaluate")) == {"all", "server"}
    alone = run(num_partitions=3)
    assert rows(folder)["all"]["loss"] == rows(alone)["1"]["loss"]


def test_several_mods_surround_each_other_in_the_order_named(run):
    """Clipped inside, int8 outside: the norm of what is sent is the clipped one, but for rounding."""
    folder = run(mods="toys:Int8; toys:Clip:norm=0.01; toys:Chosen:cids=0+1")
    assert rows(folder)["all"]["norm"] == pytest.approx(0.01)
    assert checkpoint(folder).strategy["mods"][1] == {"norm": 0.01, "clipped": 2}


def test_the_first_mod_is_the_outermost_on_both_sides():
    seen = []

    class Tracing(Clip):
        def __init__(self, name):
            self.name = name

        def client(self, message, context, call_next):
            seen.append(f"{self.name} in")
            reply = call_next(message, context)
            seen.append(f"{self.name} out")
            return reply

        def encode(self, message):
            seen.append(f"{self.name} encodes")
            return message

        def decode(self, reply, sent):
            seen.append(f"{self.name} decodes")
            return reply

    chain = ModChain([Tracing("a"), Tracing("b")])
    chain.answer("message", "context", lambda message, context: seen.append("handler"))
    assert seen == ["a in", "b in", "handler", "b out", "a out"]
    exchange = chain.over(None, lambda message: None)
    seen.clear()
    exchange.encoded("message")
    assert seen == ["b encodes", "a encodes"], "what leaves the server last is what a client sees first"


def test_a_mod_with_a_callback_ends_the_run_early(run):
    folder = run(mods="toys:Stops:after=2", num_server_rounds=9)
    assert [row["round"] for row in read_rows(folder.history_path) if row["client"] == "server"] == [1, 2]
    assert checkpoint(folder).round == 2


def test_a_message_may_ask_for_fewer_epochs_and_not_for_more(run):
    fewer, once = run(mods="toys:Epochs:number=1", local_epochs=3), run(local_epochs=1)
    for name, array in checkpoint(once).weights.items():
        np.testing.assert_array_equal(checkpoint(fewer).weights[name], array)
    with pytest.raises(RunFailed, match="asks for 4 epochs; --local-epochs is 3"):
        run(mods="toys:Epochs:number=4", local_epochs=3)


def test_an_objective_of_ones_own_is_named_in_the_train_message(run):
    """With gradients of norm 0 the weights stay what they were."""
    start = run(mods="toys:Objective:spec=toy_objectives|Bounded|norm=0.0")
    plain = run()
    still, moved = checkpoint(start).weights, checkpoint(plain).weights
    name = next(iter(still))
    assert np.abs(still[name] - moved[name]).max() > 0
    twice = run(mods="toys:Objective:spec=toy_objectives|Bounded|norm=0.0", num_server_rounds=2)
    assert all(np.array_equal(still[key], array) for key, array in checkpoint(twice).weights.items())


def test_a_workflow_of_ones_own_only_evaluates(run, capsys):
    folder = run(mode="toys:EvaluateOnly", num_partitions=3)
    assert folder.path.name.endswith("digits-fedavg")
    assert rows(folder) == {} and set(rows(folder, "evaluate")) == {"0", "1", "2", "all", "server"}
    assert json.loads(folder.summary_path.read_text())["status"] == "finished"
    assert "Nothing was trained" in folder.report_path.read_text()

    capsys.readouterr()  # drawn again, perhaps by somebody who got the folder: its code is asked only with permission
    assert report.main([str(folder.path)]) == 0 and "Nothing was trained" not in folder.report_path.read_text()
    assert "--allow workflows=toys:EvaluateOnly adds them" in capsys.readouterr().err
    assert report.main([str(folder.path), "--allow", "workflows=toys:EvaluateOnly"]) == 0
    assert "Nothing was trained" in folder.report_path.read_text() and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"mods": "nosuch"}, "--mods is 'nosuch'"),
        ({"mods": "toys:NoSuch"}, "--mods toys:NoSuch cannot be imported"),
        ({"mods": "toys:EvaluateOnly"}, "is no subclass of fedkeras.mods.base.Mod"),
        ({"mods": "toys:Clip:size=1"}, "it takes: norm"),
        ({"mods": "toys:Clip", "split": "shared"}, "--mods are for federated rounds"),
        ({"mode": "rounds"}, "--mode is 'rounds'; known are federated, split, collect"),
        ({"mode": "split"}, "--mode is 'split', which --split sequential, splitfed or shared chooses"),
        ({"mode": "collect-only"}, "which --collect-only chooses"),
        ({"mode": "toys:EvaluateOnly", "split": "shared"}, "toys:EvaluateOnly and --split are two ways to train"),
        ({"mode": "toys:EvaluateOnly", "collect_only": True}, "and --collect-only are two ways to train"),
        ({"split": "shared", "collect_only": True}, "--split and --collect-only are two ways to train"),
        ({"mode": "toys:Clip"}, "is no subclass of fedkeras.workflows.base.Workflow"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line_before_a_folder_is_made(fields, said, tmp_path):
    with pytest.raises(UserError) as error:
        server.train(None, Config(**fields), tmp_path / "runs")
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_names_from_outside_are_used_only_where_the_client_says_so():
    with pytest.raises(UserError, match="started with --allow mods=toys:Clip, or with --trust-code"):
        make_mods("toys:Clip:norm=2", Permission())
    with pytest.raises(UserError, match="--allow"):
        make_mods("toys:Clip", Permission.parse("objectives=toys:Clip"))
    for allowed in (Permission.parse("mods=toys:Clip"), Permission.parse("", trust_code=True), Permission.parse("*")):
        (mod,) = make_mods("toys:Clip:norm=2", allowed).mods
        assert mod.norm == 2.0


def test_a_supernode_takes_what_lies_in_the_apps_own_bundle():
    here = Path(__file__).resolve().parent
    make_mods("toys:Clip", Permission(root=here))
    with pytest.raises(UserError, match="not built in"):
        make_mods("toys:Clip", Permission(root=here / "elsewhere"))


@pytest.mark.parametrize("name", ["this.x:Y", "numpy:Y", "..toys:Clip", "/toys:Clip", "pathlib:Path"])
def test_what_does_not_lie_in_the_bundle_is_not_even_imported(name):
    sys.modules.pop("this", None)
    with pytest.raises(UserError, match="not built in"):
        make_mods(name, Permission(root=Path(__file__).resolve().parent))
    assert "this" not in sys.modules
