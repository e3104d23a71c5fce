"""The same configuration gives the same bits, however the messages travelled and whoever answered first."""

import io
import zipfile
from pathlib import Path
from types import SimpleNamespace

import h5py
import pytest

from fedkeras.reports.history import read_rows


def weights(folder: Path) -> list[tuple]:
    """Name, dtype, shape and bytes of all variables in model.keras, which holds them in an HDF5 file."""
    found = []

    def note(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer"):
            found.append((name, str(item.dtype), item.shape, item[()].tobytes()))

    with zipfile.ZipFile(folder / "model.keras") as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(content) as file:
        file.visititems(note)
    assert sum(len(data) for *_, data in found) > 10_000
    return found


def figures(folder: Path) -> list[dict]:
    """history.csv without what a clock says."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_rows(folder / "history.csv")]


def arrivals(run: SimpleNamespace) -> dict[int, list[int]]:
    """For each round the cids in the order in which their answers went out."""
    times = sorted(
        (float(line.split()[0]), int(line.split()[2]), cid)
        for cid, client in enumerate(run.clients)
        for line in client.out.splitlines()
        if " answers " in line
    )
    rounds = sorted({server_round for _, server_round, _ in times})
    return {number: [cid for _, server_round, cid in times if server_round == number] for number in rounds}


@pytest.mark.slow
def test_the_delays_exchanged_the_answers(delayed_run: SimpleNamespace) -> None:
    """Else the test below would show nothing. (On a busy machine a round may end up in order by accident.)"""
    orders = arrivals(delayed_run)
    assert [sorted(cids) for cids in orders.values()] == [[0, 1, 2]] * 3
    assert any(cids != [0, 1, 2] for cids in orders.values())


@pytest.mark.parametrize(
    "other", ["local_run", *(pytest.param(name, marks=pytest.mark.slow) for name in ("delayed_run", "spawned_run"))]
)
def test_same_bits(run: SimpleNamespace, other: str, request: pytest.FixtureRequest) -> None:
    """Three processes, against one process, late answers, and two processes that share the partitions."""
    second = request.getfixturevalue(other)
    assert {*run.statuses, *second.statuses} == {0}, second.server.err
    assert weights(second.folder) == weights(run.folder)
    ours, theirs = figures(run.folder), figures(second.folder)
    # The server's own evaluation has as many threads as cores, and in-process one: its figures are not compared.
    assert [row for row in theirs if row["client"] != "server"] == [row for row in ours if row["client"] != "server"]
