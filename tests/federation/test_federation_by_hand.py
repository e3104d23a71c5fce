"""Every strategy against figures computed by hand: three toy clients with 1, 2 and 5 examples and two arrays."""

import numpy as np
import pytest
from toy_federation import ToyClients, content, federate, floats, reply

from fedkeras import strategies
from fedkeras.errors import RunFailed
from fedkeras.federation.aggregation import as_dtype
from fedkeras.federation.offline_aggregation import combine
from fedkeras.federation.records import record, views
from fedkeras.strategies.fedprox import FedProx
from fedkeras.strategies.krum import Krum, krum_scores, squared_distances
from fedkeras.strategies.trimmed_mean import TrimmedMean

UPDATES = [
    floats(kernel=[[8, 0], [4, -8]], bias=[1, 2]),
    floats(kernel=[[0, 4], [8, -4]], bias=[3, -2]),
    floats(kernel=[[16, 8], [0, 4]], bias=[2, 10]),
]
EXAMPLES = [1, 2, 5]
LOSSES = [8.0, 4.0, 1.6]
START = floats(kernel=[[0, 0], [0, 0]], bias=[0, 0])


def replies(updates=UPDATES, examples=EXAMPLES):
    metrics = [{"loss": loss} for loss in LOSSES] + [{"loss": 0.0}] * len(updates)
    return [reply(cid, content(updates[cid], examples[cid], **metrics[cid])) for cid in range(len(updates))]


def combined(spec, answers, **args):
    arrays, metrics = strategies.load(spec, args).aggregate_train(1, answers)
    return views(arrays), metrics


def assert_weights(weights, **expected):
    """Names, order, dtype and numbers."""
    assert list(weights) == list(expected)
    for name, numbers in expected.items():
        assert weights[name].dtype == np.float32
        np.testing.assert_array_equal(weights[name], np.array(numbers, np.float32))


@pytest.mark.parametrize("spec", ["fedavg", "fedprox"])
def test_mean_is_weighted_by_examples(spec):
    """kernel[0,0] is (1*8 + 2*0 + 5*16) / 8; counting each client once would give 8."""
    weights, metrics = combined(spec, replies())
    assert_weights(weights, kernel=[[11, 6], [2.5, 0.5]], bias=[2.125, 6])
    assert dict(metrics) == {"loss": 3.0}  # (8 + 8 + 8) / 8


def test_the_mean_is_summed_in_float64():
    """(2^24 + 1 + 1 + 2) / 4; a float32 sum loses the ones, for it cannot hold 2^24 + 1."""
    updates = [floats(w=[number]) for number in (2**24, 1, 1, 2)]
    weights, _ = combined("fedavg", replies(updates, [1] * 4))
    assert_weights(weights, w=[4194305])


@pytest.mark.parametrize(
    ("spec", "args", "seen", "used"),
    [
        # (1*7 + 2*7 + 5*8) / 8 = 7.625; (1*3 + 2*3 + 5*2) / 8 = 2.375; (1*4 + 2*6 + 5*4) / 8 = 4.5, to even
        ("fedavg", {}, [[7, 3, 4], [7, 3, 6], [8, 2, 4]], [8, 2, 4]),
        # (7 + 8 + 8) / 3 = 7.67; (3 + 3 + 2) / 3 = 2.67; -14 / 3 = -4.67
        ("trimmed_mean", {"beta": 0.0}, [[7, 3, -4], [8, 3, -5], [8, 2, -5]], [8, 3, -5]),
        ("krum", {"num_byzantine": 0, "num_selected": 3}, [[7, 3, -4], [8, 3, -5], [8, 2, -5]], [8, 3, -5]),
        # of four, the mean of those in the middle: 2.5 and 3.5, both to even
        ("fedmedian", {}, [[0, 0, 1], [2, 3, 1], [3, 4, 1], [9, 9, 1]], [2, 4, 1]),
    ],
)
def test_whole_numbers_are_rounded_and_not_cut_off(spec, args, seen, used):
    """A counter among the weights, (3,) int64, beside the same numbers as int8; as strategies and `aggregate` do it."""
    updates = [{"step": np.array(row), "small": np.array(row, np.int8)} for row in seen]
    counts = [1, 2, 5, 1][: len(updates)]
    online, _ = combined(spec, replies(updates, counts), **args)
    offline = combine(strategies.load(spec, args), {str(i): update for i, update in enumerate(updates)}, counts)
    for weights in (online, offline):
        assert {name: (array.dtype, array.tolist()) for name, array in weights.items()} == {
            "step": (np.int64, used),
            "small": (np.int8, used),
        }


