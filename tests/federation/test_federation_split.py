"""The messages of split learning, without Keras: their order, their bytes, and what becomes of bad ones."""

import numpy as np
import pytest
from bare_runs import run_split
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from toy_federation import Silent, configure, floats

from fedkeras.errors import RunFailed
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.grids import IDENTIFY, CohortGrid
from fedkeras.federation.records import payload, record, view
from fedkeras.federation.sampling import FailureTracker
from fedkeras.runtime.in_process import InProcessGrid
from fedkeras.workflows.split.client_pass import schedule

START = floats(m1=[1.0], m2=[10.0], m3=[100.0])
ONE = 128 + 4
"""Bytes of an array of one float32, with its header."""


class ToyMiddle:
    """M2 is one number: each U adds the gradient to it. Replicas as in the real one."""

    names = frozenset({"m2"})
    example_bytes = None

    def __init__(self):
        self.log = []

    def start(self, weights):
        self.value, self.own = float(weights["m2"][0]), {}

    def begin(self, cid, server_round, replica):
        if replica:
            self.own[cid] = self.value

    def forward(self, cid, batch, content, examples):
        self.log.append((f"F{batch}", cid))
        if "batch" not in content or view(content["batch"]["x"]).shape != (examples,):
            raise ValueError(f"batch {batch} is not of {examples} examples")
        return RecordDict({"batch": record(floats(x=[0.0]))}), 0.0

    def backward(self, cid, batch, content):
        self.log.append((f"U{batch}", cid))
        self.due = cid, float(view(content["batch"]["x"])[0])
        return RecordDict({"batch": record(floats(x=[0.0]))})

    def update(self):
        cid, gradient = self.due
        if cid in self.own:
            self.own[cid] += gradient
        self.value += 0.0 if cid in self.own else gradient

    def test(self, batch, content, examples):
        return RecordDict({"batch": record(floats(x=[0.0]))}), 0.0

    def weights(self, replica=None):
        return floats(m2=[self.value if replica is None else self.own[replica]])

    def state(self):
        return self.value

    def restore(self, state):
        self.value = state


class ToyClients:
    """Client N has N + 1 batches of two examples, adds 1 to m1 and m3 in all, and its gradients are N + 1 each.

    `spoil(cid, action, batch, content)` may change a reply or raise.
    """

    def __init__(self, spoil=lambda cid, action, batch, content: content):
        self.spoil, self.log, self.weights, self.in_flight = spoil, [], {}, 0

    def __call__(self, message, context):
        cid, action = (
            int(context.node_config["partition-id"]),
            message.metadata.message_type.removeprefix("query.split_"),
        )
        sent = message.content["config"]
        if message.metadata.message_type == IDENTIFY:
            return Message(RecordDict({"config": ConfigRecord({"partition-id": cid})}), reply_to=message)
        batch, count = sent.get("batch", -1), cid + 1
        self.log.append((action, batch, cid))
        metrics = MetricRecord({"num-examples": 2 * count, "loss": float(cid)})
        if action in ("start", "test"):
            self.weights[cid] = {name: view(array) + 1 for name, array in message.content["weights"].items()}
            self.in_flight = sent.get("in-flight", self.in_flight)
            content = RecordDict({"batch": record(floats(x=[0.0, 0.0])), "metrics": metrics})
        elif action == "loss":
            content = RecordDict({"batch": record(floats(x=[count]))})
        elif action == "backward" and batch == count - 1:
            content = RecordDict({"weights": record(self.weights[cid]), "metrics": metrics})
        elif action == "backward":
            content = RecordDict({"batch": record(floats(x=[0.0, 0.0]))})
        else:
            content = RecordDict({"metrics": metrics})
        return Message(self.spoil(cid, action, batch, content), reply_to=message)


def run(clients, grid=None, middle=None, failures=None, **fields):
    config = configure(**{"batch_size": 2, "max_retries": 0, "split": "shared", **fields})
    grid, outcomes = grid or InProcessGrid(clients, 3, {}), []
    middle = middle or ToyMiddle()
    final = run_split(
        grid, ClientManager(grid, config), record(START), config, middle, callbacks=[outcomes.append], failures=failures
    )
    return {name: float(view(array)[0]) for name, array in final.items()}, outcomes, middle


