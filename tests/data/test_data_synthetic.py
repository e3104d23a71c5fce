"""The synthetic devices: sizes, the law of inputs and labels, what their options change, and what is refused."""

import numpy as np
import pytest

from fedkeras.config import Config
from fedkeras.data import describe, load_client, open_source, synthetic
from fedkeras.errors import UserError


def source(options="", **fields):
    return open_source(Config(dataset=f"synthetic:{options}" if options else "synthetic", **fields))


def examples(made):
    """All training examples, and the device of each."""
    everything = made.examples(np.arange(len(made.labels)))
    return everything.x.astype(np.float64), everything.y, made.groups


def device_means(options):
    """The mean input of each device, (devices, 60)."""
    x, _, device = examples(source(options))
    return np.stack([x[device == k].mean(axis=0) for k in range(30)])


def foreign_accuracy(options):
    """How well a linear rule, fitted by least squares on the first ten devices, does on the others: their mean."""
    x, y, device = examples(source(options))
    x = np.hstack([x, np.ones((len(x), 1))])
    fitted = device < 10
    rule, *_ = np.linalg.lstsq(x[fitted], np.eye(10)[y[fitted]], rcond=None)
    right = (x @ rule).argmax(axis=1) == y
    return np.mean([right[device == k].mean() for k in range(10, 30)])


def test_thirty_devices_of_fifty_and_more_with_a_long_tail_and_a_tenth_for_the_test():
    made = source()
    sizes = np.bincount(made.groups)
    assert made.input_shape == (60,) and len(made.classes) == 10 and len(sizes) == 30
    assert sizes.min() >= 45 and sizes.max() > 10 * np.median(sizes)
    whole = len(made.labels) + len(made.test_labels())
    # int(0.9 n) of each device's n: what is left is a tenth and less than one example more
    assert 0.1 * whole <= len(made.test_labels()) < 0.1 * whole + 30
    assert made.examples(np.arange(3)).x.dtype == np.float32


def test_the_runs_seed_changes_nothing_and_the_draw_everything():
    first, again, other = source(seed=1), source(seed=2), source("draw=1")
    np.testing.assert_array_equal(first.examples(np.arange(100)).x, again.examples(np.arange(100)).x)
    assert len(first.labels) != len(other.labels)


@pytest.mark.parametrize(("options", "about"), [("iid=true", 0.0), ("alpha=0,beta=0", 1.0), ("alpha=0,beta=1", 2.0)])
def test_inputs_lie_around_a_place_of_each_devices_own(options, about):
    """The mean over devices and features of v_k squared: 0 without places, 1 of N(B_k, 1) with B_k = 0, 1 + beta^2."""
    assert np.mean(device_means(options) ** 2) == pytest.approx(about, abs=0.05 if about < 2 else 0.7)


def test_features_vary_less_and_less():
    x, _, device = examples(source("alpha=0,beta=0"))
    largest = x[device == np.bincount(device).argmax()]
    np.testing.assert_allclose(largest.var(axis=0, ddof=1), np.arange(1.0, 61.0) ** -1.2, rtol=0.25)


def test_one_rule_fits_all_devices_only_where_they_are_alike():
    assert foreign_accuracy("iid=true") > 0.6
    assert foreign_accuracy("alpha=0,beta=0") < 0.35
    assert foreign_accuracy("alpha=1,beta=1") < 0.35


def test_alpha_changes_no_label():
    """It moves all ten scores of an example alike, by the paper's formulas; (0,0) and (1,1) differ in beta alone."""
    made = [synthetic._skewed(np.random.default_rng(3), np.array([200, 300]), alpha, 1.0) for alpha in (0.0, 5.0)]
    for (x, y), (same_x, same_y) in zip(*made, strict=True):
        np.testing.assert_array_equal(x, same_x)
        np.testing.assert_array_equal(y, same_y)


def test_natural_parts_are_the_devices():
    config = Config(dataset="synthetic", partitioner="natural", num_partitions=30, test_fraction=0.0)
    description = describe(config)
    assert sorted(description.train_sizes) == sorted(np.bincount(description.source.groups))
    assert load_client(config, 3).train.x.shape == (description.train_sizes[3], 60)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("gamma=1", "has no option 'gamma'; it has alpha, beta, iid, devices, draw"),
        ("alpha=-1", "alpha is a number of 0 or more, not '-1'"),
        ("beta=much", "beta is a number of 0 or more, not 'much'"),
        ("alpha=NaN", "alpha is a number of 0 or more, not 'nan'"),
        ("devices=0", "devices is a whole number from 1, not '0'"),
        ("draw=0.5", "draw is a whole number from 0, not '0.5'"),
        ("iid=1", "iid is true or false, not '1'"),
        ("alpha", "'alpha' is not of the form key=value"),
    ],
)
def test_what_it_has_not_is_refused_in_one_line(options, said):
    with pytest.raises(UserError, match=said):
        source(options)
