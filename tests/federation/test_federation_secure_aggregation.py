"""Secure aggregation around rounds: sums of whoever is left, by hand; liars on either side; what the server gets."""

import json
import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import toy_secure_sum
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from toy_federation import ToyClients, content
from toy_secure_sum import (
    EXAMPLES,
    MODS,
    START,
    Federation,
    broken,
    forgetful,
    quantised_mean,
    train,
    update_of,
)  # fmt: skip

from fedkeras.config import Config
from fedkeras.errors import RunFailed, UserError
from fedkeras.federation import registry
from fedkeras.federation.records import record, views
from fedkeras.federation.strategy_state import StrategyState
from fedkeras.flower.identity import node_id_of
from fedkeras.mods.base import Mod
from fedkeras.mods.chain import make_mods
from fedkeras.mods.secure_aggregation import figures, journal, wire
from fedkeras.mods.secure_aggregation.attempt import SumAttempt, TooFew
from fedkeras.mods.secure_aggregation.openings import Openings
from fedkeras.reports.server_view import COUNTS, FIGURES, SUM, UPDATE
from fedkeras.runtime.client_app import new_context
from fedkeras.workflows.base import workflow_of

PHASES = ("train", "advertise", "share", "mask", "unmask")


def added(mean):
    """The global arrays after one round that moves them by a mean."""
    return {name: (START[name] + mean[name]).astype(np.float32) for name in START}


def same(found, expected):
    return all(np.array_equal(found[name], expected[name]) for name in START)


# The sum


def test_the_model_is_the_quantised_sum_bit_for_bit_and_fedavgs_within_a_step():
    final = Federation().run()
    mean = quantised_mean(range(6), 1, clip=4.0, most=60, clients=6)
    assert same(final, added(mean))
    levels = (2**31 - 1) // (6 * 60)
    weights = np.array(EXAMPLES) / sum(EXAMPLES)
    for name in START:
        exact = sum(w * update_of(cid, 1)[name].astype(np.float64) for cid, w in enumerate(weights))
        # each client is off by half a step of the sum at most, over the sum of weights; and float32
        bound = 6 * 0.5 * (4.0 / levels) / sum(EXAMPLES)
        assert np.abs(mean[name] - exact).max() <= bound + 1e-6
        assert np.abs(final[name] - (START[name] + exact)).max() < 1e-5


def test_uniform_weights_and_a_cap_count_as_they_are_said():
    uniform = Federation(client_weights="uniform").run()
    by_hand = quantised_mean(range(6), 1, clip=4.0, most=1, clients=6)
    assert same(uniform, added(by_hand))
    counted = Federation(client_weights="uniform")
    counted.run()
    assert counted.mod.entries and [row["num_examples"] for row in counted.rows() if row["phase"] == "train"] == [6]
    capped = Federation(mods=f"{MODS},max-examples=25").run(dealt=False)
    assert same(capped, added(quantised_mean(range(6), 1, clip=4.0, most=25, clients=6)))


@pytest.mark.parametrize("lost", [(2,), (0, 5)], ids=str)
@pytest.mark.parametrize("phase", PHASES)
def test_whoever_is_lost_in_a_phase_the_sum_of_the_rest_is_exact(phase, lost, tmp_path):
    federation = Federation(faults={(phase, cid): broken for cid in lost}, folder=tmp_path)
    final = federation.run()
    summed = [cid for cid in range(6) if cid not in lost or phase == "unmask"]
    clients = 6 - len(lost) * (phase == "train")  # the terms are made when it is known who has trained
    assert same(final, added(quantised_mean(summed, 1, clip=4.0, most=60, clients=clients)))
    assert sorted(federation.results[0].failures) == list(lost)
    assert all("was cut off" in reason for reason in federation.results[0].failures.values())
    [entry] = journal.read(tmp_path / journal.NAME)
    name = "work" if phase == "train" else phase
    assert {place: count for place, count in entry.lost.items() if count} == {name: len(lost)}
    assert entry.summed == len(summed) and federation.results[0].answered == 6 - len(lost)


@pytest.mark.parametrize("phase", PHASES[1:])
def test_a_client_that_was_started_anew_in_the_middle_is_lost_for_the_attempt_and_back_in_the_next_round(phase):
    def once(message, context, honest):
        return forgetful(message, context, honest) if message.content["config"]["server-round"] == 1 else honest()

    federation = Federation(faults={(phase, 3): once}, rounds=2)
    federation.run()
    first, second = federation.results
    assert list(first.failures) == [3] and "its process was started again" in first.failures[3]
    assert second.failures == {} and second.answered == 6


