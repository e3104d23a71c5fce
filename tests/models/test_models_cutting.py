"""A model cut in three computes what it did; what cannot be cut is refused with the reason; the parts join again."""

import keras
import numpy as np
import pytest
from keras import layers

from fedkeras import models
from fedkeras.errors import UserError

SHAPES = {"digits_cnn": (8, 8, 1), "motionsense_dense": (128, 12), "motionsense_cnn": (128, 12)}
CLASSES = {"motionsense_dense": 6, "motionsense_cnn": 6}


def built_in(name):
    return models.build(name, input_shape=SHAPES.get(name, (28, 28, 1)), num_classes=CLASSES.get(name, 10))


def dense(*units):
    return keras.Sequential([keras.Input((4,)), *(layers.Dense(n, activation="relu", name=f"d{n}") for n in units)])


@pytest.mark.parametrize("name", sorted(models.BUILT_IN))
def test_every_built_in_model_has_a_default_cut_or_says_why_not(name):
    if name in ("mlp", "logistic_regression"):
        with pytest.raises(UserError, match=r"(two layers|one layer) with weights"):
            models.cut_points(name)
        return
    model = built_in(name)
    parts = models.cut(model, *models.cut_points(name))
    x = np.random.default_rng(1).random((3, *model.input_shape[1:]), "float32")
    together = x
    for part in ("head", "body", "tail"):
        together = parts.models[part](together, training=False)
    np.testing.assert_array_equal(together, model(x, training=False))
    assert sorted(name for own in parts.names.values() for name in own) == sorted(models.get_weights(model))
    if "cnn" in name or name == "lenet":
        assert parts.models["body"].count_params() > 0.8 * model.count_params()


def test_the_first_layer_named_ends_the_head_and_the_second_the_body():
    for points in (("d3", "d6"), ("0", "2"), (0, -2)):
        parts = models.cut(dense(3, 5, 6, 2), *points)
        inside = {part: [layer.name for layer in view.layers[1:]] for part, view in parts.models.items()}
        assert inside == {"head": ["d3"], "body": ["d5", "d6"], "tail": ["d2"]}
        assert parts.names == {
            "head": ["000.kernel", "001.bias"],
            "body": ["002.kernel", "003.bias", "004.kernel", "005.bias"],
            "tail": ["006.kernel", "007.bias"],
        }


def block(x, units, name):
    return layers.Add(name=name)([x, layers.Dense(units, name=f"{name}_inner")(x)])


def residual():
    x = keras.Input((4,))
    h = block(layers.Dense(4, name="start")(x), 4, "one")
    return keras.Model(x, layers.Dense(2, name="end")(block(h, 4, "two")))


def test_branches_within_a_part_are_fine():
    model = residual()
    parts = models.cut(model, "one", "two")
    assert {layer.name for layer in parts.models["body"].layers[1:]} == {"two", "two_inner"}
    x = np.ones((2, 4), "float32")
    whole = parts.models["tail"](parts.models["body"](parts.models["head"](x)))
    np.testing.assert_array_equal(whole, model(x))


def shared_layer():
    x, twice = keras.Input((4,)), layers.Dense(4, name="twice")
    return keras.Model(x, layers.Dense(2)(twice(layers.Dense(4, name="between")(twice(layers.Dense(4, name="a")(x))))))


def shared_variable():
    x, inner = keras.Input((4,)), layers.Dense(4)
    one, two = keras.Sequential([inner], name="one"), keras.Sequential([inner], name="two")
    return keras.Model(x, layers.Dense(2)(two(layers.Dense(4, name="between")(one(x)))))


def two_inputs():
    a, b = keras.Input((4,)), keras.Input((4,))
    return keras.Model([a, b], layers.Dense(2)(layers.Add()([a, b])))


def input_skips():
    x = keras.Input((4,))
    h = layers.Dense(4, name="b")(layers.Dense(4, name="a")(x))
    return keras.Model(x, layers.Dense(2)(layers.Concatenate(name="join")([h, x])))


def nested():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="hidden")], name="inner")
    return keras.Sequential([keras.Input((4,)), layers.Dense(4, name="a"), inner, layers.Dense(2, name="z")])


class Own(keras.Model):
    def call(self, x):
        return x


def unbuilt():
    return keras.Sequential([layers.Dense(3), layers.Dense(3), layers.Dense(3)])


def weightless(*where):
    """Dense layers d0 to d2, with layers without weights before, between or after."""
    stack = [layers.Dense(4, name=f"d{i}") for i in range(3)]
    plain = [layers.Activation("relu", name="plain"), layers.Activation("relu", name="plain2")]
    return keras.Sequential([keras.Input((4,)), *stack[: where[0]], *plain, *stack[where[0] :]])


class Drawing(layers.Layer):
    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=keras.random.SeedGenerator(1))


