"""From right guesses, and from true and false positives, to a lower bound on epsilon with a stated confidence.

Steinke, Nasr, Jagielski: Privacy Auditing with One (1) Training Run, NeurIPS 2023, arXiv:2305.08846: theorem 5.2 and
appendix D. Many canaries stand in one run, each included by a coin of its own; the attacker guesses some of the coins
and abstains from the others. Under (epsilon, delta)-DP the right guesses are hardly more than those of so many coins
that fall right with probability e^epsilon / (1 + e^epsilon):

    P(at least v of r guesses are right)  <=  beta + 2 m delta alpha
    beta  = P(B >= v),    alpha = max over i of P(v - i <= B < v) / i,    B ~ Binomial(r, e^epsilon / (1 + e^epsilon))

Jagielski, Ullman, Oprea: Auditing Differentially Private Machine Learning, NeurIPS 2020, arXiv:2006.07709: epsilon is
at least ln((TPR - delta) / FPR), with exact intervals of Clopper and Pearson (Biometrika 1934) for both rates.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, binom

MOST = 50.0
"""No bound above this is looked for: it needs more canaries than there are atoms."""
SHARES = {1.0: 0.7, 0.5: 0.2, 0.2: 0.1}
"""Of how many canaries the attacker guesses (all, the surer half, the surest fifth), and which part of the permitted
error each of these bounds may use. Fixed before anything is seen; most goes to where a protection that is missing
shows, since delta, with many canaries, makes a small error dear."""
TOLERANCE = 1e-6


@dataclass(frozen=True)
class GuessBound:
    """What guesses show: epsilon is at least `epsilon` with the stated confidence. Of `guesses`, `right` were right."""

    epsilon: float
    guesses: int
    right: int


def p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """How likely so many right guesses are at most, under (epsilon, delta)-DP. Raises ValueError for impossible counts.

    `canaries` are all that had a coin, those included from which the attacker abstained.
    """
    if not 0 <= right <= guesses <= canaries:
        raise ValueError(f"{right} right of {guesses} guesses about {canaries} canaries is not possible")
    chance = 1.0 / (1.0 + math.exp(-epsilon))
    tail = float(binom.sf(right - 1, guesses, chance))
    if not delta or not right:
        return min(tail, 1.0)
    steps = np.arange(1, right + 1)
    within = binom.sf(right - steps - 1, guesses, chance) - tail
    return min(1.0, tail + 2 * canaries * delta * float(np.max(within / steps)))


@functools.lru_cache(maxsize=4096)
def epsilon_of_guesses(canaries: int, guesses: int, right: int, delta: float, confidence: float) -> float:
    """The largest epsilon that so many right guesses refute at this confidence; 0 where they refute none."""

    def refuted(epsilon: float) -> bool:
        return p_value(canaries, guesses, right, epsilon, delta) < 1 - confidence

    if not refuted(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while high < MOST and refuted(high):
        low, high = high, 2 * high
    while high - low > TOLERANCE:
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def bound_of_guesses(right: Sequence[bool] | np.ndarray, delta: float, confidence: float) -> GuessBound:
    """The best bound from guesses in the order of the attacker's sureness, the surest first; one a canary.

    It may abstain, in the SHARES that are fixed beforehand; trying several is paid for (a weighted Bonferroni), so that
    the bound holds at `confidence` whichever of them is best.
    """
    right = np.asarray(right, bool)
    canaries = len(right)
    found = [GuessBound(0.0, canaries, int(right.sum()))]
    for share, part in SHARES.items():
        guesses = math.ceil(share * canaries)
        correct, own = int(right[:guesses].sum()), 1 - part * (1 - confidence)
        found.append(GuessBound(epsilon_of_guesses(canaries, guesses, correct, delta, own), guesses, correct))
    return max(found, key=lambda bound: bound.epsilon)


def ceiling(canaries: int, delta: float, confidence: float) -> float:
    """The bound if every guess were right: what an attack with so many canaries could show at most."""
    return bound_of_guesses(np.ones(canaries, bool), delta, confidence).epsilon


def right_guesses(scores: np.ndarray, included: np.ndarray) -> np.ndarray:
    """Whether each guess is right, the surest first: the further a score lies from the border, the surer its guess.

    `scores` (m,) are the higher the more a canary looks included; `included` (m,) are the coins, of which the guesses
    know nothing. The border is the widest gap among those that leave as many above it as fair coins would.
    """
    order = np.sort(np.asarray(scores, float))
    reach = math.ceil(1.5 * math.sqrt(len(order)))  # three standard deviations of the number of coins
    first, last = max(1, len(order) // 2 - reach), min(len(order) - 1, len(order) // 2 + reach)
    place = first + int(np.argmax(np.diff(order[first - 1 : last + 1])))
    border = (order[place - 1] + order[place]) / 2
    right = np.asarray(included, bool) == (scores > border)
    return right[np.argsort(-np.abs(scores - border), kind="stable")]


def interval(successes: int, trials: int, confidence: float) -> tuple[float, float]:
    """Clopper and Pearson's exact two-sided interval for a probability; (0, 1) without a trial."""
    side = (1 - confidence) / 2
    low = float(beta.ppf(side, successes, trials - successes + 1)) if successes else 0.0
    high = float(beta.ppf(1 - side, successes + 1, trials - successes)) if successes < trials else 1.0
    return low, high


def epsilon_of_rates(
    true_positives: int, positives: int, false_positives: int, negatives: int, delta: float, confidence: float
) -> float:
    """ln((TPR - delta) / FPR), or the same of the negatives, with both rates at their worst; 0 where it says nothing.

    The four counts are of a threshold that was chosen without looking at them.
    """
    tpr_low, _ = interval(true_positives, positives, confidence)
    _, fpr_high = interval(false_positives, negatives, confidence)
    pairs = ((tpr_low - delta, fpr_high), (1 - fpr_high - delta, 1 - tpr_low))
    return max([0.0, *(math.log(above / below) for above, below in pairs if above > 0 and below > 0)])
