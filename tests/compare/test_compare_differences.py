"""Paired differences: by hand, beside scipy's own test, and how often they claim what is not there."""

import math
from itertools import combinations

import numpy as np
import pytest
from made import result

from fedkeras.compare import table, words
from fedkeras.compare.differences import compared_pairs, intervals, paired_differences

ARMS = ("centralised", "local", "fedavg", "fedmedian", "fedprox", "split-shared")


def results_of(figures, **more):
    """{arm: an accuracy a seed} as results."""
    return [result(arm, 42 + i, value, **more) for arm, row in figures.items() for i, value in enumerate(row)]


def only(figures, **more):
    (found,) = paired_differences(results_of(figures, **more))
    return found


def test_mean_and_interval_by_hand():
    """Differences 1, 2, 3 points: mean 2, deviation 1; t of 2 degrees of freedom at 0.975 is 4.3027."""
    found = only({"fedavg": (0.81, 0.92, 0.73), "local": (0.80, 0.90, 0.70)})
    assert (found.arm, found.other, found.seeds) == ("fedavg", "local", (42, 43, 44))
    half = 0.01 * 4.3027 / math.sqrt(3)
    assert (found.mean, found.low, found.high) == pytest.approx((0.02, 0.02 - half, 0.02 + half), abs=1e-6)
    assert not found.shown  # it reaches from -0.5 to 4.5 points, though all differences have one sign
    back = found.mirrored()
    assert (back.arm, back.mean, back.low) == ("local", -found.mean, -found.high)


def test_one_comparison_is_scipys_paired_t_test():
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(0)
    one, other = rng.normal(0.8, 0.01, 5), rng.normal(0.79, 0.01, 5)
    expected = ttest_rel(one, other).confidence_interval(0.95)
    assert intervals(one - other) == pytest.approx((expected.low, expected.high))
    tighter = ttest_rel(one, other).confidence_interval(1 - 0.05 / 4)
    assert intervals(one - other, comparisons=4) == pytest.approx((tighter.low, tighter.high))


def test_a_spread_that_both_arms_share_is_no_reason_for_doubt():
    """Seeds 30 points apart, and the same two points between the arms: the unpaired deviation would hide them."""
    shared = (0.60, 0.75, 0.90)
    found = only({"fedavg": [one + 0.02 + 0.001 * i for i, one in enumerate(shared)], "local": shared})
    assert found.shown and found.low > 0.01


def test_the_words_make_these_comparisons_and_no_others():
    assert compared_pairs({"centralised": "centralised", "local": "local", "fedavg": "federated"}) == [
        ("fedavg", "centralised"), ("fedavg", "local"),
    ]  # fmt: skip
    assert compared_pairs({"local": "local", "centralised": "centralised"}) == [("local", "centralised")]
    kinds = {"fedavg": "federated", "split-shared": "split", "local": "local", "fedprox": "federated"}
    assert set(map(frozenset, compared_pairs(kinds))) == set(map(frozenset, combinations(kinds, 2)))


def test_choosing_among_more_arms_takes_more():
    rows = {"fedavg": (0.90, 0.91, 0.92), "fedmedian": (0.88, 0.90, 0.91), "fedprox": (0.90, 0.90, 0.92)}
    alone = only({name: rows[name] for name in ("fedavg", "fedmedian")})
    among = next(one for one in paired_differences(results_of(rows)) if one.other == "fedmedian")
    assert alone.mean == among.mean and among.high - among.low > 1.7 * (alone.high - alone.low)


def test_equal_differences_are_no_certainty():
    """One example of 100 more with each of two or three seeds is a coarse count; ten times of ten it is something."""
    few = {"fedavg": (0.91, 0.91), "local": (0.90, 0.90)}
    assert not only(few, test_examples=100).shown
    assert only({name: row[:1] * 10 for name, row in few.items()}, test_examples=100).shown
    assert only({"fedavg": (0.9, 0.9), "local": (0.7, 0.7)}, test_examples=100).shown  # twenty examples of a hundred
    unknown = only({"fedavg": (0.9, 0.91, 0.92), "local": (0.8, 0.81, 0.82)})  # a result of an older version
    assert unknown.low is None and not unknown.shown
    assert only({"fedavg": (0.9, 0.8), "local": (0.9, 0.8)}).identical


def test_no_interval_reaches_beyond_what_accuracies_can_differ():
    found = only({"fedavg": (0.99, 0.60), "local": (0.10, 0.50)})
    assert (found.low, found.high) == (-1.0, 1.0)


def test_what_is_no_number_is_left_out_of_its_pairs_alone():
    rows = {"fedavg": (0.9, None, 0.92), "fedprox": (0.8, 0.85, float("nan")), "local": (0.7, 0.71, 0.72)}
    seeds = {(one.arm, one.other): one.seeds for one in paired_differences(results_of(rows))}
    assert seeds == {("fedavg", "local"): (42, 44), ("fedprox", "local"): (42, 43), ("fedavg", "fedprox"): (42,)}


