"""Split learning by messages computes what a plain loop computes, and with one client what the unsplit model does."""

import random
from collections.abc import Iterable

import numpy as np
import pytest
from bare_runs import run_split

from fedkeras import client, data, factory, models
from fedkeras.config import Config
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.grids import CohortGrid
from fedkeras.federation.initial_weights import initial_arrays
from fedkeras.federation.records import views
from fedkeras.flower.identity import SERVER_NODE_ID, act_as
from fedkeras.learning.learner import draw
from fedkeras.named_code import EVERYTHING_NAMED
from fedkeras.randomness import generator
from fedkeras.runtime.in_process import InProcessGrid
from fedkeras.workflows.split import split_client
from fedkeras.workflows.split.client_state import ClientStates
from fedkeras.workflows.split.server_model import SplitServer

MODES = ("sequential", "splitfed", "shared")
ROUNDS = 2
ALLOWED = {"allow": EVERYTHING_NAMED}
AWKWARD = {"model": "split_setting:awkward", "split_at": "3,7"}


@pytest.fixture(autouse=True)
def whatever_threads(monkeypatch):
    """Another test may have started TensorFlow in this process; all that is compared here is of one process."""
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda n: None, raising=False)
    act_as(SERVER_NODE_ID, 1)


def configure(**fields):
    return Config(
        **{"batch_size": 100, "local_epochs": 2, "num_server_rounds": ROUNDS, "optimizer": "adam", **AWKWARD}
        | {"learning_rate": 0.005, **fields}
    )


class Shuffled(InProcessGrid):
    """Any client that has a message answers next; each answers its own in their order."""

    def __init__(self, *args, seed: int) -> None:
        super().__init__(*args)
        self._random = random.Random(seed)

    def wait_for_replies(self, message_ids: Iterable[str], timeout: float) -> list:
        wanted = set(message_ids)
        if self._waiting:
            nodes = sorted({m.metadata.dst_node_id for key, m in self._waiting.items() if key in wanted})
            chosen = self._random.choice(nodes)
            mine = [key for key, m in self._waiting.items() if m.metadata.dst_node_id == chosen]
            self._waiting = {key: self._waiting[key] for key in [*mine, *(k for k in self._waiting if k not in mine)]}
        return super().wait_for_replies(wanted, timeout)


def run(config, grid=None):
    """Over the messages: the final weights and the outcomes."""
    grid = grid or InProcessGrid(client.app, config.num_partitions, config.for_clients(), ALLOWED)
    nodes, outcomes = ClientManager(grid, config), []
    start, middle = initial_arrays(grid, config, nodes), SplitServer(config, 1)
    final = run_split(grid, nodes, start, config, middle, callbacks=[outcomes.append])
    assert [outcome.failures for outcome in outcomes] == [{}] * len(outcomes)
    return views(final), outcomes


def unsplit(config, cid=0, start=None, number=1):
    """One client's round with the whole model."""
    learner = factory.make_learner(config, 1)
    if start:
        learner.set_weights(start)
    examples = data.load_client(config, cid).train
    rng = generator(config.seed, "train", number, cid)
    outcome = learner.train(examples.x, examples.y, epochs=config.local_epochs, batch_size=config.batch_size, rng=rng)
    return learner.get_weights(), outcome


def same(left, right, tolerance=1e-6):
    assert left.keys() == right.keys()
    for name, array in left.items():
        np.testing.assert_allclose(right[name], array, rtol=0, atol=tolerance, err_msg=name)


# One client

OTHER_CASES = [
    ("shared", "sgd", 0.1), ("splitfed", "adam", 0.005), ("sequential", "sgd", 0.1), ("sequential", "adam", 0.005),
]  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "optimizer", "rate"),
    [
        ("shared", "adam", 0.005),
        ("splitfed", "sgd", 0.1),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHER_CASES),
    ],
)
def test_with_one_client_it_is_the_unsplit_training(mode, optimizer, rate):
    """The last batch is short, and the second epoch counts anew."""
    config = configure(split=mode, num_partitions=1, optimizer=optimizer, learning_rate=rate)
    final, outcomes = run(config)
    weights = None
    for number, outcome in enumerate(outcomes, 1):
        weights, whole = unsplit(config, start=weights, number=number)
        line = outcome.rows[0]
        assert line["num_examples"] == whole.num_examples
        assert line["loss"] == pytest.approx(whole.loss, rel=1e-5)
        assert line["accuracy"] == pytest.approx(whole.accuracy, rel=1e-6)
    same(weights, final)


