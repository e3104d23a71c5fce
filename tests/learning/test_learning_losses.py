"""The loss that a model gets, from its last layer and its targets: against Keras' `fit` with the loss that is right."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, losses

from fedkeras.errors import UserError
from fedkeras.learning import Learner
from fedkeras.learning.learner import draw
from fedkeras.models.output import output_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 4)).astype("float32")
CLASSES = RNG.integers(0, 3, 24)
TWO = (X[:, 0] > 0).astype("int64")
SEVERAL = (X[:, :3] > 0).astype("float32")
AMOUNTS = X @ np.array([[1.0], [2.0], [-1.0], [0.5]], "float32") + 3


class Odd(layers.Layer):
    """A layer of somebody's own, which says nothing of itself."""

    def __init__(self, function):
        super().__init__()
        self.dense, self.function = layers.Dense(3), function

    def call(self, x):
        return self.function(self.dense(x))


class OddModel(keras.Model):
    def __init__(self, units, function):
        super().__init__()
        self.dense, self.function = layers.Dense(units), function
        self(np.zeros((1, 4), "float32"))

    def call(self, x):
        return self.function(self.dense(x))


def net(*ends, takes=(4,)):
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input(takes), *ends])


def dense(units, activation=None):
    return net(layers.Dense(units, activation=activation))


def averaged():
    keras.utils.set_random_seed(1)
    x = keras.Input((4,))
    return keras.Model(x, layers.Average()([layers.Dense(3, activation="softmax")(x) for _ in range(2)]))


def inner(activation):
    return net(layers.Dense(5, activation="relu"), net(layers.Dense(3, activation=activation), takes=(5,)))


ENDS = {
    "softmax": [
        dense(3, "softmax"), dense(3, tf.nn.softmax), dense(3, lambda x: keras.ops.softmax(x / 2)),
        dense(3, layers.Softmax()), net(layers.Dense(3), layers.Activation("softmax")),
        net(layers.Dense(3), layers.Softmax(), layers.Dropout(0.5), layers.Reshape((1, 3)), layers.Flatten()),
        net(layers.Dense(3), layers.Lambda(tf.nn.softmax)), inner("softmax"),
        net(layers.Dense(3, "softmax"), layers.Activation("linear")), averaged(),
        net(layers.TimeDistributed(layers.Dense(3, activation="softmax")), takes=(2, 4)),
        net(layers.Conv1D(3, 1, activation="softmax"), layers.GlobalAveragePooling1D(), takes=(2, 4)),
        net(Odd(tf.nn.softmax)), OddModel(3, tf.nn.softmax),
    ],
    "sigmoid": [
        dense(1, "sigmoid"), dense(3, tf.nn.sigmoid), dense(3, "hard_sigmoid"), net(Odd(tf.nn.sigmoid)),
        OddModel(1, keras.activations.sigmoid), net(layers.Dense(6, activation="softmax"), layers.Reshape((2, 3))),
    ],
    "linear": [
        dense(3), dense(1), dense(3, lambda x: x), dense(3, "log_softmax"), inner(None),
        net(layers.Dense(3), layers.BatchNormalization()), net(layers.Dense(3), layers.Rescaling(0.1, 1.0)),
        net(layers.Dense(3), layers.Dropout(0.5)), net(layers.Dense(3), layers.Reshape((3, 1)), layers.Flatten()),
        net(layers.Conv1D(3, 1), layers.GlobalAveragePooling1D(), takes=(2, 4)), net(Odd(lambda x: x)),
        net(layers.SpectralNormalization(layers.Dense(3))), OddModel(1, lambda x: 3 * x),
    ],
    "other": [
        dense(3, "relu"), dense(1, "tanh"), net(layers.Dense(3), layers.ReLU()), net(layers.LSTM(3), takes=(2, 4)),
        net(layers.Dense(3, activation="sigmoid"), layers.Rescaling(255.0)), net(layers.Dense(3), layers.PReLU()),
    ],
    "unknown": [net(Odd(tf.nn.relu)), OddModel(3, tf.nn.relu)],
}  # fmt: skip


def test_the_last_layer_that_changes_numbers_says_what_they_are():
    found = {kind: [output_of(model).kind for model in made] for kind, made in ENDS.items()}
    assert found == {kind: [kind] * len(made) for kind, made in ENDS.items()}


def test_looking_at_a_model_changes_nothing_in_it():
    model = net(layers.Dense(3), layers.BatchNormalization(), layers.Dropout(0.5), Odd(lambda x: x))
    before = [variable.numpy() for variable in model.variables]
    output_of(model)
    assert all(np.array_equal(*pair) for pair in zip(before, [v.numpy() for v in model.variables], strict=True))


def fitted(model, loss, y, metrics=()):
    """Keras' own weights after an epoch in the order that a Learner draws, and its loss and metrics before that."""
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=[*metrics], run_eagerly=True)
    before = model.evaluate(X, y, batch_size=24, verbose=0, return_dict=True)
    _, (order,) = draw(np.random.default_rng(9), 0, len(X), 1)
    model.fit(X[order], y[order], batch_size=24, shuffle=False, verbose=0)
    return model.get_weights(), before


