"""Strategies that withstand liars, against figures computed by hand, and by what they promise of any updates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from toy_federation import ToyClients, content, federate, floats, reply

from fedkeras import strategies
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation import registry
from fedkeras.federation.records import record, views
from fedkeras.strategies.bulyan import nearest_mean, selected
from fedkeras.strategies.geometric_median import GeometricMedian
from fedkeras.strategies.krum import squared_distances

LINE = [floats(x=[number]) for number in (0, 1, 2, 3, 4, 100)]
ORIGIN = floats(x=[0])


def replies(updates, examples=None):
    counts = examples or [1] * len(updates)
    answers = [content(update, count, loss=0.0) for update, count in zip(updates, counts, strict=True)]
    return [reply(cid, answer) for cid, answer in enumerate(answers)]


def combined(spec, answers, origin=ORIGIN, **args):
    page = strategies.load(spec, args)
    if hasattr(page, "w"):
        page.w = dict(origin)
    arrays, metrics = page.aggregate_train(1, answers)
    return views(arrays), metrics


def x_of(spec, numbers, examples=None, **args):
    return float(combined(spec, replies([floats(x=[number]) for number in numbers], examples), **args)[0]["x"][0])


def test_multikrum_by_hand():
    """f = 1 of 6: a score is of the 3 nearest: 14, 6, 6, 6, 14, 28034; the three lowest (6 - 1 - 2) are averaged."""
    line = [0, 1, 2, 3, 4, 100]
    assert x_of("multikrum", line) == 2
    assert x_of("multikrum", line, num_selected=5) == 2
    assert x_of("multikrum", line, num_selected=1) == 1, "a tie goes to the lower cid"
    assert x_of("multikrum", line, num_selected=6) == pytest.approx(110 / 6)


def test_bulyan_by_hand():
    """f = 1 of 7: Krum chooses 2, 3, 1, 4, and of 0 and 5, equally near to each other, the lower cid; median 2.

    The scores over 4, 3, 2, 1 and 1 nearest: 30 15 10 10 15 30; 26 14 9 11 21; 17 10 10 17; 16 1 1; 25 25.
    """
    line = [0, 1, 2, 3, 4, 5, 100]
    updates = [record(floats(x=[number])) for number in line]
    assert selected(squared_distances(updates, ["x"]), 1) == [0, 1, 2, 3, 4]
    assert x_of("bulyan", line) == 2
    # Of 0, 1, 3, 10, 11 the three nearest to the median 3 are 3, 1, 0; of 1, 3, 5 two are 3 and the smaller of 1 and 5
    assert nearest_mean(np.array([11.0, 0, 3, 1, 10]), 3) == pytest.approx(4 / 3)
    assert nearest_mean(np.array([[5.0], [1], [3]]), 2).tolist() == [2]


def test_bulyan_sees_a_lie_in_one_coordinate_that_krum_does_not():
    """Six differ in the second alone; the liar, in their middle, has the lowest score: 24 and not 26."""
    honest = [floats(x=[0.0, number]) for number in (-5, -3, -1, 1, 3, 5)]
    answers = replies([*honest, floats(x=[1.0, 0.0])])
    assert combined("krum", answers)[0]["x"].tolist() == [1, 0]
    assert combined("bulyan", answers)[0]["x"][0] == 0


def test_geometric_median_by_hand():
    """From the median 3 of 0, 2, 4, 10: beta = 1/3, 1, 1, 1/7, so v = (2 + 4 + 10/7) / (1/3 + 2 + 1/7) = 3."""
    assert x_of("geometric-median", [0, 2, 4, 10], iterations=1) == pytest.approx(3)
    weighted = (4 + 4 + 10 / 7) / (1 / 3 + 2 + 1 + 1 / 7)
    assert x_of("geometric-median", [0, 2, 4, 10], [1, 2, 1, 1], iterations=1) == pytest.approx(weighted)
    assert x_of("geometric-median", [0, 1, 1e30]) == pytest.approx(1, abs=1e-4), "however far the liar is"


def test_geometric_median_in_the_plane_ends_where_the_summed_distance_is_smallest():
    """Of a triangle it is Fermat's point, from which the corners are seen under 120 degrees."""
    corners = [floats(p=point) for point in ([0, 0], [4, 0], [1, 3])]
    arrays, _ = combined("geometric_median", replies(corners), iterations=200)
    to = [corner["p"] - arrays["p"] for corner in corners]
    cosines = [to[i] @ to[j] / (np.linalg.norm(to[i]) * np.linalg.norm(to[j])) for i, j in ((0, 1), (1, 2), (0, 2))]
    assert cosines == pytest.approx([-0.5] * 3, abs=1e-5)


