"""Cross-validation: the folds, what comes out of them, and which weights the model has afterwards."""

import keras
import numpy as np
import pytest
from keras import layers

from fedkeras.errors import UserError
from fedkeras.learning import Learner, cross_validation
from fedkeras.learning.cross_validation import cross_validate, split


def line(rate=0.5):
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    return Learner(model, optimizer="sgd", learning_rate=rate, loss="mse")


def weight(learner):
    return float(learner.get_weights()["000.kernel"][0, 0])


@pytest.mark.parametrize("classes", [None, np.repeat([0, 1, 2], [50, 30, 20])])
def test_folds_are_disjoint_and_all_rows(classes):
    parts = split(100, 5, np.random.default_rng(0), classes)
    together = np.concatenate([held for _, held in parts])
    np.testing.assert_array_equal(np.sort(together), np.arange(100))
    for rows, held in parts:
        np.testing.assert_array_equal(np.sort(np.concatenate([rows, held])), np.arange(100))
        if classes is not None:
            assert np.bincount(classes[held]).tolist() == [10, 6, 4]
    assert parts[0][1].tolist() != list(range(20))  # shuffled
    again = split(100, 5, np.random.default_rng(0), classes)
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(parts, again, strict=True))


def test_classes_with_few_rows_are_spread_as_far_as_they_go():
    parts = split(10, 3, np.random.default_rng(0), np.array([0] * 8 + [1] * 2))
    assert sorted(len(held) for _, held in parts) == [3, 3, 4]
    assert len(split(4, 4, np.random.default_rng(0), np.arange(4))) == 4  # each its own class: plain folds


def test_what_cannot_be_split():
    for folds, said in [(1, "--folds is 1; there must be 2"), (5, "--folds is 5, but there are only 4 examples")]:
        with pytest.raises(UserError, match=said):
            split(4, folds, np.random.default_rng(0))
    learner = line()
    with pytest.raises(UserError, match="--kfold-return is 'mean'; allowed are: best, refit"):
        cross_validate(learner, None, [], epochs=1, batch_size=1, rng=np.random.default_rng(0), returns="mean")


def run(returns, rate=0.5, **options):
    """x = 1 everywhere and whole batches at rate 1/2: after one epoch w is the mean of the targets trained on."""
    learner = line(rate)
    y = np.array([[0.0], [6], [12], [15]])
    settings = {"epochs": 1, "batch_size": 4, "rng": np.random.default_rng(0), "returns": returns}
    placed, parts = learner.place(np.ones((4, 1)), y), split(4, 4, np.random.default_rng(0))
    result = cross_validate(learner, lambda fold: placed, parts, **{**settings, **options})
    return learner, y, result


def test_by_hand():
    told = []
    learner, y, result = run("best", rate=0.25, on_epoch=lambda fold, epoch: told.append((fold, epoch.epoch)))
    losses = []
    for fold in result.folds:
        (held,) = fold.held_out
        half = (33 - y[held, 0]) / 3 / 2  # from w = 0 in every fold half the way: none goes on where another ended
        losses.append((half - y[held, 0]) ** 2)
        assert fold.outcome.loss == pytest.approx(losses[-1], rel=1e-5)
        assert fold.fitted.epochs[0].val_loss is None  # what a fold holds out is tested once, when all is over
    mean = sum(losses) / 4
    assert result.mean["loss"] == pytest.approx(mean)
    assert result.std["loss"] == pytest.approx((sum((loss - mean) ** 2 for loss in losses) / 3) ** 0.5)  # the sample's
    # half the mean of the others is nearest to 6: (0 + 12 + 15) / 3 / 2
    assert result.folds[result.best - 1].held_out.tolist() == [1]
    assert weight(learner) == pytest.approx(4.5) and result.refitted is None
    assert told == [(1, 1), (2, 1), (3, 1), (4, 1)] and [fold.number for fold in result.folds] == [1, 2, 3, 4]


def test_refit_is_a_training_on_all_rows_from_the_start():
    learner, _, result = run("refit")
    assert weight(learner) == pytest.approx(8.25)
    assert len(result.refitted.epochs) == 1 and result.refitted.epochs[0].val_loss is None


def test_refit_after_early_stopping_takes_the_folds_mean_of_best_epochs():
    _, _, result = run("refit", epochs=6, patience=1)
    assert {fold.fitted.best for fold in result.folds} == {1}  # the second epoch changes nothing
    assert len(result.refitted.epochs) == 1
    _, _, plain = run("refit", epochs=6)
    assert len(plain.refitted.epochs) == 6