REFUSED = {
    "skip": (residual, "one_inner", "two", "from 'start' to 'one' passes by the cut after 'one_inner'"),
    "input skips": (input_skips, "a", "b", "to 'join' passes by the cut after 'a'"),
    "shared layer": (
        shared_layer,
        "a",
        "between",
        "layer 'twice', or a variable of it, is shared by the body and the tail",
    ),
    "cut at a layer used twice": (shared_layer, "twice", "between", "'twice' is used 2 times"),
    "shared variable": (shared_variable, "one", "between", "is shared by the head and the tail"),
    "unknown name": (lambda: dense(3, 5, 2), "d4", "d5", "there is no layer 'd4'; there are: 0 d3, 1 d5, 2 d2"),
    "unknown number": (lambda: dense(3, 5, 2), "0", "7", "there is no layer 7"),
    "order": (lambda: dense(3, 5, 2), "1", "0", "'1' must come before layer '0'"),
    "same": (lambda: dense(3, 5, 2), "1", "1", "must come before"),
    "nothing left": (lambda: dense(3, 5, 2), "0", "2", "nothing is left for the tail"),
    "head without weights": (
        lambda: weightless(0),
        "plain",
        "d1",
        "the head has no weights, so that the server would see",
    ),
    "head is the input": (residual, "0", "one", "the head has no weights"),
    "body without weights": (lambda: weightless(1), "d0", "plain", "the body has no weights"),
    "tail without weights": (lambda: weightless(3), "d0", "d2", "the tail has no weights, .* labels"),
    "own class": (Own, "a", "b", "a class of its own .Own."),
    "not built": (unbuilt, "0", "1", "is not built"),
    "two inputs": (two_inputs, "0", "1", "has 2 inputs"),
    "nested": (nested, "a", "hidden", "'hidden' is inside the nested model 'inner'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_cut_is_refused_with_the_reason(case):
    make, first, second, reason = REFUSED[case]
    with pytest.raises(UserError, match=reason):
        models.cut(make(), first, second)


def test_a_nested_model_is_one_layer():
    parts = models.cut(nested(), "a", "inner")
    assert len(parts.names["body"]) == 2


def test_layers_that_draw_in_prediction_are_noticed():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4), Drawing(), layers.Dense(4), layers.Dense(2)])
    seeds = iter(range(99))
    Drawing.call = lambda self, x: x + keras.random.normal(keras.ops.shape(x), seed=next(seeds))
    with pytest.raises(UserError, match="draw at random"):
        models.cut(model, "0", "2")


@pytest.mark.parametrize("text", ["3", "1,2,3", "1,", ","])
def test_split_at_takes_two_layers(text):
    with pytest.raises(UserError, match="two layers with a comma"):
        models.cut_points("mnist_cnn", text)


def test_split_at_goes_before_the_default_and_other_models_have_none():
    assert models.cut_points("mnist_cnn", " conv , dense") == ("conv", "dense")
    with pytest.raises(UserError, match=r"my\.keras has no default cut; give --split-at"):
        models.cut_points("my.keras")


def test_parts_joined_are_one_model_that_saves_and_loads(tmp_path):
    model, other = built_in("femnist_cnn"), models.cut(built_in("femnist_cnn"), "2", "5")
    parts = models.cut(model, "2", "5")
    rng = np.random.default_rng(0)
    new = {name: rng.normal(size=array.shape).astype("f") * 0.1 for name, array in models.get_weights(model).items()}
    pieces = models.split_weights(parts, new)
    assert {part: list(own) for part, own in pieces.items()} == parts.names
    models.set_part_weights(parts, ("head", "tail"), pieces["head"] | pieces["tail"])
    models.set_part_weights(parts, ("body",), new)  # the whole model's will do
    joined = models.join(parts)
    assert list(models.join_weights(parts, pieces["tail"], pieces["body"], pieces["head"])) == list(new)
    models.save(joined, tmp_path / "model.keras")
    loaded = models.load(tmp_path / "model.keras")
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in built_in("femnist_cnn").layers]
    x = rng.random((5, 28, 28, 1), "float32")
    np.testing.assert_allclose(loaded(x), joined(x), rtol=1e-6)
    for name, array in models.get_weights(loaded).items():
        np.testing.assert_array_equal(array, new[name])
    elsewhere = models.join(other, pieces["body"], pieces["head"], pieces["tail"])
    np.testing.assert_array_equal(elsewhere(x), joined(x))


def test_weights_that_do_not_fit_change_nothing():
    parts = models.cut(dense(3, 5, 2), 0, 1)
    good = models.get_part_weights(parts, ("head",))
    changed = {name: array + 1 for name, array in good.items()}
    for weights, reason in [
        ({"000.kernel": changed["000.kernel"]}, "'001.bias' of the head is missing"),
        (changed | {"001.bias": np.zeros(9)}, "has shape"),
        (changed | {"099.kernel": np.zeros(9)}, "'099.kernel' is in no part"),
    ]:
        with pytest.raises(ValueError, match=reason):
            models.set_part_weights(parts, ("head",), weights)
    for name, array in models.get_part_weights(parts, ("head",)).items():
        np.testing.assert_array_equal(array, good[name])
    with pytest.raises(ValueError, match=r"'002\.kernel' of the whole model is in none"):
        models.join(parts, good)


def test_random_states_are_sorted_by_part_and_the_models_own_loss_goes_with_the_last():
    stack = [layers.Dense(4), layers.Dropout(0.5), layers.Dense(4), layers.Dropout(0.5), layers.Dropout(0.1)]
    model = keras.Sequential([keras.Input((4,)), *stack, layers.Dense(4)])
    model.compile(loss="mean_squared_error")
    parts = models.cut(model, 0, 2)
    values = np.array([[7, 0], [8, 0], [9, 0]], np.uint32)
    sorted_values = models.split_seeds(parts, values)
    assert {part: own[:, 0].tolist() for part, own in sorted_values.items()} == {
        "head": [],
        "body": [7],
        "tail": [8, 9],
    }
    assert parts.models["tail"].loss == "mean_squared_error"