def moving(*by_client):
    """Clients that add their number in each round."""

    def train(cid, server_round, weights, config):
        return content({name: array + np.float32(by_client[cid]) for name, array in weights.items()}, 1, loss=0.0)

    return ToyClients(train)


@pytest.mark.parametrize("args", [{"tau": 2.0}, {"tau": "median"}], ids=["by a number", "by the median, which is 2"])
def test_centered_clipping_remembers_the_round_before(args):
    """Updates 1, 2, 9: clipped to 2 around 0, v = 5/3. Then u - v = -2/3, 1/3, 22/3."""
    one, _ = federate(strategies.load("centered-clipping", args), moving(1, 2, 9), ORIGIN)
    assert one["x"] == pytest.approx(5 / 3)
    two, _ = federate(strategies.load("centered-clipping", args), moving(1, 2, 9), ORIGIN, num_server_rounds=2)
    tau = 2 if args["tau"] == 2 else 2 / 3
    v = 5 / 3 + (-2 / 3 + 1 / 3 + tau) / 3
    assert two["x"] == pytest.approx(5 / 3 + v)


def test_centered_clipping_in_two_passes():
    """From v = 5/3 on the same round's updates are clipped around it: v = 5/3 + (-2/3 + 1/3 + 2) / 3."""
    page = strategies.load("centered-clipping", {"tau": 2.0, "iterations": 2})
    final, _ = federate(page, moving(1, 2, 9), ORIGIN)
    assert final["x"] == pytest.approx(20 / 9) and page.v["x"] == pytest.approx(20 / 9)


def test_norm_bound_by_hand():
    """Lengths 5 and 1, clipped to 2: (1.2, 1.6) of one example and (0.6, 0.8) of three. Their median is 3."""
    origin = floats(p=[10, 10])
    answers = replies([floats(p=[13, 14]), floats(p=[10.6, 10.8])], [1, 3])
    arrays, metrics = combined("norm-bound", answers, origin, bound=2)
    assert arrays["p"] == pytest.approx([10.75, 11]) and metrics["clipped"] == 0.5
    arrays, _ = combined("norm-bound", answers, origin)
    assert arrays["p"] == pytest.approx([10 + (1.8 + 1.8) / 4, 10 + (2.4 + 2.4) / 4])
    assert strategies.load("norm-bound", {"bound": 2}).streams and not strategies.load("norm-bound").streams


@pytest.mark.parametrize("spec", ["centered_clipping", "norm_bound"])
def test_statistics_are_medians_and_move_no_length(spec):
    """A variance of a thousand would be clipped as an update, or averaged."""
    origin = floats(kernel=[0], moving_variance=[1])
    updates = [floats(kernel=[1], moving_variance=[number]) for number in (1, 2, 1e9)]
    page = strategies.load(spec)
    page.trainable = ("kernel",)
    page.w = origin
    arrays = views(page.aggregate_train(1, replies(updates))[0])
    assert {name: array.tolist() for name, array in arrays.items()} == {"kernel": [1], "moving_variance": [2]}