def test_below_the_threshold_the_round_is_repeated_under_fresh_keys(tmp_path):
    calls = Counter()

    def at_first(message, context, honest):
        calls[context.node_config["partition-id"]] += 1
        return broken(message, context, honest) if calls[context.node_config["partition-id"]] == 1 else honest()

    federation = Federation(faults={("mask", cid): at_first for cid in (0, 1, 2)}, folder=tmp_path)
    final = federation.run()
    assert same(final, added(quantised_mean(range(6), 1, clip=4.0, most=60, clients=6)))
    first, second = journal.read(tmp_path / journal.NAME)
    assert (first.attempt, first.summed, second.attempt, second.summed) == (1, 0, 2, 6)
    assert "after the phase 'mask' only 3" in first.reason and first.lost["mask"] == 3
    keys = [reply.content[wire.KEYS] for kind, _, reply in federation.received[1] if kind == "advertise"]
    blobs = [data for table in keys for data in table.values()]
    assert len(blobs) == 12 and len({data[:32] for data in blobs} | {data[32:64] for data in blobs}) == 24


def opened(federation):
    """How often the masks were asked for, by attempt."""
    return [kind for kind, cid, _ in federation.received[1] if kind == "unmask"]


@pytest.mark.parametrize(("fields", "mods"), [({"min_results": 5}, MODS), ({}, f"{MODS},min-clients=5")])
def test_a_sum_of_fewer_than_a_round_needs_is_not_opened(fields, mods):
    """Else its repetition with one client more would tell that one's update: the difference."""
    federation = Federation(mods=mods, faults={("mask", 0): broken, ("mask", 1): broken}, max_retries=1, **fields)
    with pytest.raises(RunFailed, match=r"a secure sum is of 5 clients at least .* and 4 have sent a masked vector"):
        federation.run()
    assert opened(federation) == []


def test_who_is_lost_after_the_sum_was_asked_for_is_in_it_and_the_round_is_not_repeated():
    federation = Federation(faults={("unmask", 0): broken}, min_results=6)
    final = federation.run()
    assert same(final, added(quantised_mean(range(6), 1, clip=4.0, most=60, clients=6)))
    assert len(opened(federation)) == 5 and list(federation.results[0].failures) == [0]


@pytest.mark.parametrize(("lost", "sums"), [((), 3), ((0,), 1), ((0, 1), 1)])
def test_a_second_sum_of_a_round_differs_from_the_first_by_no_client_or_by_many(lost, sums):
    """The first sum is spoiled by client 5. Two sums that differ by one client or two would give these away."""
    calls = Counter()

    def later(message, context, honest):
        cid = context.node_config["partition-id"]
        calls[cid] += 1
        return honest() if calls[cid] == 1 else broken(message, context, honest)

    def spoil(content):
        words = views(content["arrays"])[wire.VECTOR].copy()
        words[8] += np.uint32(5)
        content["arrays"] = record({wire.VECTOR: words})

    spoiled = {("mask", 5): liar("mask", spoil)["mask", 1]}
    federation = Federation(faults=spoiled | {("mask", cid): later for cid in lost}, max_retries=2)
    with pytest.raises(RunFailed, match="could not be used, and a second one" if lost else "keep to the terms|count"):
        federation.run()
    assert len(opened(federation)) == 6 * sums


@pytest.mark.parametrize("phase", PHASES)
def test_a_round_that_comes_to_no_sum_ends_the_run_in_one_line(phase):
    federation = Federation(faults={(phase, cid): broken for cid in (0, 1, 2, 3)}, max_retries=1)
    with pytest.raises(RunFailed, match=r"round 1 cannot be aggregated") as failed:
        federation.run()
    assert "\n" not in str(failed.value) and failed.value.status == 3


def test_the_strategies_of_the_server_make_their_step_of_the_mean_and_statistics_are_averaged():
    for name in ("fedadam", "fedyogi", "fedadagrad", "fedavgm", "fedprox"):
        final = Federation().run(name)
        mean = quantised_mean(range(6), 1, clip=4.0, most=60, clients=6)
        assert np.array_equal(final["s"], added(mean)["s"]), name
    strategy = registry.load("fedadam")
    strategy.trainable = ("w",)
    strategy.configure_train(1, record({"w": START["w"]}), ConfigRecord(), _NoNodes())
    reply = Message(
        RecordDict({"arrays": record({"w": added(mean)["w"]}), "metrics": MetricRecord({"num-examples": 210})}),
        reply_to=Message(RecordDict(), 1, "train"),
    )
    arrays, _ = strategy.aggregate_train(1, [reply])
    assert np.array_equal(Federation().run("fedadam")["w"], views(arrays)["w"])


