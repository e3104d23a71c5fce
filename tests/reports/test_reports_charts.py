"""A report's pictures, looked at as SVG: axes, what a place says on hover, numbers where there are few, dashes."""

import html
import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_folders import make

from fedkeras.reports import charts, grids, read_rows
from fedkeras.reports.axes import Axes, Axis, number_axis, round_axis, ticks
from fedkeras.reports.curves import ROUNDS
from fedkeras.reports.headline import figure
from fedkeras.reports.label_counts import LabelCounts
from fedkeras.reports.predictions import Predictions


def titles(chart):
    """What the places of a picture say."""
    return [html.unescape(text) for text in re.findall(r"<title>(.*?)</title>", chart.svg, re.DOTALL)]


def texts(chart):
    """What is written in it."""
    return [html.unescape(text) for text in re.findall(r"<text[^>]*>(.*?)</text>", chart.svg)]


def rows_of(tmp_path, **how):
    return read_rows(make(tmp_path / "run", **how).history_path)


@pytest.mark.parametrize("clients", [3, 12])
def test_a_rounds_column_says_what_the_history_holds(tmp_path, clients):
    rows = rows_of(tmp_path, clients=clients)
    chart = charts.curve(rows, "accuracy")
    assert [title.splitlines()[0] for title in titles(chart)] == ["round 1", "round 2", "round 3"]
    for number, title in enumerate(titles(chart), start=1):
        said = dict(line.split(": ") for line in title.splitlines()[1:])
        own = {(row["phase"], row["client"]): row["accuracy"] for row in rows if row["round"] == number}
        assert said["central test set"] == figure(own["evaluate", "server"])
        assert said["mean over clients, what each held out"] == figure(own["evaluate", "all"])
        assert said["mean over clients, in training"] == figure(own["train", "all"])
        if clients == 3:
            assert said.get("client 1") == (None if number == 2 else figure(own["evaluate", "1"]))  # it failed
        else:
            alone = [value for (phase, cid), value in own.items() if phase == "evaluate" and cid.isdigit()]
            assert (said["lowest of the clients"], said["highest of the clients"]) == (
                figure(min(alone)),
                figure(max(alone)),
            )


def test_lines_differ_by_dashes_too(tmp_path):
    chart = charts.curve(rows_of(tmp_path), "accuracy")
    keys = [chart.legend[name] for name in ROUNDS.labels.values()]
    assert len({key.dash for key in keys}) == 3 and all(key.line for key in keys)
    assert {*re.findall(r'stroke-dasharray="([^"]+)"', chart.svg)} == {key.dash for key in keys} - {""}
    runs = charts.run_keys(f"run {number}" for number in range(20))
    assert len(set(runs.values())) == 20
    assert all(a.dash != b.dash and a.colour != b.colour for a, b in itertools.pairwise(runs.values()))


def test_one_round_is_bars_with_numbers_and_no_axis_from_096_to_104(tmp_path):
    rows = rows_of(tmp_path, rounds=1)
    chart = charts.curve(rows, "accuracy")
    assert "0.96" not in texts(chart) and "1.04" not in texts(chart) and "<polyline" not in chart.svg
    assert texts(chart).count("0.5000") == 6  # central, both means, three clients
    assert {"central test", "mean of clients", "mean in training", "client 0"} <= {*texts(chart)}
    assert "Of round 1 alone." in chart.note
    both = charts.overlay(
        {name: [row for row in rows if row["client"] == "server"] for name in ("a", "b")}, "loss", "x"
    )
    assert texts(both).count("2.0000") == 2 and "b: 2.0000" in titles(both)
    assert charts.overlay({"a": []}, "loss", "x") is None
    axis = round_axis(1, 1)
    assert (axis.low, axis.high, list(axis.ticks)) == (0.5, 1.5, [(1, "1")])


def test_few_clients_have_names_and_numbers_and_many_a_slope():
    few = charts.ranked({"10": 0.25, "2": 0.75}, "accuracy")
    assert [text for text in texts(few) if text.startswith("client")] == ["client 2", "client 10"]
    assert {"0.2500", "0.7500"} <= {*texts(few)} and few.note == "lowest 0.2500, median 0.5000, highest 0.7500"
    many = charts.ranked({str(cid): cid / 100 for cid in range(100)}, "accuracy")
    assert len(titles(many)) == 100 and titles(many)[7] == "client 7: 0.0700" and many.svg.count("<polygon") == 1
    assert len(titles(charts.ranked({str(cid): cid / 1000 for cid in range(1000)}, "accuracy"))) <= charts.MOST_COLUMNS


