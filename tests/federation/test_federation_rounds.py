"""The round loop on toy clients: what it reports, whom it asks, what it does when answers are missing."""

import time

import numpy as np
import pytest
from bare_runs import run_rounds
from flwr.serverapp.strategy import FedAdam
from toy_federation import Silent, ToyClients, configure, content, federate, floats, flowers_own, loss_is_cid

from fedkeras import strategies
from fedkeras.errors import RunFailed, UserError
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.records import record, views
from fedkeras.federation.round_result import TooFewReplies
from fedkeras.federation.sampling import sample
from fedkeras.runtime.in_process import InProcessGrid

START = floats(w=[0, 10])


def fedavg():
    return strategies.load("fedavg")


def without_seconds(rows):
    return [{name: value for name, value in line.items() if name != "seconds"} for line in rows]


def test_rows_and_outcomes_by_hand():
    """Clients 0, 1, 2 with 1, 2, 3 examples add 1, 2, 3: the weights rise by (1 + 4 + 9) / 6 a round."""
    central = []

    def evaluate(server_round, arrays):
        central.append((server_round, views(arrays)["w"].tolist()))
        return {"num-examples": 50, "loss": 0.25, "accuracy": 0.5}

    final, outcomes = federate(fedavg(), ToyClients(), START, evaluate=evaluate, num_server_rounds=2)
    rise = np.float32(14 / 6)
    np.testing.assert_allclose(final["w"], [2 * rise, 10 + 2 * rise], rtol=1e-6)
    assert [number for number, _ in central] == [1, 2]
    np.testing.assert_allclose([weights for _, weights in central], [[rise, 10 + rise], final["w"]], rtol=1e-6)
    assert [(o.round, o.num_rounds, o.asked, o.answered, o.failures) for o in outcomes] == [
        (1, 2, 3, 3, {}),
        (2, 2, 3, 3, {}),
    ]
    mean = pytest.approx((0 + 2 + 6) / 6)
    bytes_of = 128 + 2 * 4  # an array's header, and two float32
    both = {"bytes_up": bytes_of, "bytes_down": bytes_of}
    down = {"bytes_up": 0, "bytes_down": bytes_of}
    for outcome in outcomes:
        number = outcome.round
        assert without_seconds(outcome.rows) == [
            {"round": number, "phase": "train", "client": "0", "num_examples": 1, "loss": 0.0, **both},
            {"round": number, "phase": "train", "client": "1", "num_examples": 2, "loss": 1.0, **both},
            {"round": number, "phase": "train", "client": "2", "num_examples": 3, "loss": 2.0, **both},
            {"round": number, "phase": "train", "client": "all", "num_examples": 6, "loss": mean}
            | {name: 3 * value for name, value in both.items()},
            {"round": number, "phase": "evaluate", "client": "server", "num_examples": 50, "loss": 0.25}
            | {"accuracy": 0.5},
            {"round": number, "phase": "evaluate", "client": "0", "num_examples": 1, "loss": 0.0, **down},
            {"round": number, "phase": "evaluate", "client": "1", "num_examples": 2, "loss": 1.0, **down},
            {"round": number, "phase": "evaluate", "client": "2", "num_examples": 3, "loss": 2.0, **down},
            {"round": number, "phase": "evaluate", "client": "all", "num_examples": 6, "loss": mean}
            | {name: 3 * value for name, value in down.items()},
        ]
        assert 0 < outcome.seconds < 30
        timed = [line["client"] for line in outcome.rows if "seconds" in line]
        assert timed == ["all", "all"]
    assert outcomes[1].arrays["w"].data == record(final)["w"].data


