"""A run that is killed and resumed, in real processes: the same weights and rows as one that was left alone."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from processes import HERE, ROOT, Process, Starter, starting, until
from test_runtime_determinism import figures, weights

from fedkeras.reports import RunFolder, checkpoints, read_rows
from fedkeras.reports.checkpoints import path_of, rounds_of

ROUNDS = 8
STRATEGY = ("--strategy", "fedadam", "--strategy-args", "beta_1=0.9,beta_2=0.99")
TOY = ("--num-partitions", 2, "--no-central-evaluation", *STRATEGY)


def with_toys(start: Starter, server: Process, address: str, seconds: float = 0.0) -> list[Process]:
    return [start.toy(address, cid, "--seconds", seconds) for cid in range(2)]


def last_weights(folder: Path) -> dict:
    newest = checkpoints.read(path_of(RunFolder(folder), max(rounds_of(RunFolder(folder)))))
    assert newest.round == ROUNDS
    return {name: (array.dtype.str, array.tobytes()) for name, array in newest.weights.items()}


def kill(process: Process) -> None:
    process.popen.kill()
    process.popen.wait()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of toy clients from start to end."""
    with starting(tmp_path_factory.mktemp("undisturbed")) as starter:
        server, address = starter.toy_server("--num-server-rounds", ROUNDS, *TOY)
        with_toys(starter, server, address)
        server.said(f"\n    {ROUNDS} ")
        server.ended()
        yield starter.run_folder()


def resume(start: Starter, folder: Path, *flags: object) -> tuple[Process, list[Process]]:
    server, address = start.toy_server("--resume", folder, *flags)
    return server, with_toys(start, server, address, 0.4)


@pytest.mark.slow
def test_killed_three_times_and_resumed(start: Starter, undisturbed: Path) -> None:
    server, address = start.toy_server("--num-server-rounds", ROUNDS, "--name", "killed", *TOY)
    toys, folder = with_toys(start, server, address, 0.4), None
    seconds = 0.0
    for number in (1, 3, 6):
        server.said(f"\n    {number} ")
        folder = folder or next((start.folder / "runs").glob("*killed"))
        until(lambda: max(rounds_of(RunFolder(folder)), default=0) >= number, f"checkpoint of round {number}")  # noqa: B023
        for process in (server, *toys):
            kill(process)
        newest = checkpoints.read(path_of(RunFolder(folder), max(rounds_of(RunFolder(folder)))))
        assert newest.round < ROUNDS and newest.seconds > seconds
        seconds = newest.seconds
        server, toys = resume(start, folder)
    server.said(f"\n    {ROUNDS} ")
    server.ended()
    assert "\n    1 " not in server.out
    assert last_weights(folder) == last_weights(undisturbed)
    assert figures(folder) == figures(undisturbed)
    assert (folder / "history.csv").read_text().split("\n")[0] == (undisturbed / "history.csv").read_text().split("\n")[
        0
    ]
    # The moments of FedAdam were what made them equal
    state = checkpoints.read(path_of(RunFolder(folder), ROUNDS))
    assert any(name.endswith(":m.w") for name in state.strategy_arrays)
    log = (folder / "run.log").read_text()
    assert log.count("round 1 of 8") == log.count(f"round {ROUNDS} of 8") == 1, "run.log goes on"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["rounds"] == ROUNDS and summary["seconds"] > seconds
    assert start.run_folder() == folder, "no folder of its own"


