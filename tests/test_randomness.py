"""Randomness is a function: the same words give the same numbers, in any process."""

import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as some

from fedkeras.randomness import generator

WORDS = some.tuples(some.sampled_from(["order", "cohort", "train"]), some.integers(0, 10**6), some.integers(0, 10**6))


def draw(seed, *words):
    return generator(seed, *words).integers(0, 2**62, 4).tolist()


@given(some.integers(0, 2**70), WORDS)
def test_the_same_words_give_the_same_numbers(seed, words):
    assert draw(seed, *words) == draw(seed, *words)


@given(some.integers(0, 2**40), WORDS, WORDS)
def test_other_words_give_other_numbers(seed, words, others):
    assert (draw(seed, *words) == draw(seed, *others)) == (words == others)


def test_seed_order_and_number_of_words_count():
    streams = [draw(1, "train", 2, 3), draw(2, "train", 2, 3), draw(1, "train", 3, 2), draw(1, "train", 2), draw(1)]
    assert len({tuple(stream) for stream in streams}) == len(streams)


def test_these_numbers_are_for_ever():
    """A change of the scheme changes every published result: known figures, also in a process with other hashes."""
    known = [int(number) for number in generator(42, "train", 1, 0).integers(0, 1000, 5)]
    code = "from fedkeras.randomness import generator; print(*generator(42, 'train', 1, 0).integers(0, 1000, 5))"
    other = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert other.stdout.split() == [str(number) for number in known]
    assert known == [229, 252, 460, 170, 65]