def test_dashes_in_metrics_become_underscores_and_a_clients_seconds_are_its_own():
    def train(cid, server_round, weights, config):
        return content(weights, 2, **{"top-5": 0.5, "seconds": 100.0 + cid})

    _, [outcome] = federate(fedavg(), ToyClients(train), START, fraction_evaluate=0.0)
    assert [line["seconds"] for line in outcome.rows[:3]] == [100.0, 101.0, 102.0]
    assert outcome.rows[3]["client"] == "all"
    assert outcome.rows[3]["seconds"] < 30  # the server's clock
    assert [line["top_5"] for line in outcome.rows] == [0.5] * 4


def test_a_strategys_own_metrics_are_added_to_the_mean():
    class Own(FedAdam):
        def aggregate_train(self, server_round, replies):
            arrays, metrics = super().aggregate_train(server_round, replies)
            metrics["step-norm"], metrics["loss"] = 7.0, 99.0
            return arrays, metrics

    _, [outcome] = federate(Own(), ToyClients(), START, fraction_evaluate=0.0)
    mean = outcome.rows[-1]
    assert (mean["client"], mean["step_norm"]) == ("all", 7.0)
    assert mean["loss"] == pytest.approx(8 / 6)  # a name that clients report is theirs


def test_central_evaluation_may_skip_a_round():
    def evaluate(server_round, arrays):
        return {"num-examples": 1, "loss": 0.5} if server_round == 2 else None

    _, outcomes = federate(fedavg(), ToyClients(), START, evaluate=evaluate, num_server_rounds=3)
    assert [sum(line["client"] == "server" for line in outcome.rows) for outcome in outcomes] == [0, 1, 0]


def test_central_evaluation_runs_while_the_clients_evaluate():
    """The evaluate messages are on their way before the server begins to evaluate."""
    grid = InProcessGrid(ToyClients(), 3, {})
    pushed, seen = [], []
    push = grid.push_messages

    def noting(messages):
        messages = list(messages)
        pushed.extend(message.metadata.message_type for message in messages)
        return push(messages)

    grid.push_messages = noting
    federate(fedavg(), None, START, grid=grid, evaluate=lambda number, arrays: seen.extend(pushed) or None)
    assert seen == ["train"] * 3 + ["evaluate"] * 3


@pytest.mark.parametrize("spec", ["fedavg", "flwr.serverapp.strategy:FedAdam"])
def test_evaluation_fraction_zero_asks_nobody(spec):
    clients = ToyClients()
    _, [outcome] = federate(strategies.load(spec), clients, START, fraction_evaluate=0.0)
    assert {kind for kind, _, _ in clients.log} == {"train"}
    assert {line["phase"] for line in outcome.rows} == {"train"}


def test_the_evaluating_cohort_is_chosen_apart_from_the_training_one():
    clients = ToyClients()
    federate(fedavg(), clients, START, num_partitions=12, fraction_train=0.5, fraction_evaluate=0.25, seed=3)
    evaluated = sorted(cid for kind, cid, _ in clients.log if kind == "evaluate")
    assert clients.trained(1) == sample(range(12), 12, 0.5, 3, 1, "train")
    assert evaluated == sample(range(12), 12, 0.25, 3, 1, "evaluate")


def test_callbacks_are_called_in_order_once_a_round_with_its_arrays():
    calls = []
    callbacks = [lambda o: calls.append(("first", o.round)), lambda o: calls.append(("second", o.round))]
    federate(fedavg(), ToyClients(), START, callbacks=callbacks, num_server_rounds=2)
    assert calls == [("first", 1), ("second", 1), ("first", 2), ("second", 2)]


def test_tell_is_in_the_config_of_every_message():
    told = []

    def train(cid, server_round, weights, config):
        told.append(config)
        return content(weights, 1, loss=0.0)

    def evaluate(cid, server_round, weights, config):
        told.append(config)
        return loss_is_cid(cid, server_round, weights, config)

    config = configure(num_partitions=1)
    grid = InProcessGrid(ToyClients(train, evaluate), 1, {})
    run_rounds(
        fedavg(), grid, ClientManager(grid, config), record(START), config, message_config={"code-digest": "abc"}
    )
    assert told == [{"code-digest": "abc", "server-round": 1}] * 2