def test_early_stopping_goes_by_a_part_of_the_training_rows_in_proportion_to_the_classes(monkeypatch):
    seen, real = [], cross_validation.fit
    monkeypatch.setattr(cross_validation, "fit", lambda *a, **own: seen.append(own) or real(*a, **own))
    learner, classes = line(), np.repeat([0, 1], [30, 20])
    placed = learner.place(np.ones((50, 1)), classes[:, None].astype("float32"))
    for options, counts in (({"patience": 1}, [5, 3]), ({"patience": 1, "validation": 0.5}, [12, 8])):
        seen.clear()
        parts = split(50, 5, np.random.default_rng(0), classes)
        settings = {"epochs": 2, "batch_size": 50, "rng": np.random.default_rng(0), "classes": classes, **options}
        result = cross_validate(learner, lambda fold: placed, parts, **settings)
        for own, (rows, held_out), fold in zip(seen, parts, result.folds, strict=True):
            np.testing.assert_array_equal(np.sort(np.concatenate([own["rows"], own["validation"]])), rows)
            assert not np.intersect1d(own["validation"], held_out).size
            assert np.bincount(classes[own["validation"]]).tolist() == counts
            assert fold.fitted.epochs[0].val_loss is not None
        assert len({own["validation"].tobytes() for own in seen}) == 5


def test_labels_of_noise_are_guessed_no_better_than_by_chance():
    """240 held-out rows whose labels nothing says: within three of a coin's deviations. (0.7 where they chose.)"""
    keras.utils.set_random_seed(0)
    learner = Learner(
        keras.Sequential([keras.Input((4,)), layers.Dense(2, activation="softmax")]),
        optimizer="adam",
        learning_rate=2.0,  # which jumps about, so that there is much to choose from
    )
    start, right, rows = learner.get_weights(), 0, 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(40, 4)).astype("float32"), rng.permutation(np.repeat([0, 1], 20))
        placed = learner.place(x, y)
        learner.set_weights(start)
        options = {"epochs": 8, "batch_size": 8, "rng": rng, "patience": 8, "classes": y}
        result = cross_validate(learner, lambda fold, placed=placed: placed, split(40, 8, rng, y), **options)
        right += sum(round(fold.outcome.accuracy * len(fold.held_out)) for fold in result.folds)
        rows += sum(len(fold.held_out) for fold in result.folds)
    assert rows == 240
    assert abs(right / rows - 0.5) < 3 * (0.25 / rows) ** 0.5


def test_accuracy_is_averaged_and_a_fold_does_not_depend_on_another():
    rng = np.random.default_rng(0)
    x, y = rng.random((30, 4), "float32"), rng.integers(0, 3, 30)

    def learner():
        keras.utils.set_random_seed(1)
        return Learner(
            keras.Sequential([keras.Input((4,)), layers.Dropout(0.2), layers.Dense(3, activation="softmax")])
        )

    first, second, parts = learner(), learner(), split(30, 3, np.random.default_rng(0), y)
    placed, options = first.place(x, y), {"batch_size": 8, "epochs": 3}
    result = cross_validate(first, lambda fold: placed, parts, rng=np.random.default_rng(1), **options)
    accuracies = [fold.outcome.accuracy for fold in result.folds]
    assert result.mean["accuracy"] == pytest.approx(np.mean(accuracies)) and set(result.std) == {"loss", "accuracy"}
    again = cross_validate(second, lambda fold: placed, parts, rng=np.random.default_rng(1), **options)
    assert [fold.outcome.loss for fold in again.folds] == [fold.outcome.loss for fold in result.folds]
    kept = first.get_weights()["000.kernel"]
    np.testing.assert_array_equal(second.get_weights()["000.kernel"], kept)
    held_out = result.folds[result.best - 1].held_out
    assert first.evaluate(x[held_out], y[held_out]).loss == pytest.approx(min(f.outcome.loss for f in result.folds))


def test_each_fold_sees_the_examples_in_its_own_way_and_the_refit_in_that_of_all():
    """Targets 1 everywhere and x the fold's number: one whole batch at rate 1/2 takes w from 0 to x."""
    learner, asked = line(), []

    def examples(fold):
        asked.append(fold)
        return learner.place(np.full((4, 1), 10.0 if fold == 0 else float(fold)), np.ones((4, 1)))

    parts = split(4, 2, np.random.default_rng(0))
    options = {"epochs": 1, "batch_size": 4, "rng": np.random.default_rng(0)}
    best = cross_validate(learner, examples, parts, **options)
    assert asked == [1, 2] and [fold.outcome.loss for fold in best.folds] == pytest.approx([0.0, 9.0])
    cross_validate(learner, examples, parts, **options, returns="refit")
    assert asked[2:] == [1, 2, 0]
    assert weight(learner) == pytest.approx(1 + 10 * (1 - 10))  # from fold 1's w = 1, where the first call left it


def test_a_fold_without_a_finite_loss_is_never_the_best():
    learner = line()
    parts = split(4, 2, np.random.default_rng(0))
    options = {"epochs": 1, "batch_size": 4, "rng": np.random.default_rng(0)}

    def examples(diverging):
        return lambda fold: learner.place(np.full((4, 1), np.nan if fold in diverging else 1.0), np.ones((4, 1)))

    result = cross_validate(learner, examples({1}), parts, **options)
    assert result.best == 2 and weight(learner) == pytest.approx(1)
    with pytest.raises(UserError, match=r"no fold's loss is finite \(nan, nan\)"):
        cross_validate(learner, examples({1, 2}), parts, **options)
