"""Which arrays are trained, who says so, and what becomes of the others under any strategy."""

import numpy as np
import pytest
from bare_runs import run_of
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp.strategy import FedAvg as FlowersFedAvg
from flwr.serverapp.strategy import Strategy
from toy_federation import ToyClients, configure, content, floats, reply

from fedkeras import strategies
from fedkeras.errors import RunFailed, UserError
from fedkeras.factory import WeightNames
from fedkeras.federation import strategy_adapter
from fedkeras.federation.base_strategy import BaseStrategy
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.initial_weights import initial_weights
from fedkeras.federation.offline_aggregation import combine
from fedkeras.federation.records import record, views
from fedkeras.federation.trainable import complete, trainable_of, variances_below_zero
from fedkeras.mods.base import Mod
from fedkeras.mods.chain import ModChain
from fedkeras.runtime.in_process import InProcessGrid
from fedkeras.workflows.round_loop import _trainable
from fedkeras.workflows.rounds.server import RoundsWorkflow

START = {
    "000.kernel": np.array([[4.0, 0.0]], np.float32),
    "001.moving_mean": np.array([2.0, 2.0], np.float32),
    "002.moving_variance": np.array([0.25, 8.0], np.float32),
    "003.beta": np.array([1.0], np.float32),
    "004.seen": np.array(7, np.int64),
}
TRAINABLE = ("000.kernel", "003.beta")


def client(cid, server_round, weights, config):
    """Client 0 has 1 example and client 1 has 3; variances fall, which momentum carries below zero."""
    assert list(weights) == list(START)
    moved = {
        "000.kernel": weights["000.kernel"] + np.float32((8, 16)[cid]),
        "001.moving_mean": np.array([0, 8], np.float32) * cid,
        "002.moving_variance": weights["002.moving_variance"] * np.float32((0.5, 0.25)[cid]),
        "003.beta": weights["003.beta"] + np.float32(1),
        "004.seen": weights["004.seen"] + (2, 3)[cid],
    }
    return content(moved, (1, 3)[cid], loss=1.0)


class Seen(Strategy):
    """A strategy of nobody's base class: keeps what it is shown and takes the first reply's arrays, plus 1."""

    def __init__(self):
        self.configured, self.replied = [], []

    def configure_train(self, server_round, arrays, config, grid):
        self.configured.append(list(arrays))
        content = RecordDict({"arrays": arrays, "config": ConfigRecord({**config, "server-round": server_round})})
        return [Message(content, node, "train") for node in grid.get_node_ids()]

    def configure_evaluate(self, server_round, arrays, config, grid):
        self.configured.append(list(arrays))
        content = RecordDict({"arrays": arrays, "config": ConfigRecord({**config, "server-round": server_round})})
        return [Message(content, node, "evaluate") for node in grid.get_node_ids()]

    def aggregate_train(self, server_round, replies):
        first = next(iter(replies))  # and never looks at the others
        arrays = views(first.content["arrays"])
        self.replied.append(list(arrays))
        return record({name: array + 1 for name, array in arrays.items()}), None

    def aggregate_evaluate(self, server_round, replies):
        return None

    def summary(self):
        """Nothing."""


def rounds(strategy, number=1, trainable=TRAINABLE, callbacks=()):
    config = configure(num_partitions=2, num_server_rounds=number)
    run = run_of(InProcessGrid(ToyClients(client), 2, {}), config, strategy, callbacks, trainable=trainable)
    return views(RoundsWorkflow().train(run, record(START)))


