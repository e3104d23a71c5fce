"""Compressed rounds: what travels, what the strategy is shown, residuals of failed rounds, and clients that lie."""

import dataclasses
import os
import shutil
from collections import Counter

import numpy as np
import pytest
from bare_runs import run_of
from flwr.app import ConfigRecord, Message, RecordDict
from toy_federation import ToyClients, content

from fedkeras.callbacks import Callbacks
from fedkeras.config import Config
from fedkeras.errors import RunFailed, UserError
from fedkeras.federation import registry
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.grids import federation_grid
from fedkeras.federation.records import payload, record, views
from fedkeras.mods.chain import make_mods
from fedkeras.mods.compression.forms import forms_of
from fedkeras.mods.compression.wire import GAPS, TABLE
from fedkeras.runtime.in_process import InProcessGrid
from fedkeras.workflows.rounds.server import RoundsWorkflow

SIZE = 1000


def start():
    """A trained array, a small one, a statistic, a counter."""
    weights = np.linspace(-1, 1, SIZE, dtype="f").reshape(20, 50)
    return {"w": weights, "b": np.ones(3, "f"), "moving_mean": np.zeros(300, "f"), "count": np.array(7)}


def step(cid, server_round):
    """How client `cid` moves `w`."""
    return np.random.default_rng([cid, server_round]).normal(0, 0.1, (20, 50)).astype("f")


def moving(cid, server_round, weights, config):
    moved = dict(weights)
    moved["w"] = weights["w"] + step(cid, server_round)
    moved["b"] = weights["b"] + np.float32(cid)
    moved["moving_mean"] = weights["moving_mean"] + np.float32(0.1)
    return content(moved, 1, loss=0.0)


def evaluating(cid, server_round, weights, config):
    return content(None, 1, loss=float(weights["w"][0, 0]))


def forged(reply, change):
    """The reply with its records changed; `change(records)`."""
    records = {name: ConfigRecord(dict(e)) if isinstance(e, ConfigRecord) else e for name, e in reply.content.items()}
    change(records)
    return Message(RecordDict(records), metadata=reply.metadata)


def run(mods, rounds=1, clients=3, train=moving, strategy="fedavg", lie=None, chain=None, first=1, weights=None, **own):
    """(final weights, results, messages and replies by (kind, round, cid), the chain)."""
    travelled, results = {}, []
    config = Config(num_partitions=clients, num_server_rounds=rounds + first - 1, mods=mods, seed=5, **own)
    toy = ToyClients(train, evaluating)

    def app(message, context):
        kind, cid = message.metadata.message_type, context.node_config["partition-id"]
        reply = make_mods(config.mods).answer(message, context, toy)
        if kind in ("train", "evaluate"):
            if lie and kind == "train" and cid == 0:
                reply = forged(reply, lie)
            travelled[kind, int(message.content["config"]["server-round"]), cid] = message, reply
        return reply

    grid = federation_grid(InProcessGrid(app, clients, config.to_run_config(), {"allow": "*"}))
    if chain is None:
        chain = make_mods(mods)
        chain.check(config)
        chain.choose(config)
    parts = {"clients": ClientManager(grid, config, Callbacks([])), "mods": chain}
    hooks = [*chain.callbacks(), results.append]
    weights = start() if weights is None else weights
    context = run_of(grid, config, registry.load(strategy), hooks, **parts).knowing(("w", "b"), tuple(weights))
    context.callbacks.on_run_begin(context)
    final = RoundsWorkflow().train(context, record(weights), first)
    return views(final), results, travelled, chain


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDKERAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "client-state"


def mean_step(server_round=1, clients=3):
    return np.mean([step(cid, server_round) for cid in range(clients)], axis=0)


# What travels


def test_trained_large_arrays_are_compressed_and_all_others_exact():
    arrays = record({**start(), "d": np.ones(300)})
    assert forms_of(arrays, ("w", "b", "d"), "int8") == ["int8", "exact", "exact", "exact", "exact"]


