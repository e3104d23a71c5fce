"""Who fails again and again rests: by hand."""

import pytest
from bare_runs import run_rounds
from toy_federation import ArrivingIn, clients_of, configure, federate, floats

from fedkeras import strategies
from fedkeras.errors import RunFailed
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.records import record
from fedkeras.federation.sampling import FailureTracker, sample, sampling_order
from fedkeras.strategies.fedavg import FedAvg

START = floats(w=[0, 10])


def trained(clients, rounds):
    return [clients.trained(number) for number in range(1, rounds + 1)]


def said(caplog):
    return [
        entry.getMessage() for entry in caplog.records if "suspended" in entry.getMessage() or "back" in entry.message
    ]


def test_after_three_failures_in_a_row_two_rounds_of_rest_then_one_failure_is_enough(caplog):
    caplog.set_level("INFO", "fedkeras")
    clients = clients_of(lambda cid, number: cid == 2)
    _, outcomes = federate(strategies.load("fedavg"), clients, START, num_server_rounds=10)
    all_three, without = [0, 1, 2], [0, 1]
    assert trained(clients, 10) == [all_three] * 3 + [without] * 2 + [all_three] + [without] * 2 + [all_three, without]
    assert [(o.asked, o.answered) for o in outcomes[2:6]] == [(3, 2), (2, 2), (2, 2), (3, 2)]
    assert [line.split(": ", 1)[0] for line in said(caplog)] == [
        "client 2 failed to train 3 times in a row and is suspended until round 6",
        "client 2 failed to train 4 times in a row and is suspended until round 9",
        "client 2 failed to train 5 times in a row and is suspended until round 12",
    ]
    assert "RuntimeError: broken 2" in said(caplog)[0]


def test_one_good_answer_wipes_the_count(caplog):
    """Two failures, one answer, over and over: no rest."""
    clients = clients_of(lambda cid, number: cid == 0 and number % 3)
    federate(strategies.load("fedavg"), clients, START, num_server_rounds=9)
    assert trained(clients, 9) == [[0, 1, 2]] * 9
    assert said(caplog) == []


def test_who_comes_back_well_begins_anew(caplog):
    """Fails in 1-3, rests in 4-5, answers in 6, fails in 7-9, rests in 10."""
    caplog.set_level("INFO", "fedkeras")
    clients = clients_of(lambda cid, number: cid == 1 and number != 6)
    federate(strategies.load("fedavg"), clients, START, num_server_rounds=10)
    assert [number for number in range(1, 11) if 1 not in clients.trained(number)] == [4, 5, 10]
    assert [line.split(": ")[0] for line in said(caplog)] == [
        "client 1 failed to train 3 times in a row and is suspended until round 6",
        "client 1 is back",
        "client 1 failed to train 3 times in a row and is suspended until round 12",
    ]


@pytest.mark.parametrize(
    ("rest_after", "rest_rounds", "absent"), [(0, 2, []), (1, 1, [2, 4, 6, 8]), (2, 3, [3, 4, 5, 7, 8]), (9, 1, [])]
)
def test_the_flags(rest_after, rest_rounds, absent):
    clients = clients_of(lambda cid, number: cid == 1)
    fields = {"rest_after": rest_after, "rest_rounds": rest_rounds, "num_server_rounds": 8}
    federate(strategies.load("fedavg"), clients, START, **fields)
    assert [number for number in range(1, 9) if 1 not in clients.trained(number)] == absent


def test_a_resting_clients_place_is_filled_by_the_next_in_the_sampling_order():
    """Of ten clients three are asked a round; client 4 fails once and rests for long."""
    clients = clients_of(lambda cid, number: cid == 4)
    fields = {"num_partitions": 10, "fraction_train": 0.3, "rest_after": 1, "rest_rounds": 100, "num_server_rounds": 30}
    federate(strategies.load("fedavg"), clients, START, **fields)
    full = [sample(range(10), 10, 0.3, 42, number, "train") for number in range(1, 31)]
    first = next(number for number, cohort in enumerate(full) if 4 in cohort)
    others = [sample(set(range(10)) - {4}, 10, 0.3, 42, number, "train") for number in range(1, 31)]
    assert sum(4 in cohort for cohort in full) > 2
    assert trained(clients, 30) == full[: first + 1] + others[first + 1 :]
    assert {len(cohort) for cohort in others} == {3}