class _NoNodes:
    def get_node_ids(self):
        return []


# Figures


def test_history_has_means_and_numbers_of_examples_and_of_no_client_anything():
    federation = Federation(fraction_evaluate=1.0)
    federation.run()
    training, testing = federation.rows()
    total = sum(EXAMPLES)
    assert (training["client"], testing["client"]) == ("all", "all")
    assert training["num_examples"] == total and testing["num_examples"] == 21
    loss = sum(count * (cid + 0.25) for cid, count in enumerate(EXAMPLES)) / total
    assert training["loss"] == pytest.approx(loss, abs=1e-7)
    assert training["accuracy"] == pytest.approx(sum(c * i / 10 for i, c in enumerate(EXAMPLES)) / total, abs=1e-7)
    # by what each counts for: no more than the default, since nobody has dealt their test examples out
    assert testing["loss"] == pytest.approx(sum((cid + 1) * cid for cid in range(6)) / 21, abs=1e-7)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(1, 10**6)), min_size=1, max_size=20))
def test_figures_in_pieces_add_up_exactly(clients):
    names, total = [figures.EXAMPLES, "loss"], np.zeros(2 * figures.PIECES, np.uint32)
    for value, weight in clients:
        total += figures.to_words({"loss": value, figures.EXAMPLES: weight}, names, weight)
    sums = figures.from_words(total, names, len(clients))
    assert sums[figures.EXAMPLES] == sum(weight for _, weight in clients)
    assert sums["loss"] * 2**24 == float(sum(round(value * 2**24) * weight for value, weight in clients))


def test_a_figure_that_is_not_finite_is_its_clients_failure():
    def diverged(cid, server_round, weights, config):
        answer = train(cid, server_round, weights, config)
        return content(views(answer["arrays"]), EXAMPLES[cid], loss=float("nan" if cid == 1 else 1), accuracy=0.5)

    federation = Federation(work=diverged)
    federation.run()
    assert list(federation.results[0].failures) == [1]
    assert "metric 'loss' is not finite" in federation.results[0].failures[1]


def test_what_lies_beyond_the_clip_range_is_cut_off_and_the_share_of_it_is_said(caplog):
    def far(cid, server_round, weights, config):
        moved = {name: array + np.float32(10 if cid == 2 else 1) for name, array in weights.items()}
        return content(moved, 10, loss=1.0)

    federation = Federation(work=far)
    final = federation.run(dealt=False)
    assert final["w"] == pytest.approx((5 * 1 + 4.0) / 6, abs=1e-5)
    assert federation.rows()[0]["clipped"] == pytest.approx(8 / 48)
    said = [line.getMessage() for line in caplog.records if "cut off" in line.getMessage()]
    assert said[0] == "client 2: 8 of 8 values of its update were cut off at 4 (clip, --mods secure-aggregation)"
    assert said[1].startswith("round 1: 17 % of the values of all updates were cut off at clip=4") and len(said) == 2


def test_whole_numbers_that_training_changes_are_refused():
    start = {"w": START["w"], "n": np.array([3], np.int64)}

    def count(cid, server_round, weights, config):
        return content({"w": weights["w"], "n": weights["n"] + (cid == 1)}, 10, loss=1.0)

    federation = Federation(work=count, start=start)
    final = federation.run(dealt=False)
    assert final["n"] == [3] and final["n"].dtype == np.int64
    assert "'n' holds whole numbers" in federation.results[0].failures[1]


# What reaches the server


def traces(cid, server_round):
    """An update in the encodings in which it might be found: each array, in halves."""
    for name, change in update_of(cid, server_round).items():
        after = START[name] + change if server_round == 1 else change
        levels = (2**31 - 1) // (6 * 60)
        fixed = np.floor(change.astype(np.float64) * (EXAMPLES[cid] * levels / 4.0) + 0.5)
        for values in (change, after, fixed.astype(np.int32), fixed.astype(np.int64), fixed.astype(np.float32)):
            for dtype in {values.dtype, np.dtype("f4"), np.dtype("f8")}:
                for piece in np.array_split(values.reshape(-1), 2):
                    yield piece.astype(dtype).tobytes()


