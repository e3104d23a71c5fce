"""`python -m fedkeras data`: what it prints and draws, and how it refuses."""

from pathlib import Path

import numpy as np
import pytest

from fedkeras.commands.data import main
from fedkeras.config import Config
from fedkeras.data import describe
from fedkeras.data.plot import draw_labels
from fedkeras.errors import UserError


def test_table_of_three_clients(capsys: pytest.CaptureFixture) -> None:
    assert main(["digits", "--partitioner", "shards", "--seed", "1"]) == 0
    said = capsys.readouterr().out
    counts = describe(Config(partitioner="shards", seed=1))
    assert "Alpaydin" in said and "1437 training examples, 360 in the central test set" in said
    rows = [line.split() for line in said.splitlines()]
    assert ["client", "train", "test", *"0123456789"] in rows
    for cid in range(3):
        numbers = [cid, counts.train_sizes[cid], counts.test_sizes[cid], *counts.counts[cid]]
        assert [str(number) for number in numbers] in rows
    assert f"left out: {counts.partition.left_out} training examples" in said and counts.partition.left_out > 0


def test_a_hundred_clients_and_the_flag_for_the_data_set(capsys: pytest.CaptureFixture) -> None:
    assert main(["--dataset", "digits", "--num-partitions", "100"]) == 0
    said = capsys.readouterr().out
    assert "and 80 more clients" in said and "a client holds 14 to 15 examples" in said
    assert len(said.splitlines()) < 40


@pytest.mark.parametrize("clients", ["3", "100"])
def test_picture(tmp_path: Path, capsys: pytest.CaptureFixture, clients: str) -> None:
    path = tmp_path / "labels.png"
    assert main(["digits", "--num-partitions", clients, "--plot", str(path)]) == 0
    assert path.read_bytes().startswith(b"\x89PNG") and str(path) in capsys.readouterr().out


def test_bars_are_as_high_as_the_counts() -> None:
    counts = describe(Config(partitioner="dirichlet"))
    figure = draw_labels(counts)
    heights = np.array([[bar.get_height() for bar in label] for label in figure.axes[0].containers])
    np.testing.assert_array_equal(heights.T, counts.counts)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nothing"], "--dataset is 'nothing'; give digits, mnist, femnist, motionsense"),
        (["digits", "--nonsense", "1"], "--nonsense"),
        (["digits", "--plot", "/nowhere/labels.png"], "there is no folder /nowhere"),
        (["digits", "--plot", "labels.pdf"], "ends in .png"),
        (["digits", "--num-partitions", "0"], "--num-partitions must be at least 1"),
    ],
)
def test_refusals(args: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        main(args)


def test_where_no_picture_can_be_written_is_said_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "labels.png").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*labels\.png: there is a folder of that name"):
        main(["digits", "--plot", str(tmp_path / "labels.png")])
    if Path("/proc").is_dir():  # where nobody can write, root neither
        with pytest.raises(UserError, match=r"cannot write /proc/labels\.png: "):
            main(["digits", "--plot", "/proc/labels.png"])
    assert not capsys.readouterr().out


@pytest.mark.parametrize(("clients", "written"), [(3, True), (13, False)])
def test_many_classes_are_a_grid_with_the_numbers_of_few_clients_in_it(
    tmp_path: Path, clients: int, written: bool
) -> None:
    labels = np.repeat(np.arange(62), 40)
    np.savez(
        tmp_path / "own.npz",
        x_train=np.zeros((len(labels), 2), "float32"),
        y_train=labels,
        x_test=np.zeros((62, 2), "float32"),
        y_test=np.arange(62),
    )
    found = describe(Config(dataset=str(tmp_path / "own.npz"), num_partitions=clients))
    axes = draw_labels(found).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [str(number) for number in range(62)]
    assert [int(text.get_text()) for text in axes.texts] == (found.counts.T.ravel().tolist() if written else [])