# Failures


def failing(times, cids, weights_of=None):
    """Clients of which `cids` raise in the first `times` train messages each."""
    seen = dict.fromkeys(cids, 0)

    def train(cid, server_round, weights, config):
        if cid in seen and seen[cid] < times:
            seen[cid] += 1
            raise RuntimeError(f"out of memory on client {cid}")
        return content({name: array + 1 for name, array in weights.items()}, 1, loss=0.0)

    return ToyClients(train)


def test_a_client_that_raises_is_a_failure_with_its_reason_and_comes_back_next_round():
    _, outcomes = federate(fedavg(), failing(1, [1]), START, num_server_rounds=2)
    assert outcomes[0].answered == 2
    assert "RuntimeError: out of memory on client 1" in outcomes[0].failures[1]
    assert (outcomes[1].answered, outcomes[1].failures) == (3, {})


@pytest.mark.parametrize("spec", ["fedavg", "fedmedian", "fedadam"])
def test_a_round_with_too_few_answers_is_repeated(spec, caplog):
    """Twice two of three fail, then all answer: one round in the history, and the weights of one."""
    clients = failing(2, [0, 2])
    final, [outcome] = federate(strategies.load(spec), clients, START, min_results=2, max_retries=2)
    assert len(clients.log) == 3 * 3 + 3
    assert (outcome.round, outcome.answered, outcome.failures) == (1, 3, {})
    assert len(outcome.rows) == 8
    repeated = [entry.getMessage() for entry in caplog.records if "is repeated" in entry.getMessage()]
    assert len(repeated) == 2
    assert "got 1 of at least 2 answers (--min-results)" in repeated[0]
    if spec != "fedadam":
        np.testing.assert_array_equal(final["w"], [1, 11])


@pytest.mark.parametrize("max_retries", [0, 2])
def test_after_max_retries_the_run_fails_and_names_the_reasons(max_retries):
    clients, finished = failing(99, [0, 1, 2]), []
    with pytest.raises(RunFailed) as failed:
        federate(fedavg(), clients, START, max_retries=max_retries, callbacks=[finished.append])
    assert len(clients.log) == 3 * (max_retries + 1)
    assert finished == []
    text = str(failed.value)
    assert "round 1 got 0 of at least 1 answers" in text
    assert all(f"client {cid}: RuntimeError: out of memory on client {cid}" in text for cid in range(3))
    assert isinstance(failed.value, TooFewReplies)
    assert failed.value.status == 3


@pytest.mark.parametrize("name", ["fedadam", "fedyogi", "fedadagrad", "fedavgm"])
def test_a_stateful_strategy_sees_nothing_of_a_repeated_round(name):
    """Its moments, and so the weights after two rounds, are those of a run in which nothing failed."""
    undisturbed, _ = federate(strategies.load(name), failing(0, []), START, num_server_rounds=2)
    repeated, _ = federate(
        strategies.load(name), failing(2, [1]), START, num_server_rounds=2, min_results=3, max_retries=2
    )
    assert repeated["w"].tobytes() == undisturbed["w"].tobytes()


def test_min_results_counts_training_answers_only():
    """Evaluation may fail on every client, and the run goes on without its mean."""

    def evaluate(cid, server_round, weights, config):
        raise RuntimeError("no test set")

    _, outcomes = federate(fedavg(), ToyClients(evaluate=evaluate), START, min_results=3, num_server_rounds=2)
    assert [outcome.answered for outcome in outcomes] == [3, 3]
    assert {line["phase"] for line in outcomes[0].rows} == {"train"}
    assert sorted(outcomes[0].failures) == [0, 1, 2]


# Time-outs


