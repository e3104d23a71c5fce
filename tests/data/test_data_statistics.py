"""Statistics of parts, merged, are the statistics of the whole."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedkeras.data import statistics
from fedkeras.data.normalise import fit, normaliser_from
from fedkeras.data.statistics import merge, statistics_of
from fedkeras.errors import UserError


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 200), max_size=8),
    seed=st.integers(0, 10**6),
    mean=st.sampled_from([0.0, -3.0, 1e6]),
    std=st.sampled_from([1.0, 1e-3, 1e5]),
)
def test_any_partition_in_any_order(cuts: list[int], seed: int, mean: float, std: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(mean, std, (200, 3))
    parts = [statistics_of(part) for part in np.split(x, sorted(cuts))]  # some are empty
    rng.shuffle(parts)
    got = functools.reduce(merge, parts)
    assert got.count == 200
    # numpy's own two passes lose some digits at 1e6: compare where they do not
    exact = x - mean
    np.testing.assert_allclose(got.mean, x.mean(axis=0), rtol=1e-13, atol=1e-12 * std)
    np.testing.assert_allclose(got.std, exact.std(axis=0), rtol=1e-6 if mean / std > 1e8 else 1e-9)
    np.testing.assert_array_equal(got.low, x.min(axis=0))
    np.testing.assert_array_equal(got.high, x.max(axis=0))


def test_digits_are_kept_where_sums_of_squares_lose_all() -> None:
    x = np.random.default_rng(0).normal(1e6, 1e-3, (10_000, 2))
    got = functools.reduce(merge, [statistics_of(part) for part in np.array_split(x, 7)])
    truth = (x - 1e6).std(axis=0)
    np.testing.assert_allclose(got.std, truth, rtol=1e-9)
    naive = np.sqrt(np.maximum(0, (x**2).mean(axis=0) - x.mean(axis=0) ** 2))
    assert (abs(naive / truth - 1) > 0.5).all()


@pytest.mark.parametrize("kind", ["none", "scale", "minmax", "zscore"])
@pytest.mark.parametrize("per_feature", [True, False])
def test_federated_is_fitted_on_all_rows(kind: str, per_feature: bool) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(5, 3, (5001, 2)), np.full((5001, 1), 0.1)], axis=1)
    parts = [statistics_of(part, per_feature) for part in np.array_split(x, 5)]
    federated = normaliser_from(functools.reduce(merge, parts), kind)
    pooled = fit(kind, statistics_of([x], per_feature))
    np.testing.assert_allclose(federated.shift, pooled.shift, rtol=1e-12)
    np.testing.assert_allclose(federated.spread, pooled.spread, rtol=1e-12)
    assert np.isfinite(federated.apply(x)).all()


def test_as_scikit_learn_on_the_pooled_data() -> None:
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    rng = np.random.default_rng(0)
    x = rng.normal([0, 1e6, -273.15], [1, 1e-1, 5], (3000, 3))
    x = np.concatenate([x, np.full((3000, 1), 1e6 + 0.1)], axis=1)
    total = functools.reduce(merge, map(statistics_of, np.array_split(x, 3)))
    for kind, scaler in (("zscore", StandardScaler()), ("minmax", MinMaxScaler())):
        np.testing.assert_allclose(normaliser_from(total, kind).apply(x), scaler.fit_transform(x), atol=1e-6)


def test_constant_columns_are_constant_whatever_rounding_says() -> None:
    parts = [statistics_of(np.full((n, 1), 1e6 + 0.1)) for n in (3, 7, 1000)]
    total = functools.reduce(merge, parts)
    assert total.std.tolist() == [0.0]
    assert normaliser_from(total, "zscore").apply(np.full((2, 1), 1e6 + 0.1)).tolist() == [[0.0], [0.0]]
    rounded = statistics.Statistics(3, np.array([0.1]), np.array([1e-9]), np.array([0.1]), np.array([0.1]))
    assert rounded.std.tolist() == [0.0] and normaliser_from(rounded, "zscore").spread.tolist() == [1.0]
    assert normaliser_from(total, "minmax").spread.tolist() == [1.0]


def test_what_is_refused() -> None:
    x = np.ones((5, 3), np.float32)
    x[4, 1] = np.nan
    with pytest.raises(UserError, match=r"missing or infinite values in column 2 \(NaN\)"):
        statistics_of(x)
    with pytest.raises(UserError, match="of 3 and of 2 features"):
        merge(statistics_of(np.ones((2, 3))), statistics_of(np.ones((2, 2))))
    with pytest.raises(ValueError, match="no values"):
        normaliser_from(statistics_of(np.ones((0, 3))), "zscore")


def test_sent_and_received() -> None:
    total = statistics_of(np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32))
    table = total.to_dict()
    assert {array.dtype.str for array in table.values()} == {"<i8", "<f8"}
    back = statistics.from_dict(table)
    assert back.count == 50 and all(np.array_equal(getattr(back, name), table[name]) for name in statistics.FIELDS)
    empty = statistics.from_dict(statistics.nothing(3).to_dict())
    assert merge(empty, back) is back
    for name, value in [("count", np.array(-1)), ("m2", np.array([-1.0, 0, 0])), ("mean", np.full(3, np.nan)),
                        ("mean", np.full(3, 99.0)), ("low", np.zeros(2))]:  # fmt: skip
        with pytest.raises(ValueError, match="must"):
            statistics.from_dict({**table, name: value})
    with pytest.raises(ValueError, match="statistics are"):
        statistics.from_dict({"count": table["count"]})
