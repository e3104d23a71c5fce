"""The same apps on a SuperLink with three SuperNodes, as docs/runtimes.md starts them: Flower's, then warm ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from superlink import ROOT, SLOW_MACHINE, Deployment

from fedkeras.reports.history import read_rows

WARM_ROUNDS = 3


def run_on(deployment: Deployment, runs: Path, rounds: int) -> Path:
    """The folder of a whole run on the nodes that there are."""
    before = set(runs.iterdir()) if runs.exists() else set()
    said = deployment.flwr_run({"num-server-rounds": rounds, "run-dir": str(runs)})
    (run,) = set(runs.iterdir()) - before
    assert said.splitlines()[-1] == str(run), said + deployment.logs()
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["rounds"]) == ("finished", rounds)
    trained = [row["client"] for row in read_rows(run / "history.csv") if row["phase"] == "train"]
    assert trained == ["0", "1", "2", "all"] * rounds
    assert (run / "model.keras").exists()
    assert "(secret)" in (run / "run.log").read_text()  # the token that Flower puts on the server app's command line
    return run


@pytest.mark.slow
def test_the_apps_run_unchanged_on_superlink_and_supernodes(tmp_path: Path) -> None:
    """Broken if an app leans on a process that lives on, the checkout or node ids: Flower starts each message anew.

    And on warm ones if what stays in the process changes a single bit. One SuperLink for both, and one run over gRPC.
    """
    runs = tmp_path / "runs"
    with Deployment(tmp_path) as deployment:
        deployment.start_nodes(warm=False)
        cold = run_on(deployment, runs, rounds=1)
        assert deployment.end_nodes() == set()
        deployment.start_nodes(warm=True)
        warm = run_on(deployment, runs, rounds=WARM_ROUNDS)
        assert json.loads((warm / "summary.json").read_text())["accuracy"] > 0.5  # chance is 0.1
        assert deployment.end() == set()

    command = [sys.executable, str(ROOT / "server.py"), "--port", "0", "--spawn", "2"]
    command += ["--num-server-rounds", str(WARM_ROUNDS)]
    subprocess.run(command, cwd=tmp_path, env=deployment.environment, check=True, timeout=SLOW_MACHINE)
    (other,) = set(runs.iterdir()) - {cold, warm}
    rows = read_rows(other / "history.csv")
    assert without_seconds(read_rows(warm / "history.csv")) == without_seconds(rows)
    first = [row for row in rows if row["round"] == 1]
    assert without_seconds(read_rows(cold / "history.csv")) == without_seconds(first)
    for name, run in (("flower-supernode", cold), ("fedkeras supernode", warm), ("gRPC", other)):
        print(f"{name}: {seconds_a_round(run)} s a round")


def seconds_a_round(run: Path) -> list[float]:
    """How long each round took: its training and its tests."""
    seconds: dict[int, float] = {}
    for row in read_rows(run / "history.csv"):
        if row["client"] == "all":
            seconds[row["round"]] = seconds.get(row["round"], 0.0) + row["seconds"]
    return [round(each, 2) for each in seconds.values()]


def without_seconds(rows: list[dict]) -> list[dict]:
    """What a clock has no part in: losses and accuracies to the last bit."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
