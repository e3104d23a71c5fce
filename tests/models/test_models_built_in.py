"""The built-in models have the weights their papers count, and start the same everywhere."""

import subprocess
import sys

import numpy as np
import pytest

from fedkeras import models
from fedkeras.errors import UserError

IMAGE, MOTION = (28, 28, 1), (128, 12)

COUNTS = [  # name, input shape, classes, weights
    ("mnist_cnn", IMAGE, 10, 1_663_370),  # McMahan et al.
    ("mnist_2nn", IMAGE, 10, 199_210),  # McMahan et al.
    ("femnist_cnn", IMAGE, 62, 1_206_590),  # Reddi et al.
    ("leaf_cnn", IMAGE, 62, 6_603_710),  # LEAF
    ("digits_cnn", (8, 8, 1), 10, 38_282),  # ours, from here on
    ("mlp", IMAGE, 10, 159_010),
    ("table_mlp", (64,), 2, 6_306),
    ("image_cnn", (64, 64, 3), 10, 319_178),
    ("logistic_regression", IMAGE, 10, 7_850),
    ("lenet", IMAGE, 10, 61_706),
    ("motionsense_dense", MOTION, 6, 205_382),
    ("motionsense_cnn", MOTION, 6, 37_350),
    ("autoencoder", IMAGE, 10, 209_968),
]


@pytest.mark.parametrize(("name", "input_shape", "classes", "count"), COUNTS)
def test_weights_are_as_many_as_published_and_said(name, input_shape, classes, count):
    model = models.build(name, input_shape=input_shape, num_classes=classes)
    assert sum(array.size for array in models.get_weights(model).values()) == count
    module, function = models.BUILT_IN[name].split(":")
    assert f"{count:,}" in getattr(sys.modules[module], function).__doc__


def test_every_built_in_model_is_counted_above_and_each_default_is_built_in():
    assert set(models.BUILT_IN) == {name for name, *_ in COUNTS}
    assert set(models.DEFAULT_MODELS) == {"digits", "mnist", "femnist", "motionsense", "synthetic"} | {
        "table_source",
        "xy_folder",
        "image_folder",
    }
    assert set(models.DEFAULT_MODELS.values()) <= set(models.BUILT_IN)


def test_classifiers_give_probabilities():
    for name, input_shape, classes, _ in COUNTS[:-1]:
        if name != "leaf_cnn":
            model = models.build(name, input_shape=input_shape, num_classes=classes)
            np.testing.assert_allclose(np.sum(model(np.ones((2, *input_shape), "float32")), axis=-1), 1, rtol=1e-5)


def test_same_seed_gives_the_same_weights_and_leaves_other_randomness_alone():
    def build(seed):
        return models.get_weights(models.build("digits_cnn", input_shape=(8, 8, 1), num_classes=10, seed=seed))

    np.random.seed(5)
    first = build(7)
    drawn = np.random.rand()
    again, other = build(7), build(8)
    np.random.seed(5)
    assert drawn == np.random.rand()
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["000.kernel"], other["000.kernel"])


def test_importing_the_packages_does_not_import_keras():
    code = (
        "import sys, fedkeras.models, fedkeras.learning; fedkeras.models.DEFAULT_MODELS; fedkeras.models.set_weights; "
        "fedkeras.learning.TrainingResult; sys.exit('keras' in sys.modules or 'tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "shape"), [("digits_cnn", MOTION), ("lenet", (4, 4, 1)), ("motionsense_cnn", (5, 12)), ("leaf_cnn", (9,))]
)
def test_an_input_a_model_cannot_take_is_one_clear_line(name, shape):
    with pytest.raises(UserError, match=f"model {name} cannot be made for input_shape="):
        models.build(name, input_shape=shape, num_classes=6)


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(UserError, match=r"--model is 'resnet'.*digits_cnn.*\.keras or \.h5.*module:function"):
        models.build("resnet", input_shape=(8, 8, 1), num_classes=10)
