"""Asynchronous rounds, by hand: toy clients of different speeds, one weight, and a clock that is a list of numbers."""

import dataclasses

import numpy as np
import pytest
from bare_runs import run_of
from toy_federation import ToyClients, breaking, clients_of, configure, content, floats, loss_is_cid, move_by_cid

from fedkeras.config import Config
from fedkeras.errors import RunFailed, UserError
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.records import record, views
from fedkeras.federation.strategy_state import StrategyState
from fedkeras.reports import RunFolder
from fedkeras.reports.run import method_of
from fedkeras.runtime.in_process import InProcessGrid
from fedkeras.strategies.fedavg import FedAvg
from fedkeras.strategies.fedopt import FedAdam
from fedkeras.workflows.base import workflow_of
from fedkeras.workflows.fedbuff import report
from fedkeras.workflows.fedbuff.buffer import from_newest, staleness_weight
from fedkeras.workflows.fedbuff.clocks import SimulatedClock
from fedkeras.workflows.flag_checks import check_flags
from fedkeras.workflows.rounds.server import RoundsWorkflow
from fedkeras.workflows.soundness import mostly_of_few

ALIKE = {"client_weights": "uniform", "mode": "fedbuff", "fraction_evaluate": 0.0}


def add_one(cid, server_round, weights, config):
    """Client N adds 10^N to the weight it was sent."""
    return content({name: array + np.float32(10**cid) for name, array in weights.items()}, 1, loss=1.0)


def seconds(*of_client):
    """A clock of clients that take so many seconds each, by cid."""
    return SimulatedClock(lambda reply, cid, num_bytes: of_client[cid])


def run(clock, start=None, strategy=None, clients=None, workflow=None, first=1, callbacks=(), **fields):
    """Asynchronous versions; the final weights, and what came of each version."""
    config, outcomes = configure(**ALIKE | fields), []
    clients = clients or ToyClients(add_one, loss_is_cid)
    grid = InProcessGrid(clients, config.num_partitions, {})
    run = run_of(grid, config, strategy or FedAvg(), [outcomes.append, *callbacks], clients=ClientManager(grid, config))
    workflow = workflow or workflow_of(config)
    final = workflow.train(run, record(start or floats(w=[0.0])), first, clock)
    return views(final), outcomes


def versions(outcomes):
    return [views(outcome.arrays)["w"].tolist() for outcome in outcomes]


def test_a_fast_client_does_not_wait_for_a_slow_one_whose_update_counts_less():
    """Seconds: clients take 1, 1.5 and 3.5. Two updates make a version, one of a client.

    At 1.5 clients 0 and 1 have made 0 + (1 + 10) / 2 = 5.5, at 3 the same again. At 3.5 client 2 is there, from version
    0: two versions old. At 4 client 0, from version 2: 11 + (100 / sqrt 3 + 1) / 2.
    """
    _, outcomes = run(seconds(1.0, 1.5, 3.5), num_partitions=3, num_server_rounds=3, buffer_size=2)
    third = 11 + (100 / 3**0.5 + 1) / 2
    assert np.allclose(np.ravel(versions(outcomes)), [5.5, 11.0, third], rtol=1e-6)
    lines = {(row["round"], row["client"]): row for outcome in outcomes for row in outcome.rows}
    assert lines[1, "0"]["updates"] == 1 and lines[1, "0"]["staleness"] == 0
    assert lines[3, "2"]["updates"] == 1 and lines[3, "2"]["staleness"] == 2
    assert lines[3, "all"]["updates"] == 2 and lines[3, "all"]["staleness"] == 1
    assert (1, "2") not in lines


def test_one_fast_client_does_not_make_the_whole_model():
    _, outcomes = run(seconds(0.001, *[1.0] * 9), num_partitions=10, num_server_rounds=4, buffer_size=5)
    assert [outcome.answered for outcome in outcomes] == [5] * 4


def test_where_the_buffer_is_larger_than_the_concurrency_a_client_has_its_share_and_then_waits():
    """Three updates of two clients: at most two are client 0's, however fast it is. (1 + 1 + 10) / 3 = 4."""
    _, outcomes = run(seconds(1.0, 10.0), num_partitions=2, num_server_rounds=1, buffer_size=3)
    assert np.allclose(np.ravel(versions(outcomes)), [4.0])
    counts = {row["client"]: row["updates"] for row in outcomes[0].rows if "updates" in row}
    assert counts == {"0": 2, "1": 1, "all": 3}


