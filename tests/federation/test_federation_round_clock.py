"""Rounds by a simulated clock, by hand: what they take, who is in time, how many steps those do."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_federation_late import OnThreads
from toy_federation import ArrivingIn, ToyClients, content, federate, floats

from fedkeras import strategies
from fedkeras.config import Config
from fedkeras.errors import RunFailed, UserError
from fedkeras.federation.grids import federation_grid
from fedkeras.federation.round_clock import require_clocks
from fedkeras.reports.simulated_time import elapsed
from fedkeras.runtime.in_process import InProcessGrid
from fedkeras.workflows.base import workflow_of
from fedkeras.workflows.flag_checks import check_flags

START = floats(w=[0, 10])
STEPS = (10, 20, 30)
"""Batches of the three clients' parts, of 8 examples each."""


@pytest.fixture
def speeds(tmp_path):
    """--clients with the factors 1, 2 and 4: a round's 10, 20 and 30 steps take 1, 4 and 12 s."""
    (tmp_path / "speeds.csv").write_text("cid,slow\n0,1\n1,2\n2,4\n")
    return f"slow={tmp_path}/speeds.csv:step=0.1"


def train(cid, server_round, weights, config):
    """Adds 1 to every weight for each step."""
    steps = STEPS[cid]
    if "most-steps" not in config:
        return content(weights, 8 * steps, loss=0.0)
    if config["most-steps"]:
        steps = min(steps, config["most-steps"])
    moved = {name: array + steps for name, array in weights.items()}
    return content(moved, 8 * STEPS[cid], loss=0.0, **{"local-steps": steps})


def run(work=train, **fields):
    fields = {"fraction_evaluate": 0.0, "batch_size": 8, **fields}
    return federate(strategies.load("fedavg"), ToyClients(work), START, **fields)


def lines(result, *names):
    return {row["client"]: tuple(row.get(name) for name in names) for row in result.rows if row["phase"] == "train"}


def test_a_round_takes_as_long_as_its_slowest_client(speeds):
    _, results = run(speeds=speeds, num_server_rounds=2)
    assert lines(results[0], "local_steps", "simulated_seconds") == {
        "0": (10, pytest.approx(1.0)), "1": (20, pytest.approx(4.0)), "2": (30, pytest.approx(12.0)),
        "all": (60, pytest.approx(12.0)),
    }  # fmt: skip
    assert elapsed([row for result in results for row in result.rows]) == pytest.approx({1: 12.0, 2: 24.0})


def test_the_bytes_of_its_messages_take_time_too(speeds):
    _, [result] = run(speeds=f"{speeds},mbit=0.001")
    both_ways = 2 * 8 * 136 / 1000  # two numbers of four bytes and their header there and back, at 1000 bits a second
    assert lines(result, "simulated_seconds")["1"] == (pytest.approx(4.0 + both_ways),)


def test_without_a_clock_nothing_is_asked_and_no_column_is_added(speeds):
    final, [result] = run()
    assert final["w"].tolist() == [0, 10] and not {"local_steps", "simulated_seconds"} & {*result.rows[0]}


@pytest.mark.parametrize("steps", [None, 0, -3, 2.5])
def test_who_does_not_say_its_steps_has_failed(steps, speeds):
    def silent(cid, server_round, weights, config):
        said = {} if cid != 1 else {"local-steps": steps} if steps is not None else {}
        return content(weights, 8, loss=0.0, **({"local-steps": 1} if cid != 1 else said))

    _, [result] = run(silent, speeds=speeds)
    assert result.failures == {1: f"says that it did {steps!r} steps"}


def test_nobody_sets_the_clock_but_the_server():
    def liar(cid, server_round, weights, config):
        return content(weights, 8, loss=0.0, **({"simulated-seconds": 0.0} if cid == 2 else {}))

    _, [result] = run(liar)
    assert result.failures == {2: "metric 'simulated-seconds' has the name of a column of history.csv"}


# Deadlines


def test_who_is_slow_stops_at_its_last_whole_step_in_time_and_counts_for_all_its_examples(speeds):
    """5 s are 50, 25 and 12 steps: client 2 does 12 of its 30, and has 240 examples."""
    final, [result] = run(speeds=speeds, round_deadline=5.0)
    assert lines(result, "local_steps", "num_examples", "simulated_seconds") == {
        "0": (10, 80, pytest.approx(1.0)), "1": (20, 160, pytest.approx(4.0)), "2": (12, 240, pytest.approx(4.8)),
        "all": (42, 480, pytest.approx(4.8)),
    }  # fmt: skip
    assert final["w"][0] == pytest.approx((10 * 80 + 20 * 160 + 12 * 240) / 480)
    assert not result.failures and not result.left_out and (result.asked, result.answered) == (3, 3)


def test_the_way_there_and_back_is_part_of_the_deadline(speeds):
    """At 1000 bits a second a client's 272 bytes of both messages take 2.176 s: of 5 s, 2.824 are left, or 7 steps."""
    _, [result] = run(speeds=f"{speeds},mbit=0.001", round_deadline=5.0)
    assert lines(result, "local_steps", "simulated_seconds")["2"] == (7, pytest.approx(7 * 0.4 + 2.176))