@pytest.mark.parametrize(
    ("mods", "down", "up"),
    [
        ("compress:up=int8,down=float16", ("float16", 2), ("int8", 1)),
        ("compress:up=float16,down=int8", ("int8", 1), ("float16", 2)),
        ("compress:up=bfloat16,down=bfloat16", ("uint16", 2), ("uint16", 2)),
        ("compress:up=int8", ("float32", 4), ("int8", 1)),
    ],
)
def test_both_ways_have_their_number_format_and_their_bytes(mods, down, up):
    _, _, travelled, chain = run(mods)
    message, reply = travelled["train", 1, 0]
    for content_, (dtype, size) in ((message.content, down), (reply.content, up)):
        assert content_["arrays"]["w"].dtype == dtype and content_["arrays"]["w"].shape == (20, 50)
        exact = 4 * 3 + 4 * 300 + 8
        assert payload(content_) == 4 * 128 + SIZE * size + exact, ".npy headers of 128 bytes"
    tested, answer = travelled["evaluate", 1, 2]
    assert tested.content["arrays"]["w"].dtype == down[0] and "compression" not in answer.content
    counted = chain.mods[0].summary()["compression"]["bytes"]
    assert counted["up"] == 3 * payload(reply.content) and counted["down"] == 6 * payload(message.content)
    assert counted["up_plain"] * 2 == counted["down_plain"] == 6 * payload(RecordDict({"a": record(start())}))


def test_all_clients_that_are_sent_the_same_are_sent_one_object():
    _, _, travelled, _ = run("compress:up=int8,down=float16", clients=4)
    assert len({id(travelled["train", 1, cid][0].content["arrays"]["w"].data) for cid in range(4)}) == 1


def test_what_the_way_down_loses_is_no_part_of_an_update():
    """An eighth of a float16 step a round, which adding to float16 weights would lose every time."""
    small = np.float32(2**-13)

    def train(cid, server_round, weights, config):
        return content({**weights, "w": weights["w"] + small}, 1, loss=0.0)

    ones = {**start(), "w": np.ones((20, 50), "f")}
    final, *_ = run("compress:down=float16", rounds=8, train=train, weights=ones)
    assert final["w"].tolist() == np.full((20, 50), 1 + 8 * small).tolist()


@pytest.mark.parametrize(("number_format", "error"), [("float16", 1e-4), ("bfloat16", 1e-3), ("int8", 4e-3)])
def test_the_strategy_is_shown_whole_float32_arrays(number_format, error):
    final, results, _, _ = run(f"compress:up={number_format},down={number_format}")
    assert not results[0].failures
    np.testing.assert_allclose(final["w"] - start()["w"], mean_step(), atol=error)
    assert (final["w"] - start()["w"] != mean_step()).any(), "something was compressed"
    assert final["b"].tolist() == [2, 2, 2] and final["count"] == 7
    assert final["moving_mean"] == pytest.approx(0.1) and final["w"].dtype == np.float32


def test_a_robust_strategy_too():
    final, results, _, _ = run("compress:up=float16,down=float16", strategy="fedmedian")
    median = np.median([step(cid, 1) for cid in range(3)], axis=0)
    np.testing.assert_allclose(final["w"] - start()["w"], median, atol=1e-4)
    assert not results[0].failures


def test_rounding_is_a_function_of_seed_round_client_and_array():
    same, again = run("compress:up=int8")[2], run("compress:up=int8")[2]

    def sent(travelled, server_round, cid):
        return travelled["train", server_round, cid][1].content["arrays"]["w"].data

    assert sent(same, 1, 0) == sent(again, 1, 0)

    def alike(cid, server_round, weights, config):
        return content({**weights, "w": weights["w"] + step(9, 9)}, 1, loss=0.0)

    _, _, travelled, _ = run("compress:up=int8", rounds=2, train=alike)
    assert len({sent(travelled, 1, 0), sent(travelled, 1, 1), sent(travelled, 2, 0)}) == 3


def test_a_client_whose_training_has_diverged_is_told_so():
    def train(cid, server_round, weights, config):
        bad = weights["w"] + np.float32(np.nan if cid == 1 else 0)
        return content({**weights, "w": bad}, 1, loss=0.0)

    for mods in ("compress:up=int8", "compress:up=float16", "compress:topk=0.1"):
        _, results, _, _ = run(mods, train=train)
        assert list(results[0].failures) == [1] and "'w': there are NaN" in results[0].failures[1]


def test_stragglers_send_their_part_compressed_and_share_the_arrays():
    final, results, travelled, _ = run("compress:up=float16;stragglers:share=0.5", local_epochs=3, rest_after=0)
    assert not results[0].failures
    np.testing.assert_allclose(final["w"] - start()["w"], mean_step(), atol=1e-4)
    assert len({id(travelled["train", 1, cid][0].content["arrays"]["w"].data) for cid in range(3)}) == 1


# Top-k


