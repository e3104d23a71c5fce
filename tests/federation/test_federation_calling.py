"""A strategy that anybody may have written: whatever it raises or returns, the run ends with one line."""

import re
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict
from toy_federation import ToyClients, federate, floats

from fedkeras.errors import RunFailed, UserError
from fedkeras.federation.records import record
from fedkeras.strategies.fedavg import FedAvg

START = floats(w=[0, 10])
METHODS = ["configure_train", "aggregate_train", "configure_evaluate", "aggregate_evaluate"]


def with_method(name, function):
    """A strategy of which one method is another."""
    return type("Custom", (FedAvg,), {"__module__": __name__, name: function})()


def failure(strategy):
    with pytest.raises(RunFailed) as failed:
        federate(strategy, ToyClients(), START)
    assert "\n" not in str(failed.value)
    assert failed.value.status == 3
    return str(failed.value)


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_raises_is_one_line_with_class_method_file_and_line(name):
    def method(self, *args):
        raise KeyError("no such\nthing")

    line = method.__code__.co_firstlineno + 1
    expected = rf"Custom\.{name} failed: KeyError: 'no such\\nthing' \({re.escape(__file__)}:{line}\)"
    assert re.fullmatch(expected, failure(with_method(name, method)))


@pytest.mark.parametrize("name", [name for name in METHODS if name != "aggregate_train"])
def test_a_value_error_is_a_failure_too_but_in_aggregate_train(name):
    def method(self, *args):
        raise ValueError("odd")

    assert f"Custom.{name} failed: ValueError: odd" in failure(with_method(name, method))


def test_a_value_error_in_aggregate_train_repeats_the_round():
    attempts = []

    def method(self, *args):
        attempts.append(1)
        raise ValueError("too few for me")

    assert failure(with_method("aggregate_train", method)) == "round 1 cannot be aggregated: too few for me"
    assert len(attempts) == 3


def test_the_place_is_the_strategys_own_line_not_numpys():
    def method(self, server_round, replies):
        return np.linalg.inv(np.zeros((2, 3)))

    text = failure(with_method("aggregate_evaluate", method))
    assert f"LinAlgError: Last 2 dimensions of the array must be square ({__file__}:" in text


def test_a_generator_of_messages_that_fails_on_the_way():
    def method(self, server_round, arrays, config, grid):
        yield from FedAvg().configure_train(server_round, arrays, config, grid)
        raise RuntimeError("on the way")

    assert "Custom.configure_train failed: RuntimeError: on the way" in failure(with_method("configure_train", method))


def test_a_failure_of_the_run_itself_is_not_blamed_on_the_strategy():
    def method(self, *args):
        raise UserError("a client process ended")

    with pytest.raises(UserError, match=r"^a client process ended$"):
        federate(with_method("aggregate_train", method), ToyClients(), START)


def test_an_endless_reason_is_cut():
    def method(self, *args):
        raise RuntimeError("word " * 10**5)

    text = failure(with_method("aggregate_train", method))
    assert len(text) < 500 + 300
    assert " ... " in text and f" ({__file__}:" in text


def test_a_class_without_a_file_still_has_a_place():
    namespace = {"FedAvg": FedAvg, "__name__": "no_such_module"}
    exec("class Typed(FedAvg):\n    def aggregate_evaluate(self, *args):\n        return 1 / 0\n", namespace)
    assert failure(namespace["Typed"]()).endswith("ZeroDivisionError: division by zero (<string>:3)")


def to_nobody(self, server_round, arrays, config, grid):
    return [Message(RecordDict({"arrays": arrays, "config": config}), dst_node_id=999, message_type="train")]


def twice(self, *args):
    return [*FedAvg.configure_train(self, *args)] * 2


@pytest.mark.parametrize(
    ("name", "result", "words"),
    [
        ("configure_train", ["hello"], "Custom.configure_train returned something else than messages"),
        ("configure_train", None, "Custom.configure_train failed: TypeError: 'NoneType' object is not iterable"),
        ("configure_train", to_nobody, "Custom.configure_train must address nodes of the grid it is given, each once"),
        ("configure_train", twice, "Custom.configure_train must address nodes of the grid it is given, each once"),
        ("aggregate_train", None, "Custom.aggregate_train must return (arrays, metrics)"),
        ("aggregate_train", (None, None), "Custom returned no arrays"),
        ("aggregate_train", ({"w": 1}, None), "Custom returned dict for its arrays, not an ArrayRecord"),
        (
            "aggregate_train",
            (record(START), 0.5),
            "Custom.aggregate_train returned float for its metrics, not a Metric",
        ),
        ("aggregate_evaluate", [1], "Custom.aggregate_evaluate returned list for its metrics, not a MetricRecord"),
        (
            "aggregate_train",
            (ArrayRecord({"w": Array("float64", (2,), "numpy.ndarray", b"no array")}), None),
            "Custom returned arrays that cannot go on: has no .npy header",
        ),
    ],
)
def test_what_a_method_returns_is_one_line_too(name, result, words):
    method = result if callable(result) else lambda self, *args: result
    assert words in failure(with_method(name, method))


def test_a_sum_that_overflows_is_no_silent_infinity():
    """A user's own FedAvg, in float64 and near its end."""

    def method(self, server_round, replies):
        return record({"w": np.array([1e308, 1.0]) * len(list(replies))}), None

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        text = failure(with_method("aggregate_train", method))
    assert text.startswith("Custom returned arrays that cannot go on: 'w' has numbers that are not finite")


def test_the_cause_is_kept_for_whoever_debugs():
    def method(self, *args):
        raise KeyError("x")

    with pytest.raises(RunFailed) as failed:
        federate(with_method("aggregate_evaluate", method), ToyClients(), START)
    assert isinstance(failed.value.__cause__, KeyError)
    assert Path(traceback.extract_tb(failed.value.__cause__.__traceback__)[-1].filename) == Path(__file__)
