"""Numbers as integers modulo 2^32: bounds by hand, rounding without bias, and sums that nobody can have sent."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedkeras.mods.secure_aggregation.encoding import CHUNK, Integers, Quantised


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("clients", "max_weight", "levels", "bits"),
    [
        (100, 10_000, 2147, 12),  # a million examples: 2,147,483,647 // 1,000,000
        (1, 1_000_000, 2147, 12),
        (3, 1, 715_827_882, 30),
        (100, 1, 21_474_836, 25),
        (207, 50, 207_486, 18),
    ],
)
def test_levels_by_hand(clients: int, max_weight: int, levels: int, bits: int) -> None:
    encoding = Quantised(1.0, max_weight, clients)
    assert (encoding.levels, encoding.bits) == (levels, bits)
    assert clients * max_weight * encoding.levels <= 2**31 - 1 < clients * max_weight * (encoding.levels + 1)


def test_a_value_by_hand() -> None:
    """m = 2147, clip 0.5, 3 examples: 0.25 is 0.25 x 3 x 2147 / 0.5 = 3220.5, and -0.1 is -1288.2."""
    encoding = Quantised(0.5, 10_000, 100, "nearest")
    encoded = encoding.encode(np.array([0.25, -0.1, 0.0, 0.5, -0.5]), 3, rng())
    assert encoded.vector.tolist() == [3221, 2**32 - 1288, 0, 6441, 2**32 - 6441, 3]
    mean, weight = encoding.decode(encoded.vector, 1)
    assert weight == 3
    assert mean.tolist() == pytest.approx([0.250039, -0.0999845, 0.0, 0.5, -0.5], abs=1e-6)


def test_clipping_and_caps_are_told_to_the_clients_own_user_alone() -> None:
    encoding = Quantised(1.0, 5, 3)
    encoded = encoding.encode(np.array([-7.0, 1.0, 1.0001, 0.5]), 9, rng())
    assert (encoded.clipped, encoded.weight, encoded.capped) == (2, 5, True)
    most = 5 * encoding.levels
    assert encoded.vector.view(np.int32)[:3].tolist() == [-most, most, most]
    assert encoded.vector[-1] == 5
    assert not encoding.encode(np.array([0.5]), 5, rng()).capped


def test_uniform_weights_count_clients() -> None:
    encoding = Quantised(1.0, 1, 4)
    parts = [encoding.encode(np.array([value]), 10**6, rng(cid)).vector for cid, value in enumerate((0.1, 0.2, 0.6))]
    mean, weight = encoding.decode(sum(parts), 3)
    assert weight == 3
    assert mean[0] == pytest.approx(0.3, abs=1e-8)


@given(
    clients=st.integers(1, 50),
    max_weight=st.integers(1, 10_000),
    clip=st.floats(1e-3, 1e3),
    seed=st.integers(0, 2**32),
    rounding=st.sampled_from(("stochastic", "nearest")),
)
@settings(max_examples=60)
def test_sums_never_overflow_and_are_within_a_step_of_each_client(
    clients: int, max_weight: int, clip: float, seed: int, rounding
) -> None:
    encoding = Quantised(clip, max_weight, clients, rounding)
    if encoding.bits < 8:
        with pytest.raises(ValueError, match="bits a value"):
            encoding.check()
        return
    encoding.check()
    draw = rng(seed)
    values = draw.uniform(-1.5 * clip, 1.5 * clip, (clients, 6))
    values[:, 0], values[:, 1] = clip, -clip  # the sum at its ends
    weights = draw.integers(1, 2 * max_weight + 1, clients)
    total, exact = np.zeros(7, np.uint32), np.zeros(6)
    for row, weight in zip(values, weights.tolist(), strict=True):
        encoded = encoding.encode(row, weight, draw)
        total += encoded.vector
        exact += np.clip(row, -clip, clip) * min(weight, max_weight)
    mean, weight = encoding.decode(total, clients)
    assert weight == np.minimum(weights, max_weight).sum()
    off = 1.0 if rounding == "stochastic" else 0.5
    assert np.abs(mean - exact / weight).max() <= off * clients * encoding.step / weight * (1 + 1e-6)


def test_stochastic_rounding_has_no_bias_and_nearest_has() -> None:
    """0.3 of a step, 40,000 times: the mean is 0.3 within five deviations, and 0 by nearest rounding."""
    encoding = Quantised(1.0, 10_000, 100)
    value, times = 0.3 * encoding.step, 40_000
    steps = encoding.encode(np.full(times, value), 1, rng()).vector[:-1].view(np.int32)
    assert set(steps.tolist()) == {0, 1}
    assert abs(steps.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / times)
    below = encoding.encode(np.full(times, -value), 1, rng()).vector[:-1].view(np.int32)
    assert set(below.tolist()) == {-1, 0}
    assert abs(below.mean() + 0.3) < 5 * np.sqrt(0.3 * 0.7 / times)
    nearest = Quantised(1.0, 10_000, 100, "nearest")
    assert not nearest.encode(np.full(10, value), 1, rng()).vector[:-1].any()


def test_rounding_comes_of_the_generator_alone() -> None:
    encoding, values = Quantised(1.0, 100, 10), rng(1).uniform(-1, 1, CHUNK + 10).astype(np.float32)
    one, same, other = (encoding.encode(values, 7, rng(seed)).vector for seed in (5, 5, 6))
    assert (one == same).all()
    assert (one != other).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        Quantised(1.0, 1, 3).encode(np.array([0.0, bad]), 1, rng())


@pytest.mark.parametrize("weight", [0, -1, 1.5, True])
def test_weights_that_are_none_are_refused(weight) -> None:
    with pytest.raises(ValueError, match="whole number of examples"):
        Quantised(1.0, 10, 3).encode(np.array([0.0]), weight, rng())


@pytest.mark.parametrize(
    ("encoding", "reason"),
    [
        (Quantised(1.0, 10**9, 100), "leave 0 bits a value in 32 bit sums, and 8 are needed"),
        (Quantised(1.0, 10**6, 17), "leave 7 bits"),
        (Quantised(0.0, 1, 3), "clip range"),
        (Quantised(float("inf"), 1, 3), "clip range"),
        (Quantised(1.0, 0, 3), "whole numbers"),
        (Quantised(1.0, 1, 2.5), "whole numbers"),
        (Integers(0, 3), "whole bound"),
        (Integers(2**30, 2), "do not fit"),
    ],
)
def test_encodings_that_cannot_be(encoding, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        encoding.check()


def test_sums_that_nobody_can_have_sent() -> None:
    """A mask that was left in the sum, or a client that did not keep to the clip range, is never a mean."""
    encoding = Quantised(1.0, 10, 3)
    good = sum(encoding.encode(np.array([0.5]), 4, rng(cid)).vector for cid in range(3))
    encoding.decode(good, 3)
    for total in ([good[0], 2], [good[0], 31], [2**31 - 1, 12], [2**31, 12], [12 * encoding.levels + 1, 12]):
        with pytest.raises(ValueError, match=r"count for|clip range"):
            encoding.decode(np.array(total, np.uint32), 3)


def test_integers_are_exact() -> None:
    encoding = Integers(2**20, 100)
    encoding.check()
    values = rng().integers(-(2**20), 2**20 + 1, (100, 50))
    total = sum(encoding.encode(row) for row in values)
    assert (encoding.decode(total, 100) == values.sum(0)).all()


@pytest.mark.parametrize("values", [[11], [-11], [1.0], [[1]], [True]])
def test_integers_that_do_not_fit_are_refused(values) -> None:
    with pytest.raises(ValueError, match="integers"):
        Integers(10, 3).encode(np.array(values))


def test_a_sum_of_integers_that_nobody_can_have_sent() -> None:
    with pytest.raises(ValueError, match="did not keep to the terms"):
        Integers(10, 3).decode(np.array([31], np.uint32), 3)
