"""`fedkeras data --write`: a client's part as a file gives what the client itself would have loaded."""

from pathlib import Path

import numpy as np
import pytest

from fedkeras.commands import data as command
from fedkeras.config import Config
from fedkeras.data import load_client, load_test, open_source, write_parts
from fedkeras.errors import UserError

DEAL = {"num_partitions": 4, "partitioner": "shards", "labels_per_client": 2}


def test_a_part_is_what_its_client_holds(tmp_path: Path) -> None:
    config = Config(normaliser="none", **DEAL)
    lines = write_parts(config, tmp_path)
    assert len(lines) == 6 and "2 of 10 classes" in lines[0] and lines[5].endswith("none")
    for cid in range(4):
        whole = load_client(config, cid)
        own = Config(dataset=str(tmp_path / f"part-{cid}.npz"), num_partitions=1, normaliser="none")
        source = open_source(own)
        found = source.examples(np.arange(len(source.labels)))
        np.testing.assert_array_equal(found.x, whole.train.x)
        np.testing.assert_array_equal(found.y, whole.train.y)
        np.testing.assert_array_equal(source.test().x, whole.test.x)
        assert source.classes == tuple("0123456789"), "a part of two labels has all classes"
    with np.load(tmp_path / "test.npz") as test:
        np.testing.assert_array_equal(test["x_test"], load_test(config).x)


def test_the_command_says_what_it_has_written_and_overwrites_nothing(tmp_path: Path, capsys) -> None:
    args = ["digits", "--num-partitions", "2", "--write", str(tmp_path / "parts")]
    assert command.main(args) == 0
    assert "part-1.npz: 646 training and 72 test examples of all 10 classes" in capsys.readouterr().out
    with pytest.raises(UserError, match="is there already"):
        command.main(args)


def test_classes_must_cover_the_labels(tmp_path: Path) -> None:
    x, y = np.zeros((3, 2), np.float32), np.array([0, 1, 2])
    np.savez(tmp_path / "few.npz", x_train=x, y_train=y, x_test=x, y_test=y, classes=["a", "b"])
    with pytest.raises(UserError, match="has the label 2, and its array classes names 2 classes"):
        open_source(Config(dataset=str(tmp_path / "few.npz")))
