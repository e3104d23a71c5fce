"""DP-SGD's gradients: clipped for each example as a plain loop clips them, and noised by as much as is said."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy import stats

from fedkeras.errors import UserError
from fedkeras.learning import Learner, layer_gradients
from fedkeras.learning import dp_sgd as module
from fedkeras.learning.dp_sgd import DpSgd
from fedkeras.learning.objectives import batch_loss, objective_of
from fedkeras.learning.poisson import draw_batches
from fedkeras.named_code import Permission


def dense():
    return [keras.Input((5,)), layers.Dense(7, activation="tanh"), layers.Dense(3, activation="softmax")], (5,), 3


def convolutional():
    stack = [
        layers.Conv2D(4, 3, activation="relu"), layers.GroupNormalization(2), layers.MaxPooling2D(2),
        layers.Conv2D(3, 2, strides=2, padding="same", use_bias=False), layers.Flatten(), layers.Dense(3),
        layers.Softmax(),
    ]  # fmt: skip
    return [keras.Input((8, 8, 2)), *stack], (8, 8, 2), 3


def along_time():
    stack = [
        layers.Conv1D(4, 3, activation="relu", padding="causal", dilation_rate=2), layers.LayerNormalization(),
        layers.Dense(6, activation="relu"), layers.GlobalAveragePooling1D(), layers.Dense(3, activation="softmax"),
    ]  # fmt: skip
    return [keras.Input((9, 2)), *stack], (9, 2), 3


def recurrent():
    return [keras.Input((6, 2)), layers.LSTM(4, unroll=True), layers.Dense(3, activation="softmax")], (6, 2), 3


def regularised():
    first = layers.Dense(4, kernel_regularizer="l2", activation="relu")
    return [keras.Input((5,)), first, layers.Dense(3, activation="softmax")], (5,), 3


def active():
    """A term of the loss that a layer adds by itself."""
    first = layers.Dense(4, activity_regularizer=keras.regularizers.L2(0.3), activation="relu")
    return [keras.Input((5,)), first, layers.Dense(3, activation="softmax")], (5,), 3


def amounts():
    return [keras.Input((5,)), layers.Dense(6, activation="relu"), layers.Dense(1)], (5,), 0


MODELS = [dense, convolutional, along_time, recurrent, regularised, amounts, active]


def learner_of(stack, outputs, **options):
    keras.utils.set_random_seed(3)
    return Learner(keras.Sequential(stack), loss="" if outputs else "mse", learning_rate=0.5, **options)


def examples_of(shape, outputs, count=11, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 2, (count, *shape)).astype(np.float32)
    y = rng.integers(0, outputs, count) if outputs else rng.normal(0, 3, (count, 1)).astype(np.float32)
    return x, y


def gradients_of(learner, objective, x, y, sample_weight=None, step=0, seed=0, batch_size=None):
    """The objective's gradients of one batch of all examples, without an optimizer."""
    model = learner.model
    rng = np.random.default_rng(seed)
    objective.plan(max(1, len(x)), batch_size or max(1, len(x)), 1, rng)
    begun = objective.begin(model.trainable_variables, rng)
    placed = tf.constant(x), tf.constant(y)
    weights = {} if sample_weight is None else {"sample_weight": tf.constant(sample_weight)}

    @tf.function(autograph=False)
    def compiled(step):
        return objective.gradients(model, *placed, model.trainable_variables, begun, step, **weights)

    return compiled(tf.constant(step))


def by_a_loop(model, x, y, clip=None, sample_weight=None):
    """The mean of the clipped gradients, one example after the other, and the bound: by default the median norm."""
    weights, each = model.trainable_variables, []
    for i in range(len(x)):
        weight = None if sample_weight is None else tf.constant(sample_weight[i : i + 1])
        with tf.GradientTape() as tape:
            loss, _ = batch_loss(model, tf.constant(x[i : i + 1]), tf.constant(y[i : i + 1]), weight)
        found = [np.asarray(tf.convert_to_tensor(g), np.float64) for g in tape.gradient(loss, weights)]
        each.append((found, np.sqrt(sum((one**2).sum() for one in found))))
    clip = float(np.median([norm for _, norm in each])) if clip is None else clip
    scaled = [[one * min(1.0, clip / max(norm, 1e-30)) for one in found] for found, norm in each]
    return [sum(parts) / len(x) for parts in zip(*scaled, strict=True)], clip


