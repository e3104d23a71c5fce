"""report.html: whole from a whole folder, honest about what is missing, harmless whatever the names in it."""

import re
import sys
from collections import Counter
from html.parser import HTMLParser

import pytest
from run_folders import make

from fedkeras.commands import report as command
from fedkeras.errors import UserError
from fedkeras.reports import RunFolder, section, write_report
from fedkeras.reports.history import FAILURES
from fedkeras.reports.report import MOST_CLIENTS, MOST_CURVES, MOST_FAILURES

SECTIONS = ["curves", "clients", "labels", "test", "timing", "failures", "settings"]
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Tags, ids, attributes, the text by section, and whether what is opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.words = Counter(), [], [], {}
        self.open, self.section, self.tables, self.charts = [], "", {}, []
        self.text = text
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        table = dict(attrs)
        self.tags[tag] += 1
        self.ids += [table["id"]] if "id" in table else []
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action", "data")]
        assert not any(name.startswith("on") for name in table), "no event handlers"
        if tag == "section":
            self.section = table.get("id", "")
        if tag == "svg" and "aria-label" in table:  # a legend's lines have none
            self.charts.append(table["aria-label"])
        if tag == "tr":
            self.tables.setdefault(self.section, []).append([])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "section":
            self.section = ""

    def handle_data(self, data):
        self.words[self.section] = f"{self.words.get(self.section, '')} {data.strip()}"
        if {"td", "th"} & {*self.open[-2:]} and data.strip():
            self.tables[self.section][-1].append(data.strip())


def read(path):
    return Page(path.read_text())


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = make(tmp_path_factory.mktemp("runs") / "a-run", learning_rate=0.05)
    assert write_report(folder) == folder.report_path
    return read(folder.report_path)


def test_it_is_one_whole_page_that_asks_for_nothing(page):
    assert page.open == [] and page.tags["html"] == 1
    for tag in ("script", "link", "iframe", "img", "object", "embed", "form"):
        assert not page.tags[tag]
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert not re.search(r"https?:|@import|url\((?!#)", page.text)
    assert "default-src 'none'" in page.text and 'name="viewport"' in page.text
    assert "prefers-color-scheme: dark" in page.text and "@media print" in page.text
    assert len(page.text) < 500_000


def test_charts_are_inline_and_do_not_meet_by_their_names(page):
    assert page.charts == [
        "accuracy by round", "loss by round", "accuracy: round by client, by round and client",
        "Seconds of training: round by client, by round and client", "accuracy of each client in its last round",
        "examples by client and label", "confusion matrix: true class by predicted class",
        "seconds by round and what they went to",
    ]  # fmt: skip
    assert len(page.ids) == len(set(page.ids))
    used = set(re.findall(r'(?:url\(|href=")#([\w.-]+)', page.text))
    assert used <= {*page.ids} and page.tags["style"] == 1


def test_colours_follow_the_page(page):
    drawn = "".join(re.findall(r"<svg.*?</svg>", page.text, re.DOTALL))
    assert set(re.findall(r"var\((--\w+)\)", drawn)) >= {
        "--ink",
        "--grid",
        "--central",
        "--clients",
        "--training",
        "--s0",
    }
    for colour in ("#333333", "#e3e3e3", "#0072b2", "#4477aa", "#000000"):
        assert colour not in drawn
    defined = set(re.findall(r"(--\w+):", page.text))
    assert set(re.findall(r"var\((--\w+)\)", page.text)) <= defined


def test_sections_tell_what_the_folder_holds(page):
    assert [name for name in page.ids if name in SECTIONS] == SECTIONS
    clients = [row for row in page.tables["clients"] if row[0].isdigit()]
    assert clients[0] == ["0", "0.8333", "0.5000", "0.8333", "30", "30", "3", "1.0000"]
    assert clients[1] == ["1", "0.8333", "0.5000", "0.8333", "30", "30", "2", "1", "2.0000"]
    labels = {row[0]: row[1:] for row in page.tables["labels"]}
    assert labels["cat"] == ["33", "3", "12"] and labels["accuracy"] == ["0", "0", "0"]
    assert "iid & even" in page.words["labels"]
    assert page.tables["failures"][1:] == [["2", "1", "died of <i>boredom</i>"]]
    assert ["learning-rate", "0.05"] in page.tables["settings"] and "tensorflow" in page.words["settings"]
    assert page.tables["settings"].count(["seed", "42"]) == 1, "a default stands among all settings only"
    for figure in ("0.8333", "best accuracy", "in round 3", "30.0 s", "1 failure", "finished"):
        assert figure in page.words[""]


