"""Lower bounds on epsilon: numbers by hand and as published, and how often they hold in simulated mechanisms."""

import math

import numpy as np
import pytest
from dp_accounting import get_epsilon_gaussian
from scipy.stats import binom

from fedkeras.accountant import Mechanism
from fedkeras.audit.bounds import (
    bound_of_guesses,
    ceiling,
    epsilon_of_guesses,
    epsilon_of_rates,
    interval,
    p_value,
    right_guesses,
)
from fedkeras.audit.canary_clients import log_ratio
from fedkeras.audit.gaussian_estimate import divergence, epsilon_of_normals, epsilon_of_scores


def by_appendix_d(canaries, guesses, right, epsilon, delta):
    """Steinke, Nasr, Jagielski, arXiv:2305.08846, appendix D: the same by a loop."""
    chance = 1 / (1 + math.exp(-epsilon))
    tail = binom.sf(right - 1, guesses, chance)
    worst = total = 0.0
    for step in range(1, right + 1):
        total += binom.pmf(right - step, guesses, chance)
        worst = max(worst, total / step)
    return min(1.0, tail + worst * delta * 2 * canaries)


def test_without_delta_ten_right_guesses_of_ten_by_hand():
    """(e^eps / (1 + e^eps))^10 = 0.05: the chance is 0.05^(1/10) = 0.741134, its odds are 2.86290."""
    assert p_value(10, 10, 10, 0.0, 0.0) == pytest.approx(2**-10)
    assert epsilon_of_guesses(10, 10, 10, 0.0, 0.95) == pytest.approx(math.log(0.741134 / 0.258866), abs=1e-4)
    assert epsilon_of_guesses(10, 10, 5, 0.0, 0.95) == 0.0, "half of them right is what coins do"


@pytest.mark.parametrize("counts", [(100, 100, 100), (100, 60, 51), (1000, 100, 90), (30, 30, 0), (50, 0, 0)])
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-2])
def test_the_p_value_is_that_of_the_papers_appendix(counts, epsilon, delta):
    assert p_value(*counts, epsilon, delta) == pytest.approx(by_appendix_d(*counts, epsilon, delta), abs=1e-12)


def test_impossible_counts_are_no_evidence():
    for counts in ((10, 11, 5), (10, 5, 6), (10, 5, -1)):
        with pytest.raises(ValueError, match="not possible"):
            p_value(*counts, 1.0, 0.0)


def test_what_could_be_shown_grows_with_canaries_and_shrinks_with_delta():
    chance = 0.035 ** (1 / 100)  # 0.7 of the error for guessing all of them
    assert ceiling(100, 0.0, 0.95) == pytest.approx(math.log(chance / (1 - chance)), abs=1e-4)
    assert ceiling(400, 0.0, 0.95) > ceiling(200, 0.0, 0.95) > ceiling(200, 1e-3, 0.95) > ceiling(200, 0.1, 0.95)


def test_the_surest_guesses_come_first_and_the_border_is_the_gap():
    scores = np.array([5.0, 0.1, 0.0, 9.0, 0.2])
    assert right_guesses(scores, np.array([1, 0, 0, 1, 0])).all()
    assert right_guesses(scores, np.array([1, 0, 0, 0, 1])).tolist() == [False, True, True, True, False]


@pytest.mark.parametrize(("epsilon", "canaries"), [(0.5, 100), (2.0, 100), (4.0, 400)])
def test_the_bound_holds_for_randomised_response_which_is_the_worst_case(epsilon, canaries):
    """Each coin is told rightly with the chance that epsilon allows at most: more than 5 % of the bounds may not fail.

    400 trials: three standard deviations above 5 % are 8.3 %.
    """
    rng = np.random.default_rng(1)
    right = rng.random((400, canaries)) < 1 / (1 + math.exp(-epsilon))
    bounds = np.array([bound_of_guesses(each, 0.0, 0.95).epsilon for each in right])
    assert (bounds > epsilon).mean() <= 0.083
    assert bounds.max() > 0.5 * epsilon, "and it says something"


def scores_of(rng, noise, claimed, rate=0.5, rounds=30, canaries=200):
    """Log-likelihood ratios by the claimed noise, where the sums have other noise; and the coins."""
    joined = rng.random(canaries) < 0.5
    drawn = (rng.random((rounds, canaries)) < rate) & joined
    shares = drawn + noise * rng.standard_normal((rounds, canaries))
    return log_ratio(shares, claimed, rate).sum(axis=0), joined