@pytest.fixture
def alone(monkeypatch):
    """Every model goes the way of those that nothing is known of: each example through it alone."""
    monkeypatch.setattr(module, "takes", lambda *_: False)


SLOW = pytest.mark.slow


@pytest.mark.parametrize("made", [dense, active, *(pytest.param(made, marks=SLOW) for made in MODELS[1:-1])])
def test_gradients_are_a_loop_s_where_each_example_is_alone(made, alone):
    check_gradients(made, False)


@pytest.mark.parametrize("made", [*MODELS[:3], *(pytest.param(made, marks=SLOW) for made in MODELS[3:])])
@pytest.mark.parametrize("weighted", [pytest.param(False, marks=SLOW), True])
def test_gradients_are_a_loop_s_over_examples(made, weighted):
    model = check_gradients(made, weighted)
    known = made not in (recurrent, regularised, active)
    assert layer_gradients.takes(model, model.trainable_variables) == known


@pytest.mark.parametrize(
    "mixing",
    [
        lambda: layers.Softmax(axis=-2),
        lambda: layers.LayerNormalization(axis=[-2, -1], center=False, scale=False),
        lambda: layers.Dense(4, activation=layers.Softmax(axis=0)),
    ],
)
def test_a_layer_that_mixes_examples_does_not_count_as_one_that_keeps_them_apart(mixing):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4), mixing(), layers.Dense(3, activation="softmax")])
    assert not layer_gradients.takes(model, model.trainable_variables)


def test_noise_goes_beyond_what_one_normal_number_of_tensorflows_can_be():
    """Which ends at 5.68; these end at 9.3, by the formula in float64. Fourth moment 3: they are normal."""
    zeros = [tf.zeros([4_000_000])]
    words, step = tf.constant([3, 5], tf.uint64), tf.constant(0)
    drawn = module._noised(zeros, tf.constant(2.0), words, step)[0].numpy().astype(np.float64) / 2
    assert abs(drawn.std() - 1) < 2e-3 and abs(drawn.mean()) < 3e-3
    assert abs((drawn**4).mean() - 3) < 0.02
    one = tf.random.stateless_normal([4_000_000], [3, 5]).numpy()
    assert np.abs(one).max() < 5.68
    integers = np.array(
        [[0, 0, 5, 2**31 - 1, -1, 12345678], [0, 7, 3, 0, -1, 9], [0, 0, 2**29, 2**30, 0, 77]], np.int64
    )
    found = module._normal(tf.constant(integers.astype(np.int32))).numpy()
    whole = np.where(integers < 0, integers + 2**31, integers).astype(np.float64)
    uniform = np.minimum(1, (whole[0] + (whole[1] + 0.5) / 2**31) / 2**31)
    radius, angle = np.sqrt(-2 * np.log(uniform)), whole[2] * 2 * np.pi / 2**31
    expected = [*(radius * np.cos(angle)), *(radius * np.sin(angle))]
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-4)
    assert found[0] == pytest.approx(np.sqrt(2 * 63 * np.log(2)), rel=1e-6)


def check_gradients(made, weighted):
    stack, shape, outputs = made()
    learner = learner_of(stack, outputs)
    x, y = examples_of(shape, outputs)
    weight = np.linspace(0, 3, len(x)).astype(np.float32) if weighted else None
    expected, clip = by_a_loop(learner.model, x, y, sample_weight=weight)
    found = gradients_of(learner, DpSgd(clip), x, y, weight)
    for one, other in zip(found.of_weights, expected, strict=True):
        np.testing.assert_allclose(one.numpy(), other, rtol=1e-4, atol=1e-6)
    return learner.model


