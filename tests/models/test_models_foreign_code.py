"""What a model file would run, found without running it; and what it was compiled with, in old words and new."""

import json
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from fedkeras import models
from fedkeras.errors import UserError
from fedkeras.models import compile_config as trained
from fedkeras.models.trusted_code import code_in


def small(outputs=3):
    return keras.Sequential([keras.Input((4,)), layers.Dense(5, activation="relu"), layers.Dense(outputs)])


@keras.saving.register_keras_serializable("tests")
class Twice(layers.Layer):
    def call(self, inputs):
        return inputs * 2


@keras.saving.register_keras_serializable("tests")
def odd_loss(y, predicted):
    return keras.ops.mean(predicted - y)


def edited(path, change):
    """Rewrite the configuration inside a .keras file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_every_built_in_model_is_free_of_code(tmp_path, suffix):
    for name, shape in [("digits_cnn", (8, 8, 1)), ("lenet", (28, 28, 1)), ("motionsense_cnn", (128, 12))]:
        model = models.build(name, input_shape=shape, num_classes=6)
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        models.save(model, tmp_path / f"m{suffix}")
        assert code_in(tmp_path / f"m{suffix}") == []
        models.load(tmp_path / f"m{suffix}")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_layers_with_functions_and_objects_of_keras_are_no_code(tmp_path, suffix):
    inputs = keras.Input((8, 4))
    x = layers.Dense(4, kernel_regularizer="l2", kernel_constraint=keras.constraints.MaxNorm(2), activation="gelu")(
        inputs
    )
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(x)
    x = layers.Dropout(0.1, seed=3)(layers.LayerNormalization()(x))
    x = layers.TimeDistributed(layers.Dense(2, kernel_initializer=keras.initializers.HeNormal(seed=1)))(x)
    x = layers.Activation(keras.activations.softmax)(layers.Flatten()(x))
    if suffix == ".keras":  # a legacy file cannot hold operations
        x = keras.ops.mean(x + 1, axis=-1, keepdims=True)
    keras.Model(inputs, x).save(tmp_path / f"m{suffix}")
    assert code_in(tmp_path / f"m{suffix}") == []
    models.load(tmp_path / f"m{suffix}")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_lambda_is_refused_and_runs_when_trusted(tmp_path, suffix):
    path = tmp_path / f"m{suffix}"
    inner = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x * 2)])
    keras.Sequential([keras.Input((4,)), inner]).save(path)
    assert "a Lambda layer, which is Python code" in code_in(path)
    with pytest.raises(UserError, match=r"it needs a .*; if you know who made it, --trust-code allows it") as raised:
        models.load(path)
    assert "\n" not in str(raised.value)
    assert models.load(path, trust_code=True)(np.ones((1, 4), "float32")).numpy().tolist() == [[2, 2, 2, 2]]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_class_of_ones_own(tmp_path, suffix):
    path = tmp_path / f"m{suffix}"
    keras.Sequential([keras.Input((4,)), Twice()]).save(path)
    with pytest.raises(UserError, match=r"it needs a class of its own, '(tests>)?Twice'"):
        models.load(path)
    assert models.load(path, trust_code=True)(np.ones((1, 4), "float32")).numpy().tolist() == [[2, 2, 2, 2]]


@pytest.mark.parametrize(
    ("described", "said"),
    [
        ({"module": "os", "class_name": "system", "config": {}}, "a class of its own, 'system'"),
        ({"module": "keras.utils", "class_name": "function", "config": "get_file"}, "a function of its own, 'get_f"),
        ({"module": "subprocess", "class_name": "function", "config": "relu"}, "a function of its own, 'relu'"),
        ({"module": "builtins", "class_name": "function", "config": "eval"}, "a function of its own, 'eval'"),
        ({"module": "keras.utils", "class_name": "Sequence", "config": {}}, "a class of its own, 'Sequence'"),
        ({"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/x"}}, "a TFSMLayer"),
        ({"class_name": "__lambda__", "config": {"value": "x"}}, "a lambda, which is Python code"),
        ({"class_name": "__typespec__", "module": "os", "config": []}, "a class of its own, '__typespec__'"),
        ({"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}},
         "a StringLookup that reads the file '/etc/passwd'"),
    ],
)  # fmt: skip
def test_what_a_file_may_hide_anywhere(tmp_path, described, said):
    path = tmp_path / "m.keras"
    small().save(path)
    edited(path, lambda config: config["config"]["layers"][1]["config"].update(activation=described))
    assert [found for found in code_in(path) if found.startswith(said)]
    with pytest.raises(UserError, match="it needs"):
        models.load(path)


def test_a_loss_of_ones_own_is_refused_unless_another_is_given(tmp_path):
    path = tmp_path / "m.keras"
    model = small()
    model.compile("sgd", odd_loss)
    model.save(path)
    assert code_in(path) == []
    with pytest.raises(
        UserError, match=r"the model file's loss needs a function of its own, '(tests>)?odd_loss'; trust it"
    ):
        models.load(path)
    assert not models.load(path, own_loss=False).compiled
    assert models.load(path, trust_code=True).compiled
    edited(
        path, lambda config: config["compile_config"].update(loss={"module": "os", "class_name": "abort", "config": {}})
    )
    with pytest.raises(UserError, match="needs a class of its own, 'abort'"):
        models.load(path)


def legacy(path: Path, **training):
    """A file as Keras 2 wrote it: the attribute's words are from one made by TensorFlow 2.10."""
    small().save(path)
    with h5py.File(path, "a") as file:
        file.attrs["training_config"] = json.dumps(
            {"weighted_metrics": None, "loss_weights": None, "sample_weight_mode": None, **training}
        ).encode()


