"""Layers that stay with the client, on toy clients: what travels, what is tested, what is kept, and what is refused."""

import shutil

import numpy as np
import pytest
from bare_runs import run_of
from flwr.app import ConfigRecord, Message, RecordDict
from toy_federation import ToyClients, content

from fedkeras.callbacks import Callbacks
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation import registry
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.grids import federation_grid
from fedkeras.federation.initial_weights import LAYER_INDICES, LAYER_KINDS, LAYERS, TRAINABLE, initial_weights
from fedkeras.federation.records import record, views
from fedkeras.mods.chain import make_mods
from fedkeras.mods.personalisation.kept_layers import LayerArray, kept_names
from fedkeras.mods.personalisation.wire import TABLE
from fedkeras.runtime.in_process import InProcessGrid
from fedkeras.workflows.rounds.server import RoundsWorkflow

ARRAYS = {"0.kernel": np.zeros(2, "f"), "1.kernel": np.full(3, 100, "f")}
KEPT = "1.kernel"
MODS = "local-layers:keep=classifier"


def untrained():
    """What a client's own handler says of its model: a shared layer, and a last one."""
    said = {TRAINABLE: [*ARRAYS], LAYERS: ["body", "head"], LAYER_KINDS: ["Conv2D", "Dense"], LAYER_INDICES: [0, 1]}
    return RecordDict({"arrays": record(ARRAYS), "config": ConfigRecord(said)})


def training(cid, server_round, weights, config):
    """The shared layer moves by cid + 1, the last one by ten times that."""
    assert weights.keys() == ARRAYS.keys(), "the whole model is trained"
    moved = {"0.kernel": weights["0.kernel"] + np.float32(cid + 1), KEPT: weights[KEPT] + np.float32(10 * (cid + 1))}
    return content(moved, 1, loss=0.0)


def own_test(cid, server_round, weights, config):
    return content(None, 1, loss=float(weights["0.kernel"][0]), accuracy=float(weights[KEPT][0]) / 1000)


class Federation:
    """Rounds of toy clients; `travelled` has messages and replies by (kind, round, cid)."""

    def __init__(self, mods=MODS, clients=2, train=training, test=own_test, **own):
        self.config = Config(**{"num_partitions": clients, "num_server_rounds": 1, "mods": mods, "seed": 5, **own})
        self.travelled, self.results, self.toy = {}, [], ToyClients(train, test)
        self.chain = make_mods(mods)
        self.chain.check(self.config)
        self.grid = federation_grid(InProcessGrid(self.app, clients, self.config.to_run_config(), {"allow": "*"}))

    def own(self, message, context):
        if message.metadata.message_type == "query.initial_weights":
            return Message(untrained(), reply_to=message)
        return self.toy(message, context)

    def app(self, message, context):
        reply = make_mods(self.config.mods).answer(message, context, self.own)
        where = message.content["config"].get("server-round", 0), context.node_config["partition-id"]
        self.travelled[message.metadata.message_type, *where] = message, reply
        return reply

    def run(self, first=1, weights=None):
        """The global arrays at the end."""
        clients = ClientManager(self.grid, self.config, Callbacks([]))
        begun = initial_weights(self.grid, self.config, clients)
        hooks = [*self.chain.callbacks(), self.results.append]
        strategy = registry.load(self.config.strategy)
        context = run_of(self.grid, self.config, strategy, hooks, clients=clients, mods=self.chain)
        context = context.knowing(begun.trainable, begun.arrays)
        context.callbacks.on_run_begin(context)
        return views(RoundsWorkflow().train(context, begun.arrays if weights is None else record(weights), first))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDKERAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "client-state"


def figures(federation, server_round):
    """{cid: accuracy} of a round, which is a client's own last layer, in thousandths."""
    rows = federation.results[server_round - 1].rows
    return {row["client"]: row["accuracy"] for row in rows if row["phase"] == "evaluate"}


# What travels, and what is tested


def test_the_kept_layer_is_in_no_message_and_each_client_is_tested_with_its_own():
    federation = Federation(num_server_rounds=2)
    final = federation.run()
    assert {name: array.tolist() for name, array in final.items()} == {"0.kernel": [3.0, 3.0]}, "mean of 1 and 2, twice"
    for message, reply in federation.travelled.values():
        for content_ in (message.content, reply.content):
            assert KEPT not in content_.get("arrays", {})
    assert federation.travelled["query.initial_weights", 0, 0][1].content["config"][TRAINABLE] == ["0.kernel"]
    assert figures(federation, 1) == pytest.approx({"0": 0.11, "1": 0.12, "all": 0.115})
    assert figures(federation, 2) == pytest.approx({"0": 0.12, "1": 0.14, "all": 0.13})


def test_who_has_not_trained_yet_has_no_model_to_be_tested_with():
    federation = Federation(clients=4, fraction_train=0.5)
    federation.run()
    trained = {key[2] for key in federation.travelled if key[0] == "train"}
    assert len(trained) == 2 and not federation.results[0].failures
    assert {key[2] for key in federation.travelled if key[0] == "evaluate"} == trained


def test_a_strategy_is_shown_shared_arrays_alone():
    federation = Federation(clients=3, strategy="fedmedian")
    assert list(federation.run()) == ["0.kernel"] and not federation.results[0].failures


