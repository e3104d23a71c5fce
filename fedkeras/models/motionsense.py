"""Networks for MotionSense: windows of motion signals, shape (samples, signals), six activities.

The data: M. Malekzadeh, R. G. Clegg, A. Cavallaro, H. Haddadi, "Mobile Sensor Data Anonymization", IoTDI 2019,
arXiv:1810.11546. Both networks are ours.
"""

import keras
from keras import layers


def motionsense_dense(input_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """Two hidden layers of 128 and 64, softmax: 205,382 weights for 128x12 and six classes."""
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(64, activation="relu"),
            layers.Dense(num_classes, activation="softmax"),
        ]
    )


def motionsense_cnn(input_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """1-D convolutions of width 5 (32, 64, 64), pools of 2 between, mean over time, dropout 1/2, dense 64, softmax.

    37,350 weights for 128x12 and six classes.
    """
    return keras.Sequential(
        [
            keras.Input(input_shape),
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
