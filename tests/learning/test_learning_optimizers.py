"""Every Keras optimizer starts each training as a new one does in Keras' own loop."""

import keras
import numpy as np
import pytest
from keras import layers

from fedkeras import models
from fedkeras.errors import UserError
from fedkeras.learning import Learner, optimizers
from fedkeras.learning.learner import draw

X = np.random.default_rng(0).random((13, 6), "float32")
Y = np.arange(13) % 3
NAMES = optimizers.names()


def dense():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, activation="relu"), layers.Dense(3, activation="softmax")]
    )


def train(learner, weights):
    learner.set_weights(weights)
    learner.train(X, Y, epochs=1, batch_size=4, rng=np.random.default_rng(3))
    return learner.get_weights()


def fit(weights, optimizer):
    """What `train` must come to, by Keras' own training of another model with a new optimizer."""
    model = dense()
    models.set_weights(model, weights)
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", jit_compile=False)
    optimizer.build(model.trainable_variables)  # fit does it in its graph, where ScheduleFreeAdamW's start gets lost
    _, (order,) = draw(np.random.default_rng(3), 0, len(X), epochs=1)
    model.fit(X[order], Y[order], batch_size=4, shuffle=False, verbose=0)
    return models.get_weights(model)


def same(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in NAMES]
    + [
        ("sgd", {"momentum": 0.9}),
        ("adam", {"amsgrad": True}),
        ("rmsprop", {"centered": True, "momentum": 0.5}),
        ("adam", {"use_ema": True, "ema_overwrite_frequency": 2}),
        ("sgd", {"gradient_accumulation_steps": 3}),
    ],
)
def test_a_used_optimizer_trains_as_a_new_one(name, options):
    used = Learner(dense(), optimizer=name, learning_rate=0.05, optimizer_args=options)
    start = used.get_weights()
    first = train(used, start)
    assert not same(first, start)
    assert same(train(used, start), first)
    kind = next(kind for word, kind in vars(keras.optimizers).items() if word.lower() == name)
    assert same(train(used, first), fit(first, kind(learning_rate=0.05, **options)))  # from other weights, too


def test_making_a_learner_leaves_the_weights_as_they_were():
    model = dense()
    before = model.get_weights()
    Learner(model, optimizer="scheduleFreeAdamW" if "schedulefreeadamw" in NAMES else "adam")
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_a_schedule_starts_over_in_each_training():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.2, decay_steps=1, decay_rate=0.5)
    learner = Learner(dense(), learning_rate=schedule)
    start = learner.get_weights()
    assert same(train(learner, start), train(learner, start))
    assert not same(train(learner, start), train(Learner(dense(), learning_rate=0.2), start))


def test_an_optimizer_given_whole_lends_its_configuration_only():
    given = keras.optimizers.SGD(0.05, momentum=0.9)
    learner = Learner(dense(), optimizer=given)
    by_name = Learner(dense(), optimizer="SGD", learning_rate=0.05, optimizer_args={"momentum": 0.9})
    assert same(train(learner, learner.get_weights()), train(by_name, by_name.get_weights()))
    assert not given.built


def test_an_unknown_optimizer_or_option_is_one_line():
    with pytest.raises(UserError, match=r"--optimizer is 'sdg'; allowed are: .*adam.*sgd"):
        Learner(dense(), optimizer="sdg")
    with pytest.raises(UserError, match=r"--optimizer-args for SGD: .*momentun"):
        Learner(dense(), optimizer="sgd", optimizer_args={"momentun": 0.9})


def test_the_usual_optimizers_have_names_and_the_wrappers_have_none():
    assert {"sgd", "adam", "adamw", "adagrad", "ftrl", "nadam", "rmsprop", "lion", "adafactor"} <= set(NAMES)
    assert not {"optimizer", "lossscaleoptimizer", "multioptimizer"} & set(NAMES)