def test_a_small_grid_has_its_numbers_written_in_and_a_large_one_is_an_image():
    values = np.array([[0.111, np.nan], [0.5, 0.999]])
    small = grids.heat_map("accuracy", values, 4, ["0", "1"])
    assert [text for text in texts(small) if "." in text] == ["0.11", "0.50", "1.00"]
    assert titles(small) == ["round 4, client 0: 0.1110", "round 4, client 1: 0.5000", "round 5, client 1: 0.9990"]
    assert small.svg.count("<rect") == 3 and "<image" not in small.svg
    large = grids.heat_map("accuracy", np.tile(values, (50, 50)), 1, [str(cid) for cid in range(100)])
    assert large.svg.count("<image") == 1 and len(titles(large)) == 100
    assert titles(large)[1] == "client 1: lowest 0.5000, highest 0.9990, last 0.9990"
    assert "<rect" not in grids.heat_map("loss", np.full((2, 2), np.nan), 1, ["0", "1"]).svg


def test_an_image_is_a_png_that_others_read(tmp_path):
    import base64
    import io

    from matplotlib.image import imread

    axes = Axes("x", round_axis(1, 2), Axis(0, 1, []))
    pixels = np.arange(2 * 3 * 4).reshape(2, 3, 4) * 10
    axes.image((1, 2), (0, 1), pixels)
    data = base64.b64decode(re.search(r"base64,([^\"]+)", axes.svg())[1])
    assert (imread(io.BytesIO(data)) * 255).round().astype(int).tolist() == pixels.tolist()


def test_sixty_two_classes_all_have_their_names():
    names = tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
    counts = np.zeros((40, 62), int)
    counts[7, 61] = 5
    label = grids.label_map(LabelCounts("natural", tuple(map(str, range(40))), names, counts))
    square = grids.confusion(Predictions(np.array([0, 61, 61]), np.array([0, 61, 3]), names))
    assert {*names} <= {*texts(label)} and all(texts(square).count(name) == 2 for name in names)
    assert titles(label) == ["client 7, label z: 5"]
    assert titles(square) == ["0, called 0: 1", "z, called 3: 1", "z, called z: 1"]
    assert label.width >= 62 * 13 and square.width >= 62 * 13  # moved from side to side on a phone, not shrunk
    long = ("a class of a long name 1", "a class of a long name 2")
    few = grids.confusion(Predictions(np.array([0, 1]), np.array([0, 0]), long))
    assert few.width == 0 and all(texts(few).count(name) == 2 for name in ("a clas… name 1", "a clas… name 2"))


def test_what_comes_from_outside_is_text():
    bad = "</title><script>alert(1)</script>\"'"
    for svg in (
        charts.ranked({bad: 0.5, "1": 0.6}, bad).svg,
        grids.heat_map(bad, np.ones((2, 2)), 1, [bad, "1"]).svg,
        charts.label_bars(LabelCounts("x", (bad,), (bad, "b"), np.array([[3, 4]]))).svg,
    ):
        assert "<script" not in svg and svg.count("<title>") == svg.count("</title>")


NUMBERS = st.lists(st.floats(allow_nan=True, width=32), max_size=20)


@given(NUMBERS)
def test_an_axis_holds_its_values_and_few_round_numbers(values):
    axis = number_axis(values)
    known = [value for value in values if math.isfinite(value)]
    assert axis.low < axis.high and all(axis.low <= value <= axis.high for value in known)
    assert 1 <= len(axis.ticks) <= 8 and all(axis.low <= tick <= axis.high for tick, _ in axis.ticks)
    from_zero = number_axis(values, from_zero=True)
    assert from_zero.low <= 0 < from_zero.high or known


def test_ticks_by_hand():
    assert [text for _, text in ticks(0.0, 1.0, 6)] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert [text for _, text in ticks(0.961, 0.987, 6)] == ["0.965", "0.970", "0.975", "0.980", "0.985"]
    assert [text for _, text in ticks(-3.0, 12.0, 4)] == ["0", "5", "10"]
    assert [tick for tick, _ in round_axis(1, 100).ticks] == [20, 40, 60, 80, 100]


def test_a_line_has_a_gap_where_there_is_no_number():
    axes = Axes("x", round_axis(1, 4), number_axis([1.0, 2.0]))
    axes.line([(1, 1.0), (2, math.nan), (3, 2.0), (4, 1.5)], "red")
    lines = re.findall(r'<polyline points="([^"]+)"', axes.svg())
    assert [len(points.split()) for points in lines] == [1, 2]
