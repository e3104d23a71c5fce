"""Nothing is trusted because it arrived: a bad reply is that client's failure, named, and the round goes on."""

import pickle
import warnings

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as some
from toy_federation import ToyClients, content, federate, floats, npy, npy_header, raw_array, reply

from fedkeras import strategies
from fedkeras.federation.records import record, view
from fedkeras.federation.validation import fault_of_arrays, fault_of_evaluate, fault_of_train

START = floats(w=[[0, 0, 0], [0, 0, 0]], b=[0, 0])
GOOD = floats(w=[[1, 1, 1], [1, 1, 1]], b=[1, 1])
W = GOOD["w"]


def arrays(**odd):
    """The good arrays, some replaced."""
    return ArrayRecord({**record(GOOD), **{name: odd[name] for name in odd}})


def with_w(array):
    return lambda: content(arrays(w=array if isinstance(array, Array) else Array(array)))


def with_metrics(**metrics):
    return lambda: RecordDict({"arrays": record(GOOD), "metrics": MetricRecord(metrics)})


def examples(count):
    return with_metrics(**{"num-examples": count})


def with_value(value):
    array = W.copy()
    array[1, 2] = value
    return with_w(array)


def raises(text="the client's own bug"):
    raise ZeroDivisionError(text)


def two_array_records():
    return RecordDict({**content(GOOD), "more": record(GOOD)})


def two_metric_records():
    return RecordDict({**content(GOOD), "more": MetricRecord({"num-examples": 1})})


class Bomb:
    """A pickle that would set a flag in this process if anybody loaded it."""

    exploded = False

    def __reduce__(self):
        return setattr, (Bomb, "exploded", True)


def pickled(dtype="float32"):
    return with_w(raw_array(dtype, (2, 3), npy(np.array([[Bomb()] * 3] * 2, object), allow_pickle=True)))


def header(text, shape=(2, 3)):
    return with_w(raw_array("float32", shape, npy_header(text) + W.tobytes()))


