"""`server.in_process`: a whole run in this process, as a notebook starts it."""

import math
import multiprocessing
import threading
from dataclasses import replace
from typing import ClassVar

import pytest

from fedkeras import client, server
from fedkeras.callbacks import Callback
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.records import views
from fedkeras.mods.base import Mod
from fedkeras.reports import read_history, read_rows
from fedkeras.reports.checkpoints import newest_checkpoint

CONFIG = Config(num_server_rounds=2, checkpoint_every=0, batch_size=100, rest_after=0)


@pytest.fixture(scope="module", autouse=True)
def whatever_threads():
    """Another test may have started TensorFlow in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedkeras.learning.limit_threads", lambda n: None)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What a run of two rounds left."""
    return server.in_process(CONFIG, client.app, tmp_path_factory.mktemp("runs"))


def test_it_leaves_the_folder_of_a_finished_run(folder):
    for path in (folder.model_path, folder.summary_path, folder.report_path, folder.predictions_path):
        assert path.is_file()
    history = read_history(folder.history_path)
    trained = history[(history.phase == "train") & (history["round"] == 2)]
    assert trained.client.tolist() == ["0", "1", "2", "all"]
    assert trained.num_examples.tolist()[:3] == [431, 431, 431]  # 1,437 / 3, less a tenth that is held out


def test_an_app_around_the_clients_is_asked_instead_and_nothing_is_printed_or_left_running(tmp_path, capfd):
    seen, before = set(), threading.active_count()

    def absent(message, context):
        seen.add(context.node_config.get("data-dir"))
        if context.node_config["partition-id"] == 1 and message.metadata.message_type == "train":
            raise TimeoutError("asleep")
        return client.app(message, context)

    folder = server.in_process(replace(CONFIG, data_dir="here"), absent, tmp_path)
    failures = folder.failures_path.read_text().splitlines()[1:]
    assert [line.split(",")[:2] for line in failures] == [["1", "1"], ["2", "1"]]
    assert "asleep" in failures[0]
    trained = [row["client"] for row in read_rows(folder.history_path) if row["phase"] == "train"]
    assert trained == ["0", "2", "all"] * 2
    assert seen == {"here"}  # the clients are on this machine: its data are theirs
    assert capfd.readouterr() == ("", "")
    assert threading.active_count() == before
    assert multiprocessing.active_children() == []


def two_outputs(input_shape, num_classes):
    """A model function whose model cannot be trained here."""
    import keras

    inputs = keras.Input(input_shape)
    flat = keras.layers.Flatten()(inputs)
    return keras.Model(inputs, [keras.layers.Dense(size, name=f"of{size}")(flat) for size in (num_classes, 1)])


def test_a_model_that_cannot_be_trained_leaves_no_folder_and_asks_no_client(tmp_path):
    def never(message, context):
        raise AssertionError("a client was asked")

    config = replace(CONFIG, model=f"{__name__}:two_outputs")
    with pytest.raises(UserError, match=r"^--model .*: the model has 2 outputs \(of10, of1\)") as refused:
        server.in_process(config, never, tmp_path / "runs")
    assert refused.value.status == 2 and not (tmp_path / "runs").exists()


def test_it_prints_the_rounds_if_asked(tmp_path, capsys):
    folder = server.in_process(replace(CONFIG, num_server_rounds=1), client.app, tmp_path, quiet=False)
    out = capsys.readouterr().out
    assert "accuracy (central)" in out
    assert str(folder.path) in out


class Watched(Callback):
    """Keeps the lowest moving variance and the central loss of each round."""

    seen: ClassVar[list] = []

    def on_round_end(self, result):
        arrays = views(result.arrays)
        lowest = min(float(array.min()) for name, array in arrays.items() if name.endswith("moving_variance"))
        [tested] = [row for row in result.rows if row["client"] == "server"]
        self.seen.append((lowest, tested["loss"]))
        return False


class Watching(Mod):
    """`--mods test_in_process:Watching`: the callback, hung on a run."""

    def callbacks(self):
        return [Watched()]


def small_net(input_shape, num_classes):
    """A network with BatchNormalization, whose statistics are weights that no optimizer trains."""
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Flatten(),
            layers.Dense(24),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dense(num_classes, activation="softmax"),
        ]
    )


def test_a_server_optimizer_leaves_batch_normalisation_alone(tmp_path):
    """With eta 0.3, a variance that is stepped is below zero in round 5, and the loss NaN."""
    config = replace(
        CONFIG, num_server_rounds=6, model=f"{__name__}:small_net", mods=f"{__name__}:Watching", strategy="fedadam",
        strategy_args="eta=0.3", fraction_evaluate=0.0, checkpoint_every=1, keep_checkpoints=1,
    )  # fmt: skip
    Watched.seen.clear()
    folder = server.in_process(config, client.app, tmp_path)
    assert len(Watched.seen) == 6
    assert min(lowest for lowest, _ in Watched.seen) > 0
    assert all(math.isfinite(loss) for _, loss in Watched.seen)
    assert not folder.warnings_path.exists()
    kept = newest_checkpoint(folder)
    assert kept.trainable == ("000.kernel", "001.bias", "002.gamma", "003.beta", "006.kernel", "007.bias")
    assert {name for name in kept.strategy_arrays if "moving" in name} == set()
