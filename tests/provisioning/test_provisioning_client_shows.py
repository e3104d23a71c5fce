"""What a client shows of its own work where it is no terminal, and that showing it does not change the work."""

import keras
import numpy as np

from fedkeras.learning import Learner
from fedkeras.reports import progress_table
from fedkeras.reports.progress_bar import ProgressBar


def test_plain_lines_come_in_steps(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress_table.time, "monotonic", lambda: now[0])
    bar = ProgressBar(live=False)
    for done in range(0, 101, 5):
        bar.moved(3, "receiving data", done, 100)
    assert capsys.readouterr().out.splitlines() == [f"client 3: receiving data {n} %" for n in (25, 50, 75, 100)]
    for epoch in range(1, 13):
        now[0] += 0.5
        bar.trained(3, f"training epoch {epoch}/12", epoch, 12, "loss 1")
    bar.trained(3, "saving", 12, 12)
    bar.over(3)
    states = ["training epoch 5/12", "training epoch 10/12", "saving"]  # two seconds must have gone by
    assert capsys.readouterr().out.splitlines() == [f"client 3: {state}" for state in states]


def test_two_clients_of_one_process_have_a_bar_each_and_leave_a_line_each(capsys):
    bar = ProgressBar(live=True)
    bar.moved(0, "receiving data", 1_000_000, 4_000_000)
    bar.moved(1, "receiving data", 8_000_000, 8_000_000)
    bar.trained(0, "training epoch 1/2", 1, 2, "loss 0.5")
    bar.trained(0, "saving", 2, 2)
    bar.over(0)
    bar.over(0)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("client 1: receiving data: 8.0 MB in ") for line in lines)
    assert any(line.startswith("client 0: receiving data: 1.0 MB of 4.0 MB in ") for line in lines)
    assert any(line.startswith("client 0: training: epoch 1/2, loss 0.5, ") for line in lines)


def test_epoch_by_epoch_is_a_training_to_the_bit():
    rng = np.random.default_rng(0)
    x, y = rng.random((40, 4), "float32"), rng.integers(0, 3, 40)
    results, said = [], []
    for whole in (True, False):
        keras.utils.set_random_seed(1)
        layers = [keras.layers.Dropout(0.3), keras.layers.Dense(3, activation="softmax")]
        learner = Learner(keras.Sequential([keras.Input((4,)), *layers]), optimizer="adam", learning_rate=0.01)
        placed, options = learner.place(x, y), {"epochs": 3, "batch_size": 8, "rng": np.random.default_rng(5)}
        if whole:
            outcome = learner.train(*placed, **options)
        else:
            outcome = learner.train(*placed, on_epoch=lambda epoch, each: said.append((epoch, each.loss)), **options)
        results.append((outcome, learner.get_weights()))
    (one, first), (other, second) = results
    assert one == other and [epoch for epoch, _ in said] == [1, 2, 3] and said[-1][1] == one.loss
    assert all(np.array_equal(first[name], second[name]) for name in first)