def test_evaluation_is_that_of_the_whole_model():
    config = configure(split="shared", num_server_rounds=1, batch_size=16, test_fraction=0.6)  # 288 each: two batches
    final, [outcome] = run(config)
    learner = factory.make_learner(config, 1)
    learner.set_weights(final)
    lines = [line for line in outcome.rows if line["phase"] == "evaluate"]
    for cid, line in enumerate(lines[:3]):
        test = data.load_client(config, cid).test
        whole = learner.evaluate(test.x, test.y)
        assert line["num_examples"] == len(test) > 256
        assert line["loss"] == pytest.approx(whole.loss, rel=1e-5)
        assert line["accuracy"] == pytest.approx(whole.accuracy)
    assert [line["client"] for line in lines] == ["0", "1", "2", "all"]


# Three clients against plain loops


def sides(config):
    """The clients' halves, and the server's: without messages, without replicas."""
    clients = [factory.make_head_and_tail(config, 1) for _ in range(3)]
    middle = factory.make_body(config, 1)
    parts = [data.load_client(config, cid).train for cid in range(3)]
    placed = [ends.place(part.x, part.y) for ends, part in zip(clients, parts, strict=True)]
    return clients, middle, placed


def drawn(config, ends, number, cid, examples):
    count = len(models.random_states(ends.parts.whole))
    values, orders = draw(generator(config.seed, "train", number, cid), count, examples, config.local_epochs)
    size = config.batch_size
    batches = [order[first : first + size] for order in orders for first in range(0, examples, size)]
    return models.split_seeds(ends.parts, values), batches


def mean(weights, counts):
    return {
        name: (sum(n * w[name].astype(np.float64) for n, w in zip(counts, weights, strict=True)) / sum(counts)).astype(
            np.float32
        )
        for name in weights[0]
    }


def plain_sequential(config):
    clients, middle, placed = sides(config)
    weights = models.get_weights(clients[0].parts.whole)
    for number in range(1, ROUNDS + 1):
        middle.start(weights)
        for cid, (ends, (x, y)) in enumerate(zip(clients, placed, strict=True)):
            ends.start(weights)
            seeds, batches = drawn(config, ends, number, cid, len(x))
            ends.set_seeds(seeds)
            middle.set_seeds(seeds)
            for batch in batches:
                one_batch(ends, middle, x[batch], y[batch])
            weights = {**weights, **ends.get_weights(), **middle.get_weights()}
    return weights


def one_batch(ends, middle, x, y):
    activations, _ = ends.forward(x, key=0)
    output, _ = middle.forward(activations, key=0)
    gradient, _ = ends.loss_and_gradient(output, y)
    ends.backward(middle.backward(gradient, 0), 0)


def plain_splitfed(config):
    """It is FedAvg: every client trains the whole model by itself."""
    weights = models.get_weights(sides(config)[0][0].parts.whole)
    counts = [len(data.load_client(config, cid).train) for cid in range(3)]
    for number in range(1, ROUNDS + 1):
        weights = mean([unsplit(config, cid, weights, number)[0] for cid in range(3)], counts)
    return weights