def test_a_truth_value_is_what_most_examples_say():
    """(1 + 2) / 8 say so of the first, 5 / 8 of the second."""
    updates = [{"seen": np.array(row)} for row in ([True, False], [True, False], [False, True])]
    weights, _ = combined("fedavg", replies(updates))
    assert weights["seen"].tolist() == [False, True]


def test_what_is_no_whole_number_of_the_type_is_an_error():
    for number, words in ((np.nan, "nan is no number of type int64"), (300.0, "300 is no number of type int8")):
        with pytest.raises(ValueError, match=words):
            as_dtype(np.array([1.0, number]), np.dtype(words.split()[-1]))


def test_median_of_three_ignores_examples():
    weights, metrics = combined("fedmedian", replies())
    assert_weights(weights, kernel=[[8, 4], [4, -4]], bias=[2, 2])
    assert dict(metrics) == {"loss": 3.0}


def test_median_of_four_is_the_mean_of_the_middle_two():
    four = [*UPDATES, floats(kernel=[[2, 6], [6, 6]], bias=[5, 4])]
    weights, _ = combined("fedmedian", replies(four, [*EXAMPLES, 1]))
    assert_weights(weights, kernel=[[5, 5], [5, 0]], bias=[2.5, 3])


def test_trimmed_mean_drops_one_at_either_end():
    """beta 0.34 of 3 clients is 1, which leaves the middle one."""
    weights, metrics = combined("trimmed_mean", replies(), beta=0.34)
    assert_weights(weights, kernel=[[8, 4], [4, -4]], bias=[2, 2])
    assert dict(metrics) == {"loss": 3.0}


def test_trimmed_mean_that_trims_nothing_counts_each_client_once():
    """beta 0.2 of 3 clients is 0: (8 + 0 + 16) / 3, whatever the examples."""
    weights, _ = combined("trimmed_mean", replies(), beta=0.2)
    assert_weights(weights, kernel=[[8, 4], [4, -8 / 3]], bias=[2, 10 / 3])


def test_trimmed_mean_of_ten():
    """beta 0.3 cuts three at either end: (16 + 25 + 36 + 49) / 4 remains."""
    squares = [floats(w=[number**2]) for number in (10, 1, 9, 2, 8, 3, 7, 4, 6, 5)]
    weights, _ = combined("trimmed_mean", replies(squares, [1] * 10), beta=0.3)
    assert_weights(weights, w=[31.5])


@pytest.mark.parametrize(("beta", "mean"), [(0.29, 113281 / 42), (0.289, 119306 / 44)])
def test_trimmed_mean_takes_the_floor_as_the_paper_means_it(beta, mean):
    """0.29 * 100 is 28.999... in binary, and yet 29 are cut: 30^2 + ... + 71^2 = 113281. Of 28.9 it is 28: 29^2 + ... +
    72^2 = 119306."""
    squares = [floats(w=[number**2]) for number in range(1, 101)]
    weights, _ = combined("trimmed_mean", replies(squares, [1] * 100), beta=beta)
    assert_weights(weights, w=[mean])


@pytest.mark.parametrize("beta", [-0.1, 0.5, float("nan")])
def test_trimmed_mean_refuses_a_beta_that_leaves_nobody(beta):
    with pytest.raises(ValueError, match="beta must be at least 0 and below"):
        TrimmedMean(beta)


# Five clients in the plane, one array a coordinate. Squared distances by hand:
#        (0,0)  (3,4)  (0,1)  (1,0)  (100,0)
# (0,0)      0     25      1      1    10000
# (3,4)     25      0     18     20     9425
# (0,1)      1     18      0      2    10001
# (1,0)      1     20      2      0     9801
POINTS = [floats(x=[x], y=[[y]]) for x, y in ((0, 0), (3, 4), (0, 1), (1, 0), (100, 0))]


def test_krum_scores_by_hand():
    """With f = 1 a score is the sum over the K - f - 2 = 2 nearest."""
    distances = squared_distances([record(point) for point in POINTS], ["x", "y"])
    assert distances.tolist() == [
        [0, 25, 1, 1, 10000],
        [25, 0, 18, 20, 9425],
        [1, 18, 0, 2, 10001],
        [1, 20, 2, 0, 9801],
        [10000, 9425, 10001, 9801, 0],
    ]
    assert krum_scores(distances, 1).tolist() == [2, 38, 3, 3, 19226]
    assert krum_scores(distances, 0).tolist() == [27, 63, 21, 23, 29226]


def test_krum_takes_the_client_with_the_lowest_score():
    """Client 0 with f = 1, client 2 with f = 0; the number of examples says nothing."""
    answers = replies(POINTS, [1, 9, 1, 1, 99])
    assert_weights(combined("krum", answers)[0], x=[0], y=[[0]])
    assert_weights(combined("krum", answers, num_byzantine=0)[0], x=[0], y=[[1]])


