"""A model and a data set for tests of split learning, by name in --model and --dataset: no test, no TensorFlow yet."""

import numpy as np

from fedkeras import data


def awkward(input_shape: tuple, num_classes: int) -> object:
    """In each part: Dropout, BatchNorm and a penalty. To be cut at layers 3 and 7."""
    import keras
    from keras import layers

    l2 = keras.regularizers.L2
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Conv2D(4, 3, activation="relu", kernel_regularizer=l2(0.01)),
            layers.MaxPooling2D(2),
            layers.BatchNormalization(),
            layers.Dropout(0.2),
            layers.Conv2D(6, 2, activation="relu", activity_regularizer=l2(0.001)),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(12, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.2),
            layers.Dense(num_classes, activation="softmax", kernel_regularizer=l2(0.01)),
        ]
    )


def marked(config: object) -> data.Source:
    """Images of random float32 numbers, whose bytes are found nowhere by chance, and random labels."""
    rng = np.random.default_rng(2026)
    x = rng.random((120, 6, 6, 1), np.float32) + np.float32(0.125)
    y = rng.integers(0, 10, 120).astype(np.int32)
    return data.ArraySource("marked", (x[:90], y[:90]), (x[90:], y[90:]), [str(digit) for digit in range(10)])