def test_topk_sends_the_largest_and_makes_up_for_the_rest():
    """Clients move in round 1 alone; by rounds 1 and 2 each half has arrived."""

    def once(cid, server_round, weights, config):
        moved = step(cid, 1) if server_round == 1 else 0
        return content({**weights, "w": weights["w"] + moved}, 1, loss=0.0)

    final, _, travelled, _ = run("compress:topk=0.5", train=once)
    sent = [np.where(np.abs(step(c, 1)) >= np.median(np.abs(step(c, 1))), step(c, 1), 0) for c in range(3)]
    np.testing.assert_allclose(final["w"] - start()["w"], np.mean(sent, axis=0), atol=1e-6)
    reply = travelled["train", 1, 0][1].content
    assert reply["arrays"]["w"].shape == (500,) and reply[GAPS]["w"].dtype == "uint16"
    whole, _, _, chain = run("compress:topk=0.5", rounds=2, train=once)
    np.testing.assert_allclose(whole["w"] - start()["w"], mean_step(), atol=1e-6)
    assert chain.mods[0].residuals.lost == 0


def test_a_residual_is_kept_back_where_the_round_was_repeated():
    """Client 2 fails at first, and all three must answer: the round is done again and nothing is sent twice."""
    tries = Counter()

    def train(cid, server_round, weights, config):
        tries[cid, server_round] += 1
        if cid == 2 and tries[cid, server_round] == 1:
            raise RuntimeError("broken")
        moved = step(cid, 1) if server_round == 1 else 0
        return content({**weights, "w": weights["w"] + moved}, 1, loss=0.0)

    final, _, _, chain = run("compress:topk=0.5", rounds=2, train=train, min_results=3, max_retries=3)
    assert tries[0, 1] == 2, "round 1 was repeated"
    np.testing.assert_allclose(final["w"] - start()["w"], mean_step(), atol=1e-6)
    assert chain.mods[0].residuals.lost == 0


def test_an_update_that_was_not_used_is_as_if_it_had_never_been_made():
    """The server finds client 0's first answer bad: what it had kept back of that round is not added either."""

    def lie(records):
        if lies:
            lies.pop()
            records["metrics"]["loss"] = float("nan")

    def train(cid, server_round, weights, config):
        moved = step(cid, server_round) if server_round < 3 else 0
        return content({**weights, "w": weights["w"] + moved}, 1, loss=0.0)

    lies = [1]
    final, results, _, _ = run("compress:topk=0.5", rounds=3, clients=1, train=train, lie=lie, max_retries=1)
    assert not lies and not results[0].failures
    np.testing.assert_allclose(final["w"] - start()["w"], step(0, 1) + step(0, 2), atol=1e-6)


def test_what_an_attempt_in_vain_has_brought_is_not_used():
    """Client 0 answers when the others fail, and fails when they answer."""
    tries = Counter()

    def train(cid, server_round, weights, config):
        tries[cid] += 1
        if (cid == 0) == (tries[cid] == 2):
            raise RuntimeError("broken")
        return moving(cid, server_round, weights, config)

    chain = run("compress:topk=0.5", train=train, min_results=2)[3]
    assert tries == {0: 2, 1: 2, 2: 2} and set(chain.mods[0].residuals.used) == {1, 2}


def test_a_bad_answers_residual_does_not_count():
    def lie(records):
        records["metrics"]["loss"] = float("nan")

    _, results, _, chain = run("compress:topk=0.5", lie=lie)
    assert list(results[0].failures) == [0] and set(chain.mods[0].residuals.used) == {1, 2}


def test_a_client_without_its_residual_begins_with_none_and_says_so(cache, caplog):
    chain = run("compress:topk=0.1")[3]
    shutil.rmtree(cache)
    run("compress:topk=0.1", chain=chain, first=2)
    assert chain.mods[0].residuals.lost == 3 and "client 0 has lost what it had not sent yet" in caplog.text


def files(cache):
    return [path for path in cache.rglob("*") if path.is_file()]


def test_only_the_residuals_before_and_after_the_newest_update_are_kept(cache):
    chain = run("compress:topk=0.1", rounds=4)[3]
    found = files(cache)
    assert Counter(path.parent.name for path in found) == {"0": 2, "1": 2, "2": 2}
    assert set(chain.mods[0].residuals.used.values()) < {path.name for path in found}
    assert all(4 * SIZE < path.stat().st_size < 4 * SIZE + 300 for path in found)
    assert cache.stat().st_mode & 0o077 == 0, "for this user alone"