LOGITS = {"from_logits": True}
LINEAR_BINARY = keras.metrics.BinaryAccuracy(threshold=1e-9, name="accuracy")
RIGHT = [
    # the model, what it learns, its targets; the loss that is right, targets as that takes them, and Keras' accuracy
    (dense(3, "softmax"), "classes", CLASSES, "sparse_categorical_crossentropy", CLASSES, "accuracy"),
    (dense(3), "classes", CLASSES, losses.SparseCategoricalCrossentropy(**LOGITS), CLASSES, "accuracy"),
    (dense(3), "integers", CLASSES, losses.SparseCategoricalCrossentropy(**LOGITS), CLASSES, "accuracy"),
    (dense(3, "sigmoid"), "classes", CLASSES, "binary_crossentropy", np.eye(3)[CLASSES], "categorical_accuracy"),
    (dense(1, "sigmoid"), "classes", TWO, "binary_crossentropy", TWO[:, None], "binary_accuracy"),
    (dense(1), "classes", TWO, losses.BinaryCrossentropy(**LOGITS), TWO[:, None], LINEAR_BINARY),
    (dense(3, "sigmoid"), "numbers", SEVERAL, "binary_crossentropy", SEVERAL, "binary_accuracy"),
    (dense(1), "numbers", AMOUNTS[:, 0], "mean_squared_error", AMOUNTS, None),
    (dense(2, "relu"), "numbers", np.abs(X[:, :2]), "mean_squared_error", np.abs(X[:, :2]), None),
    (dense(4, "sigmoid"), "itself", None, "mean_squared_error", X, None),
]  # fmt: skip
NAMED = [
    # a loss that a flag names and that Keras would take at its word; which it is taken for
    (dense(3), "sparse_categorical_crossentropy", CLASSES, losses.SparseCategoricalCrossentropy(**LOGITS), CLASSES),
    (dense(1), losses.BinaryCrossentropy(label_smoothing=0.1), TWO,
     losses.BinaryCrossentropy(label_smoothing=0.1, **LOGITS), TWO[:, None]),
    (net(layers.Dense(3, activation="softmax"), layers.Reshape((3,))), losses.CategoricalCrossentropy(**LOGITS),
     CLASSES, "categorical_crossentropy", np.eye(3)[CLASSES]),
    (dense(3), "binary_focal_crossentropy:gamma=1.5", SEVERAL, losses.BinaryFocalCrossentropy(gamma=1.5, **LOGITS),
     SEVERAL),
]  # fmt: skip


def trained(model, y, **options):
    """A Learner's weights after the same epoch, and its loss and accuracy before."""
    learner = Learner(model, **options)
    before = learner.evaluate(*learner.place(X, y))
    learner.train(*learner.place(X, y), epochs=1, batch_size=24, rng=np.random.default_rng(9))
    return learner, before


