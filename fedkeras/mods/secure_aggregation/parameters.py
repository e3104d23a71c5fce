"""How many neighbours each client has and how many shares open a secret, from the drop-outs and colluders to stand.

Bonawitz et al. 2017 for small cohorts, where all are neighbours; Bell et al. 2020 above SPARSE_ABOVE clients. With n
clients of whom A collude with the server and D drop out, each client's neighbours being k uniformly drawn others, a
threshold t is taken for which, by exact hypergeometric tails and the union bound over clients,

    some client has t colluding neighbours           P1 = n P(Hypergeometric(n-1, A, k) >= t)
    colluders and drop-outs cut the ring in two      P3 = C(n, 2) P(Hypergeometric(n, A+D, k) = k)
    some secret has fewer than t holders left        P2 = n P(Hypergeometric(n-1, n-1-D, k) < t)

P1 + P3 <= 2^-40 (secrecy) and P2 <= 2^-20 (the sum is had), in exact fractions, so that both sides decide alike. A ring
is cut only at two places, each k/2 clients long, which gives P3. Shares are dealt to a client's k neighbours and to
itself, and t is above half of these k + 1 always: so a server that tells half of them that a client was lost, and half
that it was not, gets one of its two secrets at most, unless a neighbour tells it what it knows.
"""

import math
from fractions import Fraction
from functools import cache
from itertools import accumulate

SPARSE_ABOVE = 30
"""Clients above which not all are neighbours."""
LEAST_COHORT = 3
"""Clients below which a sum tells too much: of two, each learns the other's vector."""
MOST_NEIGHBOURS = 1000
"""A client's work grows with them, and so does that of checking a graph."""
SECRECY = Fraction(1, 2**40)
"""The chance that colluders learn more than the sum, at most."""
FAILURE = Fraction(1, 2**20)
"""The chance that a sum cannot be had though no more clients were lost than was stated, at most."""


@cache
def choose(clients: int, max_dropout: float, colluding: float) -> tuple[int, int]:
    """Degree and threshold for a cohort. Raises ValueError, in one line, for what no threshold can stand.

    `max_dropout` and `colluding` are fractions of the clients, each rounded up to whole clients.
    """
    require_fractions(max_dropout, colluding)
    if clients < LEAST_COHORT:
        raise ValueError(f"secure aggregation needs {LEAST_COHORT} clients at least, and there are {clients}")
    lost, corrupt = whole(max_dropout, clients), whole(colluding, clients)
    if clients > SPARSE_ABOVE and (degree := _sparse_degree(clients, lost, corrupt)):
        return degree, _sparse_threshold(clients, degree, lost, corrupt)
    if clients > MOST_NEIGHBOURS:
        raise ValueError(
            f"{clients} clients need more than {MOST_NEIGHBOURS} neighbours each in a secure sum that stands "
            f"max-dropout={max_dropout:g} and colluding={colluding:g}: fewer clients in a round, or smaller fractions"
        )
    majority = clients // 2 + 1
    threshold = max(majority, min(2 * clients // 3 + 1, clients - lost))
    if threshold > clients - lost or threshold <= corrupt:
        raise ValueError(
            f"of {clients} clients {clients - majority} may be lost in a secure sum and fewer than {threshold} may "
            f"collude, and max-dropout={max_dropout:g} is {lost}, colluding={colluding:g} is {corrupt}"
        )
    return clients - 1, threshold


def least_threshold(clients: int, degree: int, max_dropout: float, colluding: float) -> int:
    """The smallest threshold that keeps a client's secrets; what a client holds its server to.

    A number above degree + 1 where no threshold does.
    """
    return _least_threshold(clients, degree, whole(max_dropout, clients), whole(colluding, clients))


def least_survivors(clients: int, degree: int, threshold: int, max_dropout: float) -> int:
    """How many clients a sum must be of: the threshold where all are neighbours, else all but the stated drop-outs."""
    return threshold if degree == clients - 1 else clients - whole(max_dropout, clients)


def whole(fraction: float, clients: int) -> int:
    """A fraction of the clients as a whole number of them, rounded up (0.1 of 30 is 3, whatever floats make of it)."""
    return math.ceil(fraction * clients - 1e-9)


def require_fractions(max_dropout: float, colluding: float) -> None:
    """Raise ValueError unless both are fractions below a half."""
    for name, value in (("max-dropout", max_dropout), ("colluding", colluding)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 0.5:
            raise ValueError(f"{name} must be a fraction of the clients from 0 to below 0.5, not {value}")


@cache
def _least_threshold(clients: int, degree: int, lost: int, corrupt: int) -> int:
    majority = (degree + 1) // 2 + 1
    if degree == clients - 1:
        return max(majority, corrupt + 1)
    cut = math.comb(clients, 2) * _chances(clients, lost + corrupt, degree)[degree]
    among = _chances(clients - 1, corrupt, degree)  # of i colluding neighbours
    at_least = list(accumulate(reversed(among)))[::-1]  # of i or more
    safe = (t for t in range(majority, degree + 1) if clients * at_least[t] + cut <= SECRECY)
    return next(safe, degree + 2)


def _sparse_degree(clients: int, lost: int, corrupt: int) -> int:
    """By bisection, a degree that does where 2 less does not; 0 where there is none."""
    low, high = 1, min(MOST_NEIGHBOURS, clients - 2) // 2
    if not _sparse_threshold(clients, 2 * high, lost, corrupt):
        return 0
    while high - low > 1:
        half = (low + high) // 2
        low, high = (low, half) if _sparse_threshold(clients, 2 * half, lost, corrupt) else (half, high)
    return 2 * high


def _sparse_threshold(clients: int, degree: int, lost: int, corrupt: int) -> int:
    """The smallest threshold for this degree, 0 where there is none."""
    threshold = _least_threshold(clients, degree, lost, corrupt)
    if threshold > degree:
        return 0
    left = _chances(clients - 1, clients - 1 - lost, degree)  # of i neighbours left
    return threshold if clients * sum(left[:threshold]) <= FAILURE else 0


def _chances(total: int, marked: int, drawn: int) -> list[Fraction]:
    """Hypergeometric: the chance of 0, 1, ... `drawn` marked ones among `drawn` of `total`."""
    every = math.comb(total, drawn)
    return [Fraction(math.comb(marked, i) * math.comb(total - marked, drawn - i), every) for i in range(drawn + 1)]
