"""`.h5` files as TensorFlow 2's own Keras (2.15 and its like) wrote them: settings and references of that time."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from fedkeras import models
from fedkeras.errors import UserError
from fedkeras.models.trusted_code import code_in

Layer = dict[str, object]
"""A layer in the configuration of a legacy file."""


def legacy(path: Path, model: keras.Model, change: Callable[[Layer, dict], None]) -> np.ndarray:
    """Write `model` as TensorFlow 2 would have, `change(layer, settings)` applied to its layers; what it predicts."""
    model.save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            change(layer, layer["config"])
            layer["config"]["dtype"] = layer["config"].get("dtype") if change is mixed else "float32"
        file.attrs["model_config"], file.attrs["keras_version"] = json.dumps(config), "2.15.0"
    return model.predict(given(model), verbose=0)


def given(model: keras.Model) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, *model.input_shape[1:])).astype("float32")


def recurrent() -> keras.Model:
    inner = layers.Bidirectional(layers.GRU(2, return_sequences=True))
    return keras.Sequential([keras.Input((5, 4)), inner, layers.LSTM(3), layers.Dense(2)])


def as_recurrent_layers_were(layer: Layer, settings: dict) -> None:
    if layer["class_name"] == "Bidirectional":
        settings = settings["layer"]["config"]
    if layer["class_name"] in ("Bidirectional", "LSTM"):
        settings |= {"time_major": False, "implementation": 2}
        settings["kernel_initializer"] = {"class_name": "GlorotUniform", "config": {"seed": None, "dtype": "float32"}}


def convolutions() -> keras.Model:
    """As MobileNet is: a slash in a name, and depthwise convolutions."""
    inputs = keras.Input((6, 6, 2))
    x = layers.DepthwiseConv2D(2, name="block_depthwise")(inputs)
    x = layers.Conv2DTranspose(2, 2)(layers.SeparableConv2D(3, 2)(x))
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(layers.SpatialDropout2D(0.1)(x))))


def as_convolutions_were(layer: Layer, settings: dict) -> None:
    if "Conv" in layer["class_name"]:
        settings |= {"groups": 1, "kernel_initializer": {"class_name": "GlorotUniform", "config": {}}}
        settings |= {"kernel_regularizer": None, "kernel_constraint": None}
    if layer["class_name"] == "SpatialDropout2D":
        settings["noise_shape"] = None
    for place in (layer, settings):
        place["name"] = place["name"].replace("block_depthwise", "block/depthwise")
    nodes = json.dumps(references(layer)).replace("block_depthwise", "block/depthwise")
    layer["inbound_nodes"] = json.loads(nodes)


def references(layer: Layer) -> list:
    """Inbound nodes in the form of that time: [[[layer, call, output, arguments]]]."""
    nodes = []
    for node in layer["inbound_nodes"]:
        inputs = node["args"][0] if isinstance(node["args"][0], list) else node["args"][:1]
        own = {
            key: value["config"]["keras_history"] for key, value in node["kwargs"].items() if isinstance(value, dict)
        }
        for part in node["args"][1:]:  # attention's second
            own["value"] = part["config"]["keras_history"]
        nodes.append([[*one["config"]["keras_history"], own] for one in inputs])
    return nodes


def attention() -> keras.Model:
    inputs = keras.Input((5, 4))
    attended = layers.MultiHeadAttention(2, 3)(inputs, inputs)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(layers.Add()([inputs, attended]))))


def as_attention_was(layer: Layer, settings: dict) -> None:
    layer["inbound_nodes"] = references(layer)
    if layer["class_name"] == "MultiHeadAttention":
        shape = [None, 5, 4]
        settings |= {"query_shape": shape, "key_shape": shape, "value_shape": shape}


def nested() -> keras.Model:
    inputs = keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.BatchNormalization()])
    return keras.Model(inputs, layers.Dense(2)(inner(inputs)))


def as_nested_models_were(layer: Layer, settings: dict) -> None:
    """The nested model's own making counted as its first call."""
    del settings
    layer["inbound_nodes"] = [
        [[name, 1 if name.startswith("sequential") else call, *rest] for name, call, *rest in node]
        for node in references(layer)
    ]


def bins() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), layers.Discretization([-1.0, 0.0, 1.0]), layers.Dense(2)])


def as_bins_were(layer: Layer, settings: dict) -> None:
    if layer["class_name"] == "Discretization":
        settings |= {"trainable": True, "dtype": "int64"}


def mixed(layer: Layer, settings: dict) -> None:
    settings["dtype"] = {"class_name": "Policy", "config": {"name": "float32"}}
    if layer["class_name"] == "InputLayer":
        settings["dtype"] = "float32"


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (recurrent, as_recurrent_layers_were),
        (convolutions, as_convolutions_were),
        (attention, as_attention_was),
        (nested, as_nested_models_were),
        (bins, as_bins_were),
        (nested, mixed),
    ],
)
def test_what_changes_nothing_is_left_out_and_the_model_predicts_as_it_did(tmp_path: Path, make, change) -> None:
    model, path = make(), tmp_path / "m.h5"
    before = legacy(path, model, change)
    content = path.read_bytes()
    assert code_in(path) == []
    np.testing.assert_array_equal(models.load(path).predict(given(model), verbose=0), before)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"time_major": True}, r"its LSTM 'lstm.*' has time_major=True, which Keras 3 cannot do"),
        ({"recurrent_activation": "hard_sigmoid"}, "recurrent_activation=hard_sigmoid, another function in Keras 3"),
        ({"no_such": 1}, "no_such"),
    ],
)
def test_a_setting_that_would_make_another_model_is_refused(tmp_path: Path, setting, said) -> None:
    path = tmp_path / "m.h5"
    model = keras.Sequential([keras.Input((5, 4)), layers.LSTM(3)])
    legacy(path, model, lambda layer, own: own.update(setting if layer["class_name"] == "LSTM" else {}))
    with pytest.raises(UserError, match=said) as caught:
        models.load(path)
    assert "\n" not in str(caught.value)


def test_a_layer_that_keras_3_has_not_is_named_and_trust_does_not_help(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"

    def gone(layer: Layer, own: dict) -> None:
        if layer["class_name"] == "Dense":
            layer["class_name"], layer["module"] = "TFOpLambda", None
            own["function"] = "math.multiply"

    legacy(path, nested(), gone)
    for trust in (False, True):
        with pytest.raises(UserError, match=r"a TFOpLambda, a layer of TensorFlow 2's own Keras that Keras 3 has not$"):
            models.load(path, trust)


def test_a_configuration_that_is_none_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    legacy(path, nested(), lambda layer, own: layer.update(inbound_nodes=7))
    with pytest.raises(UserError, match=r"m\.h5: its configuration is no model's"):
        models.load(path)