def test_an_update_that_was_not_used_leaves_the_layers_as_they_were():
    """Client 1 fails at first, and both must answer: the round is done again, from the layers before it."""
    tries = []

    def train(cid, server_round, weights, config):
        tries.append(cid)
        if cid == 1 and tries.count(1) == 1:
            raise RuntimeError("broken")
        return training(cid, server_round, weights, config)

    federation = Federation(train=train, min_results=2, max_retries=1)
    federation.run()
    assert tries == [0, 1, 0, 1] and figures(federation, 1)["0"] == pytest.approx(0.11)


def test_a_client_without_its_layers_begins_anew_and_says_so(cache, caplog):
    federation = Federation(num_server_rounds=1)
    arrays = federation.run()
    shutil.rmtree(cache)
    federation.run(first=1, weights=arrays)
    assert figures(federation, 2) == pytest.approx({"0": 0.11, "1": 0.12, "all": 0.115}), (
        "once from the untrained layer"
    )
    assert "client 0 has lost its own layers" in caplog.text and federation.chain.mods[0].summary() == {
        "personalisation": {"mod": "local-layers", "new_clients": 0, "lost": 2}
    }


def answered(federation, message):
    return make_mods(MODS).answer(message, federation.grid._grid._contexts[0], federation.own)


@pytest.mark.parametrize("kind", ["train", "evaluate"])
@pytest.mark.parametrize("change", ["without a word", "with the kept array", "without a shared array", "untrained"])
def test_a_server_that_asks_for_more_is_sent_nothing(kind, change):
    federation = Federation()
    federation.run()
    message, _ = federation.travelled[kind, 1, 0]
    records = dict(message.content.items())
    if change == "without a word":
        records["arrays"] = record(ARRAYS)
        del records[TABLE]
    elif change == "with the kept array":
        records["arrays"] = record(ARRAYS)
    elif change == "untrained" and kind == "evaluate":
        records[TABLE] = ConfigRecord({**records[TABLE], "state": ""})
    else:
        records["arrays"] = record({"0.bias": ARRAYS["0.kernel"]})
    forged = Message(RecordDict(records), metadata=message.metadata)
    with pytest.raises((ValueError, UserError, KeyError, AssertionError)):
        answered(federation, forged)


# Which layers


def layers():
    named = [
        (0, "conv", "Conv2D"), (1, "norm", "BatchNormalization"), (2, "block/conv", "Conv2D"),
        (2, "block/norm", "BatchNormalization"), (4, "dense_7", "Dense"),
    ]  # fmt: skip
    arrays = [LayerArray(f"{i}.kernel", *each) for i, each in enumerate(named)]
    return [*arrays, LayerArray("5.bias", 4, "dense_7", "Dense")]


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ("classifier", ["4.kernel", "5.bias"]),
        ("bn", ["1.kernel", "3.kernel"]),
        ("block", ["2.kernel", "3.kernel"]),
        ("block/conv", None),
        ("-1/norm", ["1.kernel", "4.kernel", "5.bias"]),
        ("0", ["0.kernel"]),
        ("bn/classifier", ["1.kernel", "3.kernel", "4.kernel", "5.bias"]),
    ],
)
def test_keep_names_layers(keep, kept):
    arrays = layers()
    found = kept_names(keep, arrays, [array.name for array in arrays])
    assert found == (kept if kept is not None else ["0.kernel", "2.kernel", "3.kernel"]), "block, and conv"


@pytest.mark.parametrize(
    ("keep", "why"),
    [
        ("dense", r"no layer with weights of that name or index; it has conv \(0\), norm \(1\)"),
        ("3", "no layer with weights of that name or index"),
        ("-9", "no layer with weights of that name or index"),
        ("conv/bn/block/classifier", "nothing is left to train together"),
    ],
)
def test_a_layer_that_there_is_not_is_refused_by_name(keep, why):
    arrays = layers()
    with pytest.raises(UserError, match=why):
        kept_names(keep, arrays, [array.name for array in arrays])


def test_what_is_no_classifier_is_not_taken_for_one():
    with pytest.raises(UserError, match="is norm, a BatchNormalization, and no dense layer: name the layers"):
        kept_names("classifier", layers()[:2], ["0.kernel", "1.kernel"])
    with pytest.raises(UserError, match="has no BatchNormalization"):
        kept_names("bn", layers()[:1], ["0.kernel"])


# What is refused


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"mode": "collect"}, "--mode does not go with --mods local-layers, which is for federated rounds"),
        ({"stop_after": 3}, "--stop-after keeps the best round's model"),
        ({"fraction_evaluate": 0.0}, "--fraction-evaluate 0 lets them not"),
        ({"test_fraction": 0.0}, "--test-fraction 0 lets them not"),
        ({"evaluate": "runs/x"}, "tested with models of their own"),
        ({"data_source": "client"}, "--data-source does not go with --mods local-layers"),
        ({"mods": f"{MODS}; mine:Own"}, "does not go with mine:Own"),
        ({"mods": f"{MODS}; {MODS}"}, "does not go with itself"),
    ],
)
def test_what_does_not_go_with_it_is_one_line(fields, why):
    with pytest.raises(UserError, match=why) as refused:
        make_mods(MODS).check(Config(**{"mods": MODS, **fields}))
    assert "\n" not in str(refused.value)