@pytest.mark.parametrize("size", [pytest.param(1, marks=SLOW), 5, pytest.param(11, marks=SLOW)])
def test_chunks_of_any_size_give_the_same(monkeypatch, size):
    stack, shape, outputs = convolutional()
    learner = learner_of(stack, outputs)
    x, y = examples_of(shape, outputs)
    whole = gradients_of(learner, DpSgd(0.7), x, y)
    monkeypatch.setattr(module, "chunk_size", lambda *_: size)
    parts = gradients_of(learner, DpSgd(0.7), x, y)
    for one, other in zip(whole.of_weights, parts.of_weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-6)
    np.testing.assert_allclose(whole.predicted.numpy(), parts.predicted.numpy(), atol=1e-6)
    assert float(whole.loss) == pytest.approx(float(parts.loss), rel=1e-5)


def test_an_embedding_s_gradients_are_a_loop_s():
    stack = [layers.Embedding(12, 4), layers.GlobalAveragePooling1D(), layers.Dense(3, activation="softmax")]
    learner = learner_of([keras.Input((6,), dtype="int32"), *stack], 3)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 12, (9, 6)).astype(np.int32), rng.integers(0, 3, 9)
    assert layer_gradients.takes(learner.model, learner.model.trainable_variables)
    expected, _ = by_a_loop(learner.model, x, y, 0.5)
    found = gradients_of(learner, DpSgd(0.5), x, y)
    for one, other in zip(found.of_weights, expected, strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(one).numpy(), other, atol=1e-6)


def test_no_example_moves_a_step_by_more_than_the_bound():
    """With it and without it: the sums differ by `clip` at most, however extreme it is, and it may be not finite."""
    stack, shape, outputs = dense()
    learner = learner_of(stack, outputs)
    x, y = examples_of(shape, outputs)
    without = gradients_of(learner, DpSgd(0.3), x, y)
    for factor in (1.0, 1e6, np.inf, np.nan):
        extreme = np.concatenate([x, np.full((1, *shape), 1.0, np.float32) * np.float32(factor)])
        with_it = gradients_of(learner, DpSgd(0.3), extreme, np.append(y, 0))
        difference = [
            12 * one.numpy() - 11 * other.numpy()
            for one, other in zip(with_it.of_weights, without.of_weights, strict=True)
        ]
        assert np.sqrt(sum((each.astype(float) ** 2).sum() for each in difference)) <= 0.3 * (1 + 1e-4)


def mask_learner(rate=0.5):
    stack = [keras.Input((400,)), layers.Dropout(rate), layers.Dense(1, use_bias=False)]
    return learner_of(stack, 0)


def masks(step=0, seed=0, examples=3):
    """Whether each input of each example was kept, from the gradients of single examples in one batch."""
    learner = mask_learner()
    learner.model.set_weights([np.zeros((400, 1), np.float32)])
    objective, kept = DpSgd(1e6, study=True), []
    for i in range(examples):  # the others weigh nothing
        weight = np.zeros(examples, np.float32)
        weight[i] = 1.0
        x, y = np.ones((examples, 400), np.float32), np.ones((examples, 1), np.float32)
        found = gradients_of(learner, objective, x, y, weight, step, seed)
        kept.append(found.of_weights[0].numpy()[:, 0] != 0)
    return np.array(kept)


def test_every_example_has_a_dropout_mask_of_its_own():
    first, second = masks(step=0), masks(step=1)
    assert first.mean() == pytest.approx(0.5, abs=0.06)
    for i in range(3):
        for j in range(i):
            assert (first[i] == first[j]).mean() == pytest.approx(0.5, abs=0.12)
        assert (first[i] == second[i]).mean() == pytest.approx(0.5, abs=0.12)
    assert np.array_equal(first, masks(step=0)) and not np.array_equal(first, masks(step=0, seed=1))


def noise_of(objective, steps=4, batch_size=4):
    """What is added to the sum at each step, (steps, numbers), by an empty batch: noise alone."""
    stack = [keras.Input((60,)), layers.Dense(40), layers.Dense(3)]
    learner = learner_of(stack, 3)
    x, y = np.zeros((0, 60), np.float32), np.zeros(0, np.int64)
    rows = []
    for seed, step in enumerate(range(steps)):
        found = gradients_of(learner, objective, x, y, step=step, seed=seed, batch_size=batch_size)
        rows.append(np.concatenate([np.ravel(each) for each in found.of_weights]))
    return np.array(rows)