def test_evaluation_is_counted_apart():
    """Client 0 cannot evaluate: it rests from that, in rounds 4 and 5, and trains on."""
    clients = clients_of(evaluate_fails=lambda cid, number: cid == 0)
    federate(strategies.load("fedavg"), clients, START, num_server_rounds=6)
    assert trained(clients, 6) == [[0, 1, 2]] * 6
    assert [number for kind, cid, number in clients.log if (kind, cid) == ("evaluate", 0)] == [1, 2, 3, 6]


def test_where_all_rest_nobody_rests(caplog):
    """No client has a test set: all are asked on, and the log says it once each."""
    clients = clients_of(evaluate_fails=lambda cid, number: True)
    federate(strategies.load("fedavg"), clients, START, num_server_rounds=9)
    assert [number for kind, cid, number in clients.log if (kind, cid) == ("evaluate", 1)] == list(range(1, 10))
    assert len(said(caplog)) == 3


def test_a_single_client_is_never_left_out():
    clients = clients_of(lambda cid, number: number == 1)
    with pytest.raises(RunFailed, match="round 1 got 0 of at least 1"):
        federate(strategies.load("fedavg"), clients, START, num_partitions=1, rest_after=1, max_retries=3)
    assert len(clients.log) == 4


def tired(config, *cids, number=1, phase="train"):
    """Rests in which these clients failed in round `number`."""
    rests = FailureTracker(config)
    rests.note(phase, number, [], dict.fromkeys(cids, "why"))
    return rests


@pytest.mark.parametrize(("min_results", "asked"), [(1, [1, 3]), (2, [1, 3]), (3, [0, 1, 2, 3])])
def test_who_rests_is_fetched_back_where_fewer_than_min_results_are_left(min_results, asked):
    rests = tired(configure(num_partitions=4, rest_after=1, min_results=min_results), 0, 2)
    assert rests.cohort(range(4), "train", 2) == asked
    assert rests.cohort(range(4), "evaluate", 2) == [0, 1, 2, 3]


def test_evaluation_needs_one_other_whatever_min_results_is():
    rests = tired(configure(num_partitions=4, rest_after=1, min_results=4), 0, 1, 2, phase="evaluate")
    assert rests.cohort(range(4), "evaluate", 2) == [3]


def test_an_absent_other_is_no_other():
    rests = tired(configure(rest_after=1, min_results=2), 0)
    assert rests.cohort([0, 1, 2], "train", 2) == [1, 2]
    assert rests.cohort([0, 1], "train", 2) == [0, 1]


def test_of_those_fetched_back_who_rests_the_shortest_comes_first():
    """Five of ten are asked, four must answer, and three do not rest: two of the seven others, 8 and 9 first."""
    config = configure(num_partitions=10, fraction_train=0.5, min_results=4, rest_after=1, rest_rounds=5)
    rests = tired(config, 8, 9, number=1)
    rests.note("train", 2, [], dict.fromkeys(range(3, 8), "why"))
    assert rests.cohort(range(10), "train", 3) == [0, 1, 2, 8, 9]
    # In round 7 the rest of 8 and 9 is over: five others are enough.
    assert rests.cohort(range(10), "train", 7) == [0, 1, 2, 8, 9]
    # Among those whose rest ends together, the sampling order decides.
    rests = tired(config, *range(3, 10))
    order = [cid for cid in sampling_order(range(10), 10, 42, 3, "train") if cid > 2]
    assert rests.cohort(range(10), "train", 3) == sorted([0, 1, 2, *order[:2]])


# Repeated rounds


def test_a_repeated_round_asks_others_before_those_that_failed():
    """Two of four are asked, and both must answer."""
    order = sampling_order(range(4), 4, 42, 1, "train")
    clients = clients_of(lambda cid, number: cid == order[0])
    fields = {"num_partitions": 4, "fraction_train": 0.5, "min_results": 2, "fraction_evaluate": 0.0}
    _, [outcome] = federate(strategies.load("fedavg"), clients, START, **fields)
    assert [cid for _, cid, _ in clients.log] == sorted(order[:2]) + sorted(order[1:3])
    assert (outcome.asked, outcome.answered, outcome.failures) == (2, 2, {})