def test_who_does_not_answer_in_time_is_counted_as_failed():
    grid = Silent(ToyClients(), 3, silent=[1])
    started = time.monotonic()
    final, [outcome] = federate(fedavg(), None, START, grid=grid, round_timeout=0.3, fraction_evaluate=0.0)
    assert 0.3 <= time.monotonic() - started < 3
    assert outcome.failures == {1: "no answer within 0.3 s (--round-timeout)"}
    assert outcome.answered == 2
    np.testing.assert_allclose(final["w"], [2.5, 12.5])  # (1*1 + 3*3) / 4
    assert len(grid.abandoned) == 1


def test_a_grid_of_flowers_is_polled_until_the_time_is_up():
    """It has no wait_for_replies, no abandon and no cids."""
    grid = flowers_own(Silent(ToyClients(), 3, silent=[]))
    final, [outcome] = federate(fedavg(), None, START, grid=grid)
    assert outcome.answered == 3
    np.testing.assert_allclose(final["w"], [14 / 6, 10 + 14 / 6], rtol=1e-6)


def test_nobody_answers_in_time():
    grid = Silent(ToyClients(), 3, silent=[0, 1, 2])
    with pytest.raises(RunFailed, match=r"client 0: no answer within 0.05 s \(--round-timeout\); client 1: no answer"):
        federate(fedavg(), None, START, grid=grid, round_timeout=0.05, max_retries=1)


# Strategies of other people


class ReturnsNothing(FedAdam):
    def aggregate_train(self, server_round, replies):
        return None, None


class ReturnsNaN(FedAdam):
    def aggregate_train(self, server_round, replies):
        return record({"w": np.array([np.nan, 1])}), None


class ReturnsTooMuch(FedAdam):
    def aggregate_train(self, server_round, replies):
        return record({"w": np.array([1e300, 1])}), None


class ReturnsOthers(FedAdam):
    def aggregate_train(self, server_round, replies):
        return record({"v": np.zeros(2, np.float32)}), None


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (ReturnsNothing, "ReturnsNothing returned no arrays"),
        (ReturnsNaN, "ReturnsNaN returned arrays that cannot go on: 'w' has numbers that are not finite"),
        (ReturnsTooMuch, "ReturnsTooMuch returned arrays that cannot go on: 'w' has numbers that are not finite"),
        (ReturnsOthers, "ReturnsOthers returned arrays that cannot go on: sent other arrays"),
    ],
)
def test_what_a_strategy_returns_is_checked_too(kind, reason):
    with pytest.raises(RunFailed, match=reason):
        federate(kind(), ToyClients(), START)


CUSTOM = '''
"""A strategy as a user writes it."""
from flwr.serverapp.strategy import FedAvg

class Halfway(FedAvg):
    def __init__(self, share=0.5, **kwargs):
        super().__init__(**kwargs)
        self.share = share

    def configure_train(self, server_round, arrays, config, grid):
        self.before = arrays["w"].numpy()
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        arrays["w"] = type(arrays["w"])(self.before + self.share * (arrays["w"].numpy() - self.before))
        return arrays, metrics

class Stubborn(Halfway):
    def __init__(self):
        super().__init__(fraction_train=0.4, min_train_nodes=2, min_available_nodes=5)

class NoStrategy:
    pass

def function():
    pass
'''


