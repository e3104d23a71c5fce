"""Networks for FEMNIST, the handwriting of many writers: of two papers that use it as their benchmark."""

import keras
from keras import layers


def femnist_cnn(input_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """Reddi et al.'s CNN: 3x3 convolutions (32, 64), 2x2 max pool, dropout 1/4, dense 128, dropout 1/2, softmax.

    1,206,590 weights for 28x28x1 and 62 classes, the paper's count: S. J. Reddi et al., "Adaptive Federated
    Optimization", ICLR 2021, arXiv:2003.00295, appendix.
    """
    return keras.Sequential(
        [
            keras.Input(input_shape),
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


def leaf_cnn(input_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """LEAF's CNN: two 5x5 convolutions (32, 64), each with 2x2 max pool, dense 2048, softmax.

    6,603,710 weights for 28x28x1 and 62 classes: S. Caldas et al., "LEAF: A Benchmark for Federated Settings", 2018,
    arXiv:1812.01097, and its reference code.
    """
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Conv2D(32, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(2048, activation="relu"),
            layers.Dense(num_classes, activation="softmax"),
        ]
    )