BAD = {
    "a NaN": (with_value(np.nan), "'w' has numbers that are not finite"),
    "plus infinity": (with_value(np.inf), "'w' has numbers that are not finite"),
    "minus infinity": (with_value(-np.inf), "'w' has numbers that are not finite"),
    "a name too few": (lambda: content({"w": W}), "other arrays than it was given: b"),
    "a name too many": (lambda: content({**GOOD, "x": W}), "other arrays than it was given: x"),
    "another name": (lambda: content({"w": W, "c": GOOD["b"]}), "other arrays than it was given: b, c"),
    "no arrays": (lambda: content({}), "other arrays than it was given: b, w"),
    "transposed": (with_w(W.T.copy()), r"'w' is float32[3, 2], not float32[2, 3]"),
    "flat": (with_w(W.ravel()), r"'w' is float32[6], not float32[2, 3]"),
    "float64": (with_w(W.astype(np.float64)), r"'w' is float64[2, 3], not float32[2, 3]"),
    "int32": (with_w(W.astype(np.int32)), r"'w' is int32[2, 3], not float32[2, 3]"),
    "the other byte order": (with_w(W.astype(">f4")), r"'w' is >f4[2, 3], not float32[2, 3]"),
    "bytes cut off": (with_w(raw_array("float32", (2, 3), npy(W)[:-4])), "has 20 bytes, not 24"),
    "bytes to spare": (with_w(raw_array("float32", (2, 3), npy(W) + b"tail")), "has 28 bytes, not 24"),
    "no bytes": (with_w(raw_array("float32", (2, 3), b"")), "'w' cannot be read"),
    "no .npy": (with_w(raw_array("float32", (2, 3), b"\0" * 200)), "'w' cannot be read"),
    "a label that lies about the shape": (
        with_w(raw_array("float32", (2, 3), npy(W.ravel()))),
        r"'w' cannot be read: says float32[2, 3] and holds float32[6]",
    ),
    "a label that lies about the dtype": (
        with_w(raw_array("float32", (2, 3), npy(W.astype(np.int32)))),
        r"says float32[2, 3] and holds int32[2, 3]",
    ),
    "another serialisation": (with_w(Array("float32", (2, 3), "torch", npy(W))), "serialised as 'torch'"),
    "pickled objects": (pickled(), "holds Python objects"),
    "pickled objects that say so": (pickled("object"), "'w' is object[2, 3]"),
    "a bare pickle": (with_w(raw_array("float32", (2, 3), pickle.dumps(Bomb()))), "'w' cannot be read"),
    "a header of brackets": (header("(" * 300), "'w' cannot be read: has no .npy header"),
    "a header of minus signs": (header("-" * 9000 + "1"), "'w' cannot be read: has no .npy header"),
    "a header without end": (header("'''"), "'w' cannot be read: has no .npy header"),
    "a header of mixed keys": (header("{1: 2, 'a': 3}"), "'w' cannot be read: has no .npy header"),
    "an empty dtype": (
        header("{'descr': (), 'fortran_order': False, 'shape': (2, 3)}"),
        "'w' cannot be read: has no .npy header",
    ),
    "a negative shape": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -3)}", (-2, -3)),
        r"'w' is float32[-2, -3], not float32[2, 3]",
    ),
    "an enormous shape": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, 9223372036854775807)}"),
        "'w' cannot be read: says",
    ),
    "zero examples": (examples(0), "says it has 0 examples"),
    "negative examples": (examples(-5), "says it has -5 examples"),
    "half an example": (examples(2.5), "says it has 2.5 examples"),
    "NaN examples": (examples(float("nan")), "says it has nan examples"),
    "infinitely many examples": (examples(float("inf")), "says it has inf examples"),
    "a million million examples and one": (examples(10**12 + 1), "says it has 1000000000001 examples"),
    "1e300 examples": (examples(1e300), "says it has 1e+300 examples"),
    "true examples": (examples(True), "TypeError"),  # Flower's MetricRecord refuses it on the client
    "a list of examples": (examples([1, 2]), "says it has [1, 2] examples"),
    "no examples": (with_metrics(loss=1.0), "says it has None examples"),
    "a list metric": (with_metrics(**{"num-examples": 1, "loss": [1.0, 2.0]}), "metric 'loss' is a list"),
    "a NaN metric": (with_metrics(**{"num-examples": 1, "loss": float("nan")}), "metric 'loss' is not finite"),
    "a metric too large for a float": (with_metrics(**{"num-examples": 1, "loss": 10**400}), "metric 'loss' is not"),
    "a metric named as a column": (with_metrics(**{"num-examples": 1, "client": 7}), "'client' has the name of a col"),
    "a second count": (with_metrics(**{"num-examples": 1, "num_examples": 9}), "'num_examples' has the name of a col"),
    "a hundred and one metrics": (
        with_metrics(**{"num-examples": 1, **{f"m{n}": 0.5 for n in range(100)}}),
        "sent 101 metrics, more than 100",
    ),
    "a name of 101 characters": (
        with_metrics(**{"num-examples": 1, "m" * 101: 0.5}),
        f"the name of metric '{'m' * 100}' is longer than 100 characters",
    ),
    "a name of two lines": (with_metrics(**{"num-examples": 1, "m\n0": 0.5}), r"metric 'm\n0' is longer than 100"),
    "examples of 5000 digits": (examples(10**5000), "says it has far too many examples"),
    "a million examples": (with_metrics(**{"num-examples": [1] * 10**6}), "says it has [1, 1, 1"),
    "a huge array name": (lambda: content({**GOOD, "x" * 10**6: W}), "other arrays than it was given: xxx"),
    "a long story": (lambda: raises("word " * 10**5), "ZeroDivisionError: word word"),
    "a coloured story": (lambda: raises("\x1b[31mred\u202e"), "ZeroDivisionError: red"),
    "two array records": (two_array_records, "sent 2 array records, not one"),
    "two metric records": (two_metric_records, "sent 2 metric records, not one"),
    "no metrics": (lambda: RecordDict({"arrays": record(GOOD)}), "sent 0 metric records"),
    "nothing": (RecordDict, "sent 0 metric records"),
    "metrics only": (lambda: content(None), "sent 0 array records"),
    "an exception": (raises, "ZeroDivisionError: the client's own bug"),
    "no content": (lambda: None, "MessageInitializationError"),
}


def run_with_a_bad_client_1(spec, bad):
    def train(cid, server_round, weights, config):
        if cid == 1:
            return bad()
        return content(floats(w=[[cid] * 3] * 2, b=[cid, cid]), cid + 1, loss=1.0)

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        return federate(strategies.load(spec), ToyClients(train), START)


