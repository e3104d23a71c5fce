"""`python -m benchmarks.compare`: what a figure is, when it has changed beyond noise, and what is said beside it."""

import copy
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import blocks, compare
from benchmarks.figures import (
    COUNT,
    GAIN,
    LOSS,
    MEMORY,
    RATE,
    RATIO,
    SCORE,
    SETTING,
    SPREAD,
    TIME,
    UNKNOWN,
    Figure,
    figures_of,
)
from benchmarks.judgement import BETTER, CHANGED, SAME, UNJUDGED, WORSE, drift, judged

STATE = {"busy_cores": 0.0, "load_average": 0.1, "yardsticks": {"python": [0.010, 0.011], "copy": [0.002, 0.003]}}
FILE = {
    "format": 1,
    "date": "2026-12-01T12:00:00+00:00",
    "state": "finished",
    "revision": {"commit": "a" * 40, "changed": False},
    "machine": {"cpu": "a processor", "cores": 2},
    "versions": {"keras": "3.15.0"},
    "cases": {
        "start": {
            "benchmark": "start",
            "arguments": "",
            "runs": [
                {"before": STATE, "after": STATE, "figures": {"first_round": value, "rounds": 3}}
                for value in (8.0, 8.2, 8.4)
            ],
        },
        "walks": {
            "benchmark": "walks",
            "arguments": "",
            "runs": [{"before": STATE, "after": STATE, "figures": {"weight_files": 34, "file_files": 69}}],
        },
    },
}


def judge(name: str, old: list[float], new: list[float], machine=(1.0, 1.0), obstacle: str = "") -> str:
    return judged(Figure(name, tuple(old)), Figure(name, tuple(new)), machine, obstacle).word


@pytest.fixture
def compared(tmp_path, capsys):
    """Compare FILE with what `change` makes of it; the status, what was printed and its last line."""

    def run(change, *flags: str) -> tuple[int, str, dict]:
        new = copy.deepcopy(FILE)
        change(new)
        for name, content in (("old", FILE), ("new", new)):
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        status = compare.main([str(tmp_path / "old.json"), str(tmp_path / "new.json"), *flags])
        out, err = capsys.readouterr()
        last = out.splitlines()[-1] if out else ""
        return status, out + err, json.loads(last) if last.startswith("{") else {}

    return run


def slower(factor: float, case: str = "start"):
    def change(file: dict) -> None:
        for run in file["cases"][case]["runs"]:
            run["figures"]["first_round"] *= factor

    return change


# Figures


def test_blocks_stand_for_their_median_and_a_row_is_named_by_its_first_field() -> None:
    run = {
        "A": {"spawn": {"seconds": 2, "peak_mb": 9, "blocks": {"seconds": [1, 2, 3], "times_two": [1.5, 1.6]}}},
        "rows": [
            {"fault": "cut 1.5 s", "survived": 3},
            {"fault": "again", "survived": 2},
            {"fault": "again", "survived": 1},
        ],
        "seeds": [{"mu": 0.1, "accuracies": [0.5, 0.7]}],
        "held": True,
        "link": {"0.5 Mbit/s": 3},
        "words": "not a figure",
        "none": None,
    }
    assert {name: figure.values for name, figure in figures_of([run]).items()} == {
        "A.spawn.seconds": (1, 2, 3),
        "A.spawn.peak_mb": (9,),
        "A.spawn.times_two": (1.5, 1.6),
        "rows.cut 1·5 s.survived": (3,),
        "rows.again#1.survived": (2,),
        "rows.again#2.survived": (1,),
        "seeds.mu=0·1.accuracies": (0.5, 0.7),
        "held": (1,),
        "link.0·5 Mbit/s": (3,),
    }


def test_several_runs_are_one_figure_and_a_table_may_be_all_there_is() -> None:
    assert figures_of([[{"clients": 10, "seconds": 1}], [{"clients": 10, "seconds": 2}]])[
        "clients=10.seconds"
    ].values == (1, 2)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("spawn.seconds", TIME), ("tls_cpu_s_per_mb", TIME), ("first_round", TIME), ("plain_mb_s", RATE),
        ("server_new_mb", MEMORY), ("echo_ratio", RATIO), ("B.spawn.times_two", RATIO), ("metrics_share", RATIO),
        ("shared_gain", GAIN), ("fedprox.best_loss", LOSS), ("iid.mu=0.accuracies", SCORE), ("weight_files", COUNT),
        ("spawn.rounds", SETTING), ("cost.digits_cnn.by_layers", RATIO),
        ("one.max", SPREAD), ("accuracies.mnist.8 bit", SCORE), ("surprise", UNKNOWN),
    ],
)  # fmt: skip
def test_which_way_is_better_follows_from_the_name(name: str, kind) -> None:
    assert Figure(name, (1.0,)).kind is kind