def test_the_order_of_steps():
    end = ("END", 2)
    assert list(schedule(3, 1)) == [("F", 0), ("U", 0), ("F", 1), ("U", 1), ("F", 2), ("U", 2), end]
    assert list(schedule(3, 2)) == [("F", 0), ("F", 1), ("U", 0), ("F", 2), ("U", 1), ("U", 2), end]
    assert list(schedule(1, 3)) == [("F", 0), ("U", 0), ("END", 0)]


# By hand: client N gives N + 1 gradients of N + 1, so 1, 4 and 9; examples are 2, 4 and 6.


def test_shared_by_hand():
    final, [outcome], middle = run(ToyClients())
    assert final == {"m1": 2.0, "m2": 10.0 + 14.0, "m3": 101.0}
    assert middle.log == [
        ("F0", 0), ("F0", 1), ("F0", 2), ("U0", 0), ("U0", 1), ("U0", 2),
        ("F1", 1), ("F1", 2), ("U1", 1), ("U1", 2), ("F2", 2), ("U2", 2),
    ]  # fmt: skip
    assert (outcome.asked, outcome.answered, outcome.failures) == (3, 3, {})


def test_splitfed_by_hand():
    final, _, _ = run(ToyClients(), split="splitfed")
    assert final["m2"] == pytest.approx(10 + (2 * 1 + 4 * 4 + 6 * 9) / 12)
    assert (final["m1"], final["m3"]) == (2.0, 101.0)


def test_sequential_by_hand():
    final, _, middle = run(ToyClients(), split="sequential")
    assert final == {"m1": 4.0, "m2": 24.0, "m3": 103.0}  # three turns, each after the other
    assert [cid for _, cid in middle.log] == [0] * 2 + [1] * 4 + [2] * 6


def test_bytes_by_hand():
    """Client N: weights (2 arrays) both ways; for each of N + 1 batches activations (of two) and a gradient up, and an
    output and a gradient down."""
    _, [outcome], _ = run(ToyClients())
    rows = {(row["phase"], row["client"]): (row["bytes_up"], row["bytes_down"]) for row in outcome.rows}
    for cid in range(3):
        batches = cid + 1
        assert rows["train", str(cid)] == (2 * ONE + batches * (ONE + 4 + ONE), 2 * ONE + batches * 2 * ONE)
        assert rows["evaluate", str(cid)] == (ONE + 4, 2 * ONE + ONE)
    for phase in ("train", "evaluate"):
        assert rows[phase, "all"] == tuple(sum(rows[phase, str(cid)][i] for cid in range(3)) for i in (0, 1))
    assert payload(RecordDict({"a": record(floats(x=[1.0])), "c": ConfigRecord({"b": b"12"})})) == ONE


# What clients do wrong


def spoiling(victim, action, change, batch=None):
    def spoil(cid, which, number, content):
        return change(content) if (cid, which) == (victim, action) and batch in (None, number) else content

    return spoil


def raising(_):
    raise RuntimeError("broken")


def with_weights(**values):
    def change(content):
        if "weights" in content:
            content["weights"] = record(floats(**values))
        return content

    return change


def with_examples(count):
    def change(content):
        if "metrics" in content:
            content["metrics"] = MetricRecord({"num-examples": count})
        return content

    return change


def with_metric(name):
    def change(content):
        if "metrics" in content:
            content["metrics"] = MetricRecord({**content["metrics"], name: 1.0})
        return content

    return change


SPOILED = {
    "an exception at the start": ("start", raising, "broken"),
    "an exception later": ("backward", raising, "broken"),
    "too few activations": ("start", lambda c: RecordDict({**c, "batch": record(floats(x=[1.0]))}), "of 2 examples"),
    "no count of examples": ("start", lambda c: RecordDict({"batch": c["batch"]}), "0 metric records"),
    "no examples": ("start", with_examples(0), "says it has 0 examples"),
    "examples without an end": ("start", with_examples(10**12), "batch 2 is not of 2 examples"),
    "other examples at the end": ("backward", with_examples(40), "had 4 examples and has 40 at the end"),
    "a metric in the place of a column": ("backward", with_metric("bytes-up"), "the name of a column of history.csv"),
    "other weights": ("backward", with_weights(m1=[1.0], m2=[1.0]), "other arrays than it was given"),
    "weights of another shape": ("backward", with_weights(m1=[1.0, 2.0], m3=[1.0]), "'m1' is float32[2]"),
    "weights that are not finite": ("backward", with_weights(m1=[np.nan], m3=[1.0]), "not finite"),
}