@pytest.mark.parametrize("spec", ["fedavg", "flwr.serverapp.strategy:FedAdam"])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_reply_is_that_clients_failure(name, spec):
    """Ours, and a strategy of Flower's, which would give up the whole round. The mean is (1*0 + 3*2) / 4."""
    bad, reason = BAD[name]
    final, [outcome] = run_with_a_bad_client_1(spec, bad)
    assert list(outcome.failures) == [1]
    assert reason in outcome.failures[1]
    assert outcome.failures[1].isprintable()
    assert len(outcome.failures[1]) <= 500
    assert (outcome.asked, outcome.answered) == (3, 2)
    assert [line["client"] for line in outcome.rows if line["phase"] == "train"] == ["0", "2", "all"]
    assert not Bomb.exploded
    if spec == "fedavg":
        np.testing.assert_array_equal(final["w"], np.full((2, 3), 1.5))


def test_the_bomb_would_explode():
    """Otherwise its silence would prove nothing."""
    try:
        pickle.loads(pickle.dumps(Bomb()))
        assert Bomb.exploded
    finally:
        Bomb.exploded = False


@pytest.mark.parametrize("count", [1, 5.0, 10**12])
def test_counts_that_are_counts_are_taken(count):
    assert fault_of_train(reply(0, content(GOOD, count, loss=0.5)), record(START)) is None


def test_a_bool_is_no_count_even_if_it_gets_past_flower():
    metrics = MetricRecord({"num-examples": 1})
    metrics._data["num-examples"] = True
    message = reply(0, RecordDict({"arrays": record(GOOD), "metrics": metrics}))
    assert metrics["num-examples"] is True
    assert fault_of_train(message, record(START)) == "says it has True examples"


def test_a_hundred_metrics_with_names_of_a_hundred_characters_are_taken():
    many = {f"{n:0100d}": 0.5 for n in range(99)}
    assert fault_of_train(reply(0, content(GOOD, 1, **many)), record(START)) is None


@pytest.mark.parametrize("value", [1.7e308, -1e291])
@pytest.mark.parametrize("spec", ["fedavg", "fedmedian", "krum", "fedadam"])
def test_float64_numbers_whose_sum_would_overflow_are_that_clients_failure(spec, value):
    """1e308 times the number of examples is no float64: the mean of all would be infinite."""

    def train(cid, server_round, weights, config):
        return content({"w": np.array([value if cid == 1 else cid, 1.0])}, 100, loss=1.0)

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        start = {"w": np.zeros(2)}
        final, [outcome] = federate(strategies.load(spec), ToyClients(train), start, num_partitions=5)
    assert outcome.failures == {1: "'w' has numbers beyond 1e+290 (a smaller learning rate may help)"}
    if spec == "fedavg":
        assert final["w"].tolist() == [(0 + 2 + 3 + 4) / 4, 1.0]


def test_the_largest_float64_numbers_that_are_taken_have_a_mean():
    """Ten clients at the bound, each with as many examples as can be."""

    def train(cid, server_round, weights, config):
        return content({"w": np.array([1e290])}, 10**12, loss=1.0)

    final, [outcome] = federate(strategies.load("fedavg"), ToyClients(train), {"w": np.zeros(1)}, num_partitions=10)
    assert outcome.failures == {}
    assert final["w"][0] == pytest.approx(1e290)


@pytest.mark.parametrize("reason", ["the client's own words", "", "\n\x00"])
def test_an_error_reply_is_a_failure_in_its_own_words(reason):
    question = reply(0, RecordDict())
    fault = fault_of_evaluate(Message(Error(7, reason), reply_to=question))
    assert fault == (reason.strip("\n\x00") or "error 7")


def test_a_bad_evaluate_reply_is_a_failure_and_the_others_are_averaged():
    """(1*0 + 3*2) / 4, without client 1."""

    def evaluate(cid, server_round, weights, config):
        return content(None, cid + 1, loss=float("inf") if cid == 1 else float(cid))

    _, [outcome] = federate(strategies.load("fedavg"), ToyClients(evaluate=evaluate), START)
    assert outcome.failures == {1: "metric 'loss' is not finite"}
    assert outcome.answered == 3  # answers to train
    [mean] = [line for line in outcome.rows if (line["phase"], line["client"]) == ("evaluate", "all")]
    assert (mean["num_examples"], mean["loss"]) == (4, 1.5)


