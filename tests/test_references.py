"""The references: what is read off a curve, by hand; every setting is one that can be run; what stopped goes on."""

import json
import shutil

import numpy as np
import pytest

from benchmarks.references import driver, mcmahan, yin
from benchmarks.references.__main__ import NAMES, load, main
from benchmarks.references.experiment import Curve, Setting, in_common
from fedkeras.config import Config
from fedkeras.data import ArraySource, partition
from fedkeras.errors import UserError
from fedkeras.reports import read_rows
from fedkeras.workflows.base import workflow_of
from fedkeras.workflows.flag_checks import check_flags


@pytest.fixture(autouse=True)
def whatever_threads(monkeypatch):
    """Another test may have started TensorFlow in this process."""
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda n: None)


def curve(*accuracies, seed=1):
    points = [{"round": i, "accuracy": value, "train_loss": 1 - value} for i, value in enumerate(accuracies, 1)]
    return Curve(seed, points, 0.0)


@pytest.mark.parametrize(
    ("accuracies", "rounds"),
    [
        ((0.97, 0.98, 0.985, 0.995), 3.5),  # half way from 0.985 to 0.995
        ((0.98, 0.97, 0.995), 2 + 2 / 3),  # the curve stays at 0.98 in round 2, and 0.99 is two thirds of the way up
        ((0.9, 0.99, 0.5), 2),
        ((0.995,), 1),
        ((0.97, 0.98), None),
    ],
)
def test_rounds_to_the_target_are_read_off_the_monotone_curve(accuracies, rounds):
    assert mcmahan.rounds_to(0.99, curve(*accuracies)) == (rounds if rounds is None else pytest.approx(rounds))


def test_curves_are_compared_where_all_have_come():
    alike, rounds = in_common({"a": [curve(0.1, 0.2, 0.3), curve(0.5, seed=2)], "b": [curve(0.4, 0.3)]})
    assert rounds == 2 and [one.seed for one in alike["a"]] == [1]
    assert alike["a"][0].last("accuracy") == 0.2 and alike["b"][0].best("accuracy") == 0.4
    assert in_common({"a": [curve(0.1)], "b": [curve(0.2, seed=2)]})[1] == 0


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_can_be_run_and_has_a_name_of_its_own(name):
    reference = load(name)
    names = [setting.name for setting in reference.settings]
    assert len(set(names)) == len(names) and set(reference.quick_settings) <= set(names)
    for setting in reference.settings:
        config = driver.config_of(setting, 42, setting.rounds, 1)
        check_flags(workflow_of(config), config)
        assert setting.published and setting.rounds > 0


def test_niid_bench_reports_the_published_choice_of_mu():
    reference = load("niid-bench")
    config = {setting.name: setting.config for setting in reference.settings}["labels-fedprox-0.001"]
    assert (config.learning_rate, config.batch_size, config.proximal_mu, config.num_partitions) == (0.01, 64, 0.001, 10)
    curves = {
        "labels-fedprox-0.001": [curve(0.95, 0.97, 0.96), curve(0.95, 0.98, 0.95, seed=2)],
        "labels-fedprox-0.01": [curve(0.94, 0.96, 0.93), curve(0.92, 0.96, 0.95, seed=2)],
    }
    chosen, worth = reference.conclusions(curves)
    assert "the best is 0.001: 97.50 as the best round, 95.50 at the last" in chosen
    assert "choosing mu is worth 1.50 points, choosing the round 2.00" in worth


@pytest.mark.parametrize("seed", [0, 42])
def test_shards_is_the_label_quantity_skew(seed):
    """Client N has label N and one more that is drawn; a label is divided evenly; with ten clients all is held."""
    labels = np.arange(1000) % 10
    source = ArraySource("made up", (np.zeros((1000, 1)), labels), (np.zeros((0, 1)), labels[:0]), list("0123456789"))
    made = partition(source, Config(partitioner="shards", num_partitions=10, labels_per_client=2, seed=seed))
    counts = np.stack([np.bincount(labels[part], minlength=10) for part in made.parts])
    assert made.left_out == 0 and ((counts > 0).sum(axis=1) == 2).all() and (counts.diagonal() > 0).all()
    for column in counts.T:
        held = column[column > 0]
        assert held.max() - held.min() <= 1


def test_liars_labels_are_flipped_and_nothing_else(monkeypatch):
    labels = np.arange(400) % 10
    x = np.arange(400, dtype=np.uint8).repeat(4).reshape(400, 2, 2)
    digits = ArraySource("mnist", (x, labels), (x[:10], labels[:10]), list("0123456789"), input_shape=(2, 2, 1))
    monkeypatch.setattr(yin.data, "open_source", lambda config: digits)
    config = Config(dataset="benchmarks.references.yin:with_liars", num_partitions=40, partitioner="natural")
    honest, lied = yin.honest(config), yin.with_liars(config)
    changed = np.unique(lied.groups[lied.labels != honest.labels])
    np.testing.assert_array_equal(changed, [0, 1])  # 2 of 40 machines, each with ten images
    np.testing.assert_array_equal(lied.labels[lied.groups < 2], 9 - labels[lied.groups < 2])
    np.testing.assert_array_equal(lied.labels[lied.groups >= 2], labels[lied.groups >= 2])
    np.testing.assert_array_equal(lied.test().y, labels[:10])
    made = partition(lied, config)
    assert [len(part) for part in made.parts] == [10] * 40
    assert all(len(set(lied.groups[part])) == 1 for part in made.parts), "a client is a machine"