@pytest.fixture
def custom_module(tmp_path, monkeypatch):
    (tmp_path / "my_toy_strategy.py").write_text(CUSTOM)
    (tmp_path / "my_broken_strategy.py").write_text("class X(:\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("custom_module")
def test_a_users_own_strategy_drives_a_run():
    strategy = strategies.load("my_toy_strategy:Halfway", {"share": 0.25})
    final, _ = federate(strategy, ToyClients(), START)
    np.testing.assert_allclose(final["w"], [14 / 24, 10 + 14 / 24], rtol=1e-6)


@pytest.mark.usefixtures("custom_module")
@pytest.mark.parametrize("name", ["Halfway", "Stubborn"])
def test_a_users_own_strategy_takes_all_it_sees_too(name):
    """Whether or not its constructor shows Flower's minimum of nodes, which is 2: it would wait for ever for one more.
    Of three clients one is asked; client 0 moves weights by 1, client 1 by 2, client 2 by 3, then halfway."""
    strategy = strategies.load(f"my_toy_strategy:{name}")
    assert (strategy.min_train_nodes, strategy.min_available_nodes, strategy.fraction_train) == (1, 1, 1.0)
    clients = ToyClients()
    final, _ = federate(strategy, clients, START, fraction_train=0.3, fraction_evaluate=0.3)
    [cid] = clients.trained(1)
    np.testing.assert_allclose(final["w"], [(cid + 1) / 2, 10 + (cid + 1) / 2])


# The registry


@pytest.mark.usefixtures("custom_module")
@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("fedsgd", "--strategy is 'fedsgd'; known are fedavg, fedmedian"),
        ("", "--strategy is ''; known are"),
        ("no_such_module:X", "--strategy no_such_module:X cannot be imported: ModuleNotFoundError: No module"),
        ("my_toy_strategy:Nothing", "has no attribute 'Nothing'"),
        ("my_broken_strategy:X", "--strategy my_broken_strategy:X cannot be imported: SyntaxError: "),
        ("my_toy_strategy:", "--strategy my_toy_strategy: cannot be imported"),
        (":Halfway", "--strategy :Halfway cannot be imported"),
        ("my_toy_strategy:NoStrategy", "is no subclass of flwr.serverapp.strategy.Strategy"),
        ("my_toy_strategy:function", "is no subclass"),
        ("flwr.serverapp.strategy:Strategy", "does not define aggregate_evaluate, aggregate_train, conf"),
    ],
)
def test_an_unknown_strategy_is_one_line_that_names_the_flag(spec, words):
    with pytest.raises(UserError) as error:
        strategies.load(spec)
    assert words in str(error.value)
    assert "--strategy" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spec", "args", "words"),
    [
        ("fedavg", {"eta": 0.1}, "(fedavg takes: no options)"),
        ("trimmed_mean", {"alpha": 0.1}, "(trimmed_mean takes: beta)"),
        ("trimmed_mean", {"beta": 0.7}, "beta must be at least 0 and below 0.5, not 0.7"),
        ("trimmed_mean", {"beta": "much"}, "(trimmed_mean takes: beta)"),
        ("krum", {"num_byzantine": 0.5}, "num_byzantine must be a whole number"),
        ("fedprox", {"proximal_mu": -1}, "proximal_mu must be 0 or more"),
        ("fedadam", {"momentum": 0.9}, "(fedadam takes: eta, tau, beta_1, beta_2)"),
        ("flwr.serverapp.strategy:FedAdam", {"momentum": 0.9}, "eta_l, beta_1, beta_2, tau"),
    ],
)
def test_wrong_options_are_one_line_that_names_the_flag(spec, args, words):
    with pytest.raises(UserError) as error:
        strategies.load(spec, args)
    assert str(error.value).startswith("--strategy-args: ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_flowers_strategies_take_all_they_see():
    strategy = strategies.load("flwr.serverapp.strategy:FedAdam", {"eta": 0.5})
    assert (strategy.fraction_train, strategy.min_train_nodes, strategy.min_available_nodes) == (1.0, 1, 1)
    assert strategy.eta == 0.5


def test_a_client_that_counts_in_whole_floats_leaves_whole_numbers():
    """history.csv is read with whole numbers of examples."""

    def floating(message, context):
        answered = ToyClients()(message, context)
        for metrics in answered.content.metric_records.values():
            metrics["num-examples"] = float(metrics["num-examples"])
        return answered

    _, [outcome] = federate(fedavg(), floating, START)
    assert {type(row["num_examples"]) for row in outcome.rows} == {int}
