"""Randomness as a function: the same words give the same numbers, in any process and in any order of arrival."""

import zlib

import numpy as np


def generator(seed: int, *words: int | str) -> np.random.Generator:
    """A generator for one purpose, e.g. `generator(seed, "order", round, cid)`.

    Words are mixed by numpy's SeedSequence, so neighbouring rounds or clients get unrelated streams.
    """
    entropy = [word if isinstance(word, int) else zlib.crc32(word.encode()) for word in words]
    return np.random.default_rng(np.random.SeedSequence([seed, *entropy]))
