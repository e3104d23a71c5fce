"""The table by hand, from result.json files."""

import csv
import io
import json

import pytest
from made import result

from fedkeras.compare import federated, table
from fedkeras.compare.arm_run import ArmRun, clock, read_result
from fedkeras.compare.arms import Arm
from fedkeras.compare.comparison_state import read_state, train_missing
from fedkeras.compare.page import summarise, write_all
from fedkeras.compare.progress import ComparisonProgress
from fedkeras.compare.settings import Settings
from fedkeras.config import Config
from fedkeras.errors import RunFailed, UserError
from fedkeras.reports import History, RunFolder
from fedkeras.reports import summarise as summarise_run

SETTINGS = Settings(arms="local,fedavg", repeats=2, config=Config(seed=7))
RESULTS = [
    result("local", 7, 0.5, own=[0.2, 0.9, 0.4], central=[0.25, 0.5, 0.75], bytes_up=0, bytes_down=0, seconds=1.0),
    result("local", 8, 0.7, own=[0.6, 0.5, 1.0], central=[0.7, 0.8, 0.6], bytes_up=0, bytes_down=0, seconds=4.0),
    result("fedavg", 7, 0.8, own=[0.8, 0.7, 0.9], bytes_up=1_500_000, bytes_down=2_500_000),
    result("fedavg", 8, 0.9, own=[0.9, 0.9, 0.6], bytes_up=2_500_000, bytes_down=3_500_000),
]


@pytest.fixture
def folder(tmp_path):
    for one in RESULTS:
        part = tmp_path / "parts" / f"{one.arm}-seed{one.seed}"
        part.mkdir(parents=True)
        one.write(part)
    return tmp_path


def test_means_and_deviations_by_hand(folder):
    state = read_state(SETTINGS, folder)
    assert state.complete and state.in_order() == RESULTS
    local, fedavg = table.lines_of(state.in_order())
    assert (local.arm, fedavg.arm, fedavg.seeds) == ("local", "fedavg", (7, 8))
    assert local.accuracy.mean == pytest.approx(0.6)
    assert local.accuracy.deviation == pytest.approx(0.2 / 2**0.5)  # of two: half their distance, times sqrt(2)
    assert fedavg.megabytes.mean == pytest.approx(5.0) and local.megabytes.mean == 0
    assert local.seconds.mean == 2.5
    assert [one.mean for one in local.own] == pytest.approx([(0.2 + 0.5) / 2, (0.4 + 0.6) / 2, (0.9 + 1.0) / 2])
    assert [one.mean for one in local.central] == pytest.approx([(0.25 + 0.6) / 2, (0.5 + 0.7) / 2, (0.75 + 0.8) / 2])
    assert fedavg.central is None
    assert table.cells_of(fedavg) == (
        "fedavg", "0.8500 ± 0.0707", "0.8500 ± 0.0707", "0.5000 ± 0.0000",
        "0.8000", "0.6500", "0.6500", "0.8500", "0.9000", "133", "2.0", "5.0",
    )  # fmt: skip


def test_one_seed_has_no_deviation_and_what_is_missing_is_a_dash():
    line = table.lines_of([result("centralised", 7, 0.5, macro_f1=None)])[0]
    assert line.accuracy == table.Figure(0.5) and line.macro_f1 is None
    assert table.cells_of(line) == ("centralised", "0.5000", "-", "0.5000", *("-",) * 6, "2.0", "-")
    assert table.mean_and_deviation([0.5, None]) is None


def test_printed_columns_stand_below_their_heads():
    lines = table.text(table.lines_of(RESULTS))
    assert len({len(line) for line in lines[1:]}) == 1
    assert lines[1].split() == [
        "accuracy",
        "macro",
        "F1",
        "loss",
        "mean",
        "worst",
        "10",
        "%",
        "lowest",
        "median",
        "highest",
        "variance",
        "seconds",
        "MB",
    ]
    assert lines[3].endswith("2.0  5.0")


def test_csv_is_tidy(folder):
    rows = list(csv.DictReader(io.StringIO(table.table_csv(RESULTS))))
    assert [(row["arm"], row["seed"]) for row in rows] == [(one.arm, str(one.seed)) for one in RESULTS]
    assert tuple(rows[0]) == table.COLUMNS
    assert (rows[0]["own_median"], rows[0]["central_max"], rows[2]["central_max"]) == ("0.4", "0.75", "")
    assert float(rows[2]["bytes_down"]) == 2_500_000