@pytest.mark.parametrize(("spec", "least"), [("multikrum", 5), ("bulyan", 7)])
def test_too_few_clients_for_the_assumption_are_refused(spec, least):
    page = strategies.load(spec)
    list(page.check(least))
    with pytest.raises(ValueError, match=rf"{spec} with num_byzantine=1 needs at least .* = {least} clients a round"):
        list(page.check(least - 1))
    with pytest.raises(ValueError, match="and 3 have answered"):
        page.aggregate_train(1, replies(LINE[:3]))


@pytest.mark.parametrize(
    ("spec", "args", "said"),
    [
        ("bulyan", {"num_byzantine": -1}, "num_byzantine must be a whole number, 0 or more, not -1"),
        ("geometric-median", {"iterations": 0}, "iterations must be a whole number, 1 or more"),
        ("geometric-median", {"smoothing": 0}, "smoothing must be above 0"),
        ("centered-clipping", {"tau": "mean"}, "tau must be a number above 0, or median, not mean"),
        ("norm-bound", {"bound": 0}, "bound must be a number above 0, or median, not 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(spec, args, said):
    with pytest.raises(UserError, match=said):
        strategies.load(spec, args)


def test_a_name_may_be_spelled_with_either():
    assert type(strategies.load("geometric-median")) is GeometricMedian is type(strategies.load("geometric_median"))


ROBUST = ["krum", "multikrum", "bulyan", "fedmedian", "trimmed_mean", "geometric_median", "centered_clipping"]
NUMBERS = some.lists(some.integers(-1000, 1000).map(float), min_size=7, max_size=10)


@pytest.mark.parametrize("spec", [each for each in (*ROBUST, "norm_bound") if each != "bulyan"])
@settings(max_examples=15, deadline=None)
@given(seed=some.integers(0, 1000), order=some.randoms(use_true_random=False))
def test_it_does_not_matter_who_is_who(spec, seed, order):
    """Of numbers no two of which are equally near, for ties go to the lower cid; Bulyan's last choices are ties."""
    spread = np.random.default_rng(seed).normal(0, 100, 8).tolist()
    shuffled = list(spread)
    order.shuffle(shuffled)
    assert x_of(spec, shuffled) == pytest.approx(x_of(spec, spread), rel=1e-4, abs=1e-3)


@pytest.mark.parametrize(
    ("spec", "args"),
    [
        ("multikrum", {"num_byzantine": 0, "num_selected": 10}),
        ("bulyan", {"num_byzantine": 0}),
        ("trimmed_mean", {"beta": 0}),
        ("centered_clipping", {"tau": 1e9}),
        ("norm_bound", {"bound": 1e9}),
    ],
)
@settings(max_examples=15, deadline=None)
@given(numbers=NUMBERS)
def test_with_no_liar_to_withstand_it_is_the_mean(spec, args, numbers):
    assert x_of(spec, numbers, **args) == pytest.approx(np.mean(numbers), rel=1e-5, abs=1e-3)


@pytest.mark.parametrize("spec", ROBUST)
@settings(max_examples=15, deadline=None)
@given(numbers=NUMBERS, lie=some.sampled_from([-1e30, -1e6, 1e6, 1e30]))
def test_one_liar_moves_it_out_of_the_others_range_by_little(spec, numbers, lie):
    low, high = min(numbers), max(numbers)
    room = 1 + (high - low) / 2
    origin = {"centered_clipping": floats(x=[float(np.median(numbers))])}.get(spec, ORIGIN)
    updates = [floats(x=[number]) for number in (*numbers, lie)]
    found = float(combined(spec, replies(updates), origin)[0]["x"][0])
    assert low - room <= found <= high + room


@pytest.mark.parametrize("name", ["centered-clipping", "geometric-median", "norm-bound", "trimmed-mean"])
def test_a_run_takes_a_name_in_either_spelling(name):
    config = Config(strategy=name, num_partitions=10)
    assert registry.with_mods(config) == config
    assert type(registry.for_run(config)) is type(strategies.load(name.replace("-", "_")))
