"""The pictures of a comparison's page: what they say of their numbers."""

import re

from made import result

from fedkeras.compare import charts, series
from fedkeras.compare.differences import paired_differences


def curve(*points):
    return [{"round": number, "accuracy": a, "loss": 1 - a, **more} for number, (a, more) in enumerate(points, 1)]


RESULTS = [
    result("fedavg", 1, 0.8, own=[0.7, 0.9], curve=curve((0.5, {}), (0.8, {}))),
    result("fedavg", 2, 0.6, own=[0.5, 0.9], curve=curve((0.3, {}), (0.6, {}))),
    result(
        "local",
        1,
        0.4,
        own=[0.6, 0.8],
        central=[0.3, 0.5],
        curve=curve((0.2, {"lowest": 0.1, "highest": 0.3}), (0.4, {})),
    ),
    result("local", 2, 0.5, own=[0.4, 0.8], central=[0.4, 0.6], curve=curve((0.3, {}), (0.5, {}))),
]


def titles(svg):
    return re.findall(r"<title>(.*?)</title>", str(svg), re.DOTALL)


def test_series_by_hand():
    bands = series.bands(RESULTS, "accuracy")
    assert bands["fedavg"] == ([1, 2], [0.4, 0.7], [0.3, 0.6], [0.5, 0.8])
    assert bands["local"].lows == [0.1, 0.4] and bands["local"].highs == [0.3, 0.5], "the clients' models too"
    assert series.by_client(RESULTS, "own")["fedavg"] == {"0": [0.7, 0.5], "1": [0.9, 0.9]}
    assert series.single_models(RESULTS) == {"fedavg": 0.7}
    assert series.ranked([result("a", 1, 0.5, own=[0.9, 0.1]), result("a", 2, 0.5, own=[0.2, 0.6])], "own") == {
        "a": [0.15000000000000002, 0.75]
    }


def test_curves_say_each_rounds_means_and_differ_in_dashes():
    accuracy, loss = charts.curves(RESULTS)
    assert (accuracy.title, loss.title) == tuple(series.CURVES.values())
    assert titles(accuracy.svg) == [
        "round 1\nfedavg: 0.4000\nlocal: 0.2500",
        "round 2\nfedavg: 0.7000\nlocal: 0.4500",
    ]
    assert len({key.dash for key in charts.legend(RESULTS).values()}) == 2
    assert "stroke-dasharray" in accuracy.svg


def test_one_round_is_bars_from_zero():
    [accuracy, _] = charts.curves([result("fedavg", 1, 0.96), result("local", 1, 0.97)])
    assert titles(accuracy.svg) == ["fedavg: 0.9600", "local: 0.9700"]


def test_clients_have_bars_that_say_their_means_and_many_are_ranked():
    own, central = charts.clients(RESULTS)
    assert "client 0, fedavg: 0.6000" in titles(own.svg) and "client 1, local: 0.8000" in titles(own.svg)
    assert titles(central.svg) == ["client 0, local: 0.3500", "client 1, local: 0.5500"]
    [many] = charts.clients([result("fedavg", 1, 0.5, own=[place / 20 for place in range(20)])])
    assert titles(many.svg)[0] == "place 1\nfedavg: 0.0000" and len(titles(many.svg)) == 20
    assert charts.clients([result("fedavg", 1, 0.5)]) == []


def test_a_difference_says_its_mean_and_interval():
    reached = {"fedavg": (0.80, 0.82, 0.81, 0.84), "local": (0.60, 0.61, 0.62, 0.60)}
    results = [result(arm, seed, value) for arm, values in reached.items() for seed, value in enumerate(values)]
    found = paired_differences(results)
    [chart] = charts.differences(results, found)
    [said] = titles(chart.svg)
    assert said.startswith("fedavg − local: 21, from ") and "var(--card)" not in chart.svg, "the interval excludes zero"
    assert charts.differences(RESULTS[:1], paired_differences(RESULTS[:1])) == []