@pytest.mark.parametrize("mode", ["sequential", "splitfed", "shared"])
@pytest.mark.parametrize("name", SPOILED)
def test_a_bad_reply_is_that_clients_failure(name, mode):
    action, change, why = SPOILED[name]
    failures = FailureTracker(configure())
    final, [outcome], _ = run(ToyClients(spoiling(1, action, change)), split=mode, failures=failures)
    assert list(outcome.failures) == [1] and why in outcome.failures[1]
    trained = [row["client"] for row in outcome.rows if row["phase"] == "train"]
    assert trained == ["0", "2", "all"]
    assert (outcome.asked, outcome.answered) == (3, 2)
    assert failures.table()["train"] == {"1": {"failed": 1, "until": 0}}
    assert final["m1"] == (3.0 if mode == "sequential" else 2.0)
    if mode == "sequential":
        assert final["m2"] == 10 + 1 + 9, "what client 1 did to M2 is undone"
    if mode == "splitfed":
        assert final["m2"] == pytest.approx(10 + (2 * 1 + 6 * 9) / 8)


@pytest.mark.parametrize("change", [raising, with_examples(3), with_examples(0)])
def test_who_cannot_evaluate_has_trained_all_the_same(change):
    _, [outcome], _ = run(ToyClients(spoiling(2, "score", change)))
    assert list(outcome.failures) == [2]
    rows = [(row["phase"], row["client"]) for row in outcome.rows]
    assert ("train", "2") in rows and ("evaluate", "2") not in rows
    assert ("evaluate", "1") in rows


class OneByOne(Silent):
    """Its ids come in the order of the messages, as on every real grid."""

    def push_messages(self, messages):
        return [message_id for message in messages for message_id in super(OneByOne, self).push_messages([message])]


@pytest.mark.parametrize("mode", ["sequential", "splitfed", "shared"])
def test_who_never_answers_is_late(mode):
    clients = ToyClients()
    grid = OneByOne(clients, 3, [1])
    _, [outcome], _ = run(clients, grid, split=mode, round_timeout=0.3, fraction_evaluate=0.0)
    assert outcome.failures == {1: "no answer within 0.3 s (--round-timeout)"}
    assert [row["client"] for row in outcome.rows] == ["0", "2", "all"]


def test_too_few_answers_repeat_the_round_from_where_it_began():
    tries = []

    def spoil(cid, action, batch, content):
        if action == "backward" and cid == 2 and batch == 1:
            tries.append(1)
            if len(tries) == 1:
                raise RuntimeError("broken once")
        return content

    undisturbed, _, _ = run(ToyClients())
    final, [outcome], _ = run(ToyClients(spoil), min_results=3, max_retries=1)
    assert (final, outcome.failures) == (undisturbed, {})
    with pytest.raises(RunFailed, match=r"round 1 got 2 of at least 3 answers .* client 1: .*broken"):
        run(ToyClients(spoiling(1, "loss", raising)), min_results=3, max_retries=1)


def test_nobody_answers_well():
    with pytest.raises(RunFailed, match="got 0 of at least 1 answers"):
        run(ToyClients(lambda *_: raising(0)))


def test_weights_that_cannot_go_on_end_the_run():
    class Diverging(ToyMiddle):
        def weights(self, replica=None):
            return floats(m2=[np.inf])

    with pytest.raises(RunFailed, match=r"cannot go on: 'm2' has numbers that are not finite"):
        run(ToyClients(), middle=Diverging())


def test_in_flight_is_what_clients_are_told_and_one_under_flowers_grids(caplog):
    clients = ToyClients()
    own = InProcessGrid(clients, 3, {})
    grid = CohortGrid(own, list(own.get_node_ids()))
    run(clients, grid, in_flight=2)
    assert clients.in_flight == 1
    assert "--in-flight 2 is 1 here" in caplog.text
    run(clients, in_flight=2)
    assert clients.in_flight == 2