def bytes_of(reply):
    """All that a reply holds, as bytes."""
    found = b""
    for table in reply.content.values():
        if isinstance(table, ArrayRecord):
            found += b"".join(array.data for array in table.values())
        else:
            found += b"".join(v if isinstance(v, bytes) else json.dumps(v).encode() for v in table.values())
    return found


def test_no_byte_that_reaches_the_server_tells_an_update_or_a_figure_of_a_client():
    federation = Federation(faults={("mask", 4): broken, ("unmask", 2): broken})
    federation.run()
    for kind, cid, reply in federation.received[1]:
        if reply.has_error():
            continue
        whole = bytes_of(reply)
        assert not any(piece in whole for piece in traces(cid, 1)), (kind, cid)
        assert "num-examples" not in str(dict(reply.content)) and b"num-examples" not in whole
        fields = {
            "train": {"config"}, "advertise": {wire.KEYS}, "share": {wire.SEALED}, "mask": {"arrays"},
            "unmask": {wire.SELF_MASKS, wire.MASK_KEYS},
        }[kind]  # fmt: skip
        assert set(reply.content) == fields
    # The search finds what is there: the same clients without the mod
    plain = ToyClients(train)
    sent = Message(RecordDict({"arrays": record(START), "config": ConfigRecord({"server-round": 1})}), 1, "train")
    reply = plain(sent, new_context(3, 6, 1, {}, {}))
    assert any(piece in bytes_of(reply) for piece in traces(3, 1))


def test_uploads_are_uniform_over_many_rounds():
    """Chi-square of the bytes of one client's uploads, whose update is the same in each round."""

    def same_always(cid, server_round, weights, config):
        return content({name: array + np.float32(0) for name, array in weights.items()}, 10, loss=0.5, accuracy=0.5)

    federation = Federation(work=same_always, rounds=12, start={"w": np.zeros(400, np.float32)})
    federation.run(dealt=False)
    uploads = [
        views(reply.content["arrays"])[wire.VECTOR]
        for replies in federation.received.values()
        for kind, cid, reply in replies
        if (kind, cid) == ("mask", 2)
    ]
    assert len(uploads) == 12
    counts = np.bincount(np.frombuffer(np.concatenate(uploads).tobytes(), np.uint8), minlength=256)
    expected = counts.sum() / 256
    statistic = float(((counts - expected) ** 2 / expected).sum())
    assert counts.sum() > 20_000 and 150 < statistic < 380, "within some 5 standard deviations of 255"
    assert len({words.tobytes() for words in uploads}) == 12


def test_nothing_of_an_attempt_is_left_in_a_clients_memory_or_goes_into_a_checkpoint_or_a_log(tmp_path, caplog):
    caplog.set_level("DEBUG")
    seen = []

    def noting(message, context, honest):
        reply = honest()
        table = context.state.get("secure-aggregation")
        if table is not None and "session" in table:
            seen.append(table["session"])
        return reply

    phases = [(kind, cid) for kind in ("advertise", "share", "mask") for cid in range(6)]
    federation = Federation(faults=dict.fromkeys(phases, noting), folder=tmp_path)
    state = StrategyState(federation.chain.strategy(registry.load("fedavg")), federation.chain.mods)
    federation.run()
    secrets = {key for data in seen for key in json.loads(data)["secrets"] if key}
    assert len(seen) == 18 and len(secrets) >= 18
    arrays, table = state.snapshot()
    everything = json.dumps(table) + caplog.text + "".join(path.read_text() for path in tmp_path.rglob("*"))
    everything += b"".join(array.tobytes() for array in arrays.values()).hex()
    assert table["not-saved"] == [] and not [key for key in secrets if key in everything]
    assert all(not context.state for context in federation.contexts.values())


# Liars


def liar(kind, change):
    """A client whose reply in a phase is changed by `change(content)`."""

    def fault(message, context, honest):
        reply = honest()
        change(reply.content)
        return reply

    return {(kind, 1): fault}


