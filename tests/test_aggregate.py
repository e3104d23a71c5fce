"""`python -m fedkeras aggregate`: models trained apart become one, by hand on small ones and on real digits."""

import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from fedkeras import data, models
from fedkeras.commands.aggregate import main
from fedkeras.config import Config
from fedkeras.learning import Learner
from fedkeras.models.architecture import difference
from fedkeras.models.compile_config import make_loss, training_config
from fedkeras.models.file_child import faults_of


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process in which a command opens its files first takes half a second: one test has it."""
    monkeypatch.setattr("fedkeras.commands.aggregate.faults_of", lambda paths: {})


def small(value, units=2, activation="relu", **options):
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(units, activation=activation), layers.Dense(1, **options)]
    )
    for weight in model.weights:
        weight.assign(np.full(weight.shape, value, "float32"))
    return model


def parts(folder, *values, suffixes=(".keras",)):
    paths = []
    for number, value in enumerate(values):
        paths.append(folder / f"part_{number}{suffixes[number % len(suffixes)]}")
        models.save(small(value), paths[-1])
    return [str(path) for path in paths]


def result(path):
    (value,) = {float(number) for array in models.get_weights(models.load(path)).values() for number in array.ravel()}
    return value


def refused(capsys, *args):
    """What the command says when it refuses, which is one line."""
    assert main([str(arg) for arg in args]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and not said.out
    return said.err


def test_an_aggregate_is_held_near_the_model_from_which_the_parts_started(tmp_path, capsys):
    """By hand: parts of 1 and 4 with 1 and 3 examples have the mean 3.25; base 1 and mu 0.5 give (3.25 + 0.5) / 1.5."""
    one, four = parts(tmp_path, 1.0, 4.0)
    base, out = tmp_path / "global.keras", tmp_path / "out.keras"
    models.save(small(1.0), base)
    near = ["--base", str(base), "--proximal-mu", "0.5", "--weights", "1,3"]
    assert main([one, four, "--out", str(out), *near]) == 0
    assert result(out) == 2.5 and "which is not FedProx' term" in capsys.readouterr().out
    other = tmp_path / "other.keras"
    models.save(small(1.0, units=3), other)
    force = ("--out", out, "--force")
    assert "not of the parts' architecture" in refused(capsys, one, four, *force, "--base", other)
    assert "take --strategy fedavg or fedprox" in refused(capsys, one, four, *force, *near, "--strategy", "krum")
    assert "name the global model" in refused(capsys, one, four, *force, "--proximal-mu", "0.5")
    assert "at least 0" in refused(capsys, one, four, *force, "--base", base, "--proximal-mu=-1")
    assert "there is no model file" in refused(capsys, one, four, *force, "--base", tmp_path / "nothing.keras")


@pytest.mark.parametrize(
    ("strategy", "weights", "expected"),
    [
        ("fedavg", "", 5.0),
        ("fedavg", "1,1,6", 9.375),
        ("fedprox", "1,1,6", 9.375),
        ("fedmedian", "", 2.0),  # whatever the poisoned part says
        ("fedmedian", "1,1,6", 2.0),
        ("trimmed_mean", "", 2.0),
        ("krum", "", 1.0),
    ],
)
def test_by_hand(tmp_path, capsys, strategy, weights, expected):
    values = (1, 2, 12) if strategy != "krum" else (1, 1, 2, 50)
    args = ["--strategy-args", "beta=0.34"] if strategy == "trimmed_mean" else []
    args += ["--weights", weights] if weights else []
    files = parts(tmp_path, *values, suffixes=(".keras", ".h5"))
    out = tmp_path / "global.keras"
    assert main([*files, "--strategy", strategy, "--out", str(out), *args]) == 0
    assert result(out) == expected
    said = capsys.readouterr().out
    assert ("belongs to the training of each part" in said) == (strategy == "fedprox")
    assert ("--weights play no part" in said) == (strategy in ("fedmedian", "trimmed_mean", "krum"))
    assert [line.split()[0] for line in said.splitlines()[-len(files) - 1 :]] == [*files, str(out)]


def test_the_result_is_compiled_as_the_first_part(tmp_path, capsys):
    first, second = small(0), small(2)
    first.compile(keras.optimizers.Adam(0.25), "mae", metrics=["mse"])
    models.save(first, tmp_path / "a.h5")
    models.save(second, tmp_path / "b.keras")
    assert main([str(tmp_path / "a.h5"), str(tmp_path / "b.keras"), "--out", str(tmp_path / "out.keras")]) == 0
    assert result(tmp_path / "out.keras") == 1.0
    config = training_config(tmp_path / "out.keras")
    assert (make_loss(config.loss), config.metrics) == ("mean_absolute_error", ("mse",))
    assert config.optimizer["config"]["learning_rate"] == 0.25


def test_architectures_that_differ_are_told_apart(tmp_path, capsys):
    files, out = parts(tmp_path, 1), tmp_path / "out.keras"
    branched = keras.Input((3,))
    hidden = layers.Dense(2, activation="relu")(branched)
    for other, said in [
        (small(1, units=4), "layer 1 ('dense"),
        (small(1, activation="tanh"), "activation is tanh, not relu"),
        (small(1, use_bias=False), "use_bias is False, not True"),
        (keras.Sequential([*small(1).layers, layers.Dense(1)]), "it has 3 layers, not 2"),
        (keras.Sequential([keras.Input((3,)), layers.Flatten(), layers.Dense(1)]), "is a Flatten, not a Dense"),
        (keras.Sequential([keras.Input((4,)), layers.Dense(2, activation="relu"), layers.Dense(1)]),
         "it takes [[4]], not [[3]]"),
        (keras.Model(branched, layers.Dense(1)(hidden)), "is a InputLayer, not a Dense"),
    ]:  # fmt: skip
        models.save(other, tmp_path / "other.keras")
        line = refused(capsys, *files, tmp_path / "other.keras", "--out", out)
        assert "other.keras is not of the same architecture as" in line and said in line
    assert not out.exists()


def test_connections_count_and_names_initialisers_and_dropout_do_not():
    def branches(crossed):
        inputs = keras.Input((2,))
        left, right = layers.Dense(2)(inputs), layers.Dense(2)(inputs)
        more = layers.Dense(2)(left if crossed else right)
        return keras.Model(inputs, layers.Concatenate()([left, right, more]))

    assert difference(branches(True), branches(True)) is None
    assert difference(branches(True), branches(False)) == "its layers are connected in another way"
    same = [
        keras.Sequential([keras.Input((3,)), layers.Dropout(rate), layers.Dense(2, kernel_initializer=start)])
        for rate, start in ((0.1, "zeros"), (0.5, "ones"))
    ]
    assert difference(*same) is None


def test_what_is_refused_in_one_line(tmp_path, capsys):
    files, out = parts(tmp_path, 1, 2), tmp_path / "out.keras"
    for args, said in [
        ([*files, "--out", out, "--weights", "1"], "--weights gives 1 numbers, and there are 2 files"),
        ([*files, "--out", out, "--weights", "1,0"], "every number of examples must be above 0"),
        ([*files, "--out", out, "--weights", "1,b"], "give whole numbers of examples"),
        ([*files, "--out", files[0]], "is one of the parts"),
        ([*files, "--out", tmp_path / "out.pt"], "must end in .keras or .h5"),
        ([*files, "--out", tmp_path / "no" / "out.keras"], "there is no folder"),
        ([*files, files[0], "--out", out], "is named twice"),
        ([*files, tmp_path / "none.keras", "--out", out], "there is no model file"),
        ([*files, "--out", out, "--strategy", "fedadam"], "moves the current global model"),
        ([*files, "--out", out, "--strategy", "fedavgm"], "moves the current global model"),
        ([*files, "--out", out, "--strategy", "nonsense"], "known are fedavg"),
        ([*files, "--out", out, "--strategy", "krum"], "needs at least 4 answers"),
        ([*files, "--out", out, "--evaluate", "nothing"], "--dataset is 'nothing'"),
        (files, "--out"),
    ]:
        assert said in refused(capsys, *args)
    models.save(small(np.nan), files[1])
    assert "part_1.keras: '000.kernel' has numbers that are not finite" in refused(capsys, *files, "--out", out)
    assert not out.exists()


def test_where_the_result_cannot_go_is_said_before_any_file_is_loaded(tmp_path, capsys):
    (tmp_path / "part.keras").write_text("no model")
    (tmp_path / "folder.keras").mkdir()
    unwritable = [Path("/proc/global.keras")] if Path("/proc").is_dir() else []  # for root as well
    for out in [*unwritable, tmp_path / "folder.keras"]:
        assert f"cannot write {out}: " in refused(capsys, tmp_path / "part.keras", "--out", out, "--force")


def test_models_of_two_outputs_are_combined_and_not_tested(tmp_path, capsys):
    inputs, out = keras.Input((8, 8, 1)), tmp_path / "out.keras"
    flat = layers.Flatten()(inputs)
    for name in ("a", "b"):
        model = keras.Model(inputs, [layers.Dense(10, "softmax")(flat), layers.Dense(1)(flat)])
        models.save(model, tmp_path / f"{name}.keras")
    files = [tmp_path / "a.keras", tmp_path / "b.keras", "--out", out]
    assert "a.keras has 2 outputs: --evaluate and --test test models of one" in refused(
        capsys, *files, "--evaluate", "digits"
    )
    assert not out.exists()
    assert main([str(file) for file in files]) == 0 and out.exists()


def test_a_result_that_is_there_is_kept_unless_forced(tmp_path, capsys):
    files, out = parts(tmp_path, 1, 2), tmp_path / "out.keras"
    out.write_text("mine")
    assert "--force replaces it" in refused(capsys, *files, "--out", out)
    assert out.read_text() == "mine"
    assert main([*files, "--out", str(out), "--force"]) == 0 and result(out) == 1.5


def test_students_with_a_third_of_the_digits_each(tmp_path, capsys):
    config = Config(test_fraction=0.0)
    paths, accuracies = [], []
    test = data.load_test(config)
    for cid in range(3):
        model = models.build("digits_cnn", input_shape=(8, 8, 1), num_classes=10, seed=1)
        learner = Learner(model, learning_rate=0.1)
        own = data.load_client(config, cid).train
        learner.train(own.x, own.y, epochs=2, batch_size=16, rng=np.random.default_rng(cid))
        paths.append(str(tmp_path / f"part_{cid}.keras"))
        models.save(model, paths[-1])
        accuracies.append(learner.evaluate(test.x, test.y).accuracy)
    assert main([*paths, "--weights", "479,479,479", "--out", str(tmp_path / "all.keras"), "--evaluate", "digits"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["tested on the test set of digits, 360 examples", "scaling: scale, x / 16"]
    lines = lines[2:]
    assert lines[0].split() == ["file", "examples", "loss", "accuracy"]
    for line, path, accuracy in zip(lines[1:4], paths, accuracies, strict=True):
        assert line.split()[:2] == [path, "479"] and line.split()[3] == f"{accuracy:.4f}"
    name, count, _, accuracy = lines[4].split()
    assert (name, count) == (str(tmp_path / "all.keras"), "1437")
    assert float(accuracy) > 0.6
    flat = keras.Sequential([keras.Input((64,)), layers.Dense(10)])  # 8 x 8 x 1 is 64 too; no loss: logits' own
    flat.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    models.save(flat, tmp_path / "flat.h5")
    assert main([str(tmp_path / "flat.h5"), "--out", str(tmp_path / "flat.keras"), "--evaluate", "digits"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5


@pytest.mark.slow
def test_as_a_command(tmp_path):
    files = parts(tmp_path, 1, 3)
    command = [sys.executable, "-m", "fedkeras", "aggregate", *files, "--out", str(tmp_path / "out.keras")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == "" and result(tmp_path / "out.keras") == 2.0


def test_files_are_opened_in_another_process_first(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("fedkeras.commands.aggregate.faults_of", faults_of)
    monkeypatch.setattr(models, "load", None, raising=False)  # it does not come to it
    (good,) = parts(tmp_path, 1)
    with zipfile.ZipFile(good, "a") as archive:
        archive.writestr("model.pkl", b"")
    assert main([str(good), "--out", str(tmp_path / "out.keras")]) == 2
    assert "part_0.keras: it holds 'model.pkl', which is no part of a model" in capsys.readouterr().err
