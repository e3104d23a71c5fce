"""A strategy's state: taken after any round and put into a fresh strategy, the run goes on as if nothing had been."""

import json
import logging

import numpy as np
import pytest
from bare_runs import run_rounds
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra import numpy as some_arrays
from toy_federation import ToyClients, Weights, configure, content, floats, move_by_cid

from fedkeras.errors import UserError
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.records import record, view, views
from fedkeras.federation.registry import load
from fedkeras.federation.strategy_state import StrategyState
from fedkeras.runtime.in_process import InProcessGrid
from fedkeras.strategies.fedavg import FedAvg

ROUNDS = 5
START = floats(a=[[0.1, -0.2], [0.3, 0.7]], b=[0.5])


def drift(cid: int, server_round: int, weights: Weights, config: dict):
    """Moves that differ by client and round, and are no round numbers."""
    moved = {
        name: array * np.float32(0.9) + np.float32((cid + 1) / (7 + server_round)) for name, array in weights.items()
    }
    return content(moved, cid + 1, loss=float(cid))


def run(strategy, weights, first: int = 1, last: int = ROUNDS) -> tuple[Weights, StrategyState]:
    config = configure(num_server_rounds=last)
    grid = InProcessGrid(ToyClients(train=drift), config.num_partitions, {})
    final = run_rounds(strategy, grid, ClientManager(grid, config), record(weights), config, first_round=first)
    return views(final)


def bits(weights: Weights) -> dict[str, tuple]:
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in weights.items()}


def through_json(state):
    """As a file does it: arrays lose who refers to them, the table goes through JSON."""
    return {name: array.copy() for name, array in state.arrays.items()}, json.loads(json.dumps(state.table))


class Momentum(FedAvg):
    """A strategy of other hands with every kind of state that is saved. `streams` is inherited, and not true of it."""

    __slots__ = ("in_a_slot",)

    def __init__(self, beta: float = 0.5) -> None:
        self.beta, self.velocity, self.calls, self.note = beta, None, 0, ""
        self.scalar, self.pairs, self.by_round = np.float32(1.0), ([], ()), {}
        self.last, self.alias, self.raw = None, None, b""
        self.metrics, self.config = MetricRecord(), ConfigRecord()
        self.combine, self.logger = max, logging.getLogger("x")
        self.in_a_slot = 1.0

    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        mean = views(arrays)
        if self.velocity is None:
            self.velocity = {name: np.zeros(array.shape, np.float64) for name, array in mean.items()}
            self.alias = self.velocity["a"]
        self.alias += self.calls * 0.125  # through another name
        for name, array in mean.items():
            self.velocity[name] *= self.beta
            self.velocity[name] += array
        self.calls, self.note, self.scalar = self.calls + 1, f"round {server_round}", self.scalar * np.float32(1.1)
        self.pairs = ([*self.pairs[0], np.arange(server_round)], (*self.pairs[1], float("nan")))
        self.by_round[server_round] = np.float64(server_round) / 3
        self.last, self.raw = arrays, bytes([server_round])
        self.metrics["calls"], self.config["words"] = self.calls, ["a"] * self.calls
        self.in_a_slot *= 1.5
        factor = self.scalar * self.in_a_slot + len(self.pairs[0]) + sum(self.by_round.values()) + self.raw[0]
        own = factor + view(self.last["b"])[0] + self.metrics["calls"] + len(self.config["words"])
        return record({name: (array + own).astype(np.float32) for name, array in self.velocity.items()}), metrics


