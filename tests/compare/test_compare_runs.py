"""Whole comparisons over real processes: what they leave, and that an interrupted one goes on with the same bits."""

import csv
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import starting, until

from fedkeras import data, factory
from fedkeras.commands import compare as command
from fedkeras.compare.arm_run import read_result
from fedkeras.compare.baselines import BaselineJob
from fedkeras.compare.children import Child
from fedkeras.config import Config
from fedkeras.randomness import generator
from fedkeras.reports import read_rows
from fedkeras.reports.predictions import read_predictions

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FLAGS = ["--num-partitions", 2, "--num-server-rounds", 2, "--local-epochs", 2, "--optimizer", "adam", "--learning-rate",
         0.003, "--partitioner", "sizes", "--sizes", "3,1"]  # fmt: skip
CONFIG = Config(
    num_partitions=2, num_server_rounds=2, local_epochs=2, optimizer="adam", learning_rate=0.003, partitioner="sizes",
    sizes="3,1",
)  # fmt: skip
ARMS = ("centralised", "local", "fedavg")


def compare(start, out, *flags):
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(HERE)])
    return start(sys.executable, "-m", "fedkeras", "compare", "--out", out, *flags)


def without_seconds(part):
    table = json.loads((part / "result.json").read_text())
    return {name: value for name, value in table.items() if not name.endswith("seconds")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One comparison that nobody disturbed: its folder, and what it printed.

    One process trains at a time, so that TensorFlow is imported three times and not five. The interrupted comparison
    below has a process a core, and the same bits.
    """
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch, starting(folder) as start:
        patch.setenv("PYTHONPATH", "")
        process = compare(
            start, folder / "out", "--dataset", "digits", *FLAGS, "--processes", 1, "--arms", ",".join(ARMS)
        )
        assert process.ended(300) == 0, process.err
        assert not process.err
        yield folder / "out", process.out


def test_all_arms_are_in_the_table_and_on_the_page(whole):
    folder, said = whole
    rows = list(csv.DictReader((folder / "table.csv").open()))
    assert [row["arm"] for row in rows] == [*ARMS]
    assert all(0.3 < float(row["accuracy"]) <= 1 and 0.3 < float(row["macro_f1"]) <= 1 for row in rows)
    assert float(rows[0]["accuracy"]) > float(rows[1]["accuracy"])  # pooled beats a fourth of the examples alone
    table = re.findall(r"^(\S+) +(0\.\d{4}) ", said, re.MULTILINE)
    assert table == [(row["arm"], f"{float(row['accuracy']):.4f}") for row in rows]
    html = (folder / "comparison.html").read_text()
    assert all(f"{float(row['accuracy']):.4f}" in html for row in rows) and "All this is one seed" in html
    assert json.loads((folder / "summary.json").read_text())["status"] == "finished"


def test_one_process_trains_all_baselines(whole):
    """TensorFlow is not imported anew for the second of them."""
    assert [path.name for path in (whole[0] / "parts").glob("baseline-*.err")] == ["baseline-0.err"]


def test_the_federated_figures_are_the_runs(whole):
    check_against_run(whole[0] / "parts" / "fedavg-seed42")


def check_against_run(part):
    result, (run,) = read_result(part), part.glob("*-run")
    rows = read_rows(run / "history.csv")
    last = [row for row in rows if row["round"] == 2 and row["phase"] == "evaluate"]
    assert result.accuracy == next(row["accuracy"] for row in last if row["client"] == "server")
    assert result.own == {row["client"]: row["accuracy"] for row in last if row["client"] in "01"}
    assert set(result.own) == {"0", "1"} and [point["round"] for point in result.curve] == [1, 2]
    assert result.bytes_up == sum(row.get("bytes_up", 0) for row in rows if row["client"] in ("0", "1"))
    assert result.bytes_down == sum(row.get("bytes_down", 0) for row in rows if row["client"] in ("0", "1")) > 1e5
    matrix = read_predictions(run / "predictions.npz").matrix()
    f1 = 2 * np.diag(matrix) / (matrix.sum(0) + matrix.sum(1))
    assert result.macro_f1 == pytest.approx(f1.mean())
    assert result.accuracy == pytest.approx(np.trace(matrix) / matrix.sum())


def plain_training(who: str, members: list[int]) -> dict:
    """`Learner.train` for all epochs at once, on the clients' training parts and nothing else."""
    test = data.load_test(CONFIG)
    clients = [data.load_client(CONFIG, cid) for cid in members]
    learner = factory.make_learner(CONFIG, 1)
    x, y = (np.concatenate([getattr(client.train, name) for client in clients]) for name in ("x", "y"))
    learner.train(x, y, epochs=4, batch_size=16, rng=generator(42, "compare", who))
    expected = learner.evaluate(test.x, test.y)
    own = [learner.evaluate(client.test.x, client.test.y).accuracy for client in clients]
    return {
        "accuracy": expected.accuracy,
        "loss": expected.loss,
        "count": len(x),
        "own": {str(cid): accuracy for cid, accuracy in zip(members, own, strict=True)},
    }


@pytest.mark.slow
def test_alone_and_pooled_are_a_plain_training_of_as_many_epochs(whole):
    # In a process of its own: this one's TensorFlow may have started with another number of threads.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        parties = [("all", [0, 1]), ("0", [0]), ("1", [1])]
        expectations = pool.starmap(plain_training, parties)
    for (who, _), expected in zip(parties, expectations, strict=True):
        part = whole[0] / "parts" / ("centralised-seed42" if who == "all" else "local-seed42")
        figures = json.loads((part / f"{who}.json").read_text())
        assert figures["curve"][-1]["accuracy"] == pytest.approx(expected["accuracy"])
        assert figures["curve"][-1]["loss"] == pytest.approx(expected["loss"], rel=1e-4)
        assert figures["own"] == pytest.approx(expected["own"])
        trained = [row for row in read_rows(part / f"{who}.csv") if row["phase"] == "train"]
        assert [row["num_examples"] for row in trained] == [expected["count"]] * 2
    local = read_result(whole[0] / "parts" / "local-seed42")
    assert local.accuracy == pytest.approx(sum(local.central.values()) / 2) and set(local.own) == {"0", "1"}


def test_a_finished_one_is_not_trained_again(whole, capsys):
    folder, said = whole
    stamps = {path: path.stat().st_mtime_ns for path in (folder / "parts").rglob("*") if path.is_file()}
    table = (folder / "table.csv").read_text()
    assert command.main(["--out", str(folder)]) == 0
    again = capsys.readouterr().out
    assert "3 arm runs, 3 of them finished" in again and ", seed 42: accuracy" not in again
    assert stamps == {path: path.stat().st_mtime_ns for path in (folder / "parts").rglob("*") if path.is_file()}
    assert (folder / "table.csv").read_text() == table
    assert again.split("\n\n", 1)[1] == said.split("\n\n", 1)[1]  # the table and the paragraph


@pytest.mark.slow
def test_killed_and_interrupted_it_goes_on_to_the_same_bits(whole, tmp_path, monkeypatch):
    """Killed while clients train alone; Ctrl-C while the server is at it; then an arm that fails, and a split one."""
    monkeypatch.setenv("PYTHONPATH", "")
    out, arms = tmp_path / "out", ",".join(ARMS)
    pooled = out / "parts" / "centralised-seed42" / "result.json"
    with starting(tmp_path) as start:
        killed = compare(start, out, "--dataset", "digits", *FLAGS, "--arms", arms)
        until(pooled.exists, "the first arm run")
        killed.popen.kill()
        killed.popen.wait()
        stamp, expected = pooled.stat().st_mtime_ns, pooled.read_bytes()
        until(lambda: not trainers_of(out), "the end of processes that nobody waits for")

        stopped = compare(start, out)
        until(lambda: list((out / "parts" / "fedavg-seed42").glob("*-run/config.json")), "a run of the server")
        stopped.popen.send_signal(signal.SIGINT)
        assert stopped.ended(300) == 130
        assert "interrupted" in stopped.err and f"to go on: python -m fedkeras compare --out {out}" in stopped.out
        assert not (out / "parts" / "fedavg-seed42" / "result.json").exists()
        assert json.loads((out / "summary.json").read_text())["status"] == "interrupted"

        last = compare(start, out)
        assert last.ended(300) == 0, last.err
        assert "3 arm runs, 2 of them finished" in last.out
        assert (pooled.stat().st_mtime_ns, pooled.read_bytes()) == (stamp, expected)
        for arm in ARMS:
            part = f"parts/{arm}-seed42"
            assert without_seconds(out / part) == without_seconds(whole[0] / part)

        broken = compare(start, out, "--arms", f"{arms},compare_strategies:Broken,split-shared")
        assert broken.ended(300) == 3
        assert len(broken.err.splitlines()) == 1 and "compare_strategies:Broken failed" in broken.err
        assert re.search(r"compare_strategies:Broken, seed 42 failed: .*this strategy is broken", broken.out)
        assert re.search(r"^split-shared +0\.\d{4}", broken.out, re.MULTILINE)
        check_against_run(out / "parts" / "split-shared-seed42")
        assert "Broken failed" in (out / "comparison.html").read_text()


@pytest.mark.slow
def test_an_arm_that_failed_of_a_time_out_goes_on_with_another(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "")
    out, flags = tmp_path / "out", ["--num-partitions", 2, "--num-server-rounds", 1]
    with starting(tmp_path) as start:
        late = compare(start, out, *flags, "--arms", "fedavg", "--round-timeout", 0.001, "--max-retries", 0)
        assert late.ended(300) == 3 and "fedavg failed" in late.err
        mended = compare(start, out, "--round-timeout", 600)
        assert mended.ended(300) == 0, mended.err
    (run,) = (out / "parts" / "fedavg-seed42").glob("*-run")
    assert json.loads((run / "config.json").read_text())["round-timeout"] == 600


def test_a_process_that_was_killed_is_told_as_such(tmp_path):
    """And not by its last warning, which has nothing to do with it."""
    code = "import os, sys; print('a warning of something else', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)"
    child = Child(["-c", code], tmp_path, "child")
    child.end()
    assert child.last_words() == "it was killed by SIGKILL"
    child = Child(["-c", "import sys; sys.exit('too little memory')"], tmp_path, "other")
    child.end()
    assert child.last_words() == "too little memory"


def trainers_of(folder):
    """Processes that train for the comparison in this folder: their output is one of its files."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "fd" / "1").readlink().is_relative_to(folder):
                found.append(process.name)
        except OSError:
            continue
    return found


def test_a_process_that_trains_says_why_it_cannot_and_ends_with_its_parent(tmp_path):
    command = [sys.executable, "-m", "fedkeras.compare.baseline_worker"]
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": ROOT, "text": True}
    job = BaselineJob(tmp_path, Config(num_partitions=2, model="nothing"), "1")
    with subprocess.Popen(command, **pipes) as unable, subprocess.Popen(command, **pipes) as idle:
        unable.stdin.write(f"{job.to_line()}\n")
        unable.stdin.flush()
        idle.stdin.close()  # as the system does when the command has been killed
        assert unable.wait(120) == 2
        assert unable.stderr.read().startswith("client 1: ") and not job.is_done()
        assert idle.wait(60) == 1
