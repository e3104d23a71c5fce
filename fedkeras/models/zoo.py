"""The built-in models: each a function that returns one, and what is known of it without making it.

To add one is to write its function here, below `built_in`. Importing this file does not import Keras, so that a server
that needs no model stays light: each function imports what it is made of. They are called as any user's function
(`--model package.module:function`) is, with `input_shape` (without the batch) and `num_classes`.

A model may be cut in three for split learning, as `--split-at` says it: `FIRST,SECOND` names two layers, each the last
of its part. The head ends with FIRST, the body ends with SECOND, the tail is the rest. A layer is named as in
`model.summary()`, or by its index in `model.layers` (-1: the last). Keras numbers the layers that a process makes
(`conv2d_3`), so only an index or a name that the model's author gave means the same everywhere.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from fedkeras.errors import UserError

if TYPE_CHECKING:
    import keras

Maker = Callable[[tuple[int, ...], int], "keras.Model"]
"""Called with `input_shape` and `num_classes`."""

BUILT_IN: dict[str, str] = {}
"""Model -> `package.module:function`."""

DEFAULT_MODELS: dict[str, str] = {}
"""Data set -> the model it is trained with when none is named."""

DEFAULT_CUTS: dict[str, str] = {}
"""Model -> where it is cut if `--split-at` is unset. The client keeps the convolutions up to the first pool, where the
activations get smaller, or the first dense layer; and the last dense layer."""

UNCUT: dict[str, str] = {}
"""Model -> why it cannot be cut in three."""


def built_in(cut: str = "", default_for: str = "", uncut: str = "") -> Callable[[Maker], Maker]:
    """Enter a function as a built-in model of its own name: where it is cut in three, or why it cannot be.

    `default_for` is the data set whose default model it is.
    """

    def enter(make: Maker) -> Maker:
        name = make.__name__
        BUILT_IN[name] = f"{make.__module__}:{name}"
        for table, value in ((DEFAULT_CUTS, cut), (UNCUT, uncut)):
            if value:
                table[name] = value
        if default_for:
            DEFAULT_MODELS[default_for] = name
        return make

    return enter


def cut_points(model_name: str, split_at: str = "") -> tuple[str, str]:
    """The two layers of `split_at`, `FIRST,SECOND`; unset: the model's default. Raises UserError."""
    if model_name in UNCUT:
        raise UserError(f"--model {model_name} {UNCUT[model_name]}")
    text = split_at or DEFAULT_CUTS.get(model_name, "")
    if not text:
        raise UserError(
            f"--model {model_name} has no default cut; give --split-at FIRST,SECOND: the last layer of the client's "
            "first part and the last layer of the server's, by name or by index in model.layers"
        )
    points = [point.strip() for point in text.split(",")]
    if len(points) != 2 or not all(points):
        raise UserError(f"--split-at is '{split_at}'; it takes two layers with a comma between, such as 1,5")
    return points[0], points[1]


@built_in(cut="2,4", default_for="digits")
def digits_cnn(input_shape: tuple[int, ...], num_classes: int) -> "keras.Model":
    """Two 3x3 convolutions (16, 32), 2x2 max pool, dense 64, softmax: 38,282 weights for 8x8x1 and ten classes.

    Ours, sized for a demonstration on scikit-learn's digits: E. Alpaydin, C. Kaynak, "Optical Recognition of
    Handwritten Digits", UCI Machine Learning Repository, 1998.
    """
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input(input_shape),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(num_classes, activation="softmax"),
        ]
    )


@built_in(cut="1,5", default_for="mnist")
def mnist_cnn(input_shape: tuple[int, ...], num_classes: int) -> "keras.Model":
    """McMahan et al.'s CNN: two 5x5 convolutions (32, 64), each with 2x2 max pool, dense 512, softmax.

    1,663,370 weights for 28x28x1 and ten classes, the paper's count: H. B. McMahan, E. Moore, D. Ramage, S. Hampson, B.
    Agüera y Arcas, "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017,
    arXiv:1602.05629, section 3.
    """
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input(input_shape),
            layers.Conv2D(32, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(512, activation="relu"),
            layers.Dense(num_classes, activation="softmax"),
        ]
    )


@built_in(cut="1,2")
def mnist_2nn(input_shape: tuple[int, ...], num_classes: int) -> "keras.Model":
    """McMahan et al.'s 2NN: two hidden layers of 200, softmax.

    199,210 weights for 28x28x1 and ten classes, the paper's count; see `mnist_cnn`.
    """
    return perceptron(input_shape, num_classes, hidden=(200, 200))


@built_in(uncut="has two layers with weights; split learning needs three: take mnist_2nn")
def mlp(input_shape: tuple[int, ...], num_classes: int) -> "keras.Model":
    """One hidden layer of 200, softmax: 159,010 weights for 28x28x1 and ten classes.

    Ours: a model so quick that a benchmark with it measures everything but the model.
    """
    return perceptron(input_shape, num_classes, hidden=(200,))