def assert_as_fit_does(learner, before, keras_own, right, y, metric=None):
    weights, figures = fitted(keras_own, right, y, [] if metric is None else [metric])
    for ours, theirs in zip(learner.model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    assert before.loss == pytest.approx(figures.pop("loss"), rel=1e-6)
    if metric is not None:
        assert before.accuracy == pytest.approx(next(iter(figures.values())), rel=1e-6)


def named_case(case):
    return f"{case[1]}-{case[3] if isinstance(case[3], str) else type(case[3]).__name__}"


@pytest.mark.parametrize("case", RIGHT, ids=named_case)
def test_where_nobody_names_a_loss_it_is_the_right_one(case):
    model, learns, y, right, targets, metric = case
    keras_own = keras.models.clone_model(model)
    keras_own.set_weights(model.get_weights())
    learner, before = trained(model, y, learns=learns)
    assert not learner.chosen.named
    assert learner.chosen.said.partition(",")[0].partition(" of ")[0].replace("_", "") == (
        right if isinstance(right, str) else type(right).__name__
    ).lower().replace("_", "")
    assert_as_fit_does(learner, before, keras_own, right, targets, metric)
    if metric is None:
        assert before.accuracy is None


@pytest.mark.parametrize("case", NAMED, ids=lambda case: str(case[1])[:20])
def test_a_loss_that_takes_logits_for_probabilities_or_the_reverse_is_corrected_with_a_word(case):
    model, loss, y, right, targets = case
    keras_own = keras.models.clone_model(model)
    keras_own.set_weights(model.get_weights())
    learner, before = trained(model, y, loss=loss)
    assert "for the model ends in a layer Dense" in learner.chosen.said
    assert_as_fit_does(learner, before, keras_own, right, targets)


def test_what_the_model_was_compiled_with_is_corrected_too_and_what_fits_is_not_spoken_of():
    model = dense(1)
    model.compile(loss="bce")
    assert Learner(model, learns="classes").loss.from_logits
    for loss in ("mse", losses.Huber(), losses.BinaryCrossentropy(from_logits=True)):
        model.compile(loss=loss)
        chosen = Learner(model, learns="classes").chosen
        assert (chosen.loss, chosen.said) == (loss, "")
    for short, units, right in (("ce", 1, "binary"), ("crossentropy", 3, "sparse_categorical")):
        model = dense(units, "sigmoid" if units == 1 else "softmax")
        model.compile(loss=short)
        assert Learner(model).loss == f"{right}_crossentropy"


def test_a_loss_of_ones_own_is_trusted_and_told_what_it_is_given():
    def my_loss(y_true, y_pred):
        return keras.losses.binary_crossentropy(y_true, y_pred)

    class Mine(losses.BinaryCrossentropy):
        pass

    for loss in (my_loss, Mine()):
        learner = Learner(dense(1), loss=loss, learns="classes")
        assert learner.loss is loss
        assert "which is given 0 and 1" in learner.chosen.said
        assert learner.evaluate(X, TWO).accuracy is None  # whether these are logits only its author knows


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (dense(1, "softmax"), {}, "a softmax over a single number, which is always 1"),
        (dense(1, "softmax"), {"loss": "mse"}, "a softmax over a single number"),
        (dense(1), {"learns": "integers"}, "--loss binary_crossentropy:from_logits=true takes the targets for two cl"),
        (dense(3, "relu"), {"learns": "classes"}, "ends in a layer Dense with relu, and nothing says that its outputs"),
        (net(Odd(tf.nn.relu)), {"learns": "classes"}, "of a class of its own, and nothing says what its outputs are"),
        (dense(3, "relu"), {"loss": "categorical_crossentropy"}, "or --loss categorical_crossentropy:from_logits=true"),
        (dense(1, "tanh"), {"loss": "bce"}, "or --loss binary_crossentropy:from_logits=true"),
        (dense(3), {"loss": "kl_divergence"}, "or --loss categorical_crossentropy:from_logits=true"),
        (dense(1, "sigmoid"), {"loss": "sparse_categorical_crossentropy"}, "compares several: --loss binary_crossent"),
        (dense(1), {"loss": "categorical_crossentropy"}, "--loss binary_crossentropy:from_logits=true"),
        (dense(3), {"loss": "huber:gamma=2"}, "--loss huber does not take these options: .*gamma"),
        (dense(3), {"loss": "mine:loss"}, "--loss is 'mine:loss', which is not a loss of Keras"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_refused_with_the_flag_that_tells_it(model, options, words):
    with pytest.raises(UserError, match=words) as error:
        Learner(model, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("model", "options", "y", "words"),
    [
        (dense(3, "softmax"), {}, SEVERAL, "one class a row; a sparse loss compares with class numbers"),
        (dense(3, "softmax"), {}, CLASSES + 0.5, "labels must be whole numbers, not float64"),
        (dense(3, "softmax"), {"loss": "categorical_crossentropy"}, SEVERAL, "rows that do not sum to 1"),
        (dense(3, "softmax"), {"loss": "categorical_crossentropy"}, X[:, :3], "with numbers from 0 to 1, and the tar"),
        (dense(1, "sigmoid"), {}, AMOUNTS, "binary_crossentropy compares with numbers from 0 to 1"),
        (dense(4, "sigmoid"), {"loss": "bce", "learns": "itself"}, None, "compares with numbers from 0 to 1"),
        (dense(1), {"loss": "poisson"}, AMOUNTS - 9, "poisson compares with numbers from 0 on"),
        (dense(1), {"loss": "hinge"}, AMOUNTS, "hinge compares with -1 and 1"),
        (
            dense(3),
            {"learns": "numbers"},
            SEVERAL,
            "--loss binary_crossentropy:from_logits=true takes them for classes",
        ),
        (net(layers.Reshape((4, 1)), layers.Dense(3)), {}, CLASSES, r"labels have shape \(\); the model's output has"),
    ],
)
def test_targets_of_which_keras_would_compute_nonsense_are_refused(model, options, y, words):
    with pytest.raises(ValueError, match=words):
        Learner(model, **options).place(X, y)


def test_one_hot_rows_and_columns_of_labels_are_what_they_mean():
    sparse, vectors = (Learner(dense(3, "softmax"), loss=loss) for loss in ("", "categorical_crossentropy"))
    for y in (np.eye(3)[CLASSES], np.eye(3, dtype=int)[CLASSES], CLASSES[:, None], CLASSES.astype("float64")):
        np.testing.assert_array_equal(sparse.place(X, y)[1], CLASSES)
        np.testing.assert_array_equal(vectors.place(X, y)[1], np.eye(3)[CLASSES])


def test_keras_itself_is_wrong_about_logits_which_is_why_they_are_looked_for():
    """The gradient of a probability that was cut off is 0: y = 1, x = 2, w = 2; of a logit, (sigmoid(4) - 1) * 2."""
    kernel, y = tf.Variable([[2.0]]), tf.constant([[1.0], [1.0]])
    for from_logits, slope in ((False, 0.0), (True, -2 * (1 - 1 / (1 + np.exp(-4))))):
        with tf.GradientTape() as tape:
            loss = losses.BinaryCrossentropy(from_logits=from_logits)(y, tf.constant([[2.0], [2.0]]) @ kernel)
        assert float(tape.gradient(loss, kernel)[0, 0]) == pytest.approx(slope, abs=1e-6)