@pytest.mark.parametrize(("factor", "found"), [(1.0, (0.0, 0.05)), (0.1, (0.95, 1.0)), (0.0, (1.0, 1.0))])
def test_sampled_gaussian_sums_are_refuted_without_their_noise_and_not_with_it(factor, found):
    """30 sums over a half of the clients with noise 4.08: epsilon 2 at delta 1e-3."""
    claimed = Mechanism(4.08, 0.5, 1e-3).epsilon(30)
    assert claimed == pytest.approx(2.0, abs=0.01)
    rng = np.random.default_rng(2)
    refuted = [
        bound_of_guesses(right_guesses(*scores_of(rng, 4.08 * factor, 4.08)), 1e-3, 0.95).epsilon > claimed
        for _ in range(40)
    ]
    assert found[0] <= np.mean(refuted) <= found[1]


def test_exact_intervals_by_hand():
    """None of 10: at most 1 - 0.025^(1/10); all of 10: at least 0.025^(1/10)."""
    assert interval(0, 10, 0.95) == pytest.approx((0.0, 1 - 0.025**0.1))
    assert interval(10, 10, 0.95) == pytest.approx((0.025**0.1, 1.0))
    assert interval(0, 0, 0.95) == (0.0, 1.0)


def test_epsilon_by_rates_by_hand():
    """500 of 500 true and none of 500 false: ln(low / high) with low = 0.025^(1/500) and high = 1 - low."""
    low = 0.025 ** (1 / 500)
    assert epsilon_of_rates(500, 500, 0, 500, 0.0, 0.95) == pytest.approx(math.log(low / (1 - low)))
    assert epsilon_of_rates(500, 500, 0, 500, 0.5, 0.95) == pytest.approx(math.log((low - 0.5) / (1 - low)))
    assert epsilon_of_rates(250, 500, 250, 500, 0.0, 0.95) == 0.0
    half = interval(250, 500, 0.95)[1]  # who is not taken for a member is none: the negatives tell it
    assert epsilon_of_rates(500, 500, 250, 500, 0.1, 0.95) == pytest.approx(math.log((1 - half - 0.1) / (1 - low)))


def test_epsilon_by_rates_holds_for_a_gaussian_and_comes_near_it():
    rng = np.random.default_rng(3)
    true = get_epsilon_gaussian(1.0, 1e-2)
    found = []
    for _ in range(100):
        inside, outside = rng.normal(1, 1, 20000) > 2.0, rng.normal(0, 1, 20000) > 2.0
        found.append(epsilon_of_rates(int(inside.sum()), 20000, int(outside.sum()), 20000, 1e-2, 0.95))
    assert (np.array(found) > true).mean() <= 0.05 and np.median(found) > 0.7 * true


# What epsilon looks like


@pytest.mark.parametrize("deviation", [0.541, 1.54, 4.22])
def test_two_normals_of_one_deviation_are_the_gaussian_mechanism(deviation):
    """The noises of epsilon 10, 3 and 1 at delta 1e-6 in the paper's section 3."""
    found = epsilon_of_normals(0.0, deviation, 1.0, deviation, 1e-6)
    assert found == pytest.approx(get_epsilon_gaussian(deviation, 1e-6), rel=1e-4)
    assert found == pytest.approx({0.541: 10, 1.54: 3, 4.22: 1}[deviation], rel=0.01)


def test_the_estimate_is_that_of_the_authors_code():
    """google-research/federated, one_shot_epe: mu = sigma = d^(-1/2), d = 2000, delta 0.01."""
    deviation = 2000**-0.5
    assert epsilon_of_normals(0.0, deviation, deviation, deviation, 1e-2) == pytest.approx(2.317789, abs=1e-5)


def test_two_normals_of_other_deviations_against_an_integral():
    grid = np.linspace(-40, 60, 200_001)
    step = grid[1] - grid[0]

    def density(mean, deviation):
        return np.exp(-0.5 * ((grid - mean) / deviation) ** 2) / (deviation * math.sqrt(2 * math.pi))

    for one, other in (((0, 1), (2, 3)), ((2, 3), (0, 1)), ((1, 2), (1, 2.5)), ((0, 2), (0, 1))):
        for epsilon in (0.0, 0.3, 1.5):
            exact = np.maximum(0, density(*one) - math.exp(epsilon) * density(*other)).sum() * step
            assert divergence(*one, *other, epsilon) == pytest.approx(exact, abs=1e-5)


def test_no_estimate_from_nothing():
    assert epsilon_of_scores(np.zeros(1), np.zeros(5), 1e-3) is None
    assert epsilon_of_scores(np.ones(5), np.zeros(5), 1e-3) is None, "no spread"
    assert epsilon_of_scores(np.arange(5.0), np.arange(5.0), 0.0) is None
