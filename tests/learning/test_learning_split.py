"""Split in three, a model trains as it does whole: same batches, same masks, same bits or nearly."""

import keras
import numpy as np
import pytest
from keras import layers

from fedkeras import models
from fedkeras.errors import UserError
from fedkeras.learning import Body, HeadAndTail, Learner
from fedkeras.learning.learner import draw

X = np.random.default_rng(0).random((23, 6, 6, 1), "float32")
Y = np.random.default_rng(1).integers(0, 3, 23)
ADAM = {"optimizer": "adam", "learning_rate": 0.01}


def awkward():
    """In each part: BatchNorm or Dropout, and a penalty on weights or on activations. Both pools are in a tape."""
    keras.utils.set_random_seed(1)
    l2 = keras.regularizers.L2
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(4, 3, padding="same", activation="relu", kernel_regularizer=l2(0.1)),
            layers.MaxPooling2D(2),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Conv2D(5, 2, padding="same", activity_regularizer=l2(0.01)),
            layers.MaxPooling2D(2, strides=1, padding="same"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(6, activation="relu", kernel_regularizer=l2(0.1)),
            layers.Dropout(0.2),
            layers.BatchNormalization(),
            layers.Dense(3, activation="softmax", kernel_regularizer=l2(0.1)),
        ]
    )


def halves(model=None, points=(3, 9), **options):
    parts = models.cut(model or awkward(), *points)
    of_middle = {k: v for k, v in options.items() if k in ("optimizer", "learning_rate", "optimizer_args")}
    return HeadAndTail(parts, **options), Body(parts, **of_middle)


def weights_of(ends, middle):
    return models.join_weights(ends.parts, ends.get_weights(), middle.get_weights())


def one_batch(ends, middle, x, y, again=False, key="batch", sample_weight=None):
    seeds, of_middle = ends.seeds(), middle.seeds()
    activations, penalty = ends.forward(x, key=None if again else key)
    output, more = middle.forward(activations, key=None if again else key)
    gradient, loss = ends.loss_and_gradient(output, y, penalty=penalty + more, sample_weight=sample_weight)
    if again:
        ends.backward_again(x, middle.backward_again(activations, gradient, of_middle), seeds)
    else:
        ends.backward(middle.backward(gradient, key), key)
    return loss


def train(ends, middle, rng, epochs=1, batch_size=5, again=False, x=X, y=Y, weights=None):
    values, orders = draw(rng, len(models.random_states(ends.parts.whole)), len(x), epochs)
    seeds = models.split_seeds(ends.parts, values)
    ends.start()
    middle.start()
    ends.set_seeds(seeds)
    middle.set_seeds(seeds)
    x, y = ends.place(x, y)
    for order in orders:
        ends.outcome()
        for first in range(0, len(x), batch_size):
            chosen = order[first : first + batch_size]
            one_batch(
                ends, middle, x[chosen], y[chosen], again, sample_weight=None if weights is None else weights[chosen]
            )
    ends.finalize()
    middle.finalize()
    return ends.outcome()


def same(a, b, tolerance=1e-6):
    for name, array in a.items():
        np.testing.assert_allclose(b[name], array, rtol=0, atol=tolerance, err_msg=name)


CASES = [
    ("sgd", {}),
    ("sgd", {"momentum": 0.9, "nesterov": True}),
    ("adam", {}),
    ("adam", {"use_ema": True, "weight_decay": 0.01, "clipnorm": 0.5}),
]


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [CASES[0], CASES[3], *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES[1:3])],
)
def test_the_parts_train_as_the_whole_with_tapes_and_without(optimizer, options):
    how = {"optimizer": optimizer, "optimizer_args": options}
    how["learning_rate"] = keras.optimizers.schedules.ExponentialDecay(0.05, 2, 0.5)  # by steps: they must be counted
    learner = Learner(awkward(), **how)
    start = learner.get_weights()
    ends, middle = halves(**how)
    outcome = learner.train(X, Y, epochs=2, batch_size=5, rng=np.random.default_rng(9))
    for again in (False, True):
        ends.set_weights(start)
        middle.set_weights(start)
        split = train(ends, middle, np.random.default_rng(9), epochs=2, again=again)
        same(learner.get_weights(), weights_of(ends, middle))
        assert split.num_examples == 23
        assert split.loss == pytest.approx(outcome.loss, rel=1e-5)
        assert split.accuracy == pytest.approx(outcome.accuracy, rel=1e-6)
    assert np.abs(start["000.kernel"] - learner.get_weights()["000.kernel"]).max() > 0.01


def test_weights_of_examples_are_the_tails_business():
    learner, weights = Learner(awkward(), **ADAM), np.linspace(0, 3, 23).astype("float32")
    ends, middle = halves(**ADAM)
    outcome = learner.train(X, Y, epochs=1, batch_size=5, rng=np.random.default_rng(9), sample_weight=weights)
    split = train(ends, middle, np.random.default_rng(9), weights=weights)
    same(learner.get_weights(), weights_of(ends, middle))
    assert split.loss == pytest.approx(outcome.loss, rel=1e-5)
    assert split.loss != pytest.approx(train(*halves(**ADAM), np.random.default_rng(9)).loss, rel=1e-2)


