"""Networks for MNIST: the two of the paper that introduced federated averaging, and a small perceptron.

H. B. McMahan, E. Moore, D. Ramage, S. Hampson, B. Agüera y Arcas, "Communication-Efficient Learning of Deep Networks
from Decentralized Data", AISTATS 2017, arXiv:1602.05629, section 3.
"""

import keras
from keras import layers


def mnist_cnn(input_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """McMahan et al.'s CNN: two 5x5 convolutions (32, 64), each with 2x2 max pool, dense 512, softmax.

    1,663,370 weights for 28x28x1 and ten classes, the paper's count.
    """
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Conv2D(32, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(512, activation="relu"),
            layers.Dense(num_classes, activation="softmax"),
        ]
    )


def mnist_2nn(input_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """McMahan et al.'s 2NN: two hidden layers of 200, softmax.

    199,210 weights for 28x28x1 and ten classes, the paper's count.
    """
    return _perceptron(input_shape, num_classes, hidden=(200, 200))


def mlp(input_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """One hidden layer of 200, softmax: 159,010 weights for 28x28x1 and ten classes.

    Ours: a model so quick that a benchmark with it measures everything but the model.
    """
    return _perceptron(input_shape, num_classes, hidden=(200,))


def _perceptron(input_shape: tuple[int, ...], num_classes: int, hidden: tuple[int, ...]) -> keras.Model:
    dense = [layers.Dense(units, activation="relu") for units in hidden]
    return keras.Sequential(
        [keras.Input(input_shape), layers.Flatten(), *dense, layers.Dense(num_classes, activation="softmax")]
    )
