"""Normalisers, against numbers computed by hand."""

import numpy as np
import pytest

from fedkeras.data.normalise import fit
from fedkeras.data.statistics import statistics_of

TABLE = np.array([[0.0, -4.0, 5.0], [2.0, 2.0, 5.0], [4.0, 2.0, 5.0]], dtype=np.float32)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none", TABLE),
        ("scale", [[0, -1, 1], [0.5, 0.5, 1], [1, 0.5, 1]]),
        ("minmax", [[0, 0, 0], [0.5, 1, 0], [1, 1, 0]]),
        ("zscore", [[-(1.5**0.5), -(2**0.5), 0], [0, 2**-0.5, 0], [1.5**0.5, 2**-0.5, 0]]),
    ],
)
def test_per_feature(name: str, expected) -> None:
    normaliser = fit(name, statistics_of([TABLE], per_feature=True))
    result = normaliser.apply(TABLE)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_images_are_scaled_by_one_number() -> None:
    images = np.array([[[[0.0], [8.0]]], [[[4.0], [4.0]]]], dtype=np.float32)
    measured = statistics_of([images], False)
    np.testing.assert_allclose(fit("scale", measured).apply(images).ravel(), [0, 1, 0.5, 0.5])
    np.testing.assert_allclose(fit("zscore", measured).apply(images).ravel(), [-(2**0.5), 2**0.5, 0, 0])


def test_constant_values_do_not_divide_by_zero() -> None:
    for name in ("scale", "minmax", "zscore"):
        for constant in (0.0, 3.0):
            x = np.full((4, 2), constant, dtype=np.float32)
            assert np.isfinite(fit(name, statistics_of([x], True)).apply(x)).all()


@pytest.mark.parametrize("per_feature", [True, False])
def test_chunks_measure_as_the_whole(per_feature: bool) -> None:
    x = np.random.default_rng(0).normal(1e4, 1.0, (101, 7, 3)).astype(np.float32)  # where float32 sums go wrong
    axis = (0, 1) if per_feature else None
    parts = [x[:1], x[1:1], x[1:50], x[50:]]
    for statistics in (statistics_of([x], per_feature), statistics_of(parts, per_feature)):
        np.testing.assert_allclose(statistics.mean, x.mean(axis=axis, dtype=np.float64), rtol=1e-12)
        np.testing.assert_allclose(statistics.std, x.std(axis=axis, dtype=np.float64), rtol=1e-9)
        np.testing.assert_array_equal(statistics.low, x.min(axis=axis))
        np.testing.assert_array_equal(statistics.high, x.max(axis=axis))


def test_nothing_to_measure() -> None:
    with pytest.raises(ValueError, match="no values"):
        statistics_of([], True)