def test_who_has_no_time_for_a_step_is_not_asked_and_the_round_ends_at_the_deadline(speeds):
    asked = []

    def noted(cid, *message):
        asked.append(cid)
        return train(cid, *message)

    final, results = run(noted, speeds=speeds, round_deadline=0.3, num_server_rounds=4)
    assert asked == [0, 1] * 4
    assert results[3].left_out == {2: "has no time for a step within 0.3 s (--round-deadline)"}
    assert not results[3].failures and (results[3].asked, results[3].answered) == (3, 2), "nobody is suspended for it"
    assert lines(results[3], "left_out", "simulated_seconds")["all"] == (1, 0.3)
    assert final["w"][0] == pytest.approx(4 * (3 * 80 + 1 * 160) / 240)


def test_who_is_late_can_be_left_out(speeds):
    final, [result] = run(speeds=speeds, round_deadline=5.0, late="drop")
    assert result.left_out == {2: "takes 12 s, 5 s are allowed (--round-deadline)"}
    assert final["w"][0] == pytest.approx((10 * 80 + 20 * 160) / 240)
    assert lines(result, "simulated_seconds")["all"] == (5.0,), "the server waits until then"


def test_uniform_weights_stay_uniform_and_facts_are_facts(speeds):
    final, _ = run(speeds=speeds, round_deadline=5.0, client_weights="uniform")
    assert final["w"][0] == pytest.approx((10 + 20 + 12) / 3)
    dealt = {"train": {0: 80, 1: 160, 2: 240}}
    final, [result] = run(speeds=speeds, round_deadline=5.0, dealt=dealt)
    assert final["w"][0] == pytest.approx((10 * 80 + 20 * 160 + 12 * 240) / 480)
    assert result.weightings["train"].counts == {0: 80, 1: 160, 2: 240}


def test_more_steps_than_allowed_are_a_fault(speeds):
    def eager(cid, server_round, weights, config):
        return content(weights, 8 * STEPS[cid], loss=0.0, **{"local-steps": (10, 30, 30)[cid]})

    _, [result] = run(eager, speeds=speeds, round_deadline=5.0)
    assert result.failures == {
        1: "says that it did 30 steps, and was to do 20 at most",
        2: "says that it did 30 steps, and was to do 12 at most",
    }


def test_a_round_in_which_nobody_is_in_time_says_so(speeds):
    with pytest.raises(RunFailed, match=r"got 0 of at least 1 answers .*client 0: takes 1 s, 0.5 s are allowed"):
        run(speeds=speeds, round_deadline=0.5, late="drop", max_retries=0)


# Over-selection

SIX = "slow={}:step=0.1"
FACTORS = (3, 1, 6, 2, 5, 4)


@pytest.fixture
def six(tmp_path):
    rows = [f"{cid},{factor}" for cid, factor in enumerate(FACTORS)]
    (tmp_path / "six.csv").write_text("\n".join(["cid,slow", *rows]))
    return {"speeds": SIX.format(tmp_path / "six.csv"), "num_partitions": 6, "fraction_train": 0.5, "over_select": 1.3}


def ten_steps(cid, server_round, weights, config):
    moved = {name: array + cid for name, array in weights.items()}
    return content(moved, 80, loss=0.0, **{"local-steps": 10})


def test_the_first_to_answer_make_the_round_and_the_others_are_sent_home(six):
    """1.3 x 3 is 3.9: four are asked, the slowest of them is left out."""
    base = run(ten_steps, **{**six, "over_select": 1.0})[1][0]
    final, [result] = run(ten_steps, **six)
    asked = {int(row["client"]) for row in result.rows if row["client"] != "all"} | {*result.left_out}
    assert len(asked) == 4 and {int(row["client"]) for row in base.rows if row["client"] != "all"} < asked
    slowest = max(asked, key=lambda cid: FACTORS[cid])
    assert result.left_out == {
        slowest: f"was sent home: 3 others were faster than {FACTORS[slowest]} s (--over-select)"
    }
    others = asked - {slowest}
    assert final["w"][0] == pytest.approx(sum(others) / 3)
    assert lines(result, "simulated_seconds", "left_out")["all"] == (max(FACTORS[cid] for cid in others), 1)
    assert (result.asked, result.answered, result.failures) == (4, 3, {})


def test_who_fails_is_made_up_for_by_who_would_have_been_sent_home(six):
    fastest = []

    def broken(cid, *message):
        if cid == 1:
            fastest.append(cid)
            raise RuntimeError("broken")
        return ten_steps(cid, *message)

    _, results = run(broken, **six, num_server_rounds=8)
    assert fastest, "client 1 was asked"
    for result in results:
        assert result.answered == 3 and len(result.left_out) == (0 if result.failures else 1)


