"""A model that looks numbers up, or scales by itself, is given raw examples: against `fit` on the raw ones."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from keras import layers

from fedkeras import client, data, scaling, server
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.learning import Learner
from fedkeras.reports import read_history


@pytest.fixture(autouse=True)
def whatever_threads(monkeypatch):
    """Another test may have started TensorFlow in this process."""
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda n: None)


@pytest.fixture
def saved(tmp_path):
    """Writes a model and a data set; returns the configuration of a run of both, one batch a round."""

    def write(model: keras.Model, x: np.ndarray, y: np.ndarray, tested: int, **own: object) -> Config:
        model.save(tmp_path / "model.keras")
        train, test = {"x_train": x[tested:], "y_train": y[tested:]}, {"x_test": x[:tested], "y_test": y[:tested]}
        np.savez(tmp_path / "my.npz", **train, **test)
        fixed = {"test_fraction": 0.0, "fraction_evaluate": 0.0, "checkpoint_every": 0, "batch_size": len(x)}
        return Config(dataset=str(tmp_path / "my.npz"), model=str(tmp_path / "model.keras"), **(fixed | own))

    return write


def chosen(folder) -> str:
    return json.loads(folder.config_path.read_text())["chosen"]["normaliser"]


def look_up(words: int) -> keras.Model:
    keras.utils.set_random_seed(1)
    stack = [keras.Input((6,)), layers.Embedding(words, 8, name="words"), layers.Flatten()]
    return keras.Sequential([*stack, layers.Dense(3, activation="softmax")])


def test_tokens_are_looked_up_as_they_are(saved, tmp_path):
    """The label is the first token's rest by 3, which nobody finds in tokens that were scaled."""
    x = np.random.default_rng(0).integers(0, 50, (600, 6))
    own = {"num_partitions": 2, "num_server_rounds": 4, "local_epochs": 3, "batch_size": 16}
    config = saved(look_up(50), x, x[:, 0] % 3, 100, optimizer="adam", learning_rate=0.02, **own)
    folder = server.in_process(config, client.app, tmp_path)
    history = read_history(folder.history_path)
    assert history[history.client == "server"].accuracy.iloc[-1] > 0.99
    assert chosen(folder) == "none, since the model takes whole numbers (Embedding 'words')"
    with pytest.raises(UserError, match=r"--normaliser zscore makes fractions .* takes whole numbers .*'words'"):
        server.in_process(dataclasses.replace(config, normaliser="zscore"), client.app, tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_a_model_that_rescales_learns_what_fit_learns_on_raw_images(saved, tmp_path):
    keras.utils.set_random_seed(1)
    stack = [keras.Input((8, 8, 1)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(2, activation="softmax")]
    model, rng = keras.Sequential(stack), np.random.default_rng(0)
    x = rng.integers(0, 256, (60, 8, 8), dtype=np.uint8)
    y = (x.mean(axis=(1, 2)) > 127).astype(int)
    config = saved(model, x, y, 20, num_partitions=1, num_server_rounds=3, learning_rate=0.5)
    folder = server.in_process(config, client.app, tmp_path)
    learned = keras.models.load_model(folder.model_path, compile=False).get_weights()
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    model.fit(x[20:, ..., None], y[20:], batch_size=40, epochs=3, verbose=0)
    for ours, theirs in zip(learned, model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert chosen(folder).startswith("none, since the model scales its examples by itself (Rescaling 'rescaling")
    asked = scaling.scaling_of(dataclasses.replace(config, normaliser="scale"))
    assert asked.normaliser == "scale" and asked.reason.startswith("scale, as --normaliser says, although the model")


def own_model(input_shape, num_classes):
    """A function's model is looked at too."""
    del num_classes
    return keras.Sequential([keras.Input(input_shape), layers.Rescaling(1 / 16), layers.Flatten(), layers.Dense(10)])


def broken_model(input_shape, num_classes):
    """Whoever needs the model says so, and not who only looks at it."""
    raise KeyError(input_shape)


def unnamed_model(input_shape, num_classes):
    return keras.Sequential([keras.Input(input_shape), layers.Rescaling(0.1), layers.Flatten(), layers.Dense(10)])


def test_a_function_is_called_and_what_cannot_be_looked_at_is_as_the_flag_says():
    here = Config(model=f"{__name__}:own_model")
    assert scaling.resolved(here).normaliser == "none" and scaling.resolved(here, build=False).normaliser == "default"
    for model in ("", "digits_cnn", "nowhere.keras", "nowhere:model", f"{__name__}:broken_model"):
        assert scaling.scaling_of(Config(model=model)) == scaling.Scaling("default")


def test_looking_at_a_functions_model_leaves_the_names_of_layers_to_the_one_that_is_trained():
    layers.Dense(1)
    before = layers.Dense(1).name
    assert "Rescaling" in scaling.scaling_of(Config(model=f"{__name__}:unnamed_model")).reason
    assert layers.Dense(1).name == f"dense_{int(before.removeprefix('dense_')) + 1}"


def test_the_threads_are_set_before_a_functions_model_is_built(monkeypatch):
    """It is TensorFlow's first operation in the process, after which they cannot be changed any more."""
    done = []
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda n: done.append(n))
    monkeypatch.setattr("fedkeras.models.build", lambda *_, **__: done.append("built") or look_up(9))
    own = Config(model="somewhere:model", threads_per_client=3, seed=977)
    assert scaling.resolved_by_client(own).normaliser == "none"
    assert done == [3, "built"]


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.25, "example 3 has 0.25 in column 2"), (2.0**31, "example 3 has 2147483648 in"), (np.nan, "example 3 has nan")],
)
def test_a_fraction_is_never_cut_off(value, said):
    x = np.ones((4, 6))
    x[2, 1] = value
    typed = keras.Sequential([keras.Input((6,), dtype="int32"), *look_up(9).layers])
    for model in (typed, look_up(9)) if value != 2.0**31 else (typed,):
        with pytest.raises(UserError, match=said):
            Learner(model).place(x, np.zeros(4, int))


def test_large_whole_numbers_keep_their_digits(saved):
    """float32 takes 16777217 for 16777216."""
    x = np.full((20, 6), 2**24 + 1)
    config = scaling.resolved(saved(look_up(9), x, np.arange(20) % 3, 10, num_partitions=1))
    assert (data.load_client(config, 0).train.x == 2**24 + 1).all()
    with pytest.raises(UserError, match="example 1 has 16777217 in column 1"):  # an input of float32 cannot hold it
        Learner(look_up(9)).place(data.load_client(config, 0).train.x, np.zeros(10, int))