def test_it_is_said_when_a_few_clients_made_most_updates():
    assert "1 of 10 clients made 90 %" in mostly_of_few({"0": 90, "1": 10}, 10)
    assert "2 of 10 clients made 60 %" in mostly_of_few({"0": 30, "1": 30, "2": 20, "3": 20}, 10)
    assert mostly_of_few({str(cid): 10 for cid in range(10)}, 10) is None
    assert mostly_of_few({"0": 9}, 10) is None  # too early
    assert mostly_of_few({"0": 6, "1": 4}, 2) is None and mostly_of_few({"0": 19, "1": 1}, 2)


@pytest.mark.parametrize(("exponent", "counts"), [(0.0, 1.0), (0.5, 2**-0.5), (1.0, 0.5)])
def test_the_exponent_says_what_a_stale_update_counts(exponent, counts):
    _, outcomes = run(
        seconds(1.0, 1.5), num_partitions=2, num_server_rounds=2, buffer_size=1, staleness_exponent=exponent
    )
    assert np.allclose(np.ravel(versions(outcomes)), [1.0, 1.0 + 10 * counts], rtol=1e-6)
    assert staleness_weight(0, exponent) == 1.0


def drift(cid, server_round, weights, config):
    """Trains as: numbers that depend on client, arrays and training, and need every bit of a float32."""
    number = config.get("training-number", server_round)
    rng = np.random.default_rng([cid, number])
    moved = {
        name: array * np.float32(0.9) + rng.normal(size=array.shape).astype(np.float32)
        for name, array in weights.items()
    }
    return content(moved, 3 + 2 * cid, loss=float(cid))


START = {"w": np.linspace(-1, 1, 101, dtype=np.float32), "b": np.float32([0.1])}


@pytest.mark.parametrize("strategy", [FedAvg, FedAdam])
def test_with_a_buffer_of_all_clients_of_equal_speed_it_is_the_synchronous_run_to_the_bit(strategy):
    several = {"client_weights": "examples", "num_partitions": 5, "num_server_rounds": 6, "buffer_size": 5}
    clients = ToyClients(drift, loss_is_cid)
    config, rounds = configure(**ALIKE | several | {"mode": "federated", "buffer_size": 0}), []
    grid = InProcessGrid(clients, 5, {})
    own = run_of(grid, config, strategy(), [rounds.append], clients=ClientManager(grid, config))
    expected = RoundsWorkflow().train(own, record(START))
    for clock in (None, seconds(*[3.0] * 5)):
        final, outcomes = run(clock, START, strategy(), clients, **several)
        for name, array in views(expected).items():
            assert array.tobytes() == final[name].tobytes()
        same = [
            [line for line in each.rows if line["client"] != "all"] and [line["loss"] for line in each.rows]
            for each in rounds
        ]
        assert same == [[line["loss"] for line in each.rows] for each in outcomes]


@pytest.mark.parametrize("at", [1, 3, 4])
def test_a_run_that_goes_on_does_so_to_the_bit_by_a_simulated_clock(at):
    fields = {"client_weights": "examples", "num_partitions": 4, "num_server_rounds": 7, "buffer_size": 2}
    times, clients = (1.0, 1.7, 2.9, 7.3), ToyClients(drift, loss_is_cid)
    kept = {}

    def keep(result):
        if result.round == at:
            kept["state"], kept["arrays"] = state.snapshot(), views(result.arrays)

    workflow, strategy = workflow_of(configure(**ALIKE | fields)), FedAdam()
    state = StrategyState(strategy, workflow.state)
    whole, outcomes = run(seconds(*times), START, strategy, clients, workflow, callbacks=[keep], **fields)

    again, fresh = workflow_of(configure(**ALIKE | fields)), FedAdam()
    StrategyState(fresh, again.state).restore(kept["state"].arrays, kept["state"].table)
    clock = dataclasses.replace(seconds(*times), now=again.state[0].seconds)
    final, rest = run(clock, kept["arrays"], fresh, clients, again, at + 1, **fields)
    assert all(final[name].tobytes() == whole[name].tobytes() for name in START)
    stale = [[line.get("staleness") for line in each.rows] for each in outcomes[at:]]
    assert stale == [[line.get("staleness") for line in each.rows] for each in rest] and any(
        max(each) for each in stale
    )


def test_work_under_way_of_a_client_that_is_gone_is_given_up_aloud(caplog):
    fields = {"num_partitions": 3, "num_server_rounds": 2, "buffer_size": 1, "min_available_nodes": 2}
    workflow = workflow_of(configure(**ALIKE | fields))
    kept = {}

    def keep(result):
        kept.setdefault("arrays", views(result.arrays))
        kept.setdefault("state", state.snapshot())

    strategy = FedAvg()
    state = StrategyState(strategy, workflow.state)
    run(seconds(1.0, 2.0, 3.0), strategy=strategy, workflow=workflow, callbacks=[keep], **fields)
    again, config = workflow_of(configure(**ALIKE | fields)), configure(**ALIKE | fields)
    StrategyState(FedAvg(), again.state).restore(kept["state"].arrays, kept["state"].table)
    grid = InProcessGrid(ToyClients(add_one, loss_is_cid), 2, {})
    own = run_of(grid, config, FedAvg(), clients=ClientManager(grid, config))
    again.train(own, record(kept["arrays"]), 2, dataclasses.replace(seconds(1.0, 2.0, 3.0), now=1.0))
    assert "1 trainings that were under way" in caplog.text and "(2)" in caplog.text
    assert again.state[0].given_up == 1