def plain_shared(config):
    """As the paper's page says: F(0,*) ... F(k-1,*), then U(b,*), F(b+k,*)."""
    clients, middle, placed = sides(config)
    weights, k = models.get_weights(clients[0].parts.whole), config.in_flight
    for number in range(1, ROUNDS + 1):
        middle.start(weights)
        own, of_middle, back = {}, {}, {}
        for cid, ends in enumerate(clients):
            ends.start(weights)
            seeds, own[cid] = drawn(config, ends, number, cid, len(placed[cid][0]))
            ends.set_seeds(seeds)
            of_middle[cid] = seeds["body"]

        def forward(b):
            for cid, ends in enumerate(clients):
                if b < len(own[cid]):  # noqa: B023
                    sent = waiting.pop((cid, b))  # noqa: B023
                    output, _ = middle.forward(sent, of_middle[cid], (cid, b))  # noqa: B023
                    of_middle[cid] = middle.seeds()  # noqa: B023
                    y = placed[cid][1][own[cid][b]]  # noqa: B023
                    back[cid, b] = ends.loss_and_gradient(output, y)[0]  # noqa: B023

        def send(cid, b):
            if b < len(own[cid]):  # noqa: B023
                waiting[cid, b] = clients[cid].forward(placed[cid][0][own[cid][b]], key=b)[0]  # noqa: B023

        waiting = {}
        for cid in range(3):
            for b in range(k):
                send(cid, b)
        for b in range(k):
            forward(b)
        for b in range(max(map(len, own.values()))):
            for cid, ends in enumerate(clients):
                if b < len(own[cid]):
                    ends.backward(middle.backward(back[cid, b], (cid, b)), b)
                    send(cid, b + k)
            forward(b + k)
        ends_of = [ends.get_weights() for ends in clients]
        weights = {**mean(ends_of, [len(x) for x, _ in placed]), **middle.get_weights()}
    return {name: weights[name] for name in models.get_weights(clients[0].parts.whole)}


def test_sequential_is_its_plain_loop():
    config = configure(split="sequential")
    final, _ = run(config)
    same(plain_sequential(config), final, 0)


@pytest.mark.slow
def test_splitfed_is_federated_averaging():
    config = configure(split="splitfed", partitioner="sizes", sizes="4,2,1")
    final, _ = run(config)
    same(plain_splitfed(config), final)


@pytest.mark.parametrize("in_flight", [2, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 3))])
def test_shared_is_its_plain_loop(in_flight):
    """The clients have 5, 3 and 2 batches an epoch: some run out while others go on."""
    config = configure(split="shared", in_flight=in_flight, partitioner="sizes", sizes="4,2,1")
    final, _ = run(config)
    same(plain_shared(config), final, 0)


@pytest.mark.slow
def test_batches_in_flight_change_what_is_computed():
    """Or the test above could not tell them apart."""
    one, two = (run(configure(split="shared", in_flight=k))[0] for k in (1, 2))
    assert max(np.abs(two[name] - array).max() for name, array in one.items()) > 1e-3


# What changes nothing


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "in_flight"), [("splitfed", 2), ("shared", 1), ("shared", 2)])
def test_who_answers_first_changes_nothing(mode, in_flight):
    config = configure(split=mode, in_flight=in_flight, num_server_rounds=1, batch_size=60)
    expected, _ = run(config)
    for seed in range(3):
        grid = Shuffled(client.app, 3, config.for_clients(), ALLOWED, seed=seed)
        found, _ = run(config, grid)
        same(expected, found, 0)


@pytest.mark.parametrize("mode", ["shared", *(pytest.param(m, marks=pytest.mark.slow) for m in MODES[:2])])
def test_a_process_that_remembers_nothing_computes_the_same(mode):
    """Flower's own grids: what a client had is in its Context, and the forward pass is computed again."""
    config = configure(split=mode, split_nopeek=0.1)
    expected, outcomes = run(config)
    grid = InProcessGrid(forgetful(config), 3, config.for_clients(), ALLOWED)
    found, others = run(config, CohortGrid(grid, list(grid.get_node_ids())))
    same(expected, found)
    for outcome, other in zip(outcomes, others, strict=True):
        for line, like in zip(outcome.rows, other.rows, strict=True):
            assert {**line, "seconds": 0, "loss": 0} == {**like, "seconds": 0, "loss": 0}
            assert line["loss"] == pytest.approx(like["loss"], rel=1e-6)


def forgetful(config):
    """A ClientApp whose process has other weights, optimizers and random states before every message."""

    def app(message, context):
        home = split_client.split_client(Config.from_run_config(config.for_clients()))
        home.states = ClientStates(home.head_and_tail)
        home.head_and_tail.start({name: array + np.float32(1) for name, array in home.initial.items()})
        return client.app(message, context)

    return app
