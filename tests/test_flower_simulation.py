"""Flower's simulation with real Ray: the same bits as over gRPC, one clear line where something is wrong, no leftovers.

One run through `python -m fedkeras simulate` belongs to the quick tests; what else a user meets is marked slow.
"""

import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest

from fedkeras import client
from fedkeras.commands import simulate
from fedkeras.commands.process_tree import descendants
from fedkeras.config import Config
from fedkeras.federation.client_manager import ClientManager
from fedkeras.reports.history import read_rows
from fedkeras.runtime.in_process import InProcessGrid

ROOT = Path(__file__).resolve().parents[1]
SLOW_MACHINE = 240.0
ROUNDS = 3
FILES = {"config.json", "history.csv", "model.keras", "summary.json", "run.log", "curves.png"} | {
    ".lock",
    "checkpoints",
    "report.html",
    "timing.csv",
    "partitions.json",
    "predictions.npz",
}
ENVIRONMENT = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0"}


def python(folder: Path, *arguments: object) -> subprocess.CompletedProcess:
    """Run `python ARGUMENTS` in `folder`, where its runs are left, to its end."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=SLOW_MACHINE)


def run_folder(folder: Path) -> Path:
    """The only run that was made in `folder`."""
    (found,) = (folder / "runs").iterdir()
    return found


def weights(run: Path) -> dict[str, tuple]:
    """Dtype, shape and bytes of each array in the run's model.keras."""
    found = {}

    def note(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer"):
            found[name] = (str(item.dtype), item.shape, item[()].tobytes())

    with zipfile.ZipFile(run / "model.keras") as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(content) as file:
        file.visititems(note)
    assert sum(len(data) for *_, data in found.values()) > 10_000
    return found


def figures(run: Path) -> list[dict]:
    """history.csv without what a clock says."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_rows(run / "history.csv")]


@pytest.mark.slow
def test_a_simulation_on_ray_gives_the_bits_of_the_grpc_runtime(tmp_path: Path) -> None:
    """Broken if a Ray worker takes other threads, seeds or orders, or if a value is lost on the way to Flower."""
    (tmp_path / "ray").mkdir()
    (tmp_path / "grpc").mkdir()
    flags = ["--num-server-rounds", ROUNDS, "--seed", 7, "--optimizer-args", "momentum=0.5"]
    simulated = python(tmp_path / "ray", "-m", "fedkeras", "simulate", *flags)
    assert simulated.returncode == 0, simulated.stdout + simulated.stderr
    spawned = python(tmp_path / "grpc", ROOT / "server.py", "--port", 0, "--spawn", 2, *flags)
    assert spawned.returncode == 0, spawned.stdout + spawned.stderr

    run, other = run_folder(tmp_path / "ray"), run_folder(tmp_path / "grpc")
    assert {path.name for path in run.iterdir()} == FILES
    expected = Config(num_server_rounds=ROUNDS, seed=7, optimizer_args="momentum=0.5", run_dir=str(run.parent))
    assert Config.load(run / "config.json") == expected
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["rounds"]) == ("finished", ROUNDS)
    assert weights(run) == weights(other)
    assert figures(run) == figures(other)

    # What a user reads: our own lines, the table, the end; nothing of TensorFlow's, Ray's and Flower's greetings.
    lines = simulated.stdout.splitlines()
    assert simulated.stderr == ""
    assert lines[0] == "simulating 3 clients: Flower and Ray start first, some 20 seconds"
    assert [line.split()[0] for line in lines[1:3]] == ["normaliser:", "loss:"], "what the run has chosen"
    assert lines[3] == f"to watch it in a browser: {run / 'report.html'}"
    assert lines[4].split()[:2] == ["round", "loss"]
    assert [line.split()[0] for line in lines[5 : 5 + ROUNDS]] == [str(number + 1) for number in range(ROUNDS)]
    assert lines[-1] == str(run)
    assert "\x1b" not in simulated.stdout


@pytest.mark.slow
def test_ctrl_c_in_a_simulation_leaves_no_process(tmp_path: Path) -> None:
    """Broken if only the SuperLink is ended: its SuperExec, the simulation and Ray's daemons are in other sessions."""
    command = [sys.executable, "-m", "fedkeras", "simulate", "--num-server-rounds", "2000"]
    with (tmp_path / "out").open("w") as out:
        streams = {"stdout": out, "stderr": subprocess.STDOUT}
        # A session of its own, so that the signal can be sent as a terminal does: to the foreground process group.
        # pytest itself may run in the background of a shell, where SIGINT is ignored and that is inherited.
        streams["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
        process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, start_new_session=True, **streams)
    try:
        deadline = time.monotonic() + SLOW_MACHINE
        while "\n    1 " not in (tmp_path / "out").read_text():
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "out").read_text()
            time.sleep(0.2)
        tree = descendants([process.pid])
        names = " ".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in tree) if Path("/proc").exists() else ""
        assert len(tree) >= 6
        assert not names or all(name in names for name in ("flower-superlink", "flwr-simulation", "raylet", "gcs_"))
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
        assert descendants(tree) == set()
    finally:
        for pid in descendants([process.pid]):
            os.kill(pid, signal.SIGKILL)
    said = (tmp_path / "out").read_text()
    assert said.endswith("python -m fedkeras simulate: interrupted\n")
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--data-dir", "here", "--dataset", "mnist"], "here"),
        (["--model", "mine.keras"], "mine.keras"),
        (["--dataset", "mine.npz"], "mine.npz"),
    ],
)
def test_a_failing_simulation_ends_with_one_line(tmp_path: Path, flags: list[str], line: str) -> None:
    """A relative path is meant from here; what is wrong with it is said once, without Flower's and Ray's tracebacks."""
    done = python(tmp_path, "-m", "fedkeras", "simulate", *flags)
    assert done.returncode in (2, 3), done.stdout + done.stderr
    (said,) = [each for each in done.stderr.splitlines() if not each.startswith("warning: ")]
    assert said.startswith("python -m fedkeras simulate: ")
    assert str(tmp_path / line) in said
    assert "Traceback" not in done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where plain `flwr run` finds a SuperLink of ours."""
    with simulate.superlink(tmp_path_factory.mktemp("flower") / "home") as found:
        yield {**found, "FLWR_TELEMETRY_ENABLED": "0"}


def flwr_run(environment: dict[str, str], folder: Path, federation: str, **config: object) -> str:
    """What plain `flwr run . --stream` prints."""
    pairs = {"run-dir": str(folder), **{key.replace("_", "-"): value for key, value in config.items()}}
    table = " ".join(f"{key}={json.dumps(value)}" for key, value in pairs.items())
    command = [str(Path(sys.executable).parent / "flwr"), "run", str(ROOT), "--stream", "-c", table]
    command += ["--federation-config", federation]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.run(command, env=environment, text=True, timeout=SLOW_MACHINE, **streams).stdout


@pytest.mark.slow
def test_plain_flwr_run_with_too_few_nodes_says_how_to_start_more(environment: dict[str, str], tmp_path: Path) -> None:
    """Flower starts 2 nodes unless told otherwise, and its own loop would wait for the third for ever."""
    said = flwr_run(environment, tmp_path, "num-supernodes=2 client-resources-num-cpus=1")
    (line,) = [line for line in said.splitlines() if line.startswith("server.py: ")]
    assert line.startswith("server.py: 2 of 3 clients are connected (missing: cid 2) after ")
    assert '--federation-config "num-supernodes=3"' in line
    (run,) = tmp_path.iterdir()
    assert json.loads((run / "summary.json").read_text())["status"] == "failed"


@pytest.mark.slow
def test_plain_flwr_run_with_more_nodes_goes_on_and_says_so(environment: dict[str, str], tmp_path: Path) -> None:
    said = flwr_run(environment, tmp_path, "num-supernodes=5 client-resources-num-cpus=1", num_server_rounds=2)
    assert said.count("warning: cid 3, 4: idle, since --num-partitions is 3") == 1, said
    (run,) = tmp_path.iterdir()
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"
    assert {row["client"] for row in read_rows(run / "history.csv")} == {"0", "1", "2", "all", "server"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"num_server_rounds": "x"}, "server.py: --num-server-rounds must be a whole number, not 'x'"),
        ({"data_dir": "here"}, "server.py: data-dir is 'here': under Flower's runtime give an absolute path"),
        ({"nonsense": 3}, "Invalid run configuration"),  # Flower's own answer
    ],
)
def test_plain_flwr_run_answers_a_wrong_configuration_with_a_clear_line(
    environment: dict[str, str], tmp_path: Path, config: dict, line: str
) -> None:
    """A relative path would be looked for where Flower unpacked the app, and not found or, worse, found."""
    said = flwr_run(environment, tmp_path, "num-supernodes=3 client-resources-num-cpus=1", **config)
    assert line in said
    assert list(tmp_path.iterdir()) == []


def test_nodes_beyond_the_partitions_are_mentioned_once(caplog: pytest.LogCaptureFixture) -> None:
    """Else somebody who started five nodes would wonder for ever why three answer."""
    nodes = ClientManager(InProcessGrid(client.app, 5, {}), Config(num_partitions=3))
    assert [list(nodes.wait()), list(nodes.wait())] == [[0, 1, 2], [0, 1, 2]]
    assert [entry.getMessage() for entry in caplog.records] == ["cid 3, 4: idle, since --num-partitions is 3"]
