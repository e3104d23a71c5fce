"""Who is malicious: a part of all clients, drawn from the seed and nothing else."""

from fedkeras.randomness import generator

ROUNDED = 1e-9
"""0.29 * 100 is 28.999... in binary, and the floor means 29 there."""


def malicious_clients(seed: int, clients: int, fraction: float) -> tuple[int, ...]:
    """floor(fraction * clients) client ids, ascending. A smaller fraction's are among a larger one's."""
    drawn = generator(seed, "malicious").permutation(clients)[: int(fraction * clients + ROUNDED)]
    return tuple(sorted(drawn.tolist()))