@pytest.mark.slow
def test_a_run_killed_before_its_first_checkpoint_begins_again(start: Starter, undisturbed: Path) -> None:
    server, _ = start.toy_server("--num-server-rounds", ROUNDS, "--name", "early", *TOY)
    folder = until(lambda: next((start.folder / "runs").glob("*early"), None), "the folder")
    until(lambda: (folder / "run.log").exists(), "the run")
    kill(server)
    server, _ = resume(start, folder)
    server.said(f"\n    {ROUNDS} ")
    server.ended()
    assert "has no checkpoint yet: the run begins again with round 1" in server.err
    assert last_weights(folder) == last_weights(undisturbed)
    assert figures(folder) == figures(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_once_finishes_the_round_and_says_how_to_go_on(start: Starter, ending, undisturbed: Path) -> None:
    server, address = start.toy_server("--num-server-rounds", ROUNDS, "--name", "once", "--checkpoint-every", 100, *TOY)
    toys = with_toys(start, server, address, 0.5)
    server.said("\n    2 ")
    time.sleep(0.2)  # in the middle of round 3
    server.popen.send_signal(ending)
    assert server.ended(60) == 130
    folder = next((start.folder / "runs").glob("*once"))
    first, last = server.complaints
    [number] = rounds_of(RunFolder(folder))
    assert first == f"server.py: finishing round {number}, then a checkpoint; Ctrl-C again ends at once"
    assert last == "server.py: interrupted"
    assert f"to go on: python server.py --resume runs/{folder.name}" in server.out.splitlines()
    assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"
    assert max(row["round"] for row in read_rows(folder / "history.csv")) == number >= 3
    assert not (folder / "model.keras").exists()
    for toy in toys:
        assert toy.ended(30) == 3 and "the server was interrupted" in toy.err
    server, _ = resume(start, folder)
    server.said(f"\n    {ROUNDS} ")
    server.ended()
    assert last_weights(folder) == last_weights(undisturbed)
    assert figures(folder) == figures(undisturbed)


@pytest.mark.slow
def test_a_leaked_passphrase_is_changed_in_mid_run(start: Starter, undisturbed: Path) -> None:
    """Ctrl-C, a new file, --resume: who has the old passphrase alone is out, and the run is the same."""
    for name in ("old", "new"):
        assert start.python(Path("-m"), "fedkeras", "passphrase", name).ended() == 0
    flags = ("--num-server-rounds", ROUNDS, "--name", "leaked", *TOY)
    server, address = start.toy_server(*flags, "--passphrase-file", "old")
    old = [start.toy(address, cid, "--seconds", 0.4, "--passphrase-file", "old") for cid in range(2)]
    server.said("\n    2 ")
    server.popen.send_signal(signal.SIGINT)
    assert server.ended(60) == 130
    assert [toy.ended(30) for toy in old] == [3, 3]
    folder = next((start.folder / "runs").glob("*leaked"))
    server, address = start.toy_server("--resume", folder, "--passphrase-file", "new")
    shut_out = start.toy(address, 1, "--passphrase-file", "old")
    assert shut_out.ended(60) == 2 and "the passphrase is wrong" in shut_out.err
    for cid in range(2):
        start.toy(address, cid, "--seconds", 0.4, "--passphrase-file", "new")
    assert server.ended() == 0, server.err
    assert last_weights(folder) == last_weights(undisturbed)


@pytest.mark.slow
def test_interrupted_twice_ends_at_once(start: Starter) -> None:
    server, address = start.toy_server("--num-server-rounds", ROUNDS, *TOY)
    with_toys(start, server, address, 20)
    server.said("\n    1 ")
    # A checkpoint is written while the next round's clients train already
    until(lambda: rounds_of(RunFolder(start.run_folder())) == [1], "round 2")
    server.popen.send_signal(signal.SIGINT)
    until(lambda: "finishing round 2" in server.err, "the word", 10)
    server.popen.send_signal(signal.SIGINT)
    assert server.ended(15) == 130
    assert server.err.splitlines()[-1] == "server.py: interrupted"
    assert rounds_of(RunFolder(start.run_folder())) == [1], "round 2 was not waited for"
    assert "to go on: " in server.out


@pytest.mark.slow
def test_a_running_server_is_not_disturbed(start: Starter) -> None:
    server, address = start.toy_server("--num-server-rounds", 1000, *TOY)
    with_toys(start, server, address, 0.1)
    server.said("\n    1 ")
    second, _ = start.toy_server("--resume", start.run_folder())
    assert second.ended() == 2
    assert "another server is writing to" in second.err.splitlines()[-1]
    assert server.popen.poll() is None


@pytest.mark.slow
def test_a_failed_run_says_how_to_go_on(start: Starter) -> None:
    """One of two clients goes, and a round needs both."""
    flags = ("--min-results", 2, "--max-retries", 0, "--reconnect-grace", 0)
    server, address = start.toy_server("--num-server-rounds", 1000, *flags, *TOY)
    toys = with_toys(start, server, address, 0.1)
    server.said("\n    1 ")
    kill(toys[0])
    assert server.ended() == 3
    folder = start.run_folder()
    assert f"to go on: python server.py --resume runs/{folder.name}" in server.out.splitlines()
    assert rounds_of(RunFolder(folder))


@pytest.mark.slow
def test_other_state_of_a_strategy_is_refused_in_one_line(start: Starter) -> None:
    (start.folder / "own.py").write_text(
        "from fedkeras.strategies.fedavg import FedAvg\n"
        "class Own(FedAvg):\n"
        "    def aggregate_train(self, server_round, replies):\n"
        "        self.seen = {server_round}\n"
        "        return super().aggregate_train(server_round, replies)\n"
    )
    os.environ["PYTHONPATH"] = str(start.folder)
    try:
        server, address = start.toy_server("--num-server-rounds", 1000, *TOY[:3], "--strategy", "own:Own")
        with_toys(start, server, address, 0.1)
        server.said("\n    2 ")
        until(lambda: 2 in rounds_of(RunFolder(start.run_folder())), "a checkpoint")
        kill(server)
        before = (start.run_folder() / "history.csv").read_bytes()
        again, _ = start.toy_server("--resume", start.run_folder())
        assert again.ended() == 2
    finally:
        del os.environ["PYTHONPATH"]
    [line] = again.err.splitlines()
    assert "strategy Own keeps state in its attribute 'seen'" in line
    assert (start.run_folder() / "history.csv").read_bytes() == before


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("setsid") is None, reason="no setsid to stand for a terminal")
def test_ctrl_c_in_the_terminal_leaves_spawned_clients_to_finish_the_round(start: Starter) -> None:
    """A terminal sends it to the whole group of processes."""
    flags = ("--port", 0, "--spawn", 2, "--num-server-rounds", 1000)
    server = start("setsid", sys.executable, ROOT / "server.py", *flags)
    server.said("\n    1 ")
    os.killpg(server.popen.pid, signal.SIGINT)
    assert server.ended(60) == 130
    first, *of_clients, last = server.complaints
    assert first.startswith("server.py: finishing round ") and last == "server.py: interrupted"
    assert all("the server was interrupted" in line for line in of_clients)
    folder = start.run_folder()
    rows = read_rows(folder / "history.csv")
    number = max(row["round"] for row in rows)
    assert rounds_of(RunFolder(folder))[-1] == number
    assert {row["client"] for row in rows if row["round"] == number} == {"0", "1", "2", "all", "server"}
    assert "failed" not in (folder / "run.log").read_text()


@pytest.mark.slow
def test_real_clients_killed_after_a_round(start: Starter, run) -> None:
    """Keras and digits: the final model.keras is that of the run that was left alone."""
    server, address = start.server("--num-server-rounds", 3)
    clients = [start.python(HERE / "late_client.py", "--server", address, "--cid", cid) for cid in range(3)]
    server.said("\n    1 ")
    folder = start.run_folder()
    until(lambda: rounds_of(RunFolder(folder)), "a checkpoint")
    for process in (server, *clients):
        kill(process)
    server, address = start.server("--resume", folder)
    clients = [start.client(address, cid) for cid in range(3)]
    assert [process.ended() for process in (server, *clients)] == [0, 0, 0, 0], server.err
    assert weights(folder) == weights(run.folder)
    assert figures(folder) == figures(run.folder)
    again = start.python(ROOT / "server.py", "--resume", folder)
    assert again.ended() == 0
    assert "the run is finished" in again.out
    assert not np.isnan(json.loads((folder / "summary.json").read_text())["accuracy"])