def test_an_optimizer_on_the_server_steps_from_the_newest_version_where_nobody_was_given_it():
    """Four clients finish at once and two updates make a version: no work is given out between versions 1 and 2.

    FedAdam with both betas 0 and tau 1: a step of mean / (|mean| + 1), from the version before.
    """
    adam = FedAdam(eta=1.0, tau=1.0, beta_1=0.0, beta_2=0.0)
    _, outcomes = run(
        seconds(1.0, 1.0, 1.0, 1.0), strategy=adam, num_partitions=4, num_server_rounds=2, buffer_size=2,
        staleness_exponent=0.0,
    )  # fmt: skip
    first = 5.5 / (5.5 + 1)
    assert np.allclose(np.ravel(versions(outcomes)), [first, first + 550 / (550 + 1)], rtol=1e-5)


def test_an_update_that_is_too_old_is_left_out_and_its_client_is_given_new_work():
    clients = ToyClients(add_one, loss_is_cid)
    workflow = workflow_of(configure(**ALIKE))
    final, _ = run(
        seconds(1.0, 3.5), clients=clients, workflow=workflow, num_partitions=2, num_server_rounds=5, buffer_size=1,
        max_staleness=2,
    )  # fmt: skip
    assert workflow.state[0].too_stale == 1 and workflow.state[0].trainings == {0: 5, 1: 2}
    assert final["w"].tolist() == [5.0]  # five of client 0's, and none of the other's tens


def test_the_servers_learning_rate_multiplies_the_mean_update():
    final, _ = run(seconds(1.0), num_partitions=1, num_server_rounds=3, buffer_size=1, server_learning_rate=0.25)
    assert final["w"].tolist() == [0.75]


def test_statistics_are_no_sum_of_updates_so_that_a_variance_stays_above_zero():
    """A variance goes from 2 to 0.4 at a client whose base is old; the newest is 0.5, and 0.5 - 1.6 is below 0."""
    base, newest = record(floats(v=[2.0], k=[2.0])), record(floats(v=[0.5], k=[0.5]))
    moved = views(from_newest(record(floats(v=[0.4], k=[0.4])), base, newest, 0.5, 3.0, {"k"}))
    assert np.allclose(moved["v"], [0.45]) and np.allclose(moved["k"], [0.5 + 3.0 * 0.5 * -1.6])


@pytest.mark.parametrize("concurrency", [1, 2, 3])
def test_no_more_clients_train_at_once_than_the_concurrency(concurrency):
    at_work, most = set(), []

    class Watching(InProcessGrid):
        def push_messages(self, messages):
            messages = list(messages)
            at_work.update(message.metadata.dst_node_id for message in messages)
            most.append(len(at_work))
            return super().push_messages(messages)

        def wait_for_replies(self, message_ids, timeout):
            replies = super().wait_for_replies(message_ids, timeout)
            at_work.difference_update(reply.metadata.src_node_id for reply in replies)
            return replies

    config = configure(
        **ALIKE | {"num_partitions": 5, "num_server_rounds": 8, "concurrency": concurrency, "buffer_size": 2}
    )
    clients = ToyClients(add_one, loss_is_cid)
    grid = Watching(clients, 5, {})
    own = run_of(grid, config, FedAvg(), clients=ClientManager(grid, config))
    workflow_of(config).train(own, record(floats(w=[0.0])), 1, seconds(1.0, 1.1, 1.2, 1.3, 1.4))
    assert max(most) == concurrency and {cid for _, cid, _ in clients.log} == {*range(5)}


def test_a_client_that_fails_is_asked_again_for_the_next_version_and_the_others_go_on():
    clients = ToyClients(breaking(add_one, lambda cid, number: cid == 1 and number < 3), loss_is_cid)
    final, outcomes = run(
        seconds(1.0, 1.0, 1.0), clients=clients, num_partitions=3, num_server_rounds=4, buffer_size=2,
    )  # fmt: skip
    assert [sorted(each.failures) for each in outcomes] == [[1], [1], [], []]
    assert "broken 1" in outcomes[0].failures[1]
    assert {line["client"] for line in outcomes[2].rows + outcomes[3].rows} >= {"1"}
    assert final["w"][0] > 10


