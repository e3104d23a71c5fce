"""`fedkeras train`: one part trained by itself gives what `compare` gives, a report by class, and a model file."""

import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from fedkeras import data, models
from fedkeras.commands.data import main as write_data
from fedkeras.commands.train import main
from fedkeras.compare.baseline_worker import train as train_baseline
from fedkeras.compare.baselines import BaselineJob
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.models.training_note import KEY, TrainingNote, read_note, write_note
from fedkeras.reports import read_rows
from fedkeras.reports.predictions import Predictions, classification_table

SMALL = ["--model", "logistic_regression", "--local-epochs", "3", "--batch-size", "64"]


@pytest.fixture(autouse=True)
def whatever_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another test may have started TensorFlow in this process, and others look at its log."""
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda n: None)
    monkeypatch.setattr("fedkeras.reports.show_warnings", lambda: None)


def figures(path: Path) -> list[dict]:
    """The rows of a history without their times."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in read_rows(path)]


def refused(capsys: pytest.CaptureFixture, *args: object) -> str:
    assert main([str(arg) for arg in args]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    return said.err


def test_a_classification_report_by_hand() -> None:
    """Of class 0 two of three are found, and nothing else is taken for it; of 1 one of two, and of two that are called
    so one is; of 2 the only one, beside a wrong one. Means: (1 + 1/2 + 1/2) / 3; weighted (3 + 2/2 + 1/2) / 6."""
    found = Predictions(np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 2]), ("zero", "one", "two"))
    assert [line.split() for line in classification_table(found)] == [
        ["class", "precision", "recall", "F1", "n"],
        ["zero", "1.000", "0.667", "0.800", "3"],
        ["one", "0.500", "0.500", "0.500", "2"],
        ["two", "0.500", "1.000", "0.667", "1"],
        ["accuracy", "0.667", "6"],
        ["macro", "avg", "0.667", "0.722", "0.656", "6"],
        ["weighted", "avg", "0.750", "0.667", "0.678", "6"],
    ]
    long = Predictions(np.array([0, 1]), np.array([0, 0]), ("a name " * 20, "b"))
    assert max(map(len, classification_table(long))) <= 80


def test_it_is_the_local_arm_of_a_comparison_and_a_part_s_file_gives_the_same(tmp_path, capsys) -> None:
    deal = {"num_partitions": 3, "partitioner": "sizes", "sizes": "3,1,1"}
    flags = ["--num-partitions", "3", "--partitioner", "sizes", "--sizes", "3,1,1"]
    assert main(["digits", "--cid", "0", *flags, *SMALL, "--out", str(tmp_path / "alone")]) == 0
    assert "the part of client 0 of 3" in capsys.readouterr().out
    alone = figures(tmp_path / "alone" / "history.csv")
    assert [row["round"] for row in alone if row["phase"] == "train"] == [1, 2, 3]
    config = Config(num_server_rounds=3, model="logistic_regression", batch_size=64, **deal)
    arm = train_baseline(BaselineJob(tmp_path, config, "0"))
    by_client = {(row["phase"], row["client"]): row for row in alone if row["round"] == 3}
    assert arm.own["0"] == by_client["evaluate", "all"]["accuracy"]
    compared = figures(tmp_path / "0.csv")
    assert [row["loss"] for row in compared if row["client"] == "server"] == [
        row["loss"] for row in alone if row["client"] == "server"
    ]
    assert write_data(["digits", *flags, "--write", str(tmp_path / "parts")]) == 0
    part = str(tmp_path / "parts" / "part-0.npz")
    assert main(["--dataset", part, *SMALL, "--out", str(tmp_path / "part")]) == 0
    rows = figures(tmp_path / "part" / "history.csv")
    assert [row for row in rows if row["phase"] == "train"] == [row for row in alone if row["phase"] == "train"]
    # A part's test set is what the client holds out
    assert [row["loss"] for row in rows if row["client"] == "server"] == [
        row["loss"] for row in alone if (row["phase"], row["client"]) == ("evaluate", "all")
    ]


