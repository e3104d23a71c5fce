"""Any sequence of failures: what holds of every cohort, and that a run cut anywhere goes on as if it had not been."""

import json
from types import SimpleNamespace

import pytest
from bare_runs import run_rounds
from hypothesis import given, settings
from hypothesis import strategies as some
from toy_federation import ArrivingIn, clients_of, configure, federate, floats

from fedkeras import strategies
from fedkeras.errors import RunFailed
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.records import record
from fedkeras.federation.sampling import FailureTracker, cohort_size, sample
from fedkeras.runtime.in_process import InProcessGrid

START = floats(w=[0, 10])

counts = some.integers(1, 6)
events = some.lists(some.sets(some.integers(0, 5)), max_size=12)
settings_of = some.fixed_dictionaries(
    {
        "rest_after": some.integers(0, 3),
        "rest_rounds": some.integers(1, 3),
        "min_results": counts,
        "fraction_train": some.sampled_from([0.2, 0.5, 0.9, 1.0]),
    }
)


def play(rests, config, events, first=1):
    """The cohorts of rounds in which those of the cohort fail who are in the round's event."""
    cohorts = []
    for number, failing in enumerate(events, first):
        cohort = rests.cohort(range(6), "train", number)
        rests.note("train", number, set(cohort) - failing, {cid: "why" for cid in cohort if cid in failing})
        cohorts.append(cohort)
    return cohorts


@settings(deadline=None)
@given(settings_of, events, some.integers(0, 12))
def test_a_table_is_all_there_is_to_know(fields, events, cut):
    """Through JSON in the middle of any sequence, and the rest goes as without."""
    config = configure(num_partitions=6, **fields)
    whole, half = FailureTracker(config), FailureTracker(config)
    expected = play(whole, config, events)
    before = play(half, config, events[:cut])
    restored = FailureTracker.from_table(config, json.loads(json.dumps(half.table())))
    assert restored.table() == half.table()
    assert before + play(restored, config, events[cut:], first=cut + 1) == expected
    assert restored.table() == whole.table()


@settings(deadline=None)
@given(settings_of, events, some.sets(some.integers(0, 5), min_size=1), some.sets(some.integers(0, 5)))
def test_resting_never_asks_too_few_nor_one_that_rests_before_one_that_does_not(fields, events, present, failed):
    config = configure(num_partitions=6, **fields)
    rests = FailureTracker(config)
    play(rests, config, events)
    number, size = len(events) + 1, cohort_size(6, config.fraction_train)
    resting = {int(cid) for cid, account in rests.table()["train"].items() if account["until"] > number}
    cohort = rests.cohort(present, "train", number)
    assert cohort == sorted(set(cohort) & present)
    assert len(cohort) >= min(size, len(present - resting))
    assert len(cohort) >= min(size, len(present), config.min_results)
    if len(present - resting) >= config.min_results:
        assert not set(cohort) & resting
    if set(cohort) & resting:
        assert present - resting <= set(cohort)
        assert len(cohort) == min(size, len(present))
    repeated = rests.cohort(present, "train", number, failed)
    assert len(repeated) == min(size, len(present))
    if set(repeated) & (failed | resting):
        assert present - failed - resting <= set(repeated)


@settings(deadline=None)
@given(events)
def test_where_nobody_fails_three_times_cohorts_are_as_without_rests(events):
    config = configure(num_partitions=6, fraction_train=0.5, rest_after=len(events) + 1)
    assert play(FailureTracker(config), config, events) == [
        sample(range(6), 6, 0.5, 42, number, "train") for number in range(1, len(events) + 1)
    ]


@settings(max_examples=25, deadline=None)
@given(some.permutations(range(5)), some.sets(some.tuples(some.integers(0, 4), some.integers(1, 6)), max_size=20))
def test_the_order_of_arrival_changes_nothing(order, failing):
    def run(arrival):
        clients = clients_of(lambda cid, number: cid and (cid, number) in failing)
        fields = {"num_partitions": 5, "num_server_rounds": 6, "rest_after": 2, "min_results": 2, "max_retries": 9}
        try:
            grid = ArrivingIn(clients, arrival)
            final, outcomes = federate(strategies.load("fedavg"), clients, START, grid, fraction_train=0.6, **fields)
        except RunFailed as error:
            return str(error), [clients.trained(number) for number in range(1, 7)]
        return final["w"].tobytes(), [(list(o.failures.items()), o.asked, o.answered) for o in outcomes]

    assert run(order) == run(range(5))


# Going on with an earlier run


def run_with(clients, config, arrays, **options):
    grid, outcomes = InProcessGrid(clients, config.num_partitions, {}), []
    final = run_rounds(
        strategies.load("fedavg"),
        grid,
        ClientManager(grid, config),
        arrays,
        config,
        callbacks=[outcomes.append],
        **options,
    )
    rows = [{**line, "seconds": 0} for outcome in outcomes for line in outcome.rows]
    return SimpleNamespace(final=final, rows=rows, outcomes=outcomes)


@pytest.mark.parametrize("cut", range(1, 10))
def test_a_resumed_run_is_the_uninterrupted_one(cut):
    def fails(cid, number):
        return cid == 2 or (cid == 4 and number in (2, 3, 5)) or (number == 7 and cid < 3)

    config = configure(
        num_partitions=6, num_server_rounds=10, fraction_train=0.7, rest_after=2, min_results=3, max_retries=5
    )
    whole = run_with(clients_of(fails), config, record(START))
    rests = FailureTracker(config)
    stops = iter([False] * (cut - 1) + [True])
    first = run_with(clients_of(fails), config, record(START), failures=rests, stop=lambda: next(stops))
    assert [outcome.round for outcome in first.outcomes] == list(range(1, cut + 1))
    second = run_with(
        clients_of(fails),
        config,
        first.final,
        first_round=cut + 1,
        failures=FailureTracker.from_table(config, json.loads(json.dumps(rests.table()))),
    )
    assert second.final["w"].data == whole.final["w"].data
    assert first.rows + second.rows == whole.rows


def test_that_run_would_differ_without_its_rests():
    clients, config = clients_of(lambda cid, number: cid == 2), configure(num_server_rounds=4)
    run_with(clients, config, record(START), first_round=4)
    assert clients.trained(4) == [0, 1, 2]


def test_stop_is_asked_after_the_callbacks_and_a_run_that_is_over_trains_nothing():
    clients, calls = clients_of(), []
    config, grid = configure(num_server_rounds=5), InProcessGrid(clients_of(), 3, {})
    final = run_rounds(
        strategies.load("fedavg"),
        grid,
        ClientManager(grid, config),
        record(START),
        config,
        callbacks=[lambda outcome: calls.append(outcome.round)],
        stop=lambda: calls.append("stop?") or len(calls) >= 4,
    )
    assert calls == [1, "stop?", 2, "stop?"]
    assert final["w"].numpy().tolist() == pytest.approx([28 / 6, 10 + 28 / 6])
    over = run_with(clients, config, record(START), first_round=6)
    assert (over.outcomes, clients.log, over.final["w"].numpy().tolist()) == ([], [], [0, 10])


@pytest.mark.parametrize("table", [{"train": 3}, {"fly": {"1": {"failed": 1, "until": 0}}}, {"train": {"x": {}}}, []])
def test_what_is_no_table_is_refused(table):
    with pytest.raises(ValueError, match="no table of failures"):
        FailureTracker.from_table(configure(), table)


def test_an_empty_table_is_nobodys_failure():
    assert FailureTracker.from_table(configure(), {}).table() == {"train": {}, "evaluate": {}}