def test_evaluation_is_as_of_the_whole_and_changes_nothing():
    ends, middle = halves(**ADAM)
    train(ends, middle, np.random.default_rng(0))
    before = weights_of(ends, middle)
    x, y = ends.place(X, Y)
    for first in range(0, 23, 10):
        activations, penalty = ends.forward_eval(x[first : first + 10])
        output, more = middle.forward_eval(activations)
        ends.finish_eval(output, y[first : first + 10], penalty + more)
    split = ends.outcome()
    whole = Learner(ends.parts.whole).evaluate(X, Y, batch_size=10)
    assert split.loss == pytest.approx(whole.loss, rel=1e-6)
    assert (split.num_examples, split.accuracy) == (23, whole.accuracy)
    same(before, weights_of(ends, middle), 0)


def test_batches_in_flight_each_have_their_own_gradient():
    """Two batches go forward before either comes back: by SGD, the sum of both gradients at the weights they met."""
    results = []
    for order in ("ab", "ba"):
        ends, middle = halves(points=(2, 7), model=without_state(), optimizer="sgd", learning_rate=0.1)
        x, y = ends.place(X, Y)
        batches = {"a": slice(0, 5), "b": slice(5, 12)}
        sent = {key: ends.forward(x[batch], key=key)[0] for key, batch in batches.items()}
        output = {key: middle.forward(sent[key], key=("cid", key))[0] for key in batches}
        assert middle.in_flight() == [("cid", "a"), ("cid", "b")]
        last = ends.parts.models["tail"].get_weights()
        back = {}
        for key in "ab":  # from the same M3, so that the order of what follows is all there is
            ends.parts.models["tail"].set_weights(last)
            back[key] = ends.loss_and_gradient(output[key], y[batches[key]])[0]
        for key in order:
            ends.backward(middle.backward(back[key], ("cid", key)), key)
        assert middle.in_flight() == []
        results.append(weights_of(ends, middle))
    same(*results)
    one = halves(points=(2, 7), model=without_state(), optimizer="sgd", learning_rate=0.1)
    one_batch(*one, x[:5], y[:5])
    assert np.abs(weights_of(*one)["002.kernel"] - results[0]["002.kernel"]).max() > 1e-4


def without_state():
    model = awkward()
    config = model.get_config()
    config["layers"] = [layer for layer in config["layers"] if layer["class_name"] not in ("BatchNormalization",)]
    for layer in config["layers"]:
        if layer["class_name"] == "Dropout":
            layer["config"]["rate"] = 0.0
    keras.utils.set_random_seed(1)
    return keras.Sequential.from_config(config)


def test_keys_and_shapes_that_do_not_fit_are_refused():
    ends, middle = halves(**ADAM)
    activations, _ = ends.forward(X[:5], key=1)
    with pytest.raises(ValueError, match="in flight already"):
        ends.forward(X[:5], key=1)
    with pytest.raises(ValueError, match="no batch 2 is in flight"):
        ends.backward(activations, 2)
    with pytest.raises(ValueError, match="shape"):
        middle.forward(activations[:, :2], key=1)
    with pytest.raises(ValueError, match="shape"):
        ends.backward(activations[:4], 1)  # a gradient of four examples for a batch of five
    with pytest.raises(ValueError, match="random states, not 5"):
        ends.forward(X[:5], np.zeros((5, 2)))
    ends.backward(activations, 1)  # a refused gradient has not cost the batch
    ends.forward(X[:5], key=1)
    ends.cancel(1)
    ends.forward(X[:5], key=1)
    ends.start()
    ends.forward(X[:5], key=1)


def test_the_same_seeds_give_the_same_masks():
    ends, _ = halves(**ADAM)
    seeds = np.array([[5, 3]], np.uint32)
    first, second, other = (ends.forward(X[:9], s)[0] for s in (seeds, seeds, seeds + 1))
    assert np.array_equal(first, second)
    assert not np.array_equal(first == 0, other == 0)
    assert ends.seeds().tolist() == [[6, 5]]  # one draw on


def test_replicas_train_apart_and_like_one_alone():
    rng = np.random.default_rng(3)
    ends, middle = halves(**ADAM)
    start, x, y = weights_of(ends, middle), *ends.place(X, Y)
    ends.start(start)
    middle.start(start)
    seeds = models.split_seeds(ends.parts, draw(rng, len(models.random_states(ends.parts.whole)), 1, 1)[0])
    ends.set_seeds(seeds)
    middle.set_seeds(seeds)
    ends.start()
    middle.start()
    halves_of = {"a": slice(0, 10), "b": slice(10, 23)}
    together = {}
    for _ in range(3):
        for name, part in halves_of.items():
            ends.use(name)
            middle.use(name)
            one_batch(ends, middle, x[part], y[part])
    for name in halves_of:
        ends.use(name)
        middle.use(name)
        together[name] = weights_of(ends, middle), ends.outcome()
    for name, part in halves_of.items():
        ends.start(start)
        middle.start(start)
        ends.set_seeds(seeds)
        middle.set_seeds(seeds)
        for _ in range(3):
            one_batch(ends, middle, x[part], y[part])
        same(together[name][0], weights_of(ends, middle), 0)
        assert together[name][1] == ends.outcome()
    assert together["a"][1].num_examples == 30
    assert not np.array_equal(together["a"][0]["000.kernel"], together["b"][0]["000.kernel"])
    middle.start(start)
    middle.use("a")
    middle.backward_again(*middle_batch(ends, middle, x))
    middle.forget("a")
    middle.use("a")
    same({n: start[n] for n in middle.get_weights()}, middle.get_weights(), 0)