def test_what_it_leaves_and_prints(tmp_path, capsys) -> None:
    out = tmp_path / "alone"
    assert main(["digits", *SMALL, "--out", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert (
        all(len(line) <= 80 for line in said if str(tmp_path) not in line)
        and said[-1] == f"model: {out / 'model.keras'}"
    )
    assert [line.split()[0] for line in said if line[:9].strip().isdigit() and line.startswith(" ")] == ["1", "2", "3"]
    kept = {path.name for path in out.iterdir()}
    assert kept == {
        "config.json", "history.csv", "curves.png", "curves.svg", "report.html", "model.keras", "predictions.npz",
        "summary.json",
    }  # fmt: skip
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["strategy"], summary["examples"], summary["rounds"], summary["clients"]) == ("local", 1437, 3, 1)
    # The model file alone gives the same figures, scaled as its note says
    note = read_note(out / "model.keras")
    assert note == TrainingNote(1437, "scale", 0.0, 16.0)
    model, test = keras.models.load_model(out / "model.keras"), data.open_source(Config()).test()
    predicted = model.predict(test.x / 16.0, verbose=0).argmax(axis=1)
    assert f"{np.mean(predicted == test.y):.3f}" in next(line for line in said if line.startswith("accuracy"))
    assert f"{summary['accuracy']:.4f}" in (out / "report.html").read_text()
    assert "in training" in (out / "report.html").read_text()
    assert "trained by itself on 1437 examples of digits" in (out / "report.html").read_text()


def test_parts_carry_the_scaling_that_all_of_them_have_together(tmp_path, capsys) -> None:
    """Or z-scores of each part's own rows would give models that no mean makes sense of."""
    flags = ["--num-partitions", "2", "--partitioner", "shards", "--normaliser", "zscore"]
    assert write_data(["digits", *flags, "--write", str(tmp_path)]) == 0
    assert "scaling, stated in each file: zscore, (x - " in capsys.readouterr().out
    pooled = data.pooled_normaliser(Config(num_partitions=2, partitioner="shards", normaliser="zscore"))
    for number in range(2):
        path = tmp_path / f"part-{number}.npz"
        assert main(["--dataset", str(path), *SMALL, "--out", str(tmp_path / f"out-{number}")]) == 0
        assert "(as the file says)" in capsys.readouterr().out
        note = read_note(tmp_path / f"out-{number}" / "model.keras")
        assert (note.normaliser, note.shift, note.spread) == ("zscore", float(pooled.shift), float(pooled.spread))
    with np.load(tmp_path / "part-0.npz") as part:
        np.savez(tmp_path / "bad.npz", **{**part, "spread": np.array(0.0)})
    assert "does not say rightly by what its examples are scaled" in refused(capsys, tmp_path / "bad.npz", *SMALL)


def test_what_is_refused_in_one_line(tmp_path, capsys) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    for args, said in [
        (["digits", "--num-partitions", "3"], "--cid says whose part it is"),
        (["digits", "--partitioner", "shards"], "--cid says whose part it is"),
        (["digits", "--cid", "3", "--num-partitions", "3"], "needs --num-partitions of at least 4"),
        (["digits", "--strategy", "fedprox"], "--strategy is not for train"),
        (["digits", "--num-server-rounds", "3"], "--num-server-rounds is not for train"),
        (["digits", "--out", tmp_path / "full"], "holds files already"),
        (["digits", "--model", "nothing"], "--model is 'nothing'"),
        ([tmp_path / "none.npz"], "none.npz does not exist"),
    ]:
        assert said in refused(capsys, *args)


def test_a_note_is_a_claim(tmp_path) -> None:
    """A file of somebody else's says what it likes."""
    path = tmp_path / "model.keras"
    models.save(keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]), path)
    assert read_note(path) is None
    write_note(path, TrainingNote(5, "none", 0.0, 1.0))
    assert read_note(path).examples == 5
    assert keras.models.load_model(path).count_params() == 4
    for bad in ({"examples": -1}, {"examples": 10**40}, {"examples": True}, {"normaliser": 3}, {}):
        table = {KEY: {"examples": 5, "normaliser": "none", "shift": 0, "spread": 1, **bad} if bad else [1]}
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "bad.keras", "w") as new:
            for name in old.namelist():
                new.writestr(name, json.dumps(table) if name == "metadata.json" else old.read(name))
        with pytest.raises(UserError, match="has a note of its training that cannot be read"):
            read_note(tmp_path / "bad.keras")


def test_amounts_have_losses_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda n: None)
    rows = [f"{i / 40},{(i * 7 % 40) / 40},{2 * i / 40 + 0.5}" for i in range(40)]
    (tmp_path / "house.csv").write_text("\n".join(["a,b,price", *rows]) + "\n")
    args = ["--label-column", "price", "--local-epochs", "1", "--learning-rate", "0.01", "--out", str(tmp_path / "out")]
    assert main([str(tmp_path / "house.csv"), *args]) == 0
    said = capsys.readouterr().out
    assert "    epoch       loss  test loss    seconds\n        1 " in said and "accuracy" not in said
    assert "no classification report: the model learns amounts" in said
