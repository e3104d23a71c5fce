"""LeNet, the classic convolutional network."""

import keras
from keras import layers


def lenet(input_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """5x5 convolutions (6, 16), each with 2x2 max pool, dense 120 and 84, softmax: 61,706 weights for 28x28x1 and ten.

    LeNet-5 of Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-Based Learning Applied to Document Recognition",
    Proc. IEEE 86(11), 1998; with ReLU, max pools and softmax in place of its tanh, subsampling and RBF units.
    """
    return keras.Sequential(
        [
            keras.Input(input_shape),
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
