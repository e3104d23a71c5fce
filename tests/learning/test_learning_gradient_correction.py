"""A correction is added to each gradient, by name and in every step, also with momentum and in an embedding."""

import keras
import numpy as np
import pytest
from keras import layers

from fedkeras import models
from fedkeras.errors import UserError
from fedkeras.learning import Learner
from fedkeras.learning.gradient_correction import GradientCorrection

X, Y = np.arange(6, dtype="int32")[:, None] % 3, np.array([0, 1, 1, 0, 1, 0])


def learner(**own):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((1,)), layers.Embedding(4, 2), layers.Flatten(), layers.Dense(2, "softmax")])
    return Learner(model, learning_rate=0.1, **own)


def corrections(model):
    rng = np.random.default_rng(3)
    shapes = {name: variable.shape for name, variable in zip(models.names(model), model.weights, strict=True)}
    return {name: rng.normal(size=shape).astype("f") for name, shape in shapes.items()}


def trained(one, corrected=None, epochs=1, batch_size=6, **own):
    if corrected is not None:
        own["objective"] = GradientCorrection()
        own["objective"].take([corrected[name] for name in models.trainable_names(one.model)])
    one.train(X, Y, epochs=epochs, batch_size=batch_size, rng=np.random.default_rng(0), **own)
    return one.get_weights()


def test_a_step_goes_along_the_gradient_and_its_correction():
    one = learner()
    found = corrections(one.model)
    corrected, plain = trained(one, found), trained(learner())
    for name, array in plain.items():
        np.testing.assert_allclose(corrected[name], array - 0.1 * found[name], atol=1e-6, err_msg=name)


def test_with_momentum_a_correction_goes_on_in_later_steps():
    """Of examples that weigh nothing the loss has no gradient: three steps are 0.1 (1 + 1.9 + 2.71) of it."""
    one = learner(optimizer_args={"momentum": 0.9})
    before, found = one.get_weights(), corrections(one.model)
    after = trained(one, found, epochs=3, sample_weight=np.zeros(6))
    for name, array in before.items():
        np.testing.assert_allclose(array - after[name], 0.1 * (1 + 1.9 + 2.71) * found[name], atol=1e-5)


def test_without_a_correction_all_bits_are_those_of_the_loss_alone():
    one = learner(optimizer_args={"momentum": 0.9})
    zero = {name: np.zeros_like(array) for name, array in one.get_weights().items()}
    found, plain = trained(one, zero, 3, 2), trained(learner(optimizer_args={"momentum": 0.9}), None, 3, 2)
    assert {name: array.tobytes() for name, array in found.items()} == {n: a.tobytes() for n, a in plain.items()}


def test_none_and_those_of_another_shape_are_refused():
    one = learner()
    for found in ({}, {name: np.zeros(1, "f") for name in models.names(one.model)}):
        objective = GradientCorrection()
        objective.take(list(found.values()))
        with pytest.raises(UserError, match="no corrections in the shapes"):
            one.train(X, Y, epochs=1, batch_size=6, rng=np.random.default_rng(0), objective=objective)
