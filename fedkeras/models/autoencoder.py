"""A network that learns to give back its input through a narrow middle."""

import math

import keras
from keras import layers


def autoencoder(input_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """Dense 128, 32, 128 and back to the input's shape: 209,968 weights for 28x28x1. Linear output, mean squared error.

    `num_classes` plays no part: the target is the input. After G. E. Hinton, R. R. Salakhutdinov, "Reducing the
    Dimensionality of Data with Neural Networks", Science 313, 2006, far smaller and without pre-training.
    """
    del num_classes
    model = keras.Sequential(
        [
            keras.Input(input_shape),
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
