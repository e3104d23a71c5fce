"""`fedkeras aggregate --compare`: strategies side by side on models whose figures are computed by hand."""

import json
import math
import re

import keras
import numpy as np
import pytest

from fedkeras import models
from fedkeras.commands.aggregate import main
from fedkeras.commands.strategy_comparison import short_names
from fedkeras.models.training_note import TrainingNote, read_note, write_note

ARGS = ["--compare", "fedavg,fedmedian,trimmed_mean"]
GOOD = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-4))) / 2
"""The loss of the identity on the test set below: it is sure of the right class by 2, and by 4."""
BAD = (math.log1p(math.exp(2)) + math.log1p(math.exp(4))) / 2
"""That of its opposite."""


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process in which a command opens its files first takes half a second, and a test of aggregate's has it."""
    monkeypatch.setattr("fedkeras.commands.aggregate.faults_of", lambda paths: {})


def save(path, value, note=None, outputs=2):
    """A model that gives `value` times what it takes: of 1 the larger number is the class, of -1 the smaller."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(outputs, use_bias=False, activation="softmax")])
    model.set_weights([value * np.eye(2, outputs, dtype=np.float32)])
    models.save(model, path)
    if note:
        write_note(path, note)
    return str(path)


def parts(folder, *values, notes=None):
    return [save(folder / f"p{i}.keras", value, notes and notes[i]) for i, value in enumerate(values)]


def made_test(path, **more):
    """Half of each class; `more` arrays stand in the file besides."""
    x = np.array([[2, 0], [0, 2], [4, 0], [0, 4]], np.float32)
    np.savez(path, x_test=x, y_test=np.array([0, 1, 0, 1]), classes=["left", "right"], **more)
    return str(path)


def refused(capsys, *args):
    assert main([str(arg) for arg in args]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    return said.err


def rows(said):
    """{model: (examples, loss, accuracy, macro F1, best)} of the table."""
    found = {}
    for line in said.splitlines():
        if match := re.fullmatch(r"(?:base )?(\S+) +(\d+|-) +([\d.]+) +([\d.]+) +\S+ +\S+ +(\S+)( +best)?", line):
            found[match[1]] = (match[2], *map(float, match.group(3, 4, 5)), bool(match[6]))
    return found


def test_one_poisoned_part_by_hand(tmp_path, capsys):
    """Of 1, 1, 1, 1 and -9 the mean is -1, which tells all wrong; the median and the mean of the middle three are 1."""
    files = parts(tmp_path, 1, 1, 1, 1, -9)
    out = tmp_path / "out"
    test = made_test(tmp_path / "test.npz")
    assert main([*files, *ARGS, "--test", test, "--normaliser", "none", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    found = rows(said)
    good, bad = round(GOOD, 4), round(BAD, 4)
    assert found == {
        "p0.keras": ("-", good, 1.0, 1.0, True),
        **{f"p{i}.keras": ("-", good, 1.0, 1.0, False) for i in (1, 2, 3)},
        "p4.keras": ("-", found["p4.keras"][1], 0.0, 0.0, False),
        "fedavg": ("-", bad, 0.0, 0.0, False),
        "fedmedian": ("-", good, 1.0, 1.0, False),
        "trimmed_mean": ("-", good, 1.0, 1.0, False),
    }
    assert "classification report of p0.keras" in said and "scaling: none (--normaliser)" in said
    assert all(len(line) <= 80 for line in said.splitlines() if str(tmp_path) not in line)
    for name, value in {"fedavg": -1.0, "fedmedian": 1.0, "trimmed_mean": 1.0}.items():
        (kernel,) = keras.models.load_model(out / f"{name}.keras").get_weights()
        np.testing.assert_allclose(kernel, value * np.eye(2), rtol=1e-6)
    table = {each["model"]: each for each in json.loads((out / "comparison.json").read_text())["models"]}
    assert table["fedavg"]["by_class"]["1"]["recall"] == 0.0 and table["fedmedian"]["by_class"]["0"]["support"] == 2
    html = (out / "comparison.html").read_text()
    assert html.count("scikit-learn's classification_report on 4 examples") == 8 and "left" in html


def test_examples_and_scaling_are_as_the_files_say(tmp_path, capsys):
    """(3 * 1 + 1 * -1) / 4 is 1/2, which is sure by 1/2 and 1 where examples are halved."""
    notes = [TrainingNote(3, "scale", 0.0, 2.0), TrainingNote(1, "scale", 0.0, 2.0)]
    files, out = parts(tmp_path, 1, -1, notes=notes), tmp_path / "out"
    test = made_test(tmp_path / "test.npz", normaliser="scale", shift=0.0, spread=7.0)  # the models' own counts
    assert main([*files, "--compare", "fedavg", "--test", test, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "scaling: scale, x / 2 (as the models' files say)" in said and "examples are as the files say" in said
    loss = (math.log1p(math.exp(-0.5)) + math.log1p(math.exp(-1))) / 2
    assert rows(said)["fedavg"] == ("4", round(loss, 4), 1.0, 1.0, False)
    assert read_note(out / "fedavg.keras") == TrainingNote(4, "scale", 0.0, 2.0)
    assert main([*files, "--weights", "1,1", "--compare", "fedavg", "--test", test]) == 0
    assert rows(capsys.readouterr().out)["fedavg"][1] == round(math.log(2), 4)  # the mean of 1 and -1 knows nothing
    # Without --compare the same, into one file
    assert main([*files, "--test", test, "--out", str(tmp_path / "one.keras")]) == 0
    (kernel,) = keras.models.load_model(tmp_path / "one.keras").get_weights()
    np.testing.assert_array_equal(kernel, 0.5 * np.eye(2))
    other = save(tmp_path / "other.keras", 1, TrainingNote(3, "zscore", 0.5, 2.0))
    line = refused(capsys, files[0], other, "--out", tmp_path / "none.keras")
    assert "scaled by scale, x / 2, and " in line and "by zscore, (x - 0.5) / 2: no test set fits both" in line


def test_bytes_and_what_the_test_file_says(tmp_path, capsys):
    """Where no model says how its examples were scaled, the test file does; bytes are a 255th."""
    files = parts(tmp_path, 1, 1)
    test = made_test(tmp_path / "test.npz", normaliser="minmax", shift=-1.0, spread=0.5)
    assert main([*files, "--compare", "fedavg", "--test", test]) == 0
    loss = (math.log1p(math.exp(-4)) + math.log1p(math.exp(-8))) / 2
    assert rows(capsys.readouterr().out)["fedavg"][1] == round(loss, 4)
    with np.load(test) as file:
        x = file["x_test"].astype(np.uint8)
    np.savez(tmp_path / "bytes.npz", x_test=x, y_test=[0, 1, 0, 1])
    assert main([*files, "--compare", "fedavg", "--test", str(tmp_path / "bytes.npz")]) == 0
    assert "scaling: scale, x / 255" in capsys.readouterr().out
    plain = made_test(tmp_path / "plain.npz")
    assert "--normaliser none takes them as they are" in refused(capsys, *files, *ARGS, "--test", plain)


def test_a_base_is_for_the_proximal_aggregate(tmp_path, capsys):
    """(2 + 1 * 0) / (1 + 1) is 1: the proximal aggregate is the identity, and the plain mean twice that."""
    files, base = parts(tmp_path, 2, 2), save(tmp_path / "base.keras", 0)
    own = ["--test", made_test(tmp_path / "test.npz"), "--normaliser", "none"]
    near = ["--base", base, "--proximal-mu", "1"]
    assert main([*files, "--compare", "fedavg,fedprox", *own, *near]) == 0
    found = rows(capsys.readouterr().out)
    assert found["fedprox"][1] == round(GOOD, 4) and found["fedavg"][1] < found["fedprox"][1]
    assert found["base.keras"][1] == round(math.log(2), 4)
    assert "--compare fedprox needs --base" in refused(capsys, *files, "--compare", "fedprox", *own)
    assert "name fedprox in --compare" in refused(capsys, *files, *ARGS, *own, *near)


def test_what_is_refused_in_one_line(tmp_path, capsys):
    files, test = parts(tmp_path, 1, 2), made_test(tmp_path / "test.npz")
    other = save(tmp_path / "three.keras", 1, outputs=3)
    np.savez(tmp_path / "wide.npz", x_test=np.zeros((2, 5), np.float32), y_test=[0, 1])
    np.savez(tmp_path / "many.npz", x_test=np.zeros((2, 2), np.float32), y_test=[0, 5])
    np.savez(tmp_path / "names.npz", x_test=np.zeros((2, 2), np.float32), y_test=[0, 1], classes=["a", "b", "c"])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    own = ["--normaliser", "none"]
    for args, said in [
        ([*files, *ARGS], "name a test set by --test FILE.npz"),
        ([*files, "--compare", "fedavg,fedadam", "--test", test], "moves the current global model"),
        ([*files, "--compare", "fedavg,nonsense", "--test", test], "known are fedavg"),
        ([*files, "--compare", "fedavg,fedavg", "--test", test], "--compare names fedavg twice"),
        ([*files, "--compare", "fedavg,krum", "--test", test, *own], "--compare krum: "),
        ([*files, *ARGS, "--test", test, "--strategy", "krum"], "leave out --strategy"),
        ([*files, *ARGS, "--test", test, "--strategy-args", "beta=0.2"], "needs exactly one strategy"),
        ([*files, *ARGS, "--test", test, "--evaluate", "digits"], "leave one of them out"),
        ([*files, *ARGS, "--test", tmp_path / "none.npz"], "does not exist"),
        ([*files, *ARGS, "--test", test, "--normaliser", "zscore"], "is learned from training rows"),
        ([*files, *ARGS, "--test", tmp_path / "wide.npz", *own], "do not fit the model"),
        ([*files, *ARGS, "--test", tmp_path / "many.npz", *own], "labels must lie in 0 to 1"),
        ([*files, *ARGS, "--test", tmp_path / "names.npz", *own], "has 3 classes, and the models tell 2 apart"),
        ([*files, other, *ARGS, "--test", test, *own], "not of the same architecture"),
        ([*files, *ARGS, "--test", test, "--out", tmp_path / "full", *own], "holds files already"),
        ([*files, *ARGS, "--test", test, "--out", tmp_path / "x.keras", *own], "with --compare it is a folder"),
    ]:
        assert said in refused(capsys, *args)


def test_names_that_tell_files_apart():
    assert short_names(["runs/a/model.keras", "runs/b/model.keras"]) == ["a", "b"]
    assert short_names(["runs/a/x.keras", "runs/b/y.keras"]) == ["a/x.keras", "b/y.keras"]
    assert short_names(["x.keras", "y/x.keras"]) == ["x.keras", "y/x.keras"]
    assert short_names(["runs/a/model.keras"]) == ["model.keras"]