def put(name, value):
    return lambda content: content.__setitem__(name, value)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("train", put("config", ConfigRecord({wire.FIGURES: "loss"}))),
        ("train", put("config", ConfigRecord({wire.FIGURES: ["#weight"]}))),
        ("train", put("config", MetricRecord({"num-examples": 3}))),
        ("advertise", put(wire.KEYS, ConfigRecord({"1": b"short"}))),
        ("advertise", put(wire.KEYS, ConfigRecord({"2": bytes(96)}))),
        ("advertise", put(wire.KEYS, ConfigRecord({"x": bytes(96)}))),
        ("share", put(wire.SEALED, ConfigRecord({"2": bytes(60)}))),
        ("share", put(wire.SEALED, ConfigRecord({str(cid): b"" for cid in (0, 2, 3, 4, 5)}))),
        ("mask", put("arrays", record({wire.VECTOR: np.zeros(4, np.uint32)}))),
        ("mask", put("arrays", record({wire.VECTOR: np.zeros(44, np.float32)}))),
        ("mask", put("arrays", record({"other": np.zeros(44, np.uint32)}))),
        ("mask", put("arrays", MetricRecord({"a": 1}))),
        ("unmask", put(wire.SELF_MASKS, ConfigRecord({"0": bytes(16)}))),
        ("unmask", put(wire.SELF_MASKS, ConfigRecord({str(cid): b"short" for cid in range(6)}))),
        ("unmask", put(wire.MASK_KEYS, ConfigRecord({"0": 3}))),
    ],
)  # fmt: skip
def test_what_a_client_sends_that_is_none_of_it_is_its_failure_alone(kind, change):
    federation = Federation(faults=liar(kind, change))
    final = federation.run()
    assert list(federation.results[0].failures) == [1]
    summed = [cid for cid in range(6) if cid != 1 or kind == "unmask"]
    clients = 5 if kind == "train" else 6
    assert same(final, added(quantised_mean(summed, 1, clip=4.0, most=60, clients=clients)))


def test_garbage_of_the_right_shape_spoils_a_round_visibly_or_is_within_what_a_client_may_say():
    """Random words in the place of a masked vector: no clients can have sent their sum, and no number is used."""
    rng = np.random.default_rng(1)

    def garbage(content):
        size = views(content["arrays"])[wire.VECTOR].size
        content["arrays"] = record({wire.VECTOR: rng.integers(0, 2**32, size, np.uint32)})

    federation = Federation(faults=liar("mask", garbage), max_retries=0)
    with pytest.raises(RunFailed, match=r"round 1 cannot be aggregated: .*did not keep to the terms"):
        federation.run()


@pytest.mark.parametrize(("word", "by"), [(8, 5), (8, 10_000), (10, 256), (10 + figures.PIECES, -256)])
def test_who_counts_for_more_than_it_says_spoils_the_sum_and_no_number_is_used(word, by):
    """Masks add, and so do lies. Words 0 to 7 are the update, 8 the weight, then figures: weight, examples."""

    def add(content):
        words = views(content["arrays"])[wire.VECTOR].copy()
        words[word] += np.uint32(by % 2**32)
        content["arrays"] = record({wire.VECTOR: words})

    federation = Federation(faults=liar("mask", add), max_retries=0)
    with pytest.raises(RunFailed, match=r"cannot be aggregated: .*(did not keep to the terms|cannot count for)"):
        federation.run()


class Server:
    """A server that says to one client whatever a test wants: the client's half alone, message by message."""

    def __init__(self, mods=MODS, cid=0):
        self.mods, self.cid = mods, cid
        self.context = new_context(cid, 6, 1, {"seed": 5}, {})
        self.toy = ToyClients(train)

    def say(self, kind, values=None, **records):
        config = ConfigRecord({"server-round": 1, wire.ATTEMPT: "a" * 32, **(values or {})})
        content = RecordDict({"arrays": ArrayRecord(), "config": config, **records})
        return make_mods(self.mods).answer(Message(content, node_id_of(self.cid), kind), self.context, self.toy)

    def train(self, attempt="a" * 32):
        return self.say("train", {wire.ATTEMPT: attempt}, arrays=record(START))


def replayed(upto, change=None, cid=0):
    """An honest attempt in which what client `cid` is sent in phase `upto` is changed: its failure, or None."""

    def lying(message, context, honest):
        change(message.content)
        return honest()

    federation = Federation(faults={(upto, cid): lying})
    federation.run()
    return federation.results[0].failures.get(cid)


def survivors(content):
    return content["config"][wire.SURVIVORS]


def test_a_client_refuses_a_server_that_asks_for_both_secrets_of_a_client():
    reason = replayed("unmask", lambda content: content["config"].update({wire.DROPPED: [3]}))
    assert "the server asks for both secrets of client 3" in reason


