"""Which of a client's own examples are its test set."""

import numpy as np

from fedkeras import stratified
from fedkeras.config import Config
from fedkeras.data.source import Source
from fedkeras.randomness import generator


def hold_out(source: Source, part: np.ndarray, config: Config, cid: int) -> tuple[np.ndarray, np.ndarray]:
    """Split client `cid`'s indices into (train, test), about `config.test_fraction` of them for the test.

    Stratified by label, unless a client's own file says which. Where the source has recordings, whole recordings go to
    one side. The training part is never empty; the test part is empty when the fraction is 0 or there is but one
    example (or recording).
    """
    if source.held_out is not None and not config.deals:
        is_test = np.isin(part, source.held_out)
        return part[~is_test], part[is_test]
    rng = generator(config.seed, "client test", cid)
    labels = source.labels[part]
    if source.recordings is not None:
        chosen = _whole_recordings(labels, source.recordings[part], config.test_fraction, rng)
    else:
        count = stratified.size(len(part), config.test_fraction)
        chosen = stratified.sample(len(part), count, rng, labels)
    is_test = np.zeros(len(part), dtype=bool)
    is_test[chosen] = True
    return part[~is_test], part[is_test]


def _whole_recordings(
    labels: np.ndarray, recordings: np.ndarray, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Positions of the windows of enough recordings to make up `fraction`, taken from each label in turn."""
    units, first, counts = np.unique(recordings, return_index=True, return_counts=True)
    shuffled = rng.permutation(len(units))
    kinds = labels[first][shuffled]
    turn = np.array([np.sum(kinds[:i] == kind) for i, kind in enumerate(kinds)], dtype=int)
    in_turn = shuffled[np.argsort(turn, kind="stable")]
    before = np.cumsum(counts[in_turn]) - counts[in_turn]
    # a recording is taken while more than half of it is still wanted, so the share is as near as whole ones allow
    wanted = before + counts[in_turn] / 2 <= fraction * len(labels)
    if fraction > 0:
        wanted[0] = True
    wanted[-1] = False
    return np.flatnonzero(np.isin(recordings, units[in_turn[wanted]]))