def test_what_nobody_goes_on_with_is_removed_after_a_month(cache):
    first = run("compress:topk=0.1")[3].mods[0].residuals.run + "-compress"
    for place in (cache / first).iterdir():
        if place.name != "1":
            os.utime(place, (0, 0))
    second = run("compress:topk=0.1")[3].mods[0].residuals.run + "-compress"
    left = {path.parent.relative_to(cache).as_posix() for path in files(cache)}
    assert left == {f"{first}/1", *(f"{second}/{cid}" for cid in range(3))}


def test_a_full_folder_is_the_clients_failure(cache, monkeypatch):
    monkeypatch.setattr("fedkeras.federation.requests.DOWNLOAD_MB", 0)
    with pytest.raises(RunFailed, match=r"with 0.0085. more it would be above 0 MB .--max-download-mb"):
        run("compress:topk=0.1", max_retries=0)
    assert not cache.exists()


def test_a_residual_that_was_damaged_is_none(cache):
    chain = run("compress:topk=0.1")[3]
    for path in files(cache):
        path.write_bytes(bytes(4 * SIZE))
    run("compress:topk=0.1", chain=chain, first=2)
    assert chain.mods[0].residuals.lost == 3


def test_under_flowers_runtimes_residuals_are_in_the_clients_context(cache):
    """A node whose settings do not say what it permits is Flower's."""
    states = {}
    mods = make_mods("compress:topk=0.5")

    def train(message, context):
        answer = moving(0, 1, views(message.content["arrays"]), {})
        return Message(answer, reply_to=message)

    grid = InProcessGrid(lambda message, context: states.setdefault(0, context) and None, 1, {})
    context = grid._contexts[0]
    context = dataclasses.replace(context) if dataclasses.is_dataclass(context) else context
    context.run_config = Config(mods="compress:topk=0.5").to_run_config()
    mods.mods[0].trainable = ("w", "b")
    arrays = record(start())
    question = Message(RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": 1})}), 7, "train")
    first = mods.answer(mods.mods[0].encode(question), context, train)
    digest = first.content[TABLE]["state"]
    assert first.content[TABLE]["state-lost"] is False and not cache.exists()
    mods.mods[0].residuals.used, mods.mods[0].residuals._nodes = {0: digest}, {7: 0}
    second = mods.answer(mods.mods[0].encode(question), context, train)
    assert second.content[TABLE]["state-lost"] is False and second.content[TABLE]["state"] != digest
    context.state.clear()
    assert mods.answer(mods.mods[0].encode(question), context, train).content[TABLE]["state-lost"] is True


# Clients that lie


def set_array(name, key="arrays"):
    def change(array):
        def lie(records):
            old = views(records[key])
            records[key] = record(
                {**old, name: array} if array is not None else {n: a for n, a in old.items() if n != name}
            )

        return lie

    return change


def set_table(**values):
    def lie(records):
        records[TABLE] = ConfigRecord({**records[TABLE], **values})

    return lie


def renamed(records):
    arrays = dict(records["arrays"])
    records["arrays"] = type(records["arrays"])({("x" if name == "w" else name): a for name, a in arrays.items()})


@pytest.mark.parametrize(
    ("mods", "lie", "said"),
    [
        ("compress:up=int8", set_table(scales=[1e38, 1.0, 1.0, 1.0]), "infinite numbers have arrived"),
        ("compress:up=int8", set_table(scales=[float("nan"), 1.0, 1.0, 1.0]), "came with the scale nan"),
        ("compress:up=int8", set_table(scales=[1.0]), "other numbers of forms and scales"),
        ("compress:up=int8", set_table(scales=1.0), "other numbers of forms and scales"),
        ("compress:up=int8", lambda records: records.pop(TABLE), "is not compressed"),
        ("compress:up=int8", set_array("w")(np.zeros((20, 50), "f")), "an array of float32 came as 'int8'"),
        ("compress:up=int8", set_array("w")(np.zeros(10**6, np.int8)), "has the shape [1000000], not [20, 50]"),
        ("compress:up=int8", set_array("b")(np.zeros(3)), "'b' is float64[3], not float32[3]"),
        ("compress:up=int8", set_array("b")(np.full(3, np.nan, "f")), "'b' has numbers that are not finite"),
        ("compress:up=int8", renamed, "other arrays than it was given"),
        ("compress:up=int8", set_array("w", "arrays")(None), "other arrays than it was given"),
        ("compress:up=int8", lambda records: records.update({GAPS: record({})}), "other arrays than it was given"),
        ("compress:topk=0.1", lambda records: records.pop(GAPS), "other arrays than it was given"),
        ("compress:topk=0.1", set_array("w")(np.zeros(1000, "f")), "has the shape [1000], not [100]"),
        ("compress:topk=0.1", set_array("w", GAPS)(np.zeros(99, np.uint16)), "has the shape [99], not [100]"),
        ("compress:topk=0.1", set_array("w", GAPS)(np.full(100, 10, np.uint16)), "beyond its 1000 numbers"),
        ("compress:topk=0.1", set_array("w", GAPS)(np.zeros(100, np.int64)), "places came as int64"),
        ("compress:topk=0.1", set_array("b", GAPS)(np.zeros(100, np.uint16)), "places came for other arrays"),
        ("compress:topk=0.1", set_table(state="../../x"), "does not say what it keeps"),
        ("compress:topk=0.1", set_table(**{"state-lost": 1}), "does not say what it keeps"),
    ],
)
def test_a_lie_is_its_clients_failure_and_nobody_elses(mods, lie, said):
    final, results, _, _ = run(mods, lie=lie)
    assert list(results[0].failures) == [0] and said in results[0].failures[0]
    others = np.mean([step(1, 1), step(2, 1)], axis=0)
    if "int8" in mods:
        np.testing.assert_allclose(final["w"] - start()["w"], others, atol=6e-3)


@pytest.mark.parametrize(
    "own",
    [
        {"down": ["int9"] * 4},
        {"down": ["int8"] * 3},
        {"scales": [1e300] * 4},
        {"up": 7},
        {"topk": 2.0},
        {"topk": 0.5, "state": "../passwd", "state-saved": ""},
        {"topk": 0.5, "state": "", "state-saved": "../passwd"},
        {"topk": 0.5, "state": "", "state-saved": "", "state-run": "../../etc"},
    ],
)
def test_a_server_that_lies_is_refused_by_the_client(own, cache):
    mod = make_mods("compress:up=int8,down=int8").mods[0]
    mod.trainable = ("w", "b")
    question = Message(RecordDict({"arrays": record(start()), "config": ConfigRecord({"server-round": 1})}), 7, "train")
    message = mod.encode(question)
    message.content[TABLE].update(own)
    context = InProcessGrid(None, 1, Config().to_run_config(), {"allow": "*"})._contexts[0]

    def train(message, context):
        return Message(moving(0, 1, views(message.content["arrays"]), {}), reply_to=message)

    with pytest.raises(ValueError, match=r"compressed message|scale|names its run|which state of this client"):
        mod.client(message, context, train)
    assert not cache.exists()


# What it cannot be combined with


@pytest.mark.parametrize(
    ("mods", "said"),
    [
        ("compress", "nothing is compressed"),
        ("compress:up=int4", "up must be one of float32, float16, bfloat16, int8, not int4"),
        ("compress:topk=0.9", "topk must be"),
        ("compress:topk=true", "topk must be"),
        ("compress:bits=8", "it takes: up, down, topk"),
        ("stragglers;compress:up=int8", "name compress once, and first"),
        ("compress:up=int8;compress:up=int8", "name compress once, and first"),
        ("compress:up=int8;dp:noise-multiplier=1,delta=1e-5", "--mods dp does not go with compress"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(mods, said):
    with pytest.raises(UserError) as error:
        config = Config(mods=mods, client_weights="uniform", rest_after=0)
        make_mods(mods).check(config)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_differential_privacy_of_examples_may_be_rounded_afterwards():
    private = "dp-sgd:epsilon=8,delta=1e-3"
    config = Config(mods=f"compress:up=int8;{private}", fraction_evaluate=0, normaliser="none")
    make_mods(config.mods).check(config)
    with pytest.raises(UserError, match="name compress once, and first"):
        make_mods(f"{private};compress:up=int8").mods[1].check(
            dataclasses.replace(config, mods=f"{private};compress:up=int8")
        )


def test_a_round_that_fails_for_good_commits_nothing():
    def train(cid, server_round, weights, config):
        if cid and server_round == 2:
            raise RuntimeError("broken")
        return moving(cid, server_round, weights, config)

    chain = make_mods("compress:topk=0.1")
    with pytest.raises(RunFailed):
        run("compress:topk=0.1", rounds=2, train=train, chain=chain, min_results=2, max_retries=0)
    committed = dict(chain.mods[0].residuals.used)
    first = run("compress:topk=0.1", chain=make_mods("compress:topk=0.1"))[3].mods[0].residuals.used
    assert committed == first, "those of round 1"
