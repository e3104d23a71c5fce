"""Deadlines with real processes: who is stopped is left out, and is there again when it goes on."""

import signal
from pathlib import Path

import pytest
from faults.stage import stage
from processes import until

from fedkeras.reports.history import FAILURES, read_rows


@pytest.mark.slow
def test_a_client_that_is_stopped_is_left_out_at_the_deadline_and_never_suspended(tmp_path: Path) -> None:
    with stage(tmp_path, rounds=10) as made:
        made.serve("--round-deadline", 1.5, "--late", "drop", "--deadline-grace", 0.2, "--rest-after", 1)
        client = made.join(0)
        made.others(1, 2)
        made.reach(1)
        made.train(client)
        client.popen.send_signal(signal.SIGSTOP)
        stopped = made.done()
        try:
            made.reach(stopped + 2)
        finally:
            client.popen.send_signal(signal.SIGCONT)
        made.train(client)
        assert made.verdict(0.0, client, equal=False).survived
        rows = [row for row in read_rows(made.run_folder / "history.csv") if row["phase"] == "train"]
        without = {row["round"] for row in rows if row["client"] == "all" and row["left_out"]}
        assert without >= {stopped + 2}, without
        there = {row["round"] for row in rows if row["client"] == "0"}
        assert there & {*range(max(without) + 1, 11)}, "it was in a later round"
        assert not FAILURES.read(made.run_folder / "failures.csv")
        late = [row["seconds"] for row in rows if row["client"] == "all" and row["round"] in without]
        assert max(late) < 1.5 + 5, "nobody waits for the round's time-out"


@pytest.mark.slow
def test_a_client_of_keras_sends_what_it_has_at_the_deadline(start) -> None:
    """A thousand epochs are never done in a second: each client sends a part of them, and the run learns."""
    flags = ("--num-partitions", 2, "--num-server-rounds", 2, "--local-epochs", 1000, "--round-deadline", 1.0)
    server, address = start.server(*flags, "--deadline-grace", 200, "--model", "logistic_regression")
    clients = [start.client(address, cid) for cid in range(2)]
    assert server.ended() == 0, server.err
    assert [client.ended() for client in clients] == [0, 0]
    folder = until(start.run_folder, "the run's folder")
    rows = [row for row in read_rows(folder / "history.csv") if (row["phase"], row["round"]) == ("train", 2)]
    for row in rows:
        if row["client"] != "all":
            assert 1 <= row["local_steps"] < 1000 * 40 and row["seconds"] < 5
    assert [row["left_out"] for row in rows if row["client"] == "all"] == [0]