@pytest.mark.parametrize("study", [False, True])
def test_noise_is_gaussian_of_the_stated_deviation_and_new_at_each_step(study):
    """Half of it, or none, is found: 10,252 numbers give the deviation to 0.7 %, and the test asks for 4 %."""
    noise = noise_of(DpSgd(clip=0.5, noise=3.0, study=study))
    assert noise.shape[1] == 60 * 40 + 40 + 40 * 3 + 3
    flat = noise.ravel()
    assert flat.std() == pytest.approx(3.0 * 0.5, rel=0.04)  # over an expected batch of 1
    assert abs(flat.mean()) < 4 * 1.5 / np.sqrt(len(flat))
    assert stats.kstest(flat / 1.5, "norm").pvalue > 1e-4
    correlations = np.corrcoef(noise)[np.triu_indices(len(noise), 1)]
    assert np.abs(correlations).max() < 0.1
    assert abs(np.corrcoef(flat[:-1], flat[1:])[0, 1]) < 0.05


def test_noise_is_not_the_seed_s_unless_it_is_a_study():
    for study in (False, True):
        first, second = (noise_of(DpSgd(noise=1.0, study=study), steps=1) for _ in range(2))
        assert np.array_equal(first, second) == study


def test_fedprox_s_term_is_added_to_the_noised_gradients_and_not_clipped():
    stack, shape, outputs = dense()
    learner = learner_of(stack, outputs)
    x, y = examples_of(shape, outputs)
    clipped, _ = by_a_loop(learner.model, x, y, 0.01)
    both = objective_of({"objective": "dp-sgd:clip=0.01", "proximal-mu": 10.0}, Permission())
    assert isinstance(both, DpSgd) and both.mu == 10.0
    rng = np.random.default_rng(0)
    both.plan(len(x), len(x), 1, rng)
    weights = learner.model.trainable_variables
    begun = both.begin(weights, rng)
    for weight in weights:
        weight.assign_add(tf.ones_like(weight.value))
    clipped, _ = by_a_loop(learner.model, x, y, 0.01)
    found = both.gradients(learner.model, tf.constant(x), tf.constant(y), weights, begun, tf.constant(0))
    for one, other in zip(found.of_weights, clipped, strict=True):
        np.testing.assert_allclose(one.numpy(), other + 10.0, atol=1e-5)


def test_another_objective_is_not_beside_fedprox_s():
    with pytest.raises(UserError, match="one objective at a time"):
        objective_of({"objective": "proximal:mu=1.0", "proximal-mu": 1.0}, Permission())


# Whole trainings


def test_poisson_batches_have_a_binomial_size_and_every_example_has_its_chance():
    orders, width = draw_batches(np.random.default_rng(0), 50, 5, 200)
    assert orders.shape == (200, 10 * width)
    rows = orders.reshape(2000, width)
    sizes = (rows >= 0).sum(axis=1)
    assert sizes.mean() == pytest.approx(5, abs=0.2) and sizes.var() == pytest.approx(4.5, abs=0.5)
    assert sizes.max() == width
    counts = np.bincount(rows[rows >= 0], minlength=50)
    assert stats.chisquare(counts).pvalue > 1e-3
    assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in rows[:200])  # nobody twice in a batch
    together = np.isin(rows, [0]).any(axis=1) & np.isin(rows, [1]).any(axis=1)
    assert together.mean() == pytest.approx(0.01, abs=0.008)  # coins are independent


def test_fewer_examples_than_a_batch_are_all_in_each():
    orders, width = draw_batches(np.random.default_rng(0), 3, 8, 2)
    assert width == 3 and sorted(orders[0]) == [0, 1, 2]


