"""The same updates give the same bits in whatever order they arrive, and FedAvg never holds them all."""

import gc
import hashlib
import tracemalloc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from toy_federation import ArrivingIn, ToyClients, content, federate, floats, reply

from fedkeras import strategies
from fedkeras.federation.records import record
from fedkeras.federation.reply_order import in_order
from fedkeras.runtime.in_process import InProcessGrid

# LEAF's FEMNIST CNN: 6,603,710 weights.
LEAF_SHAPES = {
    "conv2d/kernel": (5, 5, 1, 32),
    "conv2d/bias": (32,),
    "conv2d_1/kernel": (5, 5, 32, 64),
    "conv2d_1/bias": (64,),
    "dense/kernel": (3136, 2048),
    "dense/bias": (2048,),
    "dense_1/kernel": (2048, 62),
    "dense_1/bias": (62,),
}
ORDERS = [list(range(10)), list(range(9, -1, -1)), [3, 9, 0, 7, 1, 8, 2, 6, 4, 5]]


@pytest.fixture(scope="module")
def leaf_updates():
    """Ten contents of 26 MB. Client 9 takes back the huge steps of client 0, so that even a float64 sum has other bits
    in another order; with ordinary weights the order shows after the rounding to float32 about once in 10^8 weights."""
    contents = []
    for cid in range(10):
        rng = np.random.default_rng(cid % 9)
        scale = np.float32({0: 1e12, 9: -1e12}.get(cid, 1.0))
        arrays = {name: rng.standard_normal(shape, np.float32) * scale for name, shape in LEAF_SHAPES.items()}
        contents.append(content(record(arrays), 100 + 37 * (cid % 9), loss=0.1 * cid))
    assert sum(np.prod(shape) for shape in LEAF_SHAPES.values()) == 6_603_710
    return contents


def digest(arrays):
    sha = hashlib.sha256()
    for name, array in arrays.items():
        sha.update(name.encode() + array.data)
    return sha.hexdigest()


def test_fedavg_of_ten_big_updates_has_the_same_bits_in_every_order_of_arrival(leaf_updates):
    results = set()
    for order in ORDERS:
        arriving = ((cid, reply(cid, leaf_updates[cid])) for cid in order)
        replies = (message for _, message in in_order(arriving, range(10)))
        arrays, metrics = strategies.load("fedavg").aggregate_train(1, replies)
        results.add((digest(arrays), metrics["loss"].hex()))
    assert len(results) == 1


def test_the_big_updates_can_tell_orders_apart(leaf_updates):
    """In the order of arrival, without in_order, the bits do differ: the test above can fail."""
    results = {
        digest(strategies.load("fedavg").aggregate_train(1, [reply(cid, leaf_updates[cid]) for cid in order])[0])
        for order in ORDERS
    }
    assert len(results) == len(ORDERS)


class Counted:
    """Clients who note how many of the updates made so far are still alive, besides the one being made."""

    def __init__(self):
        self.made, self.most_alive = [], 0

    def __call__(self, cid, server_round, weights, config):
        self.most_alive = max(self.most_alive, sum(ref() is not None for ref in self.made))
        arrays = record({"w": np.full(10, cid, np.float32)})
        self.made.append(weakref.ref(arrays["w"]))
        return content(arrays, 1, loss=0.0)


@pytest.fixture
def no_garbage_collector():
    """It counts objects and not megabytes: what only it can free may as well be held."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage_collector")
@pytest.mark.parametrize("order", [range(8), [1, 0, 3, 2, 5, 4, 7, 6]], ids=["in order", "in pairs"])
def test_fedavg_holds_one_update_at_a_time(order):
    """While a client works, at most the update before it, or the one that waits for its turn, may still be held."""
    counted = Counted()
    grid = ArrivingIn(ToyClients(counted), order)
    dealt = {"train": dict.fromkeys(range(8), 1)}  # else what each counts for is known when all have answered
    federate(strategies.load("fedavg"), None, floats(w=[0] * 10), grid, dealt=dealt, num_partitions=8)
    assert len(counted.made) == 8
    assert counted.most_alive <= (1 if order == range(8) else 2)


def test_the_count_of_living_updates_can_fail():
    """FedMedian must see all updates at once, and the count shows it."""
    counted = Counted()
    federate(strategies.load("fedmedian"), ToyClients(counted), floats(w=[0] * 10), num_partitions=8)
    assert counted.most_alive == 7


@pytest.mark.usefixtures("no_garbage_collector")
def test_fedavg_needs_the_memory_of_a_few_updates_for_forty():
    """The accumulator and a client's weighted update are float64 (2 + 2), the rest is one update and its making."""
    size = 250_000
    start = {"w": np.zeros(size, np.float32)}
    dealt = {"train": {cid: cid + 1 for cid in range(40)}}
    tracemalloc.start()
    try:
        federate(strategies.load("fedavg"), ToyClients(), start, dealt=dealt, num_partitions=40, fraction_evaluate=0.0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * 4 * size


number = some.floats(-1e6, 1e6, width=32)
update = some.lists(number, min_size=3, max_size=3)


@pytest.mark.parametrize(
    ("spec", "args"),
    [
        ("fedavg", {}),
        ("fedprox", {}),
        ("fedmedian", {}),
        ("trimmed_mean", {}),
        ("krum", {"num_selected": 2}),
        ("fedavgm", {"server_momentum": 0.9}),
        ("fedadam", {}),
        ("fedyogi", {}),
        ("fedadagrad", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@settings(max_examples=15, deadline=None)
@given(
    order=some.permutations(range(5)),
    updates=some.lists(update, min_size=5, max_size=5),
    examples=some.lists(some.integers(1, 10**6), min_size=5, max_size=5),
)
def test_no_strategy_depends_on_the_order_of_arrival(spec, args, order, updates, examples):
    """Two rounds through the loop, metrics and rows included."""

    def train(cid, server_round, weights, config):
        moved = np.array(updates[cid], np.float32) + weights["w"] / 2
        return content({"w": moved}, examples[cid], loss=float(moved[0]))

    def run(arrival):
        final, outcomes = federate(
            strategies.load(spec, args),
            ToyClients(train),
            floats(w=[0, 0, 0]),
            grid=ArrivingIn(ToyClients(train), arrival),
            num_partitions=5,
            num_server_rounds=2,
        )
        rows = [{**line, "seconds": 0} for outcome in outcomes for line in outcome.rows]
        return final["w"].tobytes(), rows

    assert run(order) == run(range(5))


def test_the_toy_grid_does_answer_in_the_order_it_is_given():
    clients = ToyClients()
    federate(strategies.load("fedavg"), clients, floats(w=[0]), grid=ArrivingIn(clients, [2, 0, 1]))
    assert [cid for kind, cid, _ in clients.log if kind == "train"] == [2, 0, 1]
    assert isinstance(ArrivingIn(clients, [0]), InProcessGrid)
