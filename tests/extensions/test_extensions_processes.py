"""The same toys over real gRPC processes and in the simulation: equal bits, and a client that decides for itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedkeras.reports import read_rows
from fedkeras.reports.checkpoints import newest_checkpoint
from fedkeras.reports.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
MODS = "toys:Objective:spec=toy_objectives|Bounded|norm=0.5; toys:Twice; toys:Int8; toys:Clip:norm=0.05"
FLAGS = {"num-partitions": 3, "num-server-rounds": 2, "seed": 5}
SLOW_MACHINE = 240.0
HERE = Path(__file__).resolve().parent
ONE_PROCESS = """
import sys
from pathlib import Path
from fedkeras import client, server
from fedkeras.config import Config
server.in_process(Config.from_flags(sys.argv[1:], "server.py", None), client.app, Path("runs"))
"""


def fedkeras(folder: Path, *command: object, **flags: object) -> subprocess.Popen:
    """A command of this checkout, started in `folder`."""
    words = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    own = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT)])}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, *map(str, command), *words], cwd=folder, env=own, **streams)


def ended(process: subprocess.Popen) -> str:
    """What a command that must finish well has printed."""
    out, _ = process.communicate(timeout=SLOW_MACHINE)
    assert process.returncode == 0, out
    return out


def outcome(folder: RunFolder) -> tuple[dict[str, bytes], list[dict]]:
    """The final weights' bytes, and the figures without the server's own (other threads) and what a clock says."""
    found = newest_checkpoint(folder)
    figures = [{k: v for k, v in row.items() if k != "seconds"} for row in read_rows(folder.history_path)]
    weights = {name: array.tobytes() for name, array in found.weights.items()}
    return weights, [row for row in figures if row["client"] != "server"]


@pytest.fixture(scope="module")
def in_process(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], list[dict]]:
    """In a process of its own, where TensorFlow has one thread, as in a client's."""
    folder = tmp_path_factory.mktemp("in-process")
    ended(fedkeras(folder, "-c", ONE_PROCESS, mods=MODS, **FLAGS))
    return outcome(only_run(folder))


def only_run(folder: Path) -> RunFolder:
    (found,) = (folder / "runs").iterdir()
    return RunFolder(found)


@pytest.mark.slow
def test_over_grpc_all_of_them_give_the_bits_of_one_process(tmp_path: Path, in_process) -> None:
    """Spawned clients are the server's own: they take what it names."""
    ended(fedkeras(tmp_path, ROOT / "server.py", mods=MODS, spawn=2, port=0, **FLAGS))
    assert outcome(only_run(tmp_path)) == in_process


@pytest.mark.slow
def test_in_the_simulation_all_of_them_give_the_bits_of_one_process(tmp_path: Path, in_process) -> None:
    ended(fedkeras(tmp_path, "-m", "fedkeras", "simulate", mods=MODS, **FLAGS))
    assert outcome(only_run(tmp_path)) == in_process


@pytest.mark.slow
def test_in_the_simulation_a_workflow_of_ones_own_only_evaluates(tmp_path: Path) -> None:
    ended(fedkeras(tmp_path, "-m", "fedkeras", "simulate", mode="toys:EvaluateOnly", **FLAGS))
    rows = read_rows(only_run(tmp_path).history_path)
    assert [(row["phase"], row["client"]) for row in rows] == [
        ("evaluate", client) for client in ("server", "0", "1", "2", "all")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("allow", ["", "mods=toys:Clip"])
def test_a_client_uses_a_mod_of_the_servers_only_if_it_was_started_so(tmp_path: Path, allow: str) -> None:
    one = {"num-partitions": 1, "num-server-rounds": 1, "max-retries": 0}
    one |= {} if allow else {"node-timeout": 60}  # it leaves when it has joined
    with fedkeras(tmp_path, ROOT / "server.py", mods="toys:Clip:norm=0.05", port=0, **one) as running:
        address = running.stdout.readline().split()[2]
        with fedkeras(
            tmp_path, ROOT / "client.py", cid=0, server=address, **({"allow": allow} if allow else {})
        ) as own:
            said, _ = own.communicate(timeout=SLOW_MACHINE)
        out, _ = running.communicate(timeout=SLOW_MACHINE)
    assert running.returncode == (0 if allow else 3), out
    assert ("started with --allow mods=toys:Clip, or with --trust-code" in out) == (not allow), out + said