def test_with_a_deadline_a_round_ends_when_enough_have_answered(six):
    """Of factors 1 to 6 those up to 4 are in time for 10 steps in 4 s."""
    for result in run(ten_steps, **six, round_deadline=4.0, late="drop", num_server_rounds=6)[1]:
        took = sorted(row["simulated_seconds"] for row in result.rows if row["client"] != "all")[: result.answered]
        expected = took[-1] if result.answered == 3 else 4.0
        assert lines(result, "simulated_seconds")["all"] == (pytest.approx(expected),)


# Without slow clients


def history(results):
    return [{name: value for name, value in row.items() if name != "seconds"} for r in results for row in r.rows]


@given(st.permutations(range(6)), st.integers(0, 99))
@settings(max_examples=5, deadline=None)
def test_far_deadlines_and_nobody_left_over_change_no_bit(order, seed):
    """Only the columns of time are added."""

    def work(cid, server_round, weights, config):
        moved = {name: array * np.float32(0.9) + np.float32(0.1 * (cid + 1)) for name, array in weights.items()}
        own = {"local-steps": 2} if "most-steps" in config else {}
        return content(moved, 10 + cid, loss=float(cid) / 3, **own)

    fields = {"num_partitions": 6, "fraction_train": 0.5, "seed": seed, "num_server_rounds": 2}

    def once(**more):
        return run(work, grid=ArrivingIn(ToyClients(work), order), **fields, **more)

    final, results = once()
    timed, others = once(speeds="slow=none", round_deadline=1e6)
    assert final["w"].tobytes() == timed["w"].tobytes()
    added = ("local_steps", "simulated_seconds", "left_out")
    assert history(results) == [{k: v for k, v in row.items() if k not in added} for row in history(others)]


# By the real clock


def test_by_the_real_clock_who_does_not_answer_is_left_out_and_asked_again():
    """Client 2 hangs in every round: it costs the deadline and its grace, and is never suspended."""
    hang = threading.Event()

    def work(cid, server_round, weights, config):
        assert config["most-seconds"] == 0.2
        if cid == 2:
            hang.wait()
        return content(weights, 10, loss=0.0, **{"local-steps": 1})

    grid = OnThreads(ToyClients(work), 3)
    try:
        fields = {"round_deadline": 0.2, "deadline_grace": 0.1, "rest_after": 1, "num_server_rounds": 3}
        _, results = run(work, grid=grid, **fields)
    finally:
        hang.set()
        grid.end()
    for result in results:
        assert result.left_out == {2: "no answer within 0.3 s (--round-deadline)"} and not result.failures
        assert (result.asked, result.answered) == (3, 2) and 0.3 <= result.seconds < 2
        assert lines(result, "num_examples", "left_out") == {"0": (10, None), "1": (10, None), "all": (20, 1)}


def test_by_the_real_clock_the_first_to_answer_make_the_round():
    hang = threading.Event()

    def work(cid, server_round, weights, config):
        if cid == 1:
            hang.wait()
        return content({name: array + cid for name, array in weights.items()}, 10, loss=0.0)

    grid = OnThreads(ToyClients(work), 4)
    try:
        final, [result] = run(work, grid=grid, num_partitions=4, fraction_train=0.75, over_select=1.3)
    finally:
        hang.set()
        grid.end()
    assert result.left_out == {1: "was sent home: 3 others had answered before it (--over-select)"}
    assert final["w"][0] == pytest.approx((0 + 2 + 3) / 3) and not result.failures and result.seconds < 5


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"late": "drop"}, "--late changes nothing without --round-deadline"),
        ({"clients": "slow=none", "round_deadline": 9.0, "deadline_grace": 1.0}, "--deadline-grace is for real clocks"),
        ({"clients": "slow=none", "round_deadline": 0.05}, "shorter than a step of the fastest client, 0.1 s"),
        ({"round_deadline": 3600.0}, "--round-timeout 3600 must be longer than --round-deadline and --deadline-grace"),
        ({"over_select": 1.3}, "--over-select 1.3 of a cohort of 3 is 4 clients, and there are 3"),
        ({"round_deadline": 9.0, "spawn": 2}, "3 clients take turns in 2 processes .* give --clients slow=lognormal"),
        ({"split": "sequential", "clients": "slow=none"}, "--clients is for federated rounds"),
        ({"mode": "collect", "data_source": "client", "over_select": 2.0}, "--over-select is for federated rounds"),
        ({"mods": "secure-aggregation", "round_deadline": 9.0}, "does not go with --clients, --round-deadline or"),
        ({"mods": "ditto", "clients": "slow=none"}, "--clients does not go with --mods ditto"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(fields, said):
    config = Config(**fields)
    with pytest.raises(UserError, match=said):
        check_flags(workflow_of(config), config)


def test_clients_that_take_turns_have_no_real_clock():
    config = Config(round_deadline=9.0)
    with pytest.raises(UserError, match="--round-deadline: clients take turns here"):
        require_clocks(config, federation_grid(InProcessGrid(ToyClients(), 3, {})))