def middle_batch(ends, middle, x):
    activations, _ = ends.forward(x[:4])
    seeds = middle.seeds()
    return activations, np.ones_like(middle.forward(activations)[0]), seeds


def test_a_state_goes_on_in_another_process():
    ends, middle = halves(**ADAM)
    x, y = ends.place(X, Y)
    one_batch(ends, middle, x[:8], y[:8])
    other_ends, other_middle = halves(**ADAM)
    other_ends.set_state(ends.get_state())
    other_middle.set_state(middle.get_state())
    for pair in ((ends, middle), (other_ends, other_middle)):
        one_batch(*pair, x[8:], y[8:])
    same(weights_of(ends, middle), weights_of(other_ends, other_middle), 0)
    assert ends.outcome() == other_ends.outcome()
    with pytest.raises(ValueError, match="state 000 is missing"):
        middle.set_state({})


def test_a_start_makes_used_optimizers_new():
    ends, middle = halves(**ADAM)
    start = weights_of(ends, middle)
    train(ends, middle, np.random.default_rng(4))
    first = weights_of(ends, middle)
    ends.set_weights(start)
    middle.set_weights(start)
    train(ends, middle, np.random.default_rng(4))
    same(first, weights_of(ends, middle), 0)


def test_an_autoencoder_and_a_short_batch_of_one():
    def make():
        return models.build("autoencoder", input_shape=(6, 6, 1), num_classes=3)

    learner = Learner(make(), **ADAM)
    outcome = learner.train(X, None, epochs=1, batch_size=11, rng=np.random.default_rng(2))
    ends, middle = halves(make(), ("1", "3"), **ADAM)
    split = train(ends, middle, np.random.default_rng(2), batch_size=11, y=None)
    same(learner.get_weights(), weights_of(ends, middle))
    assert split.loss == pytest.approx(outcome.loss, rel=1e-5)
    assert split.accuracy is None


def test_words_and_frozen_layers():
    def make():
        keras.utils.set_random_seed(1)
        words = layers.Embedding(7, 4)
        stack = [words, layers.Flatten(), layers.Dense(5, trainable=False), layers.Dense(2, activation="softmax")]
        return keras.Sequential([keras.Input((3,), dtype="int32"), *stack])

    x, y = np.arange(30).reshape(10, 3) % 7, np.arange(10) % 2
    learner = Learner(make(), **ADAM)
    learner.train(x, y, epochs=1, batch_size=4, rng=np.random.default_rng(2))
    for again in (False, True):
        ends, middle = halves(make(), (0, 2), **ADAM)
        train(ends, middle, np.random.default_rng(2), batch_size=4, again=again, x=x, y=y)
        same(learner.get_weights(), weights_of(ends, middle))


def test_mixed_precision_sends_bfloat16_and_trains_alike():
    def make():
        return models.build("digits_cnn", input_shape=(6, 6, 1), num_classes=3, precision="mixed_bfloat16")

    learner = Learner(make(), **ADAM)
    learner.train(X, Y, epochs=1, batch_size=8, rng=np.random.default_rng(2))
    ends, middle = halves(make(), (2, 4), **ADAM)
    assert str(ends.forward(X[:2])[0].dtype) == "bfloat16"
    train(ends, middle, np.random.default_rng(2), batch_size=8)
    same(learner.get_weights(), weights_of(ends, middle), 2e-3)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"optimizer_args": {"global_clipnorm": 1.0}}, "take clipnorm"),
        ({"optimizer_args": {"loss_scale_factor": 8.0}}, "does not scale losses"),
        ({"optimizer": keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())}, "does not scale losses"),
    ],
)
def test_optimizers_that_need_the_whole_model_are_refused(options, reason):
    parts = models.cut(awkward(), 3, 9)
    for side in (HeadAndTail, Body):
        with pytest.raises(UserError, match=reason):
            side(parts, **options)


def test_batches_of_other_sizes_compile_nothing_anew():
    traces = []

    class Counting(layers.Dense):
        def call(self, x, training=None):
            traces.append(1)
            return super().call(x)

    stack = [Counting(5, name=f"c{i}") for i in range(3)]
    model = keras.Sequential([keras.Input((6, 6, 1)), layers.Flatten(), *stack])
    ends, middle = halves(model, ("c0", "c1"), **ADAM)
    x, y = ends.place(X, Y)
    one_batch(ends, middle, x[:5], y[:5])
    before = len(traces)
    for size in (4, 1, 7):
        one_batch(ends, middle, x[:size], y[:size])
    assert len(traces) == before