@pytest.mark.parametrize(
    "spec",
    ["fedavg", "fedadam", "fedyogi", "fedadagrad", "fedavgm", "flwr.serverapp.strategy:FedYogi",
     "flwr.serverapp.strategy:FedAvgM"],
)  # fmt: skip
def test_what_is_not_trained_is_averaged_by_examples(spec):
    """(1*0 + 3*8) / 4 = 6; 0.25 * (1*0.5 + 3*0.25) / 4 = 0.078125; (9 + 3*10) / 4 = 9.75, rounded to 10."""
    final = rounds(strategies.load(spec))
    assert list(final) == list(START)
    assert {name: array.dtype for name, array in final.items()} == {name: array.dtype for name, array in START.items()}
    assert final["001.moving_mean"].tolist() == [0.0, 6.0]
    assert final["002.moving_variance"].tolist() == [0.078125, 2.5]
    assert final["004.seen"] == 10
    assert (final["000.kernel"] != START["000.kernel"]).all()
    if spec == "fedavg":
        assert final["000.kernel"].tolist() == [[18.0, 14.0]]


@pytest.mark.parametrize("spec", ["fedadam", "fedyogi", "fedadagrad", "fedavgm"])
def test_no_server_optimizer_makes_a_variance_negative(spec):
    lowest = []

    def note(result):
        lowest.append(views(result.arrays)["002.moving_variance"].min())

    rounds(strategies.load(spec, {} if spec == "fedavgm" else {"eta": 0.3}), 6, callbacks=[note])
    assert min(lowest) > 0
    rounds(strategies.load(spec, {} if spec == "fedavgm" else {"eta": 0.3}), 6, tuple(START), callbacks=[note])
    assert min(lowest) < 0  # or this test would show nothing


def test_a_strategy_is_shown_the_trainable_arrays_alone_and_clients_get_all():
    strategy = Seen()
    final = rounds(strategy, number=2)
    assert strategy.configured == [list(TRAINABLE)] * 4
    assert strategy.replied == [list(TRAINABLE)] * 2
    assert final["000.kernel"].tolist() == [[22.0, 18.0]]  # client 0's 8 and 1, twice
    # The mean is over both clients, though the strategy looked at one
    assert final["002.moving_variance"].tolist() == [0.25 * 0.3125**2, 8 * 0.3125**2]


class SeenByAll(Seen):
    takes_all = True