# The rule


def test_beyond_noise_is_no_overlap_and_more_than_five_percent() -> None:
    old = [1.00, 1.02, 1.05, 1.04, 1.01]
    assert judge("seconds", old, [1.20, 1.22, 1.25, 1.21, 1.30]) == WORSE
    assert judge("seconds", old, [0.80, 0.82, 0.85, 0.81, 0.83]) == BETTER
    assert judge("seconds", old, [1.20, 1.22, 1.25, 1.21, 1.04]) == SAME, "one block overlaps"
    assert judge("seconds", old, [1.06, 1.07, 1.06, 1.07, 1.06]) == SAME, "apart, but the median by 4 % only"
    assert judge("seconds", [1.0, 1.3, 1.3], [1.4, 1.4, 1.4]) == WORSE
    assert judge("seconds", [1.0, 1.38, 1.38], [1.4, 1.4, 1.4]) == SAME, "the minima are apart, the medians are not"
    assert judge("echo_ratio", [1.0, 1.0, 1.0], [1.04, 1.2, 1.2]) == SAME, "and the other way round"
    assert judge("mb_per_s_gain", old, [0.80, 0.82, 0.85, 0.81, 0.83]) == WORSE, "larger is better"
    assert judge("surprise", old, [2.0, 2.0, 2.0]) == CHANGED


def test_what_the_machine_itself_has_done_is_no_change() -> None:
    old, new = [1.0, 1.02, 1.01], [1.5, 1.52, 1.51]
    assert judge("seconds", old, new, (1.0, 1.3)) == WORSE
    assert judge("seconds", old, new, (0.9, 1.45)) == SAME, "1.5 is not 5 % beyond 1.45"
    assert judge("plain_mb_s", new, old, (1.0, 1.45)) == SAME, "a rate falls as times rise"
    assert judge("plain_mb_s", new, old, (1.0, 1.3)) == WORSE
    assert judge("echo_ratio", old, new, (1.0, 1.45)) == WORSE, "both of its halves were measured in the same minutes"
    assert judge("seconds", old, new, obstacle="another machine") == UNJUDGED
    assert judge("echo_ratio", old, new, obstacle="others used a core") == WORSE
    assert judge("weight_files", [100], [101], (0.5, 2.0), "another machine") == WORSE


def test_the_machine_is_compared_by_its_worst_and_best_moments() -> None:
    old = [{"python": [0.010, 0.012]}, {"python": [0.011, 0.020]}]
    new = [{"python": [0.015, 0.016], "copy": [1.0]}, {"python": [0.018]}]
    assert drift(old, new) == (1.0, pytest.approx(0.018 / 0.010))
    assert drift(new, old) == (pytest.approx(0.010 / 0.018), 1.0)
    assert drift([], new) == (1.0, 1.0)


def test_few_values_are_widened_by_what_their_kind_is_assumed_to_have() -> None:
    assert judge("seconds", [1.0], [1.5]) == SAME, "1.25 and 1.5 * 0.75 overlap"
    assert judge("seconds", [1.0], [1.7]) == WORSE
    assert judge("server_peak_mb", [100.0], [125.0]) == WORSE
    assert judge("up_mb", [100.0], [110.0]) == WORSE
    assert judge("accuracy", [0.90], [0.87]) == SAME and judge("accuracy", [0.90], [0.85]) == WORSE
    verdict = judged(Figure("seconds", (1.0,)), Figure("seconds", (1.7,)))
    assert "± 25% assumed" in verdict.why and math.isnan(verdict.spreads[0])


def test_what_is_no_number_any_more_is_worse() -> None:
    assert judge("accuracy", [0.9], [math.nan]) == WORSE
    assert judge("accuracy", [math.nan], [0.9]) == UNJUDGED


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=8), st.sampled_from(("seconds", "plain_mb_s", "accuracy")))
def test_the_same_values_are_never_a_change(values: list[float], name: str) -> None:
    assert judge(name, values, values[::-1]) == SAME


@given(
    st.lists(st.floats(0.1, 10), min_size=3, max_size=6),
    st.lists(st.floats(0.1, 10), min_size=3, max_size=6),
    st.sampled_from(("seconds", "gain", "mb_s")),
)
def test_old_and_new_exchanged_is_the_other_verdict(old: list[float], new: list[float], name: str) -> None:
    """Up to the margin, which is of the old one: where one side is within 5 to 5.3 %, only one way counts."""
    words = {judge(name, old, new), judge(name, new, old)}
    assert words in ({SAME}, {WORSE, BETTER}) or SAME in words


# The command