def test_losses_are_compared_where_there_is_no_accuracy():
    rows = {"fedavg": (0.30, 0.31, 0.33), "local": (0.40, 0.42, 0.43)}
    results = [result(arm, 42 + i, None, loss=loss) for arm, row in rows.items() for i, loss in enumerate(row)]
    (found,) = paired_differences(results)
    assert found.metric == "loss" and found.mean == pytest.approx(0.31 / 3) and found.shown  # lower is better


def test_numbers_have_the_places_that_they_need():
    def shown(*values):
        return only({"fedavg": [0.5 + value for value in values], "local": [0.5] * len(values)}).texts()

    assert shown(0.012, 0.010, 0.0115) == ("1.1", "0.9", "1.4")
    assert shown(0.0012, 0.0010, 0.0011) == ("0.11", "0.09", "0.13")
    mean, low, _ = shown(0.2, 0.201, 0.199)
    assert (mean, low) == ("20.0", "19.8")
    assert shown(0.0, 0.0, 0.0) == ("0.0",)
    assert shown(0.0310, 0.0100, 0.0200)[1] != "0.0"  # 0.04 above zero is not shown as zero


def test_the_table_of_differences():
    results = results_of({"fedavg": (0.81, 0.92, 0.73), "local": (0.80, 0.90, 0.70)})
    head, line = table.differences_text(paired_differences(results))
    assert head.split("  ")[0] == "difference" and " ".join(line.split()) == "fedavg − local 2.0 -0.5 to 4.5 3"
    assert table.differences_text(paired_differences(results[::3])) == []


SPREADS = np.array([0.002, 0.004, 0.006, 0.008, 0.010, 0.012])
"""Deviations of the arms' own; how they differ is why one that is pooled over arms would not do."""


def simulate(arms, seeds, times, gap=0.0, examples=None):
    """Accuracies (times, arms, seeds) of arms that are equal, but for the first one's `gap`.

    A seed raises or lowers all arms by far more than they differ. With `examples` figures are counts of them.
    """
    rng = np.random.default_rng([arms, seeds])
    figures = rng.normal(0.7, 0.05, (times, 1, seeds)) + rng.normal(0, 1, (times, arms, seeds)) * SPREADS[:arms, None]
    figures[:, 0] += gap
    return np.round(figures * examples) / examples if examples else figures


def shown_in(figures, examples=None):
    """(times, pairs): which differences are shown, in all comparisons at once."""
    pairs = [*combinations(range(figures.shape[1]), 2)]
    values = np.stack([figures[:, one] - figures[:, other] for one, other in pairs], axis=1)
    low, high = intervals(values, len(pairs), 1 / examples if examples else None)
    return (low > 0) | (high < 0)


@pytest.mark.parametrize("arms", [2, 3, 6])
@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("examples", [None, 2000, 100])
def test_equal_arms_are_told_apart_in_five_of_a_hundred_comparisons_at_most(arms, seeds, examples):
    """Any false claim of a comparison counts, of up to 15. Three deviations of luck are allowed for."""
    times = 8000
    luck = 3 * math.sqrt(0.05 * 0.95 / times)
    false = shown_in(simulate(arms, seeds, times, examples=examples), examples).any(axis=1).mean()
    assert false <= 0.05 + luck
    if arms == 2 and examples is None:
        assert false >= 0.05 - luck, "no power is given away"


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_a_comparison_of_results_is_judged_as_these_are_and_its_words_say_the_same(seeds):
    for figures in simulate(3, seeds, 20, gap=0.02):
        found = paired_differences(results_of(dict(zip(ARMS[2:5], figures.tolist(), strict=True))))
        shown = [one.shown for one in found]
        assert shown == shown_in(figures[None])[0].tolist()
        assert shown == ["better than" in words.relation(one) for one in found]
        assert shown == ["no difference" not in words.relation(one) for one in found]


@pytest.mark.parametrize("arms", [2, 3, 6])
@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_what_a_paired_t_test_finds_is_found(arms, seeds):
    """The gap of which the t-test for so many comparisons finds 95 of 100, by scipy's non-central t."""
    from scipy.optimize import brentq
    from scipy.stats import nct, t

    critical = t.ppf(1 - 0.025 / math.comb(arms, 2), seeds - 1)
    centre = brentq(lambda gap: nct.sf(critical, seeds - 1, gap) - 0.95, 0, 100 * critical)
    gap = centre * math.hypot(*SPREADS[:2]) / math.sqrt(seeds)
    found = shown_in(simulate(arms, seeds, 2000, gap=gap))
    assert found[:, 0].mean() > 0.93