def test_a_client_refuses_a_sum_of_fewer_clients_than_the_threshold():
    def few(content):
        content["config"][wire.DROPPED] = survivors(content)[2:]
        content["config"][wire.SURVIVORS] = survivors(content)[:2]

    assert "the sum of 2 clients would be opened, and min-clients is 3" in replayed("unmask", few)

    def three(content):
        content["config"][wire.DROPPED] = survivors(content)[3:]
        content["config"][wire.SURVIVORS] = survivors(content)[:3]

    assert "the server asks for a sum of 3 clients" in replayed("unmask", three)


def test_a_client_refuses_to_be_asked_twice_in_one_attempt():
    def twice(message, context, honest):
        first = honest()
        assert not first.has_error()
        return honest()

    for phase in ("advertise", "share", "mask"):
        federation = Federation(faults={(phase, 0): twice})
        federation.run()
        assert "the server asks for" in federation.results[0].failures[0], phase
    federation = Federation(faults={("unmask", 0): twice})
    federation.run()
    assert "is not in this attempt" in federation.results[0].failures[0]


def test_a_client_refuses_other_terms_than_the_runs_and_sums_of_few():
    def terms(**changes):
        def change(content):
            table = json.loads(content["config"][wire.TERMS])
            content["config"][wire.TERMS] = json.dumps({**table, **changes}).encode()

        return change

    assert "this run's --mods say 0.3" in replayed("advertise", terms(max_dropout=0.4))
    assert "shares would open" in replayed("advertise", terms(threshold=2))
    assert "min-clients is 3" in replayed("advertise", terms(cohort=[0, 1], degree=1))
    assert "words, which this client's update is not" in replayed("advertise", terms(length=3))

    def wider(content):
        table = json.loads(content["config"][wire.TERMS])
        table["encoding"]["clip"] = 40.0
        content["config"][wire.TERMS] = json.dumps(table).encode()

    assert "the server's terms are clip=40, and --mods says 4" in replayed("advertise", wider)


def test_a_client_answers_no_question_whose_answer_would_not_be_masked():
    server = Server()
    with pytest.raises(UserError, match=r"answers no 'query.describe'"):
        server.say("query.describe")
    with pytest.raises(UserError, match="would not be masked"):
        server.train(attempt="")


def test_messages_of_another_attempt_are_refused_and_change_nothing():
    server = Server()
    server.train(attempt="a" * 32)
    kept = dict(server.context.state["secure-aggregation"])
    for kind in wire.STEPS:
        with pytest.raises(UserError, match="not in this attempt"):
            server.say(kind, {wire.ATTEMPT: "b" * 32})
    assert dict(server.context.state["secure-aggregation"]) == kept
    server.train(attempt="b" * 32)
    with pytest.raises(UserError, match="not in this attempt"):
        server.say(wire.ADVERTISE, {wire.ATTEMPT: "a" * 32})


def test_a_step_out_of_turn_is_refused():
    server = Server()
    server.train()
    with pytest.raises(UserError, match="before there are terms"):
        server.say(wire.MASK)


# What goes together


class Unknown(Mod):
    """Somebody's own, which may do anything to an update."""


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"mods": "dp:noise-multiplier=1,delta=1e-3; secure-aggregation"}, "must clip each client's update"),
        ({"mods": "secure-aggregation; dp:noise-multiplier=1,delta=1e-3"}, "must clip each client's update"),
        ({"mods": f"secure-aggregation; {__name__}:Unknown"}, "nobody knows what that one tells"),
        ({"num_partitions": 2}, "2 clients train in a round, and a sum is of 3 at least"),
        ({"num_partitions": 30, "fraction_train": 0.1, "mods": "secure-aggregation:min-clients=4"}, "3 clients train"),
        ({"num_partitions": 30, "fraction_evaluate": 0.05}, "see --fraction-evaluate 0"),
        ({"num_partitions": 4, "mods": "secure-aggregation:max-dropout=0.45"}, "may be lost in a secure sum"),
        ({"max_client_weight": 3.0}, "--max-client-weight is for counts that the server sees"),
        ({"client_weights": "known"}, "--client-weights known"),
        ({"class_weight": "balanced"}, "--class-weight balanced"),
        ({"mods": "secure-aggregation:max-examples=10000000"}, "bits a value"),
    ],
)  # fmt: skip
def test_what_tells_of_single_clients_or_cannot_be_summed_is_refused_in_one_line(fields, match):
    config = Config(**{"mods": "secure-aggregation", "num_partitions": 6, **fields})
    with pytest.raises(UserError, match=match) as refused:
        make_mods(config.mods).check(config)
    assert refused.value.status == 2 and "\n" not in str(refused.value)