def test_classes_are_counted_as_scikit_learn_does(page):
    rows = page.tables["test"]
    # 10 cats, of which 8 are found; 12 called dogs, of which 10 are
    assert rows[1] == ["cat", "1.000", "0.800", "0.889", "10"]
    assert rows[2] == ["<b>$d^$</b>", "0.833", "1.000", "0.909", "10"]
    assert rows[3] == ["accuracy", "1.000", "1.000", "1.000", "5"]
    assert rows[4] == ["accuracy", "0.920", "25"] and rows[5][:2] == ["macro avg", "0.944"]


def test_the_time_is_what_the_server_and_the_clients_say(page):
    parts = {row[0]: row[-2:] for row in page.tables["timing"][1:]}
    # Of 5 s between first message and last answer, the slowest client computed 3 (client 2); 30 s are the whole run
    assert parts == {
        "waiting": ["1.5 s", "5.0 %"], "training": ["9.0 s", "30.0 %"], "transfer": ["6.0 s", "20.0 %"],
        "aggregation": ["0.750 s", "2.5 %"], "evaluation": ["3.0 s", "10.0 %"], "the rest": ["9.8 s", "32.5 %"],
    }  # fmt: skip


def test_names_from_outside_are_text(tmp_path):
    bad = "<script>alert('x')</script> $x^ </svg>"
    page = read(write_report(make(tmp_path / "<img src=x onerror=alert(1)>", extra=bad, name="<b>")))
    assert page.open == [] and not page.tags["script"] and not page.tags["img"] and not page.tags["b"] > 6
    assert bad in page.words["curves"] and "died of <i>boredom</i>" in page.words["failures"]
    assert not page.tags["i"] > page.text.count('<i style="background') + page.text.count("<i></i>")
    assert "<img src=x onerror=alert(1)>" in page.words[""]


def test_what_is_added_stands_at_the_end_and_is_escaped(tmp_path):
    rows = [["<i>noise</i>", 0.123456, 7], ["clip", None, float("nan")]]
    added = [section("Privacy & <b>more</b>", ["epsilon < 3"], ["what", "value", "rounds"], rows), section("Empty")]
    page = read(write_report(make(tmp_path / "run"), sections=added))
    assert page.open == [] and [name for name in page.ids if name in SECTIONS] == SECTIONS
    assert page.ids[-2:] == ["added-1", "added-2"] and page.links.count("#added-1") == 1
    assert "Privacy & <b>more</b>" in page.words["added-1"] and "epsilon < 3" in page.words["added-1"]
    assert page.tables["added-1"] == [
        ["what", "value", "rounds"], ["<i>noise</i>", "0.1235", "7"], ["clip", "–", "–"],
    ]  # fmt: skip
    with pytest.raises(ValueError, match="a row of 1 cells does not fit the 2 heads"):
        section("x", heads=["a", "b"], rows=[["1"]])


def test_a_killed_run_has_a_report_that_says_what_is_missing(tmp_path):
    page = read(write_report(make(tmp_path / "killed", ended=False)))
    assert "unfinished" in page.words[""] and page.tables["failures"][1][1] == "1"
    assert "partitions.json" in page.words["labels"] and "predictions.npz" in page.words["test"]
    parts = {row[0]: row[-2] for row in page.tables["timing"][1:]}
    assert parts["training"] == "9.0 s" and parts["evaluation"] == "12.0 s" and "no timing.csv" in page.words["timing"]


def test_a_run_without_a_round_or_settings_has_one_too(tmp_path):
    folder = make(tmp_path / "new", rounds=1)
    folder.history_path.write_text(folder.history_path.read_text().splitlines(keepends=True)[0])
    for path in (folder.config_path, folder.summary_path, folder.timing_path, folder.failures_path):
        path.unlink()
    page = read(write_report(folder))
    assert "No round is finished" in page.words["curves"] and "No client has answered" in page.words["clients"]
    assert "No client failed" in page.words["failures"] and "there is no" in page.words[""]


def test_a_model_without_accuracy_is_judged_by_its_loss(tmp_path):
    page = read(write_report(make(tmp_path / "run", loss_only=True)))
    assert "best loss" in page.words[""] and "accuracy by round" not in page.charts
    assert next(row for row in page.tables["clients"] if row[0] == "0")[1] == "0.6667"


def test_another_metric_at_the_lowest_loss_is_not_called_the_best(tmp_path):
    folder = make(tmp_path / "run", loss_only=True)
    header, *lines = folder.history_path.read_text().splitlines()
    maes = {"1": 0.1, "2": 0.2, "3": 0.3}  # grows while the loss falls
    lines = [f"{line},{maes[line[0]]}" for line in lines]
    folder.history_path.write_text("\n".join([f"{header},mae", *lines]) + "\n")
    words = read(write_report(folder)).words[""]
    assert "mae at the lowest loss" in words and "0.3000" in words and "best" not in words