def test_without_its_data_a_reference_says_so_in_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(mcmahan, "DATA", tmp_path)
    assert main(["mcmahan", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == (
        f"mcmahan is skipped: there is no {tmp_path / 'mnist'}; set FEDKERAS_DATA to the folder above it\n"
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--show"], "there is nothing to show in"),
        (["--settings", "iid-0-fedavg,odd"], "there is no 'odd'; there are iid-0-fedavg, iid-0-fedprox1"),
        (["--seeds", "1,x"], "--seeds is '1,x'; give whole numbers"),
    ],
)
def test_what_cannot_be_done_is_one_line(flags, said, tmp_path, capsys):
    assert main(["fedprox-synthetic", "--out", str(tmp_path), *flags]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


TINY = Setting(
    "tiny",
    Config(
        dataset="synthetic:iid=true,devices=3",
        partitioner="natural",
        num_partitions=3,
        test_fraction=0.0,
        mods="stragglers:share=0.5",
        local_epochs=2,
        rest_after=0,
        mode="benchmarks.references.training_loss:OnTrainingExamples",
    ),
    "nothing",
    4,
)


@pytest.mark.slow
def test_what_stopped_goes_on_to_the_same_figures_and_what_is_done_is_left_alone(tmp_path):
    whole = driver.run(TINY, 1, 4, tmp_path / "whole")
    assert [point["round"] for point in whole.points] == [1, 2, 3, 4]
    assert all({"accuracy", "loss", "train_loss"} <= point.keys() for point in whole.points)

    assert driver.run(TINY, 1, 2, tmp_path / "parts").points == whole.points[:2]
    assert driver.run(TINY, 1, 4, tmp_path / "parts").points == whole.points, "more rounds go on"

    (folder,) = (tmp_path / "whole" / "tiny" / "seed-1").iterdir()
    killed = tmp_path / "killed" / "tiny" / "seed-1" / folder.name
    shutil.copytree(folder, killed)
    for name in ("summary.json", "model.keras", "report.html"):
        (killed / name).unlink()
    (killed / "checkpoints" / "round-00004.ckpt").unlink()
    lines = (killed / "history.csv").read_text().splitlines(keepends=True)
    (killed / "history.csv").write_text("".join(lines[:-2]) + "4,eval")
    assert driver.run(TINY, 1, 4, tmp_path / "killed").points == whole.points, "as after kill -9"

    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert driver.run(TINY, 1, 3, tmp_path / "whole").points == whole.points[:3]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before

    other = Setting("tiny", Config(dataset="synthetic:iid=true"), "nothing", 4)
    with pytest.raises(UserError, match="was run with dataset synthetic:iid=true,devices=3"):
        driver.run(other, 1, 4, tmp_path / "whole")


@pytest.mark.slow
def test_the_training_loss_is_the_mean_over_all_training_examples(tmp_path):
    """The clients' mean, each by its number of examples, and the model's own loss over all of them at once."""
    import keras

    from fedkeras.data import open_source

    setting = Setting("tiny", TINY.config, "nothing", 1)
    train_loss = driver.run(setting, 1, 1, tmp_path).points[-1]["train_loss"]
    (folder,) = (tmp_path / "tiny" / "seed-1").iterdir()
    source = open_source(setting.config)
    everything = source.examples(np.arange(len(source.labels)))
    model = keras.models.load_model(folder / "model.keras", compile=False)
    model.compile(loss="sparse_categorical_crossentropy")
    assert train_loss == pytest.approx(model.evaluate(everything.x, everything.y, verbose=0), rel=1e-5)


@pytest.mark.slow
def test_the_cnns_machines_take_one_step_over_a_tenth_of_their_images(tmp_path):
    config = Config(
        num_partitions=2,
        test_fraction=0.0,
        batch_size=60_000,
        mode="benchmarks.references.yin:OneStep",
        partitioner="iid",
    )
    driver.run(Setting("step", config, "nothing", 2), 1, 2, tmp_path)
    (folder,) = (tmp_path / "step" / "seed-1").iterdir()
    rows = [row for row in read_rows(folder / "history.csv") if row["phase"] == "train" and row["client"] != "all"]
    # 1,437 images of digits are dealt as 719 and 718
    assert [(row["round"], row["client"], row["num_examples"]) for row in rows] == [
        (1, "0", 71), (1, "1", 71), (2, "0", 71), (2, "1", 71),
    ]  # fmt: skip
    assert rows[0]["loss"] != rows[2]["loss"], "another tenth from other weights"


@pytest.mark.slow
def test_the_command_prints_a_table_and_ends_with_the_same_as_json(tmp_path, capsys):
    flags = ["fedprox-synthetic", "--rounds", "2", "--seeds", "1", "--settings", "iid-0-fedavg", "--out", str(tmp_path)]
    assert main(flags) == 0
    printed = capsys.readouterr().out.splitlines()
    assert any(line.split()[:4] == ["iid-0-fedavg", "a", "curve", "loss"] for line in printed)
    table = json.loads(printed[-1])
    assert table == json.loads((tmp_path / "table.json").read_text())
    assert table["rows"][0]["seeds"] == [1] and table["rows"][0]["rounds"] == "2"
    assert len((tmp_path / "rounds.csv").read_text().splitlines()) == 3