def test_clients_bring_files_of_their_own_where_nothing_is_learned_from_what_they_describe():
    own = {"mods": "secure-aggregation", "dataset": "mine.csv", "label_column": "y", "partitioner": "own"}
    make_mods("secure-aggregation").check(Config(**own, normaliser="none"))
    for more in ({"normaliser": "zscore"}, {"normaliser": "none", "class_weight": "balanced"}):
        with pytest.raises(UserError, match="--mods secure-aggregation does not go with"):
            make_mods("secure-aggregation").check(Config(**own, **more))


@pytest.mark.parametrize("strategy", ["fedmedian", "krum", "trimmed_mean", "flwr.serverapp.strategy:FedMedian"])
def test_strategies_that_must_see_each_update_are_refused(strategy):
    with pytest.raises(UserError, match="must see each client's update"):
        make_mods("secure-aggregation").strategy(registry.load(strategy))


def test_split_and_collected_training_are_refused():
    with pytest.raises(UserError, match="is for federated rounds"):
        make_mods("secure-aggregation").check(Config(mods="secure-aggregation"), sends_updates=False)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ("max-dropout=0.5", "max-dropout"),
        ("clip=0", "clip must be a number above 0"),
        ("min-clients=2", "min-clients must be a whole number, 3 at least"),
        ("study=1", "study must be true or false"),
        ("max-examples=1.5", "max-examples must be a whole number"),
        ("phase-timeout=-1", "phase-timeout must be"),
    ],
)
def test_options_that_are_none_are_said(options, match):
    with pytest.raises(UserError, match=match):
        make_mods(f"secure-aggregation:{options}")


def test_simulated_stragglers_are_dropped_before_the_sum_on_either_side():
    for mods in (f"stragglers:share=0.5,drop=true; {MODS}", f"{MODS}; stragglers:share=0.5,drop=true"):
        federation = Federation(mods=mods)
        federation.mod = next(mod for mod in federation.chain.mods if hasattr(mod, "journal_path"))
        final = federation.run()
        [result] = federation.results
        assert len(result.failures) == 3 and all("straggler" in reason for reason in result.failures.values())
        kept = [cid for cid in range(6) if cid not in result.failures]
        clients = 3
        assert same(final, added(quantised_mean(kept, 1, clip=4.0, most=60, clients=clients)))


def test_a_study_is_repeatable_to_the_keys_and_its_model_is_the_same_with_secret_ones():
    runs = [Federation(mods=f"{MODS},study=true"), Federation(mods=f"{MODS},study=true"), Federation()]
    finals = [federation.run() for federation in runs]
    assert same(finals[0], finals[1]) and same(finals[0], finals[2])
    sent = [
        {(kind, cid): bytes_of(reply) for kind, cid, reply in federation.received[1] if kind in ("advertise", "mask")}
        for federation in runs
    ]
    assert sent[0] == sent[1] and not set(sent[0].values()) & set(sent[2].values())


def test_a_resumed_server_goes_on_with_what_it_noted(tmp_path):
    first = Federation(rounds=2, folder=tmp_path)
    state = StrategyState(first.chain.strategy(registry.load("fedavg")), first.chain.mods)
    first.run()
    arrays, table = state.snapshot()
    again = Federation(rounds=2, folder=tmp_path)
    StrategyState(again.chain.strategy(registry.load("fedavg")), again.chain.mods).restore(
        arrays, json.loads(json.dumps(table))
    )
    assert again.mod.entries == first.mod.entries and len(again.mod.entries) == 2
    assert again.mod.most == first.mod.most


def test_who_goes_on_after_a_kill_knows_which_sums_were_opened_and_opens_no_other(tmp_path, caplog):
    """The first process was killed after the sum of round 1, before its checkpoint."""
    Federation(folder=tmp_path).run()
    assert "was opened before this run ended" not in caplog.text
    Federation(folder=tmp_path).run()
    assert "a secure sum of round 1 was opened before this run ended" in caplog.text
    other = Federation(folder=tmp_path, faults={("mask", 0): broken}, max_retries=0)
    with pytest.raises(RunFailed, match="of which other clients are part"):
        other.run()
    assert opened(other) == []


