"""`fedkeras check`, and what the server finds out before a client is given anything to do."""

import re
import socket

import numpy as np
import pytest

from fedkeras import data, factory
from fedkeras.commands import check
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.reports import read_rows
from fedkeras.workflows.base import workflow_of
from fedkeras.workflows.flag_checks import check_flags
from fedkeras.workflows.preparation import prepare

WEIGHTS = 38_282 * 4
"""Bytes of the digits CNN's weights."""


@pytest.fixture(autouse=True)
def _any_threads(monkeypatch):
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda n: None)


def refused(**flags):
    config = Config(**flags)
    with pytest.raises(UserError) as error:
        prepare(workflow_of(config), config)
    return str(error.value)


def test_it_says_what_would_run(capsys):
    assert check.main(["--port", "0", "--fraction-train", "0.67", "--local-epochs", "2"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^0 +431 +48$", said, re.MULTILINE) and "Total params: 38,282" in said
    assert "1437 training examples of shape 8 x 8 x 1, 10 classes: 0, 1" in said
    # Two train and three evaluate: five models down, two up.
    assert f"moves {5 * WEIGHTS / 1e6:.1f} MB to the clients and {2 * WEIGHTS / 1e6:.1f} MB back" in said
    assert "54 batches, by 27 that were measured" in said  # 431 examples by 16, two epochs
    assert "clients join with: python client.py --server 127.0.0.1:0" in said
    command = "python server.py --num-partitions" if "--num-partitions" in said else "python server.py --fraction-train"
    assert f"nothing is wrong: {command} 0.67 --local-epochs 2 --port 0" in said


def test_of_many_clients_the_smallest_the_median_and_the_largest_are_told(capsys):
    assert (
        check.main(
            ["--port", "0", "--partitioner", "sizes", "--num-partitions", "11", "--sizes", "1,1,1,1,1,2,2,2,2,2,3"]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert re.search(r"^\d+ \(smallest\) +\d+ +\d+$", said, re.MULTILINE)
    total = re.search(r"^all 11 +(\d+) +(\d+)$", said, re.MULTILINE)
    assert int(total[1]) + int(total[2]) == 1437
    assert re.search(r"^10 \(largest\)", said, re.MULTILINE)


def test_what_is_wrong_is_one_line_and_status_2(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for args, why in (
            (["--port", port], "the port is in use"),
            (["--port", "0", "--num-partitions", "5000"], "--num-partitions is 5000, but digits has only 1437"),
            (["--port", "0", "--optimizer", "adamm"], "--optimizer is 'adamm'; allowed are"),
            (["--port", "0", "--resume", "x"], "--resume is not for check"),
            (["--port", "0", "--passphrase-file", "/nowhere"], "/nowhere"),
        ):
            assert check.main(args) == 2
            found = capsys.readouterr()
            assert found.err.count("\n") == 1 and why in found.err and "nothing is wrong" not in found.out


def test_split_learning_moves_what_is_foretold(tmp_path):
    """The arrays of a real round, by what the server has counted on the wire."""
    from fedkeras import client, server

    config = Config(split="sequential", num_server_rounds=1, seed=3, split_dtype="float16", local_epochs=2)
    parts = data.describe(config)
    sizes = list(zip(parts.train_sizes.tolist(), parts.test_sizes.tolist(), strict=True))
    told = workflow_of(config).traffic(config, factory.build_model(config), sizes)
    run = server.in_process(config, client.app, tmp_path)
    rows = [row for row in read_rows(run.history_path) if str(row["client"]).isdigit()]
    down, up = (sum(row[name] for row in rows) for name in ("bytes_down", "bytes_up"))
    for foretold, moved in ((told.down, down), (told.up, up)):  # each array has a header of 128 bytes on the wire
        assert 0 < moved - foretold < 0.02 * moved and (moved - foretold) % 128 == 0


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({"num_partitions": 5000}, "--num-partitions is 5000, but digits has only 1437 training examples"),
        ({"num_partitions": 5000, "central_evaluation": False}, "digits has only 1437"),
        ({"partitioner": "natural"}, "digits does not say who its examples belong to"),
        ({"partitioner": "sizes", "sizes": "1,2"}, "--sizes gives 2 sizes, but --num-partitions is 3"),
        ({"dataset": "nosuch.npz"}, "nosuch.npz does not exist"),
        ({"strategy": "krum", "num_partitions": 2}, "krum with num_byzantine=1 needs at least 4 clients"),
    ],
)
def test_data_and_partition_are_looked_at_before_a_client_has_come(flags, why):
    assert why in refused(**flags)


def test_a_model_that_does_not_fit_the_data_is_refused_without_a_test_set_too(monkeypatch, tmp_path):
    import keras

    wide = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    wide.save(tmp_path / "wide.keras")
    path = str(tmp_path / "wide.keras")
    assert "takes inputs of shape (28, 28, 1); the data's is (8, 8, 1)" in refused(model=path, central_evaluation=False)
    assert "takes 28 x 28 x 1 numbers" in refused(model=path, mode="collect", data_source="keras")
    fits = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    fits.save(tmp_path / "fits.keras")
    own = {"model": str(tmp_path / "fits.keras"), "mode": "collect", "data_source": "keras", "method": "kfold"}
    assert refused(**own, folds=432) == "--folds is 432, and client 0 trains on 431 examples: take fewer"
    (tmp_path / "unlucky_model.py").write_text(
        "def make(input_shape, num_classes):\n    raise RuntimeError('no luck')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert (
        refused(model="unlucky_model:make") == "--model unlucky_model:make: RuntimeError: no luck (unlucky_model.py:2)"
    )


@pytest.mark.parametrize(
    ("flags", "other", "has"),
    [
        ({"alpha": 0.1}, "--partitioner dirichlet", "--partitioner is iid"),
        ({"labels_per_client": 3, "partitioner": "mcmahan"}, "--partitioner shards", "--partitioner is mcmahan"),
        ({"proximal_mu": 0.5}, "--strategy fedprox", "--strategy is fedavg"),
        ({"window": 64}, "--dataset motionsense", "--dataset is digits"),
        ({"dataset": "motionsense", "test_subjects": "1,2"}, "--test-split subject", "--test-split is trial"),
        ({"mode": "collect", "data_source": "keras", "folds": 3}, "--method kfold", "--method is fit"),
    ],
)
def test_a_flag_that_changes_nothing_is_refused(flags, other, has):
    config = Config(**flags)
    with pytest.raises(UserError, match=f"changes nothing here: it is for {other}, and {has}$"):
        check_flags(workflow_of(config), config)


def test_a_flag_beside_the_one_it_belongs_to_is_taken():
    for flags in (
        {"alpha": 0.1, "partitioner": "dirichlet"},
        {"proximal_mu": 0.5, "strategy": "fedprox"},
        {"dataset": "somebody.elses:source", "window": 64},  # which may look at any setting
    ):
        config = Config(**flags)
        check_flags(workflow_of(config), config)
    assert np.isclose(Config(alpha=0.1, partitioner="dirichlet").alpha, 0.1)