def test_what_is_written(folder):
    write_all(SETTINGS, RESULTS, {}, folder)
    for name in ("curves.png", "clients.png", "differences.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "finished" and summary["arms"][1]["accuracy"]["mean"] == pytest.approx(0.85)
    html = (folder / "comparison.html").read_text()
    assert "0.8500 ± 0.0707" in html and "seeds 7 to 8" in html and html.count('role="img"') == 5
    (difference,) = summary["differences"]
    assert (difference["seeds"], difference["shown"]) == ([7, 8], False)
    assert difference["mean"] == pytest.approx(0.25) and "fedavg − local" in html and "25.0" in html
    for outside in ("http://", "https://", "<script", "src=", "url(http"):
        assert outside not in html.replace("http://www.w3.org", "")


def test_an_unfinished_one_says_so(folder):
    html_of = write_all(SETTINGS, RESULTS[:3], {"fedavg": "died of <i>boredom</i>"}, folder)
    assert html_of is None
    html = (folder / "comparison.html").read_text()
    assert "1 of 4 arm runs are missing" in html and "died of &lt;i&gt;boredom" in html
    assert summarise(SETTINGS, RESULTS[:3], {"fedavg": "x"})["status"] == "failed"
    assert summarise(SETTINGS, RESULTS[:3], {})["status"] == "interrupted"


def test_many_clients_become_lines(folder):
    values = [place / 40 for place in range(40)]
    many = [result("local", 7, 0.5, own=values, central=values), result("fedavg", 7, 0.8, own=values[::-1])]
    write_all(Settings(arms="local,fedavg", config=Config(seed=7)), many, {}, folder)
    assert "from the lowest to the highest" in (folder / "comparison.html").read_text()


def test_diverged_and_lossy_models_are_told_too(folder):
    lost = [result("local", 7, None, macro_f1=None, loss=float("nan")), result("fedavg", 7, None, macro_f1=None)]
    lost[0].write(folder)
    assert read_result(folder).loss is None
    write_all(Settings(arms="local,fedavg", config=Config(seed=7)), [read_result(folder), lost[1]], {}, folder)


def test_a_run_that_diverged_is_a_result_without_figures_and_its_arm_goes_on(tmp_path, capsys):
    """server.py ends with status 3 then; the other seeds are trained all the same."""
    config = Config(num_partitions=1, num_server_rounds=1)
    run = RunFolder(tmp_path / "20260101-100000-run")
    run.path.mkdir()
    run.write_config(config)
    figures = {"num_examples": 360, "loss": float("nan"), "accuracy": 0.1}
    rows = [{"round": 1, "phase": "evaluate", "client": client, **figures} for client in ("0", "server")]
    History(run.history_path).append(rows)
    run.write_summary(summarise_run(config, rows, 1.0, "diverged"))
    (tmp_path / "server.err").write_text("not read")
    result = federated.train(ArmRun(Arm("fedavg"), 7, tmp_path, config), 1, print, print)
    assert (result.accuracy, result.loss, result.macro_f1, result.test_examples) == (None, None, None, 360)
    ComparisonProgress(1, 0, live=False).finished(result)
    assert "fedavg, seed 7: its loss is no number" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("failing", "trained"), [({8}, [7, 8, 9, 10]), ({7}, [7, 8, 9, 10]), ({7, 8}, [7, 8]), ({8, 9}, [7, 8, 9, 10])]
)
def test_a_seed_that_fails_leaves_the_others_unless_the_first_two_do(tmp_path, monkeypatch, failing, trained):
    asked = []

    def train(run, *_):
        asked.append(run.seed)
        if run.seed in failing:
            raise RunFailed("the loss is not finite")
        return result("fedavg", run.seed, 0.9)

    monkeypatch.setattr(federated, "train", train)
    settings = Settings(arms="fedavg", repeats=4, config=Config(seed=7))
    state = read_state(settings, tmp_path)
    train_missing(settings, state, ComparisonProgress(4, 0, live=False))
    assert asked == trained and {seed for _, seed in state.results} == {*trained} - failing
    assert state.failures == {"fedavg": f"seed {min(failing)}: the loss is not finite"}


def test_a_damaged_result_says_what_to_do(folder):
    path = folder / "parts" / "local-seed7" / "result.json"
    path.write_text("{")
    with pytest.raises(UserError, match=r"result.json cannot be read .* remove it, and its arm run is trained again"):
        read_state(SETTINGS, folder)
    path.unlink()
    assert not read_state(SETTINGS, folder).complete


def test_the_clock_is_the_median_round():
    assert clock([60.0, 2.0, 1.0]) == 6.0  # the first one compiles
    assert clock([]) == 0.0