def test_a_sum_is_not_opened_if_that_cannot_be_noted(tmp_path):
    (tmp_path / "secure_sums_opened.jsonl").mkdir()
    federation = Federation(folder=tmp_path, max_retries=0)
    with pytest.raises(RunFailed, match="cannot be written"):
        federation.run()
    assert opened(federation) == []


def test_of_a_rounds_openings_those_after_the_checkpoint_count(tmp_path):
    path = tmp_path / "opened"
    first = Openings(path)
    for server_round, clients in ((1, {0, 1, 2}), (2, {0, 1, 2}), (2, {0, 1, 2, 3, 4, 5})):
        first.note(server_round, frozenset(clients))
    with path.open("a") as file:
        file.write('{"round": 3, "cli')
    again = Openings(path, done=1)
    assert again.rounds == [2] and again.of(1) == ()
    assert again.of(2) == (frozenset({0, 1, 2}), frozenset(range(6)))


def test_three_sums_of_a_round_are_no_way_round_the_rule():
    """{a, b, c}, {d, e, f} and all seven differ by three and more each, and the third less the others is one client."""
    plan = SimpleNamespace(before=(frozenset({0, 1, 2}), frozenset({3, 4, 5})), least=3)
    attempt = SumAttempt.__new__(SumAttempt)
    attempt._plan = plan
    attempt._require_no_difference(frozenset({3, 4, 5}))
    with pytest.raises(TooFew):
        attempt._require_no_difference(frozenset(range(7)))


def test_who_tested_is_not_blamed_where_too_few_did():
    """The stand-in of an evaluation holds no model: it would be too large for the reply to one."""
    sent = Message(RecordDict({"arrays": record(START), "config": ConfigRecord()}), 2, "evaluate")
    attempt = SumAttempt.__new__(SumAttempt)
    attempt._sent = {0: sent}
    for kind, arrays in (("evaluate", []), ("train", ["arrays"])):
        attempt._plan = SimpleNamespace(kind=kind)
        content = attempt._stand_in(0, 5).content
        assert [name for name, each in content.items() if isinstance(each, ArrayRecord)] == arrays


def test_an_evaluation_that_has_diverged_is_a_row_of_its_own(monkeypatch):
    monkeypatch.setattr(
        toy_secure_sum, "evaluate", lambda cid, *_: toy_secure_sum.content(None, cid + 1, loss=float("nan"))
    )
    federation = Federation(fraction_evaluate=1.0)
    federation.run()
    [row] = [row for row in federation.rows() if (row["phase"], row["client"]) == ("evaluate", "all")]
    assert math.isnan(row["loss"])


def test_a_lie_in_a_spoiled_sum_is_nobody_elses_failure_and_in_no_table(tmp_path):
    """Word 10 + PIECES begins the numbers of examples: one client adds 2^48 of them."""

    def add(content):
        words = views(content["arrays"])[wire.VECTOR].copy()
        words[10 + figures.PIECES + 5] += np.uint32(256)
        content["arrays"] = record({wire.VECTOR: words})

    federation = Federation(faults=liar("mask", add), folder=tmp_path, max_retries=0)
    with pytest.raises(RunFailed, match="did not keep to the terms"):
        federation.run()
    [entry] = journal.read(tmp_path / journal.NAME)
    assert (entry.summed, entry.clipped, dict(entry.lost)["mask"]) == (0, 0.0, 0)


def test_a_loss_of_millions_squared_is_added_up_and_one_beyond_is_not_told():
    [name] = ["loss"]
    words = figures.to_words({name: 1e13}, [name], 1000)
    assert figures.from_words(words, [name], 1)[name] == 1e16
    with pytest.raises(ValueError, match=r"metric 'loss' is beyond 4\.6e\+18, the most that can be added up$"):
        figures.to_words({name: 7.77e20}, [name], 1)


def test_what_the_server_saw_are_sums():
    config = Config(mods="secure-aggregation", num_partitions=6)
    chain = make_mods(config.mods)
    sight = chain.server_saw(workflow_of(config).server_saw(config), config)
    assert {name: sight[name].whose for name in (UPDATE, FIGURES, COUNTS)} == dict.fromkeys(
        (UPDATE, FIGURES, COUNTS), SUM
    )
    assert "dealt them out" in sight[COUNTS].protection and "masked" in sight[UPDATE].protection
    open_book = make_mods("secure-aggregation:study=true").server_saw(sight, config)
    assert "came from the seed" in open_book[UPDATE].protection