STRATEGIES = {
    "fedavg": lambda: load("fedavg"),
    "fedmedian": lambda: load("fedmedian"),
    "krum": lambda: load("krum", {"num_byzantine": 0}),
    "fedadam": lambda: load("fedadam", {"beta_1": 0.9, "beta_2": 0.99}),
    "fedyogi": lambda: load("fedyogi", {"beta_1": 0.9, "beta_2": 0.99}),
    "fedadagrad": lambda: load("fedadagrad"),
    "fedavgm": lambda: load("fedavgm", {"server_momentum": 0.9, "server_learning_rate": 0.7}),
    "centered_clipping": lambda: load("centered_clipping"),
    "norm_bound": lambda: load("norm_bound", {"bound": 0.5}),
    "qfedavg": lambda: load(
        "flwr.serverapp.strategy:QFedAvg", {"client_learning_rate": 0.1, "q": 0.1, "train_loss_key": "loss"}
    ),
    "momentum": Momentum,
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_resumed_after_any_round_equals_not_interrupted(name: str) -> None:
    through = run(STRATEGIES[name](), START)
    for after in range(1, ROUNDS):
        first = STRATEGIES[name]()
        memory = StrategyState(first)
        half = run(first, START, last=after)
        state = memory.snapshot()
        run(first, half, first=after + 1)  # the run goes on while the state waits to be written
        second = STRATEGIES[name]()
        StrategyState(second).restore(*through_json(state))
        assert bits(run(second, half, first=after + 1)) == bits(through), after


@pytest.mark.parametrize("name", ["fedadam", "fedyogi", "fedadagrad", "fedavgm", "centered_clipping", "momentum"])
def test_without_its_state_the_result_is_another(name: str) -> None:
    """Or the test above would show nothing."""
    half = run(STRATEGIES[name](), START, last=2)
    assert bits(run(STRATEGIES[name](), half, first=3)) != bits(run(STRATEGIES[name](), START))


def test_ours_remember_nothing() -> None:
    for name in ("fedavg", "fedmedian"):
        strategy = load(name)
        memory = StrategyState(strategy)
        run(strategy, START, last=1)
        assert memory.snapshot() == ({}, {"attributes": {}, "not-saved": []})


def test_a_strategy_within_a_strategy() -> None:
    def make():
        return DifferentialPrivacyServerSideFixedClipping(STRATEGIES["fedadam"](), 0.0, 1.0, 3)

    through = run(make(), START)
    first = make()
    memory = StrategyState(first)
    half = run(first, START, last=2)
    second = make()
    StrategyState(second).restore(*through_json(memory.snapshot()))
    assert bits(run(second, half, first=3)) == bits(through)


class Box:
    """Any object."""

    def __init__(self) -> None:
        self.count, self.function = 0, lambda: None  # which cannot be pickled


class Other(FedAvg):
    """Keeps something that is neither number nor array; `how` says what, and whether it changes."""

    def __init__(self, how: str = "") -> None:
        self.how, self.box, self.random, self.functions = how, Box(), np.random.default_rng(1), {"f": lambda: None}
        self.objects = np.array([None], object)

    def aggregate_train(self, server_round, replies):
        if self.how == "box":
            self.box.count += 1
        elif self.how == "random":
            self.random.random()
        elif self.how == "functions":
            self.functions["g"] = lambda: None
        elif self.how == "objects":
            self.objects[0] = server_round
        elif self.how == "late":
            self.late = {1, 2}
        return super().aggregate_train(server_round, replies)


@pytest.mark.parametrize("how", ["box", "random", "functions", "objects", "late"])
def test_other_state_is_named_and_refused_at_resumption(how: str) -> None:
    strategy = Other(how)
    memory = StrategyState(strategy)
    assert memory.snapshot().table["not-saved"] == []
    run(strategy, START, last=1)
    arrays, table = through_json(memory.snapshot())
    assert table["not-saved"] == [how]
    fresh = Other(how)
    with pytest.raises(UserError, match=f"Other keeps state in its attribute '{how}'") as caught:
        StrategyState(fresh).restore(arrays, table)
    assert "\n" not in str(caught.value)


def test_other_things_that_do_not_change_are_no_state() -> None:
    strategy = Other()
    memory = StrategyState(strategy)
    run(strategy, START, last=2)
    assert memory.snapshot().table["not-saved"] == []


def test_arrays_taken_are_not_those_of_the_strategy() -> None:
    strategy = Momentum()
    memory = StrategyState(strategy)
    run(strategy, START, last=1)
    state = memory.snapshot()
    before = {name: array.tobytes() for name, array in state.arrays.items()}
    strategy.alias += 100
    strategy.pairs[0][0] += 100
    assert {name: array.tobytes() for name, array in state.arrays.items()} == before


arrays = some_arrays.arrays(
    dtype=some.one_of(
        some_arrays.floating_dtypes(endianness="?"), some_arrays.integer_dtypes(endianness="?"),
        some.just(np.dtype(bool)),
        some_arrays.complex_number_dtypes(), some_arrays.unicode_string_dtypes(max_len=3),
    ),
    shape=some_arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)  # fmt: skip
plain = some.one_of(some.none(), some.booleans(), some.integers(), some.floats(), some.text(), some.binary(max_size=9))
values = some.recursive(
    plain | arrays | arrays.map(np.asfortranarray) | arrays.filter(lambda a: a.ndim == 0).map(lambda a: a[()]),
    lambda inner: some.lists(inner, max_size=3) | some.lists(inner, max_size=3).map(tuple)
    | some.dictionaries(some.text() | some.integers() | some.booleans(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(values)
def test_any_value_comes_back_in_its_type_with_its_bits(value: object) -> None:
    strategy, fresh = FedAvg(), FedAvg()
    memory = StrategyState(strategy)
    strategy.value = value
    StrategyState(fresh).restore(*through_json(memory.snapshot()))
    assert same(fresh.value, value)


def same(left: object, right: object) -> bool:
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray | np.generic):
        order = left.flags.f_contiguous == right.flags.f_contiguous
        return order and (left.dtype.str, left.shape, left.tobytes()) == (right.dtype.str, right.shape, right.tobytes())
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    return repr(left) == repr(right)  # of floats too: -0.0 and nan


def test_records_come_back_as_records() -> None:
    strategy, fresh = FedAvg(), FedAvg()
    memory = StrategyState(strategy)
    strategy.record, strategy.empty = record(floats(x=[[1, 2]], y=3)), ArrayRecord()
    StrategyState(fresh).restore(*through_json(memory.snapshot()))
    assert isinstance(fresh.record, ArrayRecord) and list(fresh.record) == ["x", "y"]
    assert bits(views(fresh.record)) == bits(views(strategy.record)) and fresh.empty == ArrayRecord()
    assert move_by_cid(0, 1, views(fresh.record), {})