def test_those_that_failed_in_this_round_come_before_those_that_rest():
    """Three of five are asked; two rest, two failed just now."""
    rests = tired(configure(num_partitions=5, fraction_train=0.6, rest_after=1, rest_rounds=9), 0, 1)
    assert rests.cohort(range(5), "train", 2, failed=[2, 3]) == [2, 3, 4]
    assert rests.cohort([0, 1, 2, 3], "train", 2, failed=[2, 3])[1:] == [2, 3]


def test_who_fails_to_train_and_to_evaluate_is_reported_with_why_it_did_not_train():
    def cannot(what):
        def work(*_):
            raise RuntimeError(f"cannot {what}")

        return work

    clients = clients_of()
    train, evaluate = clients.train, clients.evaluate
    clients.train = lambda cid, *rest: (cannot("train") if cid == 0 else train)(cid, *rest)
    clients.evaluate = lambda cid, *rest: (cannot("evaluate") if cid < 2 else evaluate)(cid, *rest)
    _, [outcome] = federate(strategies.load("fedavg"), clients, START)
    assert [outcome.failures[cid].split(" (")[0] for cid in (0, 1)] == [
        "RuntimeError: cannot train",
        "RuntimeError: cannot evaluate",
    ]


def test_where_there_are_no_others_those_that_failed_are_asked_again():
    """Two of two: one fails once."""
    times = iter([True])
    clients = clients_of(lambda cid, number: cid == 1 and next(times, False))
    _, [outcome] = federate(
        strategies.load("fedavg"), clients, START, num_partitions=2, min_results=2, fraction_evaluate=0.0
    )
    assert [cid for _, cid, _ in clients.log] == [0, 1, 0, 1]
    assert outcome.answered == 2


def test_a_repeated_round_takes_back_who_rests_and_each_attempt_counts():
    """Krum needs four answers of five clients. Client 4 fails in rounds 1-3 and rests in round 4, where client 0 fails:
    the second attempt of round 4 asks all five, and client 4 answers."""

    def fails(cid, number):
        return (cid == 4 and number <= 3) or (cid == 0 and number == 4)

    clients = clients_of(fails)
    fields = {"num_partitions": 5, "num_server_rounds": 5, "fraction_evaluate": 0.0}
    _, outcomes = federate(strategies.load("krum"), clients, START, **fields)
    assert [cid for _, cid, number in clients.log if number == 4] == [0, 1, 2, 3, 0, 1, 2, 3, 4]
    assert [outcome.answered for outcome in outcomes] == [4, 4, 4, 4, 5]


def test_attempts_count_like_rounds(caplog):
    """Client 2 fails three attempts of round 1, for client 1 fails two of them, and rests in round 2."""
    attempts = {1: 0, 2: 0}

    def fails(cid, number):
        if cid in attempts:
            attempts[cid] += 1
        return cid in attempts and attempts[cid] <= cid + 1

    clients = clients_of(fails)
    federate(strategies.load("fedavg"), clients, START, min_results=2, num_server_rounds=2, fraction_evaluate=0.0)
    assert [cid for _, cid, number in clients.log if number == 1] == [0, 1, 2] * 3
    assert clients.trained(2) == [0, 1]
    assert said(caplog)[0].startswith("client 2 failed to train 3 times in a row and is suspended until round 4: ")


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0]])
def test_a_strategy_that_gives_up_in_the_middle_hides_nobodys_failure(order):
    """It streams, and refuses at the first reply: client 3's failure counts whether it came before that or not."""

    class Refuses(FedAvg):
        attempts = 0

        def aggregate_train(self, server_round, replies):
            self.attempts += 1
            if self.attempts == 1:
                next(iter(replies))
                raise ValueError("not these")
            return super().aggregate_train(server_round, replies)

    clients, tables = clients_of(lambda cid, number: cid == 3), []
    config, grid = configure(num_partitions=4, fraction_evaluate=0.0), ArrivingIn(clients, order)
    rests = FailureTracker(config)
    note = lambda outcome: tables.append(rests.table())  # noqa: E731
    run_rounds(Refuses(), grid, ClientManager(grid, config), record(START), config, callbacks=[note], failures=rests)
    assert tables == [{"train": {"3": {"failed": 2, "until": 0}}, "evaluate": {}}]
