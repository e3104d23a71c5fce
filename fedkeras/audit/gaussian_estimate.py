"""What epsilon looks like if an attacker's statistic is normal, with and without the canary: no bound, an estimate.

Andrew, Kairouz, Oh, Oprea, McMahan, Suriyakumar: One-shot Empirical Privacy Estimation for Federated Learning, ICLR
2024, arXiv:2302.03098, section 3: the cosine of a random direction with what is released is N(0, 1/d) for a canary that
took no part, and about N(mu, sigma^2) for one that did; epsilon is that of these two distributions at delta.
"""

import math

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

MOST = 1e4


def epsilon_of_scores(included: np.ndarray, left_out: np.ndarray, delta: float) -> float | None:
    """The estimate from both kinds' scores, (n,) each; None where one has fewer than two, or none has a spread.

    They count as of one deviation: two that are each had from a few dozen scores would differ by chance, and at a small
    delta such a difference is all that is seen.
    """
    if min(len(included), len(left_out)) < 2 or not delta:
        return None
    freedom = len(included) + len(left_out) - 2
    squares = sum(float(np.sum((each - np.mean(each)) ** 2)) for each in (included, left_out))
    if not squares:
        return None
    deviation = math.sqrt(squares / freedom)
    distance = max(0.0, float(np.mean(included) - np.mean(left_out)))
    return epsilon_of_normals(0.0, deviation, distance, deviation, delta)


def epsilon_of_normals(mean: float, deviation: float, other_mean: float, other_deviation: float, delta: float) -> float:
    """The epsilon at which N(mean, deviation^2) and the other are (epsilon, delta)-indistinguishable, both ways."""

    def excess(epsilon: float) -> float:
        ways = (
            divergence(mean, deviation, other_mean, other_deviation, epsilon),
            divergence(other_mean, other_deviation, mean, deviation, epsilon),
        )
        return max(ways) - delta

    if excess(0.0) <= 0:
        return 0.0
    high = 1.0
    while excess(high) > 0:
        high *= 2
        if high > MOST:
            return math.inf
    return float(brentq(excess, 0.0, high, xtol=1e-9))


def divergence(mean: float, deviation: float, other_mean: float, other_deviation: float, epsilon: float) -> float:
    """The hockey-stick divergence: the most of P(S) - e^epsilon Q(S) over all sets S, P the first and Q the second.

    S is where ln p - ln q, a parabola or a line, is above epsilon.
    """
    bend = 0.5 * (other_deviation**-2 - deviation**-2)
    slope = mean * deviation**-2 - other_mean * other_deviation**-2
    height = 0.5 * ((other_mean / other_deviation) ** 2 - (mean / deviation) ** 2) - epsilon
    height += math.log(other_deviation / deviation)
    p, q = norm(mean, deviation), norm(other_mean, other_deviation)

    def gain(low: float, high: float) -> float:
        return _mass(p, low, high) - math.exp(min(epsilon, 700.0)) * _mass(q, low, high)

    # A bend that is rounding's own puts the second root where nothing is; the line's is exact
    if abs(bend) * (deviation**2 + other_deviation**2) < 1e-12:
        if not slope:
            return 0.0
        root = -height / slope
        return max(0.0, gain(root, math.inf) if slope > 0 else gain(-math.inf, root))
    inside = slope**2 - 4 * bend * height
    if inside <= 0:
        return max(0.0, gain(-math.inf, math.inf)) if bend > 0 else 0.0
    low, high = sorted((-slope + sign * math.sqrt(inside)) / (2 * bend) for sign in (-1, 1))
    return max(0.0, gain(-math.inf, low) + gain(high, math.inf) if bend > 0 else gain(low, high))


def _mass(distribution: "norm", low: float, high: float) -> float:
    if low > distribution.mean():  # the upper tail, whose digits 1 - cdf would lose
        return float(distribution.sf(low) - distribution.sf(high))
    return float(distribution.cdf(high) - distribution.cdf(low))