def test_an_empty_batch_is_a_step_of_noise_alone(monkeypatch):
    """Layers, loss, metrics and optimizer live through it; without noise nothing moves."""
    from fedkeras.learning.poisson import Batches

    stack, shape, outputs = convolutional()
    learner = learner_of([*stack[:-3], layers.Dropout(0.5), *stack[-3:]], outputs)
    x, y = examples_of(shape, outputs)
    monkeypatch.setattr(module, "draw_batches", lambda *_: Batches(np.full((2, 3), -1, np.int32), 1))
    before = learner.get_weights()
    result = learner.train(x, y, epochs=2, batch_size=4, rng=np.random.default_rng(0), objective=DpSgd())
    assert result.num_examples == 11 and result.loss == 0
    assert all(np.array_equal(before[name], array) for name, array in learner.get_weights().items())
    learner.train(x, y, epochs=2, batch_size=4, rng=np.random.default_rng(0), objective=DpSgd(noise=1.0))
    assert all(np.isfinite(array).all() for array in learner.get_weights().values())
    assert any(not np.array_equal(before[name], array) for name, array in learner.get_weights().items())


def test_a_training_says_what_it_did_and_is_the_same_epoch_by_epoch():
    results = []
    for on_epoch in (None, lambda *_: None):
        stack, shape, outputs = dense()
        x, y = examples_of(shape, outputs, count=10)
        learner = learner_of(stack, outputs, optimizer="adam")
        objective = DpSgd(noise=0.4, study=True)
        result = learner.train(x, y, epochs=3, batch_size=4, rng=np.random.default_rng(5), objective=objective,
                               on_epoch=on_epoch)  # fmt: skip
        assert result.num_examples == 10
        figures = {name: value for name, value in result.metrics.items() if name.startswith("dp-sgd")}
        assert figures == {"dp-sgd-noise": 0.4, "dp-sgd-rate": 0.4, "dp-sgd-steps": 9.0}
        results.append((learner.get_weights(), result.loss, result.accuracy))
    assert results[0][1:] == results[1][1:]
    assert all(np.array_equal(array, results[1][0][name]) for name, array in results[0][0].items())


def test_noise_is_computed_for_the_client_s_own_number_of_examples():
    few, many = (DpSgd(epsilon=2.0, delta=1e-5, rounds=10, epochs=2) for _ in range(2))
    few.plan(100, 20, 2, np.random.default_rng(0))
    many.plan(2000, 20, 2, np.random.default_rng(0))
    assert few.figures()["dp-sgd-noise"] > many.figures()["dp-sgd-noise"] > 0.5


# What it does not train


@pytest.mark.parametrize(
    ("stack", "said"),
    [
        ([layers.Dense(3), layers.BatchNormalization()], "BatchNormalization .*take GroupNormalization or Layer"),
        ([layers.SpectralNormalization(layers.Dense(3))], "vector_u', which training changes beside the gradients"),
        ([layers.Dense(3, dtype="mixed_float16")], "float16 .*mixed_bfloat16"),
        ([layers.Dense(3, dtype="bfloat16")], "weights of 32 bits"),
    ],
)
def test_models_that_would_tell_more_are_refused_in_one_line(stack, said):
    learner = learner_of([keras.Input((5,)), *stack, layers.Dense(3, activation="softmax", dtype="float32")], 3)
    x, y = examples_of((5,), 3)
    with pytest.raises(UserError, match=said) as refused:
        learner.train(x, y, epochs=1, batch_size=4, rng=np.random.default_rng(0), objective=DpSgd())
    assert "\n" not in str(refused.value)


def test_a_frozen_batch_normalisation_and_bfloat16_are_taken():
    frozen = layers.BatchNormalization()
    frozen.trainable = False
    stack = [keras.Input((5,)), layers.Dense(3, dtype="mixed_bfloat16"), frozen, layers.Dense(3, activation="softmax")]
    learner = learner_of(stack, 3)
    x, y = examples_of((5,), 3)
    learner.train(x, y, epochs=1, batch_size=4, rng=np.random.default_rng(0), objective=DpSgd(noise=1.0))
    assert all(np.isfinite(array).all() for array in learner.get_weights().values())
