"""Whole server-led runs over real processes and sockets."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from mixed_tables import write_tables
from processes import ROOT, until
from proxy import DOWN, Proxy

FLAGS = ("--data-source", "server", "--num-partitions", 3)


def clients_of(start, address: str, count: int, *flags: object) -> list:
    """Clients that know nothing but the address."""
    return [start.python(ROOT / "client.py", "--server", address, *flags) for _ in range(count)]


def folder_of(start) -> Path:
    return max((start.folder / "runs").glob("*/"), key=lambda path: path.name)


@pytest.mark.slow
def test_rounds_on_labels_in_words_and_a_second_run_transfers_nothing(start, model_files):
    write_tables(start.folder / "dataset", rows=60_000)
    flags = (*FLAGS, "--model", model_files / "classifier.keras", "--normaliser", "minmax", "--num-server-rounds", 1)
    passed = []
    for _ in range(2):
        server, address = start.server(*flags)
        with Proxy(address) as proxy:
            clients = clients_of(start, proxy.address, 3)
            assert [process.ended() for process in (server, *clients)] == [0, 0, 0, 0], server.err
            passed.append(proxy.passed[DOWN])
    data = 60_000 * (4 * 8 + 3 * 4)  # float64 and words
    assert passed[0] > data
    assert passed[1] < 60_000  # three times the weights, and questions
    run = folder_of(start)
    assert json.loads((run / "labels.json").read_text())["classes"] == ["no", "yes"]
    assert (run / "model.keras").exists()


@pytest.mark.slow
def test_a_client_that_is_killed_in_mid_transfer_comes_back(start, model_files):
    write_tables(start.folder / "dataset", rows=90_000)
    server, address = start.server(
        *FLAGS,
        "--model",
        model_files / "classifier.keras",
        "--num-server-rounds",
        1,
        "--normaliser",
        "zscore",
        "--reconnect-grace",
        2,
    )
    with Proxy(address) as proxy:
        clients = clients_of(start, address, 2)
        proxy.delay = 0.05
        (victim,) = clients_of(start, proxy.address, 1)
        until(lambda: proxy.passed[DOWN] > 300_000, "a part of the data")
        victim.popen.kill()
        victim.popen.wait()
        proxy.delay = 0.0
        clients += clients_of(start, address, 1)
        assert [process.ended() for process in (server, *clients)] == [0, 0, 0, 0], server.err
    history = (folder_of(start) / "history.csv").read_text()
    assert "3/3" in server.out, history
    assert not list((start.folder / "cache" / "received").glob(".part-*"))


@pytest.mark.slow
def test_what_was_trained_is_delivered_later(start, tables, model_files):
    """The server dies while two clients train; they finish, and hand their models to another one."""
    server, address = start.server(
        "--data-source", "server", "--num-partitions", 2, "--model", model_files / "classifier.keras",
        "--mode", "collect", "--local-epochs", 2000,
    )  # fmt: skip
    clients = clients_of(start, address, 2, "--max-wait", 1)
    for cid in range(2):  # both: one that has not begun yet would have nothing to keep
        server.said(f"client {cid}: training epoch")
    server.popen.kill()
    assert [client.ended() for client in clients] == [3, 3]
    for client in clients:
        assert "client: trained: loss " in client.out, "with the figures, though no server asks for them"
        assert client.out.endswith("client: its model is kept here, to be delivered later\n")
    held = start.folder / "cache" / "results"
    assert len(list(held.glob("*/result.json"))) == 2
    server, address = start.server("--collect-only", "--num-partitions", 1)
    (late,) = clients_of(start, address, 1, "--deliver")
    assert [server.ended(), late.ended()] == [0, 0], server.err
    assert "client: delivered what it held\n" in late.out and "client: messages sent: " in late.out
    run = folder_of(start)
    assert (run / "clients" / "0" / "model.keras").exists() and (run / "clients" / "1" / "model.keras").exists()
    assert (run / "model.keras").exists()
    assert not list(held.glob("*/result.json"))


@pytest.mark.slow
def test_code_in_a_model_file_runs_only_where_it_is_trusted(start, tables, model_files):
    flags = (*FLAGS[:2], "--num-partitions", 1, "--model", model_files / "lambda.keras", "--num-server-rounds", 1)
    server, address = start.server(*flags, "--max-retries", 0)
    (client,) = clients_of(start, address, 1)
    assert server.ended() == 3
    client.ended()
    (line,) = server.err.strip().splitlines()[-1:]
    assert "a Lambda layer, which is Python code" in line and "--trust-code" in line
    assert "Traceback" not in server.err + client.err
    server, address = start.server(*flags)
    (client,) = clients_of(start, address, 1, "--trust-code")
    assert [server.ended(), client.ended()] == [0, 0], server.err


@pytest.mark.slow
def test_each_client_has_its_own_tables(start, model_files):
    for cid in range(2):
        write_tables(start.folder / f"machine-{cid}")
    server, address = start.server(
        "--data-source", "client", "--num-partitions", 2, "--model", model_files / "classifier.keras", "--normaliser",
        "zscore", "--num-server-rounds", 1,
    )  # fmt: skip
    clients = [clients_of(start, address, 1, "--data-dir", f"machine-{cid}")[0] for cid in range(2)]
    assert [process.ended() for process in (server, *clients)] == [0, 0, 0], server.err
    assert not (start.folder / "cache" / "received").exists() or not list(
        (start.folder / "cache" / "received").glob("rows-*")
    )


@pytest.mark.slow
def test_a_clients_columns_may_stand_in_another_order_with_decimal_commas(start, model_files):
    """The run is the same to the bit as if both clients had the same files."""
    for cid in range(2):
        write_tables(start.folder / f"machine-{cid}")
    rows = pd.concat([pd.read_csv(start.folder / "machine-1" / "X" / "1.csv")] * 3)
    for path in (start.folder / "machine-1" / "X").iterdir():
        path.unlink()
    histories = []
    for names, style in ((list("abcd"), {}), (list("cadb"), {"sep": ";", "decimal": ","})):
        rows[names].to_csv(start.folder / "machine-1" / "X" / "1.csv", index=False, **style)
        server, address = start.server(
            "--data-source", "client", "--num-partitions", 2, "--model", model_files / "classifier.keras",
            "--normaliser", "zscore", "--num-server-rounds", 2,
        )  # fmt: skip
        clients = [clients_of(start, address, 1, "--cid", n, "--data-dir", f"machine-{n}")[0] for n in range(2)]
        assert [process.ended() for process in (server, *clients)] == [0, 0, 0], server.err
        histories.append(pd.read_csv(folder_of(start) / "history.csv")[["client", "phase", "loss", "accuracy"]])
    assert histories[0].equals(histories[1]) and len(histories[0])
    assert "X's columns: client 1 put them into the order of client 0, by their names" in server.out
    assert "decimal mark: a comma, found over all lines (X/1.csv)" in clients[1].err
    assert json.loads((folder_of(start) / "columns.json").read_text())["x"] == list("abcd")


@pytest.mark.slow
def test_a_client_that_is_killed_in_mid_rounds_gets_its_place_back_and_no_data_again(
    start, tables, model_files, monkeypatch
):
    live = start.folder / "live"
    monkeypatch.setenv("FEDKERAS_LIVE", str(live))
    server, address = start.server(
        *FLAGS, "--model", model_files / "classifier.keras", "--num-server-rounds", 6, "--local-epochs", 60,
        "--reconnect-grace", 1, "--normaliser", "zscore", "--min-available-nodes", 3,  # so that it is waited for
    )  # fmt: skip
    clients = clients_of(start, address, 2)
    (victim,) = clients_of(start, address, 1)
    until(lambda: re.search(r"^ +2 .*3/3$", server.out, re.MULTILINE), "two rounds of all three")
    kept = {path.name: path.stat().st_mtime_ns for path in (start.folder / "cache" / "received").iterdir()}
    until(lambda: live.read_text().splitlines()[-1].endswith('"train", [0, 1, 2], []]'), "a new training")
    victim.popen.kill()
    victim.popen.wait()
    with Proxy(address) as proxy:
        (again,) = clients_of(start, proxy.address, 1)
        assert [process.ended() for process in (server, *clients, again)] == [0, 0, 0, 0], server.err
        passed = proxy.passed[DOWN]
    cid = re.search(r"as client (\d)", victim.out)[1]
    assert f"as client {cid}\n" in again.out
    assert {path.name: path.stat().st_mtime_ns for path in (start.folder / "cache" / "received").iterdir()} == kept
    assert passed < 6 * 3000  # questions and weights, no row: the part alone has 3,200 bytes and the model file 20,000
    # the round under way, and the next one if the client is back before it was missed: then it has to be provisioned
    rounds = re.findall(r"^ +(\d+) .* (\d)/3$", server.out, re.MULTILINE)
    assert [int(number) for number, _ in rounds] == list(range(1, 7))
    assert {answered for _, answered in rounds} == {"2", "3"} and rounds[-1][1] == "3"
    assert "receiving" not in again.out and "Traceback" not in server.err + again.err
    assert json.loads((folder_of(start) / "summary.json").read_text())["status"] == "finished"