@built_in(default_for="synthetic", uncut="has one layer with weights; split learning needs three")
def logistic_regression(input_shape: tuple[int, ...], num_classes: int) -> "keras.Model":
    """Multinomial logistic regression: one dense layer with softmax, 7,850 weights for 28x28x1 and ten classes.

    The convex model of T. Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, arXiv:1812.06127,
    and of D. Yin et al., "Byzantine-Robust Distributed Learning", ICML 2018, arXiv:1803.01498.
    """
    return perceptron(input_shape, num_classes, hidden=())


def perceptron(input_shape: tuple[int, ...], num_classes: int, hidden: tuple[int, ...]) -> "keras.Model":
    """Dense layers of these sizes and a softmax; one output alone is a number that is learned."""
    from keras import Input, Sequential, layers

    dense = [layers.Dense(units, activation="relu") for units in hidden]
    answer = layers.Dense(num_classes, activation="softmax" if num_classes > 1 else None)
    return Sequential([Input(input_shape), layers.Flatten(), *dense, answer])


@built_in(cut="2,5", default_for="femnist")
def femnist_cnn(input_shape: tuple[int, ...], num_classes: int) -> "keras.Model":
    """Reddi et al.'s CNN: 3x3 convolutions (32, 64), 2x2 max pool, dropout 1/4, dense 128, dropout 1/2, softmax.

    1,206,590 weights for 28x28x1 and 62 classes, the paper's count: S. J. Reddi et al., "Adaptive Federated
    Optimization", ICLR 2021, arXiv:2003.00295, appendix.
    """
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input(input_shape),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(num_classes, activation="softmax"),
        ]
    )


@built_in(cut="1,5")
def leaf_cnn(input_shape: tuple[int, ...], num_classes: int) -> "keras.Model":
    """LEAF's CNN: two 5x5 convolutions (32, 64), each with 2x2 max pool, dense 2048, softmax.

    6,603,710 weights for 28x28x1 and 62 classes: S. Caldas et al., "LEAF: A Benchmark for Federated Settings", 2018,
    arXiv:1812.01097, and its reference code.
    """
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input(input_shape),
            layers.Conv2D(32, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(2048, activation="relu"),
            layers.Dense(num_classes, activation="softmax"),
        ]
    )


@built_in(cut="1,2")
def motionsense_dense(input_shape: tuple[int, ...], num_classes: int) -> "keras.Model":
    """Two hidden layers of 128 and 64, softmax: 205,382 weights for 128x12 and six classes.

    Ours, for windows of motion signals, shape (samples, signals): M. Malekzadeh, R. G. Clegg, A. Cavallaro, H. Haddadi,
    "Mobile Sensor Data Anonymization", IoTDI 2019, arXiv:1810.11546.
    """
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input(input_shape),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(64, activation="relu"),
            layers.Dense(num_classes, activation="softmax"),
        ]
    )


@built_in(cut="1,7", default_for="motionsense")
def motionsense_cnn(input_shape: tuple[int, ...], num_classes: int) -> "keras.Model":
    """1-D convolutions of width 5 (32, 64, 64), pools of 2 between, mean over time, dropout 1/2, dense 64, softmax.

    37,350 weights for 128x12 and six classes. Ours; see `motionsense_dense`.
    """
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input(input_shape),
            layers.Conv1D(32, 5, activation="relu"),
            layers.MaxPooling1D(2),
            layers.Conv1D(64, 5, activation="relu"),
            layers.MaxPooling1D(2),
            layers.Conv1D(64, 5, activation="relu"),
            layers.GlobalAveragePooling1D(),
            layers.Dropout(0.5),
            layers.Dense(64, activation="relu"),
            layers.Dense(num_classes, activation="softmax"),
        ]
    )


@built_in(cut="1,6")
def lenet(input_shape: tuple[int, ...], num_classes: int) -> "keras.Model":
    """5x5 convolutions (6, 16), each with 2x2 max pool, dense 120 and 84, softmax: 61,706 weights for 28x28x1 and ten.

    LeNet-5 of Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-Based Learning Applied to Document Recognition",
    Proc. IEEE 86(11), 1998; with ReLU, max pools and softmax in place of its tanh, subsampling and RBF units.
    """
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input(input_shape),
            layers.Conv2D(6, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(16, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(120, activation="relu"),
            layers.Dense(84, activation="relu"),
            layers.Dense(num_classes, activation="softmax"),
        ]
    )


@built_in(cut="1,3")
def autoencoder(input_shape: tuple[int, ...], num_classes: int) -> "keras.Model":
    """Dense 128, 32, 128 and back to the input's shape: 209,968 weights for 28x28x1. Linear output, mean squared error.

    `num_classes` plays no part: the target is the input. After G. E. Hinton, R. R. Salakhutdinov, "Reducing the
    Dimensionality of Data with Neural Networks", Science 313, 2006, far smaller and without pre-training.
    """
    from keras import Input, Sequential, layers

    del num_classes
    model = Sequential(
        [
            Input(input_shape),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(32, activation="relu"),
            layers.Dense(128, activation="relu"),
            layers.Dense(math.prod(input_shape)),
            layers.Reshape(input_shape),
        ]
    )
    model.compile(optimizer=None, loss="mean_squared_error")  # a compiled model says its own loss
    return model
