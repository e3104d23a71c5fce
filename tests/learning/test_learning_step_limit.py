"""Trainings that end at a step or at a time: the bits until there, figures of what was used, and spans by the clock."""

import itertools

import keras
import numpy as np
import pytest

from fedkeras.learning import Learner
from fedkeras.learning.objectives import Proximal
from fedkeras.learning.step_limit import StepLimit

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(50, 5)).astype(np.float32), RNG.integers(0, 3, 50)
WEIGHTED = {"objective": Proximal(0.1), "sample_weight": np.linspace(0, 2, 50)}
A_EPOCH, EPOCHS = 4, 3
"""Batches of 16, the last of 2 examples."""


def learner(kind=keras.Model):
    keras.utils.set_random_seed(1)
    x = keras.Input((5,))
    hidden = keras.layers.Dropout(0.3)(keras.layers.Dense(8, "relu")(x))
    model = kind(x, keras.layers.Dense(3, "softmax")(hidden))
    return Learner(model, optimizer="adam", learning_rate=0.01, metrics=["sparse_top_k_categorical_accuracy"])


@pytest.fixture(scope="module")
def resident():
    made = learner()
    return made, made.get_weights()


def trained(resident, **more):
    made, initial = resident
    made.set_weights(initial)
    result = made.train(X, Y, epochs=EPOCHS, batch_size=16, rng=np.random.default_rng(5), **more)
    return {name: array.tobytes() for name, array in made.get_weights().items()}, result


def far():
    return StepLimit(until=1e9, clock=lambda: 0.0)


@pytest.mark.parametrize("limit", [StepLimit(), StepLimit(steps=12), StepLimit(steps=99), far()])
@pytest.mark.parametrize("more", [{}, pytest.param(WEIGHTED, marks=pytest.mark.slow)])
def test_a_limit_that_is_not_reached_changes_no_bit(limit, more, resident):
    weights, result = trained(resident, **more)
    limited, other = trained(resident, limit=limit, **more)
    assert limited == weights and other.steps == 12 and result.steps is None
    assert (other.loss, other.accuracy, other.metrics) == (result.loss, result.accuracy, result.metrics)


def test_spans_by_a_clock_change_no_bit_of_what_a_limit_of_steps_does(resident):
    """Twelve steps in spans of 1 and more, over the ends of epochs."""

    def by_clock():
        ticks = itertools.count()
        return StepLimit(until=40.0, clock=lambda: 3.0 * next(ticks))

    spans = list(by_clock().spans(12))
    assert len(spans) > 2 and spans[-1] == 12
    assert trained(resident, limit=by_clock()) == trained(resident, limit=StepLimit(steps=12))


@pytest.mark.parametrize(("steps", "used"), [(1, 16), (3, 48), (4, 50), (6, 32)])
def test_the_loss_is_that_of_the_examples_of_the_last_epoch_until_there(steps, used, resident):
    """By hand: the same batches, one after the other, each by itself."""
    made, initial = resident
    _, result = trained(resident, limit=StepLimit(steps=steps))
    made.set_weights(initial)
    rng = np.random.default_rng(5)
    made.begin_training(rng)
    orders = [rng.permutation(50) for _ in range(EPOCHS)]
    x, y = made.place(X, Y)
    losses = []
    for step in range(steps):
        epoch, batch = divmod(step, A_EPOCH)
        order = orders[epoch][16 * batch : 16 * batch + 16]
        losses.append((epoch, len(order), made.train_epoch(x, y, order, 16).loss))
    last = [(count, loss) for epoch, count, loss in losses if epoch == losses[-1][0]]
    assert sum(count for count, _ in last) == used
    assert result.loss == pytest.approx(sum(count * loss for count, loss in last) / used) and result.steps == steps
    assert result.num_examples == 50, "what a client has, and not what it used"


class Own(keras.Model):
    def train_step(self, data):
        return {**super().train_step(data)}


def test_a_model_with_a_train_step_of_its_own_ends_there_too():
    made = learner(Own)
    initial = made.get_weights()
    made.train(X, Y, epochs=1, batch_size=16, rng=np.random.default_rng(5), limit=StepLimit(steps=4))
    whole = made.get_weights()
    made.set_weights(initial)
    made.train(X, Y, epochs=1, batch_size=16, rng=np.random.default_rng(5))
    assert all((whole[name] == array).all() for name, array in made.get_weights().items())
    made.set_weights(initial)
    result = made.train(X, Y, epochs=2, batch_size=16, rng=np.random.default_rng(5), limit=StepLimit(steps=6))
    assert result.steps == 6 and np.isfinite(result.loss)


def simulated(seconds, a_step, whole, first=0.0):
    """(steps done, seconds taken) of a training whose steps take so long, and the first one more."""
    now = [0.0]
    done = 0
    for end in StepLimit(until=seconds, clock=lambda: now[0]).spans(whole):
        now[0] += a_step * (end - done) + (first if not done else 0.0)
        done = end
    return done, now[0]


def test_by_the_clock_it_ends_at_the_last_whole_step_in_time():
    assert simulated(10.0, 0.3, 1000) == (33, pytest.approx(9.9))
    assert simulated(10.0, 0.3, 20) == (20, pytest.approx(6.0)), "all of it"
    assert simulated(1.0, 3.0, 20) == (1, 3.0), "one step at least"
    done, took = simulated(10.0, 0.01, 10_000, first=4.0)
    assert 9.5 < took <= 10.0 and done == pytest.approx(600, abs=30), "the first step, which compiles, misleads it once"