FLOWERS = [f"flwr.serverapp.strategy:{name}" for name in ("FedAvgM", "FedAdam", "FedYogi", "FedAdagrad", "FedMedian")]


@pytest.mark.parametrize("odd", [0, 2])
@pytest.mark.parametrize("spec", ["fedavg", "fedmedian", "fedadam", *FLOWERS])
class TestOddButHarmless:
    """A client with one more metric or other record names is no liar, and no reason to fail the others or the round."""

    def outcome(self, spec, odd, answer):
        def train(cid, server_round, weights, config):
            weights = floats(w=[[4] * 3] * 2, b=[4, 4])
            return answer(weights) if cid == odd else content(weights, 1, loss=1.0)

        args = {"server_momentum": 0.9} if spec.endswith("FedAvgM") else {}  # without it Flower's is plain FedAvg
        final, [outcome] = federate(strategies.load(spec, args), ToyClients(train), START)
        assert outcome.failures == {}
        assert outcome.answered == 3
        return final, outcome

    def test_other_metrics(self, spec, odd):
        """The mean of a metric is over those who report it; under a median the figures' median is taken."""
        _, outcome = self.outcome(spec, odd, lambda weights: content(weights, 1, loss=4.0, auc=0.5))
        rows = {line["client"]: line for line in outcome.rows if line["phase"] == "train"}
        assert {client: line.get("auc") for client, line in rows.items()} == {
            client: 0.5 if client in (str(odd), "all") else None for client in ("0", "1", "2", "all")
        }
        assert rows["all"]["loss"] == (1.0 if "median" in spec.lower() else 2.0)

    def test_no_metrics_in_common(self, spec, odd):
        _, outcome = self.outcome(spec, odd, lambda weights: content(weights, 1, auc=0.5))
        [mean] = [line for line in outcome.rows if (line["phase"], line["client"]) == ("train", "all")]
        assert (mean["loss"], mean["auc"]) == (1.0, 0.5)

    def test_other_record_names(self, spec, odd):
        """Even swapped ones."""

        def swapped(weights):
            return RecordDict({"arrays": MetricRecord({"num-examples": 1, "loss": 1.0}), "metrics": record(weights)})

        self.outcome(spec, odd, swapped)

    def test_arrays_in_another_order(self, spec, odd):
        """FedAvgM tells arrays apart by position: shapes would not fit, or worse, would."""
        final, _ = self.outcome(spec, odd, lambda weights: content(dict(reversed(weights.items())), 1, loss=1.0))
        assert list(final) == ["w", "b"]
        assert final["w"].shape == (2, 3)


def test_a_liar_with_one_more_metric_cannot_make_the_honest_fail():
    """It was so once: whoever has the lowest cid decided which metrics are right, and a median of one is no median."""

    def train(cid, server_round, weights, config):
        if cid == 0:
            return content(floats(w=[[1e9] * 3] * 2, b=[1e9, 1e9]), 1, loss=0.0, x=1.0)
        return content(GOOD, 1, loss=0.0)

    final, [outcome] = federate(strategies.load("fedmedian"), ToyClients(train), START)
    assert outcome.failures == {}
    np.testing.assert_array_equal(final["w"], W)


@settings(max_examples=150, deadline=None)
@given(some.binary(max_size=120))
def test_any_bytes_are_read_or_refused(data):
    """`view` raises ValueError and nothing else: anything else would end the run."""
    for candidate in (data, npy(W)[: len(data)] + data, b"\x93NUMPY\x01\x00" + len(data).to_bytes(2, "little") + data):
        try:
            view(raw_array("float32", (2, 3), candidate))
        except ValueError:
            continue


@settings(max_examples=150, deadline=None)
@given(some.text("{}()[]'\",:<f4aT= \n-0123", max_size=80))
def test_any_header_is_read_or_refused(text):
    like = record({"w": W})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fault = fault_of_arrays(ArrayRecord({"w": raw_array("float32", (2, 3), npy_header(text) + W.tobytes())}), like)
    assert fault.startswith("'w' cannot be read: ")


def test_a_view_is_no_copy_and_cannot_be_written():
    array = Array(np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    seen = view(array)
    np.testing.assert_array_equal(seen, [[0, 1, 2], [3, 4, 5]])
    assert not seen.flags.writeable
    assert not seen.flags.owndata