class Around(Seen):
    """Surrounds another strategy, as Flower's privacy does."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner


@pytest.mark.parametrize("make", [SeenByAll, lambda: Around(SeenByAll())], ids=["itself", "the one in it"])
def test_a_strategy_that_takes_all_is_shown_all(make):
    strategy = make()
    final = rounds(strategy)
    assert strategy.configured == [list(START)] * 2 and strategy.replied == [list(START)]
    assert final["004.seen"] == 7 + 2 + 1


@pytest.mark.parametrize("spec", ["fedmedian", "flwr.serverapp.strategy:FedMedian"])
def test_a_median_is_of_all_arrays(spec):
    """The mean of the middle two, whatever their examples: 4; and 9.5, rounded to the even 10."""
    final = rounds(strategies.load(spec))
    assert final["001.moving_mean"].tolist() == [0.0, 4.0]
    assert final["004.seen"] == 10


def test_flowers_privacy_is_for_all_arrays_too():
    """A plain mean beside it would say what the noise hides."""
    from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping

    around = DifferentialPrivacyServerSideFixedClipping(FlowersFedAvg(), 0.0, 1.0, 2)
    assert strategy_adapter.kept_from(around, record(START), TRAINABLE) == set()
    assert strategy_adapter.kept_from(FlowersFedAvg(), record(START), TRAINABLE) == set(START) - set(TRAINABLE)


def test_strategies_and_mods_are_told():
    class Told(BaseStrategy):
        def __init__(self, inner=None):
            self.inner = inner

        def aggregate_train(self, server_round, replies):
            return None, None

    outer, mod = Told(Told()), Mod()
    outer.inner.inner = outer  # a ring is gone round once
    run = run_of(InProcessGrid(None, 2, {}), configure(), outer, mods=ModChain([mod]), trainable=TRAINABLE)
    assert run.trainable == outer.trainable == outer.inner.trainable == mod.trainable == TRAINABLE


def test_messages_get_back_what_the_strategy_was_not_shown_and_stay_one_content():
    arrays = record(START)
    own = record(floats(**{"000.kernel": [[5, 5]], "003.beta": [9], "extra": [1]}))
    shared = RecordDict({"arrays": own, "config": ConfigRecord({"a": 1})})
    bare = RecordDict({"config": ConfigRecord()})
    foreign = RecordDict({"packed": record(floats(packed=[1]))})
    messages = [Message(each, dst_node_id=1, message_type="train") for each in (shared, shared, bare, foreign)]
    one, two, three, four = complete(messages, arrays, set(START) - set(TRAINABLE))
    assert one.content is two.content
    assert list(one.content["arrays"]) == [*START, "extra"]
    assert views(one.content["arrays"])["000.kernel"].tolist() == [[5.0, 5.0]]
    assert views(one.content["arrays"])["004.seen"] == 7
    assert list(shared["arrays"]) == ["000.kernel", "003.beta", "extra"]  # the strategy's own is left alone
    assert three.content is bare and four.content is foreign


def test_whole_numbers_are_never_trained_and_nobody_having_said_all_fractions_are_but_statistics():
    arrays = record(START)
    assert trainable_of(arrays, ["004.seen", "003.beta", "000.kernel"]) == TRAINABLE
    assert trainable_of(arrays, None) == TRAINABLE


# Who says it


def asked(answer, **config):
    grid = InProcessGrid(ToyClients(lambda cid, *_: answer(cid)), 2, {})
    config = configure(num_partitions=2, **config)
    return initial_weights(grid, config, ClientManager(grid, config))


def claiming(names):
    own = {"config": ConfigRecord({"trainable": names})} if names is not None else {}
    return RecordDict({"arrays": record(START), **own})


def test_the_client_that_sends_the_initial_weights_says_which_are_trained():
    assert asked(lambda cid: claiming(["003.beta", "000.kernel"])).trainable == ("003.beta", "000.kernel")
    assert asked(lambda cid: claiming(None)).trainable is None


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["000.kernel", "005.gamma"], "says that '005.gamma' is trained, which is none of its arrays"),
        ([1], "says that '1' is trained"),
        ("000.kernel", "names no trainable arrays"),
    ],
)
def test_a_claim_that_cannot_be_is_refused_and_another_client_is_asked(names, why):
    assert asked(lambda cid: claiming(names if cid == 0 else ["003.beta"])).trainable == ("003.beta",)
    with pytest.raises(RunFailed, match=why):
        asked(lambda cid: claiming(names))


def test_the_servers_own_model_is_asked_before_a_client(caplog):
    arrays, claim = record(START), ["000.kernel", "002.moving_variance"]
    own = WeightNames(tuple(START), TRAINABLE)
    assert _trainable(arrays, own, claim) == TRAINABLE
    assert _trainable(arrays, None, claim) == tuple(claim)
    assert _trainable(arrays, WeightNames(("000.kernel",), ("000.kernel",)), claim) == tuple(claim)  # another model's
    assert not caplog.records
    assert _trainable(arrays, None, None) == TRAINABLE
    assert "did not say which of them are trained" in caplog.text


# Krum


def test_a_liar_with_honest_statistics_is_not_chosen():
    """Moving variances in the thousands differ between honest clients by more than all their updates do. The liar has
    the others' mean as its statistics and turns its update round: over all arrays it is the one in the middle."""
    rng = np.random.default_rng(5)
    true = rng.normal(0, 0.1, 50).astype(np.float32)
    chosen = {}
    for names in (("kernel",), ("kernel", "moving_variance")):
        krum = strategies.load("krum", {"num_byzantine": 1})
        strategy_adapter.tell(krum, names)
        answers, chosen[names] = [], 0
        for trial in range(20):
            noise = np.random.default_rng(trial)
            honest = [
                {
                    "kernel": true + noise.normal(0, 0.01, 50).astype(np.float32),
                    "moving_variance": noise.uniform(1000, 2000, 8).astype(np.float32),
                }
                for _ in range(6)
            ]
            liar = {
                "kernel": -5 * true,
                "moving_variance": np.mean([each["moving_variance"] for each in honest], axis=0),
            }
            answers = [reply(cid, content(each, 10, loss=0.0)) for cid, each in enumerate([*honest, liar])]
            arrays = views(krum.aggregate_train(1, answers)[0])
            chosen[names] += np.array_equal(arrays["kernel"], liar["kernel"])
            assert any(np.array_equal(arrays["moving_variance"], each["moving_variance"]) for each in [*honest, liar])
    assert chosen == {("kernel",): 0, ("kernel", "moving_variance"): 20}


