"""Split learning in real processes: the same bits as in one process, a client killed in mid-epoch, a run resumed."""

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from processes import HERE, ROOT, Process, Starter, starting, until
from test_runtime_determinism import figures, weights

from fedkeras.reports import RunFolder, checkpoints, read_rows
from fedkeras.reports.checkpoints import path_of, rounds_of

MODES = ("sequential", "splitfed", "shared")
ROUNDS = 3
FLAGS = ("--num-server-rounds", ROUNDS, "--optimizer", "adam", "--learning-rate", 0.003)


def over_grpc(starter: Starter, *flags: object, clients: int = 3) -> SimpleNamespace:
    server, address = starter.server(*FLAGS, *flags)
    others = [starter.client(address, cid) for cid in range(clients)]
    statuses = [process.ended() for process in (server, *others)]
    assert statuses == [0] * (1 + clients), server.err
    return SimpleNamespace(server=server, folder=starter.run_folder())


@pytest.fixture(scope="module")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Three clients, each a process, two batches in flight."""
    with starting(tmp_path_factory.mktemp("split-shared")) as starter:
        yield over_grpc(starter, "--split", "shared", "--in-flight", 2)


def last_weights(folder: Path) -> dict[str, np.ndarray]:
    newest = path_of(RunFolder(folder), max(rounds_of(RunFolder(folder))))
    return dict(checkpoints.read(newest).weights)


@pytest.mark.slow
def test_processes_give_the_bits_of_one_process(start: Starter, shared_run: SimpleNamespace) -> None:
    local = start.python(HERE / "in_process.py", *FLAGS, "--split", "shared", "--in-flight", 2)
    assert local.ended() == 0, local.err
    assert weights(start.run_folder()) == weights(shared_run.folder)
    assert figures(start.run_folder()) == figures(shared_run.folder)
    assert shared_run.server.complaints == []
    rows = read_rows(shared_run.folder / "history.csv")
    clients = ["0", "1", "2", "all"]
    assert [row["client"] for row in rows if row["round"] == 2] == [*clients, "server", *clients]
    assert [row["accuracy"] for row in rows if row["client"] == "server"][-1] > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_spawned_processes_that_serve_several_clients_do_too(start: Starter, tmp_path_factory, mode: str) -> None:
    server, _ = start.server(*FLAGS, "--split", mode, "--spawn", 2)
    assert server.ended() == 0, server.err
    with starting(tmp_path_factory.mktemp("local")) as other:
        local = other.python(HERE / "in_process.py", *FLAGS, "--split", mode)
        assert local.ended() == 0, local.err
        assert weights(other.run_folder()) == weights(start.run_folder())
        assert figures(other.run_folder()) == figures(start.run_folder())


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_one_client_over_grpc_is_the_unsplit_training(start: Starter, monkeypatch, optimizer: str) -> None:
    """FedAvg with one client is the unsplit training: optimizers are new in each round there too."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'tests'}{os.pathsep}{ROOT}")
    model = ("--model", "split_setting:awkward", "--num-partitions", 1, "--optimizer", optimizer)
    model = (*FLAGS[:2], *model, "--learning-rate", 0.01, "--no-central-evaluation", "--batch-size", 50)
    found = []
    for split in ([], ["--split", "sequential", "--split-at", "3,7"]):
        server, address = start.server(*model, "--name", split[1] if split else "whole", *split)
        client = start.client(address, 0, "--model", "split_setting:awkward")
        assert [server.ended(), client.ended()] == [0, 0], server.err
        found.append(last_weights(next((start.folder / "runs").glob(f"*{split[1] if split else 'whole'}"))))
    assert found[0].keys() == found[1].keys()
    for name, array in found[0].items():
        np.testing.assert_allclose(found[1][name], array, rtol=0, atol=1e-6, err_msg=name)


def in_mid_epoch(live: Path, client: Process) -> None:
    """Wait until the first round has begun and this client is at work."""
    client.said("ready")
    until(lambda: live.exists() and '["on_phase_begin", 1, "train"' in live.read_text(), "round 1")
    time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_client_killed_in_mid_epoch_drops_out_and_the_others_go_on(start: Starter, monkeypatch, mode: str) -> None:
    """Batches of one example: a round takes many seconds, so the kill falls into the middle of one."""
    flags = ("--num-server-rounds", 2, "--batch-size", 1, "--no-central-evaluation", "--reconnect-grace", 0.5)
    monkeypatch.setenv("FEDKERAS_LIVE", str(start.folder / "live"))
    server, address = start.server(*flags, "--learning-rate", 0.005, "--split", mode)
    clients = [start.client(address, cid) for cid in range(3)]
    victim = 0 if mode == "sequential" else 1
    in_mid_epoch(start.folder / "live", clients[victim])
    clients[victim].popen.send_signal(signal.SIGKILL)
    assert server.ended(300) == 0, server.err
    rows = read_rows(start.run_folder() / "history.csv")
    others = [str(cid) for cid in range(3) if cid != victim]
    for number in (1, 2):
        for phase in ("train", "evaluate"):
            there = [row["client"] for row in rows if (row["round"], row["phase"]) == (number, phase)]
            assert there == [*others, "all"], (number, phase)
    assert f"round 1: client {victim} failed" in server.out
    assert all(np.isfinite(array).all() for array in last_weights(start.run_folder()).values())


@pytest.mark.slow
def test_a_client_that_was_started_again_in_mid_epoch_is_out_of_it_and_back_in_the_next(
    start: Starter, monkeypatch
) -> None:
    flags = ("--num-server-rounds", 2, "--batch-size", 1, "--no-central-evaluation", "--reconnect-grace", 60)
    monkeypatch.setenv("FEDKERAS_LIVE", str(start.folder / "live"))
    server, address = start.server(*flags, "--learning-rate", 0.005, "--split", "shared", "--num-partitions", 2)
    clients = [start.client(address, cid) for cid in range(2)]
    in_mid_epoch(start.folder / "live", clients[1])
    clients[1].popen.kill()
    again = start.client(address, 1, "--replace")
    assert [server.ended(300), again.ended()] == [0, 0], server.err
    rows = read_rows(start.run_folder() / "history.csv")
    trained = {
        number: [row["client"] for row in rows if (row["round"], row["phase"]) == (number, "train")]
        for number in (1, 2)
    }
    assert trained == {1: ["0", "all"], 2: ["0", "1", "all"]}


@pytest.mark.slow
def test_a_server_killed_and_resumed_gives_the_same_bits(start: Starter, shared_run: SimpleNamespace) -> None:
    server, address = start.server(*FLAGS, "--split", "shared", "--in-flight", 2)
    clients = [start.client(address, cid) for cid in range(3)]
    server.said("\n    1 ")
    folder = start.run_folder()
    until(lambda: rounds_of(RunFolder(folder)), "a checkpoint")
    for process in (server, *clients):
        process.popen.kill()
        process.popen.wait()
    assert max(rounds_of(RunFolder(folder))) < ROUNDS
    server, address = start.server("--resume", folder)
    clients = [start.client(address, cid) for cid in range(3)]
    assert [process.ended() for process in (server, *clients)] == [0, 0, 0, 0], server.err
    assert weights(folder) == weights(shared_run.folder)
    assert figures(folder) == figures(shared_run.folder)