@pytest.mark.parametrize("clients", [3, 12])
def test_clients_that_have_all_diverged_have_a_report(tmp_path, clients):
    folder = make(tmp_path / "run", clients=clients, loss_only=True)
    text = folder.history_path.read_text()
    folder.history_path.write_text(re.sub(r"(?<=,30,)[\d.]+", "nan", text))
    page = read(write_report(folder))
    assert "loss: round by client, by round and client" in page.charts
    assert not any("in its last round" in chart for chart in page.charts)
    assert [row[1] for row in page.tables["clients"] if row[0] == "0"] == ["–"]


@pytest.mark.parametrize("name", ["config.json", "summary.json", "partitions.json", "predictions.npz", "timing.csv"])
def test_a_damaged_file_is_a_note_and_the_rest_is_there(tmp_path, name):
    folder = make(tmp_path / "run")
    path = folder.path / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] + b"\n\xff,,\n")
    page = read(write_report(folder))
    assert f"{name} is damaged" in page.words[""] or f"{name}: line" in page.words[""]
    assert page.charts[:2] == ["accuracy by round", "loss by round"]


def test_a_predictions_file_runs_nobodys_code(tmp_path):
    import numpy as np

    class Evil:
        def __reduce__(self):
            return sys.exit, (3,)

    folder = make(tmp_path / "run")
    array = np.empty(1, object)
    array[0] = Evil()
    np.savez(folder.predictions_path, labels=array, predicted=array, classes=array, allow_pickle=True)
    assert "predictions.npz is damaged" in read(write_report(folder)).words[""]


def test_long_lists_are_cut_and_say_so(tmp_path):
    folder = make(tmp_path / "run", rounds=1, clients=MOST_CLIENTS + 2)
    failures = [{"round": 1, "client": "0", "reason": "late"}] * MOST_FAILURES
    FAILURES.append(folder.failures_path, failures)
    text = folder.history_path.read_text().splitlines()
    names = [f"m{number}" for number in range(MOST_CURVES)]
    more = [",".join([line, *(names if not place else ["1"] * len(names))]) for place, line in enumerate(text)]
    folder.history_path.write_text("\n".join(more) + "\n")
    page = read(write_report(folder))
    assert len([row for row in page.tables["clients"] if row[0].isdigit()]) == MOST_CLIENTS
    assert "2 more clients are in history.csv" in page.words["clients"]
    assert len(page.tables["failures"]) == MOST_FAILURES + 1 and "1 more are in" in page.words["failures"]
    assert sum(name.endswith(" by round") for name in page.charts) == MOST_CURVES
    assert "2 more metrics" in page.words["curves"]


def test_command_writes_into_the_folder_or_where_it_is_told(tmp_path, capsys):
    folder = make(tmp_path / "run")
    assert command.main([str(folder.path)]) == 0
    assert command.main([str(folder.path), "--out", str(tmp_path / "x.html")]) == 0
    assert capsys.readouterr().out.splitlines() == [str(folder.report_path), str(tmp_path / "x.html")]
    assert "<!doctype html>" in (tmp_path / "x.html").read_text()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "name the folder of a run"),
        (["{tmp}/nowhere"], "there is no folder"),
        (["{tmp}"], "is this the folder of a run?"),
        (["{tmp}/bad"], "line 2 is damaged"),
        (["{tmp}/run", "{tmp}/bad"], "line 2 is damaged"),
        (["{tmp}/run", "--out", "{tmp}/x.pdf"], "ends in .html"),
        (["{tmp}/run", "--out", "{tmp}/nowhere/x.html"], "cannot write"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, capsys, args, said):
    make(tmp_path / "run", rounds=1)
    bad = make(tmp_path / "bad", rounds=1)
    bad.history_path.write_text(bad.history_path.read_text().splitlines()[0] + "\nx,y\n")
    assert command.main([arg.format(tmp=tmp_path) for arg in args]) == 2
    printed = capsys.readouterr()
    assert said in printed.err and printed.err.count("\n") == 1 and printed.out == ""


def test_a_report_needs_neither_tensorflow_nor_flower(tmp_path):
    import subprocess

    folder = make(tmp_path / "run", rounds=1)
    code = (
        "import sys; from pathlib import Path; from fedkeras.reports import RunFolder, write_report; "
        f"write_report(RunFolder(Path({str(folder.path)!r}))); "
        "sys.exit(bool({'tensorflow', 'flwr', 'grpc', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_folder_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        write_report(RunFolder(tmp_path / "x"))
