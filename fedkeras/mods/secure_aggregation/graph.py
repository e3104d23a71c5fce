"""Who is whose neighbour: a ring of the cohort in random order, each joined to the k/2 next on either side.

Bell et al. 2020, section 3 (a Harary graph with randomly permuted nodes): k-regular for even k, symmetric, connected,
and from each client's side its neighbours are a uniformly drawn set of k others. Everybody computes it from the terms.
"""

import hashlib
from collections.abc import Sequence


def neighbours(cohort: Sequence[int], degree: int, seed: bytes) -> dict[int, tuple[int, ...]]:
    """Each client's neighbours, ascending. `degree` is len(cohort) - 1 (everybody) or even and smaller.

    The ring's order is that of SHA-256(seed, cid), the same on every machine. Raises ValueError for another degree.
    """
    size = len(cohort)
    if degree == size - 1:
        everybody = sorted(cohort)
        return {cid: tuple(other for other in everybody if other != cid) for cid in everybody}
    if degree % 2 or not 0 < degree < size:
        raise ValueError(f"a ring of {size} has no even degree {degree} below {size}")
    ring = sorted(cohort, key=lambda cid: hashlib.sha256(seed + cid.to_bytes(8, "big")).digest())
    steps = [step for step in range(-(degree // 2), degree // 2 + 1) if step]
    return {cid: tuple(sorted(ring[(at + step) % size] for step in steps)) for at, cid in enumerate(ring)}
