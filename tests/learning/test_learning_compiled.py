"""What a model was compiled with is trained and measured with, or said: against what Keras' own evaluate gives."""

import keras
import numpy as np
import pytest
from keras import layers

from fedkeras import models
from fedkeras.learning import Learner
from fedkeras.models.compile_config import compiled_with, make_optimizer, training_config
from fedkeras.models.precision import with_precision

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(24, 4)).astype("float32"), RNG.integers(0, 3, 24)


def share_above_half(y_true, y_pred):
    return keras.ops.mean(keras.ops.cast(y_pred > 0.5, "float32"), axis=-1)


def compiled(loss_weights=None, metrics=("accuracy", share_above_half), **options):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="softmax", name="out")])
    top = keras.metrics.SparseTopKCategoricalAccuracy(k=2, name="top_2")
    model.compile(
        keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", loss_weights=loss_weights,
        metrics=[*metrics, top], weighted_metrics=[keras.metrics.SparseCategoricalCrossentropy(name="entropy")],
        **options,
    )  # fmt: skip
    return model


def test_a_models_own_metrics_are_measured_functions_too():
    model = compiled(run_eagerly=True)
    expected = model.evaluate(X, Y, verbose=0, return_dict=True)
    found = Learner(model).evaluate(X, Y)
    assert {"loss": found.loss, "accuracy": found.accuracy, **found.metrics} == pytest.approx(expected, rel=1e-5)
    assert list(found.metrics) == ["share_above_half", "top_2", "entropy"]


@pytest.mark.parametrize("loss_weights", [3.0, [3.0], {"out": 3.0}])
def test_the_loss_is_multiplied_by_its_weight_and_so_are_its_gradients(loss_weights):
    model = compiled(loss_weights)
    start = model.get_weights()
    assert compiled_with(model).loss_weight == 3
    learner = Learner(model)
    learner.train(X, Y, epochs=1, batch_size=24, rng=np.random.default_rng(0))
    plain = Learner(compiled())
    plain.train(X, Y, epochs=1, batch_size=24, rng=np.random.default_rng(0))
    for begun, ours, once in zip(start, learner.model.get_weights(), plain.model.get_weights(), strict=True):
        np.testing.assert_allclose(ours - begun, 3 * (once - begun), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_file_keeps_what_it_was_compiled_with_but_functions_of_somebodys_own(tmp_path, caplog, suffix):
    def mine(y_true, y_pred):
        return share_above_half(y_true, y_pred)

    mine.__name__ = f"share_above_half_{suffix[1:]}"  # what is left out is said once a process
    compiled([3.0], metrics=("accuracy", mine)).save(tmp_path / f"m{suffix}")
    model = models.load(tmp_path / f"m{suffix}")
    assert compiled_with(model).loss_weight == 3
    assert [metric.name for metric in compiled_with(model).metrics] == ["top_2", "entropy"]
    why = {".keras": f"it needs a function of its own, '{mine.__name__}'", ".h5": "it is not Keras'"}[suffix]
    said = f"the metric {mine.__name__} of the model file is left out of the run: {why}"
    assert [text for text in caplog.messages if "left out" in text] == [said]
    copy = with_precision(model, "mixed_bfloat16")
    assert compiled_with(copy)[:3] == compiled_with(model)[:3]


def test_a_metric_of_several_numbers_stands_in_no_column():
    class Counts(keras.metrics.Metric):
        def update_state(self, y_true, y_pred, sample_weight=None):
            pass

        def result(self):
            return keras.ops.zeros((3,))

    assert Learner(compiled(metrics=(Counts(name="counts"),))).evaluate(X, Y).metrics.keys() == {"top_2", "entropy"}


def test_a_graph_in_the_place_of_eager_steps_is_said(caplog):
    Learner(compiled(run_eagerly=True))
    assert "compiled with run_eagerly=True" in caplog.text


@pytest.mark.parametrize("scaled", [False, True])
def test_a_learning_rate_takes_the_place_of_a_compiled_schedule(tmp_path, scaled):
    model = compiled()
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    made = keras.optimizers.SGD(schedule, momentum=0.9)
    model.compile(keras.optimizers.LossScaleOptimizer(made, initial_scale=8.0) if scaled else made, "mse")
    model.save(tmp_path / "m.keras")
    own = training_config(tmp_path / "m.keras").optimizer
    for rate, expected in ((None, schedule.get_config()), (0.3, 0.3)):
        optimizer = make_optimizer(own, learning_rate=rate)
        inner = optimizer.inner_optimizer if scaled else optimizer
        assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer) == scaled
        assert inner.momentum == 0.9
        found = inner.learning_rate.numpy() if rate else inner._learning_rate.get_config()
        assert found == (pytest.approx(expected) if rate else expected)
    assert not scaled or optimizer.initial_scale == 8
