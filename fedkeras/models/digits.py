"""A small network for the 8x8 handwritten digits that scikit-learn ships."""

import keras
from keras import layers


def digits_cnn(input_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """Two 3x3 convolutions (16, 32), 2x2 max pool, dense 64, softmax: 38,282 weights for 8x8x1 and ten classes.

    Ours, sized for a demonstration on scikit-learn's digits: E. Alpaydin, C. Kaynak, "Optical Recognition of
    Handwritten Digits", UCI Machine Learning Repository, 1998.
    """
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(num_classes, activation="softmax"),
        ]
    )