# What a strategy says before it begins


@pytest.mark.parametrize(
    ("spec", "args", "clients", "words"),
    [
        ("trimmed_mean", {"beta": 0.2}, 4, "trims nothing of 4 clients' values and is a plain mean; beta=0.25 trims"),
        ("trimmed_mean", {"beta": 0.2}, 3, "beta=0.334 trims one"),
        ("trimmed_mean", {"beta": 0.4}, 2, "it takes three clients to trim any"),
        ("fedavgm", {"server_momentum": 0}, 4, "fedavgm with server_momentum=0 is fedavg; --strategy-args"),
        ("krum", {}, 4, "withstands 1 liars of 5 clients or more, and 4 train in a round; 4 clients are enough for"),
        ("flwr.serverapp.strategy:Krum", {}, 9, "Flower's Krum chooses by the trainable arrays"),
    ],
)  # fmt: skip
def test_what_does_nothing_is_said(spec, args, clients, words):
    [warning] = strategy_adapter.check(strategies.load(spec, args), clients)
    assert words in warning


@pytest.mark.parametrize(
    ("spec", "args", "clients"),
    [("trimmed_mean", {"beta": 0.2}, 5), ("trimmed_mean", {"beta": 0.334}, 3), ("fedavgm", {}, 3), ("krum", {}, 5),
     ("krum", {"num_byzantine": 0}, 3), ("fedadam", {}, 1), ("flwr.serverapp.strategy:FedAvg", {}, 1)],
)  # fmt: skip
def test_what_does_something_says_nothing(spec, args, clients):
    assert strategy_adapter.check(strategies.load(spec, args), clients) == []


def test_krum_with_too_few_clients_is_refused_before_the_run():
    with pytest.raises(UserError, match="num_byzantine=1 needs at least 4 clients a round, and 3 train"):
        strategy_adapter.check(strategies.load("krum"), 3)


# Files that were trained apart


def test_offline_the_statistics_are_averaged_and_a_median_takes_them():
    parts = {
        name: {**START, "001.moving_mean": np.full(2, mean, np.float32)}
        for name, mean in {"a": 0, "b": 3, "c": 9}.items()
    }
    averaged = combine(Seen(), parts, [1, 1, 2], TRAINABLE)
    assert averaged["001.moving_mean"].tolist() == [5.25, 5.25]
    assert averaged["000.kernel"].tolist() == [[5.0, 1.0]]
    assert combine(strategies.load("fedmedian"), parts, [1, 1, 2], TRAINABLE)["001.moving_mean"].tolist() == [3, 3]


# Variances


def test_a_variance_below_zero_is_found_by_its_name():
    arrays = record(
        floats(**{
            "002.moving_variance": [-0.5, 1], "normalization/variance": [-0.25], "7.running_var": [-1],
            "log_variance": [-3], "008.moving_variance": [0, 1], "009.variance": [-2], "010.mean": [-1],
        })
    )  # fmt: skip
    found = variances_below_zero(arrays, ("009.variance",))
    assert found == {"002.moving_variance": -0.5, "normalization/variance": -0.25, "7.running_var": -1.0}
