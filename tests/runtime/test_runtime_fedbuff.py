"""Asynchronous rounds over real sockets: a server that is killed and goes on, and a client that dies in the middle."""

import json
from pathlib import Path

import pytest
from processes import Process, Starter, starting, until

from fedkeras.reports import RunFolder, checkpoints, read_rows
from fedkeras.reports.checkpoints import newest_checkpoint, path_of, rounds_of
from fedkeras.workflows.fedbuff.report import UPDATES_TABLE
from fedkeras.workflows.fedbuff.report import path_of as updates_path

VERSIONS = 14
TOY = ("--mode", "fedbuff", "--no-central-evaluation", "--fraction-evaluate", 0, "--client-weights", "uniform")
SIMULATED = (*TOY, "--clients", "slow=lognormal", "--num-partitions", 3, "--buffer-size", 2, "--local-epochs", 4)
"""Four epochs of one batch: the four steps that a toy client says it does."""


def kill(process: Process) -> None:
    process.popen.kill()
    process.popen.wait()


def updates(folder: Path) -> list[tuple]:
    return [tuple(line.values()) for line in UPDATES_TABLE.read(updates_path(RunFolder(folder)))]


def last_weights(folder: Path) -> dict[str, bytes]:
    newest = checkpoints.read(path_of(RunFolder(folder), max(rounds_of(RunFolder(folder)))))
    assert newest.round == VERSIONS
    return {name: array.tobytes() for name, array in newest.weights.items()}


def simulated_seconds(folder: Path) -> list[float]:
    rows = read_rows(RunFolder(folder).history_path)
    return [row["simulated_seconds"] for row in rows if row["client"] == "all"]


@pytest.mark.slow
def test_killed_and_resumed_by_a_simulated_clock_it_is_the_undisturbed_run_to_the_bit(
    start: Starter, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with starting(tmp_path_factory.mktemp("undisturbed")) as other:
        server, address = other.toy_server("--num-server-rounds", VERSIONS, *SIMULATED)
        for cid in range(3):
            other.toy(address, cid)
        server.ended()
        undisturbed = other.run_folder()
    server, address = start.toy_server("--num-server-rounds", VERSIONS, "--name", "killed", *SIMULATED)
    toys = [start.toy(address, cid, "--seconds", 0.1) for cid in range(3)]
    folder = Path(until(lambda: next((start.folder / "runs").glob("*killed"), None), "the run's folder"))
    until(lambda: max(rounds_of(RunFolder(folder)), default=0) >= 5, "version 5")
    for process in (server, *toys):
        kill(process)
    server, address = start.toy_server("--resume", folder)
    for cid in range(3):
        start.toy(address, cid)
    server.ended()
    assert last_weights(folder) == last_weights(undisturbed)
    assert updates(folder) == updates(undisturbed) and max(line[4] for line in updates(folder)) == 1
    assert simulated_seconds(folder) == simulated_seconds(undisturbed)


@pytest.mark.slow
def test_a_client_that_dies_is_not_waited_for_and_is_asked_again_when_it_is_back(start: Starter) -> None:
    """Client 1 needs two seconds and is killed in its second training; client 0 goes on, and then both do."""
    server, address = start.toy_server(
        *TOY, "--num-partitions", 2, "--buffer-size", 1, "--num-server-rounds", 40, "--reconnect-grace", 0.5
    )
    start.toy(address, 0, "--seconds", 0.2)
    victim = start.toy(address, 1, "--seconds", 2)
    folder = start.run_folder()

    def of_client(cid: str) -> int:
        return sum(line[1] == cid for line in updates(folder))

    until(lambda: of_client("1") == 1, "an update of client 1")
    kill(victim)
    before = of_client("0")
    until(lambda: of_client("0") > before + 5, "updates of client 0, which waits for nobody")
    start.toy(address, 1, "--seconds", 1)
    until(lambda: of_client("1") >= 2, "client 1 again")
    assert server.ended() == 0
    history = (folder / "failures.csv").read_text()
    assert ",1," in history and "is gone" in history and ",0," not in history
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["fedbuff"]["updates"] == 40 and summary["fedbuff"]["repeatable"] is False
    assert "cannot be repeated to the bit" in server.out
    # What client 1 was sent before it died was its second training: it is lost, and no number is given twice.
    numbers = [line[2] for line in updates(folder) if line[1] == "1"]
    assert numbers[0] == 1 and numbers[1] > 2 and numbers == sorted(set(numbers))


@pytest.mark.slow
def test_what_was_under_way_when_the_server_was_killed_is_given_up_by_the_real_clock_and_said(start: Starter) -> None:
    fields = (*TOY, "--num-partitions", 2, "--buffer-size", 1, "--num-server-rounds", VERSIONS)
    server, address = start.toy_server(*fields)
    toys = [start.toy(address, cid, "--seconds", 0.2) for cid in range(2)]
    folder = start.run_folder()
    until(lambda: len(rounds_of(RunFolder(folder))) and max(rounds_of(RunFolder(folder))) >= 4, "version 4")
    for process in (server, *toys):
        kill(process)
    done = newest_checkpoint(RunFolder(folder)).round
    server, address = start.toy_server("--resume", folder)
    for cid in range(2):
        start.toy(address, cid, "--seconds", 0.05)
    assert server.ended() == 0
    assert "2 trainings were under way at the checkpoint, and are given up" in server.err
    assert [line[0] for line in updates(folder)] == [*range(1, VERSIONS + 1)] and done < VERSIONS