def test_a_legacy_file_compiled_with_mse(tmp_path):
    path = tmp_path / "old.h5"
    adam = {"name": "Adam", "learning_rate": 0.01, "decay": 0.0, "beta_1": 0.8, "beta_2": 0.999, "epsilon": 1e-07,
            "amsgrad": True}  # fmt: skip
    legacy(path, loss="mse", metrics=["mae", "mse"], optimizer_config={"class_name": "Adam", "config": adam})
    with pytest.raises(Exception, match="mse"):
        keras.saving.load_model(path)  # what Keras 3 says to such a file
    config = trained.training_config(path)
    assert config == trained.TrainingConfig("mse", {"class_name": "Adam", "config": adam}, ("mae", "mse"))
    assert trained.TrainingConfig(**json.loads(json.dumps(config.to_dict()))).loss == "mse"
    made = trained.make_optimizer(config.optimizer)
    assert (type(made).__name__, float(made.learning_rate), made.beta_1, made.amsgrad) == (
        "Adam", pytest.approx(0.01), 0.8, True)  # fmt: skip
    assert keras.losses.get(models.load(path).loss) is keras.losses.mean_squared_error


def test_other_words_of_keras_2(tmp_path):
    path = tmp_path / "old.h5"
    accuracy = {
        "class_name": "MeanMetricWrapper",
        "config": {"name": "accuracy", "dtype": "float32", "fn": "categorical_accuracy"},
    }
    top = {
        "class_name": "MeanMetricWrapper",
        "config": {"name": "mae", "dtype": "float32", "fn": "mean_absolute_error"},
    }
    auc = {"class_name": "AUC", "config": {"name": "auc", "dtype": "float32", "num_thresholds": 50}}
    loss = {"class_name": "CategoricalCrossentropy", "config": {"reduction": "auto", "name": "categorical_crossentropy",
            "from_logits": True, "label_smoothing": 0.1, "fn": "categorical_crossentropy", "axis": -1}}  # fmt: skip
    sgd = {"class_name": "SGD", "config": {"name": "SGD", "lr": 0.5, "decay": 0.1, "momentum": 0.9, "nesterov": False,
           "is_legacy_optimizer": False, "jit_compile": False}}  # fmt: skip
    legacy(path, loss=[loss], metrics=[[accuracy, top, auc]], optimizer_config=sgd)
    config = trained.training_config(path)
    assert config.accuracy and config.metrics == ("mean_absolute_error", auc)
    made = trained.make_loss(config.loss)
    assert (made.from_logits, made.label_smoothing, made.reduction) == (True, 0.1, "sum_over_batch_size")
    optimizer = trained.make_optimizer(config.optimizer)
    assert optimizer.momentum == 0.9
    schedule = keras.optimizers.schedules.deserialize(optimizer.get_config()["learning_rate"])
    assert [float(schedule(step)) for step in (0, 10)] == pytest.approx([0.5, 0.25])  # lr / (1 + decay * step)
    assert trained.make_metrics(config.metrics)[1].num_thresholds == 50
    legacy(path, loss={"dense_1": "mae"}, metrics=None, optimizer_config={"class_name": "rmsprop", "config": {}})
    config = trained.training_config(path)
    assert (config.loss, config.metrics) == ("mae", ())
    assert type(trained.make_optimizer(config.optimizer)).__name__ == "RMSprop"
    legacy(path, loss=["mae", "mse"], metrics=None, optimizer_config={"class_name": "Nowhere", "config": {}})
    with pytest.raises(UserError, match="compiled with 2 losses"):
        trained.training_config(path)


def test_optimizers_as_tensorflow_2_11_and_later_called_them(tmp_path):
    path = tmp_path / "m.h5"
    adam = {"class_name": "Custom>Adam", "config": {"name": "Adam", "learning_rate": 0.25, "jit_compile": False}}
    scaled = {"class_name": "LossScaleOptimizerV3", "config": {"inner_optimizer": adam, "dynamic": True}}
    for described in (adam, scaled):
        legacy(path, loss="mse", metrics=None, optimizer_config=described)
        assert trained.needs_code(path) == ""
        made = trained.make_optimizer(trained.training_config(path).optimizer)
        made = getattr(made, "inner_optimizer", made)
        assert type(made) is keras.optimizers.Adam and float(made.learning_rate) == 0.25
    legacy(path, loss="mse", metrics=None, optimizer_config={**adam, "module": "mine"})
    with pytest.raises(UserError, match="a class of its own, 'Custom>Adam'"):
        trained.make_optimizer(trained.training_config(path).optimizer)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_todays_files(tmp_path, suffix):
    path = tmp_path / f"m{suffix}"
    model = small()
    model.save(path)
    assert trained.training_config(path) == trained.TrainingConfig()
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    metric = keras.metrics.SparseTopKCategoricalAccuracy(k=2, name="top2")
    model.compile(keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True), loss, metrics=["accuracy", metric])
    model.save(path)
    config = trained.training_config(path)
    assert trained.make_loss(config.loss).from_logits
    optimizer = trained.make_optimizer(config.optimizer)
    assert optimizer.nesterov and optimizer.get_config()["learning_rate"]["config"]["decay_steps"] == 10
    assert config.accuracy and [made.name for made in trained.make_metrics(config.metrics)] == ["top2"]
    model.compile(
        "adam", keras.losses.CategoricalCrossentropy(label_smoothing=0.2), metrics=[keras.metrics.mean_absolute_error]
    )
    model.save(path)
    config = trained.training_config(path)
    assert trained.make_loss(config.loss).label_smoothing == 0.2
    assert config.metrics == ("mean_absolute_error",)


def test_weights_alone_are_no_model(tmp_path):
    small().save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(UserError, match="holds weights and no model"):
        models.load(tmp_path / "m.weights.h5")