@pytest.mark.parametrize(
    ("num_selected", "x", "y"),
    [(2, 0, 0.5), (3, 1 / 3, 1 / 3), (4, 1, 1.25), (99, 20.8, 1)],
    ids=["a tie goes to the lower cid", "3", "4", "no more than there are"],
)
def test_multi_krum_is_the_mean_of_the_lowest_scores(num_selected, x, y):
    weights, _ = combined("krum", replies(POINTS, [1] * 5), num_selected=num_selected)
    assert_weights(weights, x=[x], y=[[y]])


def test_krum_with_too_few_answers_fails_the_run_and_says_how_many_it_needs():
    with pytest.raises(RunFailed, match="num_byzantine=1 needs at least 4 answers a round, and there are 3"):
        federate(strategies.load("krum"), ToyClients(), START, max_retries=1)


@pytest.mark.parametrize(
    "args", [{"num_byzantine": -1}, {"num_byzantine": 1.5}, {"num_selected": 0}, {"num_selected": 2.0}]
)
def test_krum_refuses_impossible_counts(args):
    with pytest.raises(ValueError, match="must be a whole number"):
        Krum(**args)


# FedProx: the server's only part is to tell the clients mu.


def proximal_steps(cid, server_round, weights, config):
    """Three gradient steps of 0.1 from w towards the client's own optimum cid * 10, with the proximal term."""
    start = weights["w"].astype(np.float64)
    w = start.copy()
    for _ in range(3):
        mu = float(config.get("objective", "proximal:mu=0").removeprefix("proximal:mu="))
        w -= 0.1 * ((w - 10 * cid) + mu * (w - start))
    return content({"w": w.astype(np.float32)}, cid + 1, loss=0.0)


def run_proximal(strategy):
    return federate(strategy, ToyClients(proximal_steps), floats(w=[4, -4]), num_server_rounds=3)[0]["w"]


def test_fedprox_tells_the_clients_mu_in_every_round():
    seen = []

    def note(cid, server_round, weights, config):
        seen.append((server_round, config["objective"]))
        return content(weights, 1, loss=0.0)

    federate(strategies.load("fedprox", {"proximal_mu": 0.25}), ToyClients(note), START, num_server_rounds=2)
    assert seen == [(1, "proximal:mu=0.25")] * 3 + [(2, "proximal:mu=0.25")] * 3


def test_fedprox_with_mu_zero_is_fedavg_in_a_whole_run_and_otherwise_is_not():
    plain = run_proximal(strategies.load("fedavg"))
    assert run_proximal(strategies.load("fedprox", {"proximal_mu": 0})).tobytes() == plain.tobytes()
    assert np.abs(run_proximal(strategies.load("fedprox", {"proximal_mu": 5})) - plain).min() > 0.1


@pytest.mark.parametrize("mu", [-0.1, float("inf"), float("nan")])
def test_fedprox_refuses_a_senseless_mu(mu):
    with pytest.raises(ValueError, match="proximal_mu must be 0 or more"):
        FedProx(mu)


@pytest.mark.parametrize("spec", ["fedavg", "fedprox", "fedmedian", "trimmed_mean"])
def test_no_reply_gives_no_arrays_and_no_metrics(spec):
    assert strategies.load(spec).aggregate_train(1, iter(())) == (None, None)
    assert strategies.load(spec).aggregate_evaluate(1, iter(())) is None


def test_evaluation_is_weighted_by_examples():
    """(1*2 + 3*6) / 4; a metric that one client lacks is left out."""
    answers = [reply(0, content(None, 1, loss=2.0, auc=1.0)), reply(1, content(None, 3, loss=6.0))]
    assert dict(strategies.load("fedavg").aggregate_evaluate(1, answers)) == {"loss": 5.0}


@pytest.mark.parametrize("spec", ["fedavg", "fedmedian", "trimmed_mean", "fedavgm", "fedadam", "fedyogi", "fedadagrad"])
def test_shapes_and_dtypes_survive_a_round(spec):
    """Scalars, empty arrays, Fortran order, and a count that all clients have as 3, which a mean may make 2.9999."""
    start = {
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
        "count": np.array([3, 3], np.int64),
    }

    def unchanged(cid, server_round, weights, config):
        return content(weights, [1, 5, 1][cid], loss=0.0)

    final, _ = federate(strategies.load(spec), ToyClients(unchanged), start)
    assert list(final) == list(start)
    for name, array in start.items():
        assert (final[name].shape, final[name].dtype) == (array.shape, array.dtype)
        np.testing.assert_allclose(final[name], array, rtol=1e-6)
    assert final["count"].tolist() == [3, 3]