def test_nothing_changed(compared) -> None:
    status, text, line = compared(lambda file: None)
    assert status == 0 and line["worse"] == line["better"] == line["missing"] == [] and line["within_noise"] == 3
    assert "first_round" in text and "rounds" not in text.replace("first_round", ""), (
        "a setting that is the same is no line"
    )
    assert "first_round" not in compared(lambda file: None, "--changed")[1]


def test_what_is_slower_is_named_and_the_status_says_so(compared) -> None:
    status, text, line = compared(slower(1.5))
    assert (status, line["worse"]) == (1, ["start: first_round"])
    assert "x 1.500" in text and "5/5 %" in text and "WORSE" in text
    assert compared(slower(0.5))[0] == 0


def test_fewer_files_are_better_and_other_figures_are_said(compared) -> None:
    def change(file: dict) -> None:
        figures = file["cases"]["walks"]["runs"][0]["figures"]
        figures["weight_files"] = 30
        figures["other_files"] = figures.pop("file_files")

    status, text, line = compared(change)
    assert (status, line["better"]) == (0, ["walks: weight_files"])
    assert line["missing"] == ["walks: file_files: only in the old file", "walks: other_files: only in the new file"]
    assert "other_files: only in the new file" in text


def test_another_setting_is_said(compared) -> None:
    def change(file: dict) -> None:
        for run in file["cases"]["start"]["runs"]:
            run["figures"]["rounds"] = 4

    assert compared(change)[2]["changed"] == ["start: rounds"]
    assert "measured in another setting" in compared(change)[1]


def test_on_another_machine_times_are_not_judged(compared) -> None:
    def change(file: dict) -> None:
        slower(3.0)(file)
        file["machine"]["cpu"], file["versions"]["keras"] = "another", "3.16.0"

    status, text, line = compared(change)
    assert (status, line["worse"], line["not_judged"]) == (0, [], 1)
    assert "cpu was a processor, is another" in text and "keras was 3.15.0, is 3.16.0" in text and "warning" in text


def test_beside_others_work_times_are_not_judged_and_with_nothing_else_there_is_no_verdict(compared) -> None:
    def change(file: dict) -> None:
        slower(3.0)(file)
        file["cases"]["start"]["runs"][1]["after"]["busy_cores"] = 1.2

    status, text, line = compared(change)
    assert (status, line["not_judged"]) == (0, 1) and "others used 1.2 cores" in text
    status, text, _ = compared(change, "--only", "start")
    assert status == 2 and "no figure could be judged" in text


def test_what_fails_now_is_worse_and_what_was_not_run_is_missing(compared) -> None:
    def fails(file: dict) -> None:
        file["cases"]["walks"]["runs"] = [{"fault": "status 1: no luck"}]

    status, text, line = compared(fails)
    assert (status, line["failed"]) == (1, ["walks"]) and "no luck" in text

    def not_run(file: dict) -> None:
        file["cases"]["walks"]["runs"], file["state"] = [], "interrupted"
        file["cases"]["start"]["arguments"] = "--simulation"

    status, text, line = compared(not_run)
    assert status == 2 and "not measured in the new file: it was not run" in text
    assert "not the same case: was ``, is `--simulation`" in text and "interrupted" in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no JSON"),
        ("[1]", "is no file of `python -m benchmarks.all`"),
        ('{"format": 1}', "it has no date"),
        (json.dumps({**FILE, "format": 2}), "has format 2, this reads 1"),
    ],
)
def test_a_file_of_something_else_is_one_line_and_status_2(text: str, said: str, tmp_path: Path, capsys) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    assert compare.main([str(path), str(path)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert compare.main([str(tmp_path / "none.json"), str(path)]) == 2


# Blocks


def test_variants_take_turns() -> None:
    order = []

    def variant(name: str):
        return lambda: order.append(name) or len(order)

    found = blocks.interleaved({"a": variant("a"), "b": variant("b")}, blocks=3)
    assert order == ["a", "b"] * 3 and found == {"a": [1, 3, 5], "b": [2, 4, 6]}


def test_rounds_are_grouped_into_blocks_by_their_medians() -> None:
    assert blocks.grouped([1, 9, 2, 4, 4, 4], 2) == [2, 4]
    assert blocks.grouped([3.0, 1.0], 5) == [3.0, 1.0] and blocks.grouped([], 5) == []
    assert len(blocks.grouped(list(range(13)))) == 5


def test_a_line_has_medians_and_beside_them_all_values() -> None:
    assert blocks.figures({"seconds": [1, 2, 9.00004]}) == {"seconds": 2, "blocks": {"seconds": [1, 2, 9.0]}}
    assert "seconds" in blocks.table({"seconds": [1, 2, 9]}) and "9" in blocks.table({"seconds": [1, 2, 9]})
    assert blocks.ratios([2, 9], [1, 3]) == [2, 3]
