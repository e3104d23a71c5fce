"""The default models of somebody's own files: of tables and of images, with any number of columns or pixels."""

from typing import TYPE_CHECKING

from fedkeras.models.zoo import DEFAULT_MODELS, built_in, perceptron

if TYPE_CHECKING:
    import keras


SMALL = 8
"""Pixels a side that are few enough for a dense layer."""


@built_in(cut="1,2", default_for="table_source")
def table_mlp(input_shape: tuple[int, ...], num_classes: int) -> "keras.Model":
    """Two hidden layers of 64 and 32; softmax, or one linear output where a number is learned: a row of a table.

    Ours, small enough for some hundred rows: 6,306 weights for 64 columns and two classes.
    """
    return perceptron(input_shape, num_classes, hidden=(64, 32))


DEFAULT_MODELS["xy_folder"] = "table_mlp"


@built_in(cut="1,-2", default_for="image_folder")
def image_cnn(input_shape: tuple[int, ...], num_classes: int) -> "keras.Model":
    """3x3 convolutions (32, then 64), each with 2x2 max pool, until no side has more than 8; dense 64, softmax.

    319,178 weights for 64x64x3 (three convolutions) and ten classes. Ours, for images of any size.
    """
    from keras import Input, Sequential, layers

    blocks, side = [], max(input_shape[:2])
    while side > SMALL or not blocks:
        filters = 64 if blocks else 32
        blocks += [
            layers.Conv2D(filters, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2, padding="same"),
        ]
        side = -(-side // 2)
    answer = layers.Dense(num_classes, activation="softmax")
    return Sequential([Input(input_shape), *blocks, layers.Flatten(), layers.Dense(64, activation="relu"), answer])