def test_a_run_ends_in_a_line_when_all_clients_fail():
    clients = clients_of(train_fails=lambda cid, number: number > 1)
    with pytest.raises(RunFailed, match=r"version 2 has 0 of 2 updates, and nobody is left to send more; .*broken 0"):
        run(seconds(1.0, 1.0), clients=clients, num_partitions=2, num_server_rounds=3, buffer_size=2)
    assert [number for kind, cid, number in clients.log if cid == 0] == [1, 2, 2, 2]  # two retries


def test_a_liar_is_its_own_failure():
    def lie(cid, server_round, weights, config):
        good = move_by_cid(cid, server_round, weights, config)
        return good if cid else content({"w": np.float32([np.nan])}, 1, loss=1.0)

    final, outcomes = run(
        seconds(1.0, 1.0), clients=ToyClients(lie, loss_is_cid), num_partitions=2, num_server_rounds=2, buffer_size=1
    )
    assert "not finite" in outcomes[0].failures[0] and final["w"].tolist() == [4.0]


def test_the_report_counts_updates_by_age_and_by_client(tmp_path):
    folder = RunFolder(tmp_path)
    assert report.sections(folder) == ()
    line = {"round": 1, "client": "2", "training": 1, "begun_from": 0, "staleness": 0, "weight": 1.0}
    other = {"round": 2, "client": "10", "training": 1, "begun_from": 0, "staleness": 3, "weight": 0.5}
    report.UPDATES_TABLE.append(report.path_of(folder), [line, {**line, "round": 2, "training": 2}, other])
    assert report.figures(report.UPDATES_TABLE.read(report.path_of(folder))) == {
        "updates": 3, "mean_staleness": 1.0, "most_staleness": 3, "updates_of_clients": {"2": 2, "10": 1},
    }  # fmt: skip
    (section,) = report.sections(folder)
    assert "staleness 0: 2 updates" in section.html and "staleness 3: 1 updates" in section.html
    assert "<td>10</td><td>1</td><td>3</td>" in section.html
    assert method_of({"mode": "fedbuff", "strategy": "fedadam"}) == "fedbuff, fedadam"


REFUSED = [
    ({"fraction_train": 0.5}, "--fraction-train is for rounds: --mode fedbuff has --concurrency"),
    ({"min_results": 2}, "--min-results is for rounds"),
    ({"concurrency": 9}, "--concurrency is 9, but there are only 3 clients"),
    ({"strategy": "fedmedian"}, "--strategy fedmedian is for rounds: it compares what clients make of one"),
    ({"strategy": "krum"}, "--strategy krum is for rounds"),
    ({"strategy": "qfedavg"}, "--strategy qfedavg is for rounds"),
    ({"strategy": "flwr.serverapp.strategy:FedMedian"}, "FedMedian is for rounds"),
    (
        {"strategy": "fedadam", "server_learning_rate": 0.5},
        "--server-learning-rate is for --strategy fedavg and fedprox",
    ),
    ({"mods": "dp:noise=1"}, "is for rounds"),
    ({"split": "splitfed"}, "--mode fedbuff and --split are two ways to train"),
    ({"collect_only": True}, "--mode fedbuff and --collect-only are two ways to train"),
    ({"mode": "federated", "buffer_size": 3}, "--buffer-size means nothing without --mode fedbuff"),
]


@pytest.mark.parametrize(("fields", "told"), REFUSED)
def test_what_it_would_ignore_is_refused_in_a_line(fields, told):
    config = Config(**{"mode": "fedbuff"} | fields)
    with pytest.raises(UserError, match=told) as refused:
        check_flags(workflow_of(config), config)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("claim", [1, 10**12])
def test_a_client_that_claims_other_steps_than_its_examples_make_has_failed_at_once(claim):
    """Four examples in batches of two, one epoch: two steps, 0.2 simulated seconds."""

    def claiming(cid, server_round, weights, config):
        return content({"w": weights["w"] + np.float32(1)}, 4, loss=1.0, **{"local-steps": claim if cid == 0 else 2})

    own = {"clients": "slow=none", "batch_size": 2, "local_epochs": 1, "num_partitions": 3, "num_server_rounds": 2}
    config, outcomes = configure(**ALIKE | own | {"buffer_size": 2}), []
    grid = InProcessGrid(ToyClients(claiming, loss_is_cid), 3, {})
    bare = run_of(grid, config, FedAvg(), [outcomes.append], clients=ClientManager(grid, config))
    workflow_of(config).train(bare, record(floats(w=[0.0])))
    assert all("steps, and was to do 2" in outcome.failures[0] for outcome in outcomes)
    took = [row["simulated_seconds"] for outcome in outcomes for row in outcome.rows if row["client"] == "all"]
    assert np.allclose(took, 0.2)
