"""Hospitals as they would do it: each starts client.py with its own file, the server has a test file or a model."""

from pathlib import Path

import numpy as np
import pytest
from processes import Starter

from fedkeras.config import chosen_in
from fedkeras.reports import RunFolder
from fedkeras.reports.history import read_rows

pytestmark = pytest.mark.slow


def write_hospital(path: Path, rows: int, seed: int, names: str = "age,pressure,state") -> None:
    """Rows of two groups that lie well apart, with the columns in this order."""
    rng = np.random.default_rng(seed)
    lines = [names]
    for _ in range(rows):
        ill = rng.random() < 0.5
        row = {"state": ("well", "ill")[ill], "age": f"{rng.normal(60 if ill else 40, 4):.3f}", "id": "p"}
        row["pressure"] = f"{rng.normal(150 if ill else 120, 4):.3f}"
        lines.append(",".join(row[name] for name in names.split(",")))
    path.write_text("\n".join(lines) + "\n")


def test_five_hospitals_and_a_server_with_a_test_file(start: Starter, tmp_path: Path) -> None:
    write_hospital(tmp_path / "test.csv", 40, seed=9)
    flags = ("--dataset", "test.csv", "--label-column", "state", "--partitioner", "own", "--num-partitions", 3)
    server, address = start.server(*flags, "--num-server-rounds", 8)
    assert f"clients join with: python client.py --server {address} --data DATA" in server.out
    clients = []
    for cid, names in enumerate(("age,pressure,state", "state,id,pressure,age", "pressure,age,state")):
        write_hospital(tmp_path / f"h{cid}.csv", 40 + 10 * cid, seed=cid, names=names)
        clients.append(start.client(address, cid, "--data", f"h{cid}.csv"))
    assert server.ended() == 0, server.err
    assert [client.ended() for client in clients] == [0, 0, 0]
    assert "client: columns left out: 'id'" in clients[1].out
    rows = {(row["round"], row["phase"], row["client"]): row for row in read_rows(start.run_folder() / "history.csv")}
    assert [rows[8, "train", str(cid)]["num_examples"] for cid in range(3)] == [36, 45, 54]
    assert rows[8, "evaluate", "server"]["num_examples"] == 40 and rows[8, "evaluate", "server"]["accuracy"] > 0.95
    assert "zscore by statistics of 135" in chosen_in(RunFolder(start.run_folder()).config_table())["scaled"]


def test_a_model_alone_is_enough_and_a_clients_file_goes_into_it(start: Starter, tmp_path: Path) -> None:
    import keras

    layers = [keras.Input((2,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(2, "softmax")]
    keras.Sequential(layers).save(tmp_path / "m.keras")
    flags = ("--data-source", "client", "--model", "m.keras", "--normaliser", "zscore", "--num-partitions", 2)
    server, address = start.server(*flags, "--num-server-rounds", 2, "--feature-columns", "age,pressure")
    clients = []
    for cid, names in enumerate(("age,pressure,state", "state,id,pressure,age")):
        write_hospital(tmp_path / f"h{cid}.csv", 40, seed=cid, names=names)
        clients.append(start.client(address, cid, "--data", f"h{cid}.csv", "--label-column", "state"))
    assert server.ended() == 0, server.err
    assert [client.ended() for client in clients] == [0, 0]
    assert "labels: 2 classes: ill, well" in server.out
    rows = {(row["round"], row["phase"], row["client"]): row for row in read_rows(start.run_folder() / "history.csv")}
    assert rows[2, "train", "all"]["num_examples"] == 72


def test_who_is_of_another_form_ends_with_a_line(start: Starter, tmp_path: Path) -> None:
    write_hospital(tmp_path / "test.csv", 20, seed=9)
    (tmp_path / "bad.csv").write_text("age,state\n1,ill\n2,well\n")
    flags = ("--dataset", "test.csv", "--label-column", "state", "--partitioner", "own", "--num-partitions", 1)
    server, address = start.server(*flags)
    client = start.client(address, 0, "--data", "bad.csv")
    assert client.ended() == 2
    assert "--feature-columns: bad.csv has no column 'pressure' (its columns are age, state)" in client.err
    assert "Traceback" not in client.err
    server.popen.terminate()
    server.ended()
