"""A run whose loss becomes NaN, or whose variance falls below zero: said at once, at the end, and by its status."""

import json
import re

import numpy as np
import pytest
from flwr.serverapp.strategy import FedAdam
from toy_federation import ToyClients, configure, content, floats

from fedkeras import factory, reports, server
from fedkeras.errors import RunFailed
from fedkeras.reports import RunFolder, read_rows, resuming
from fedkeras.reports.divergence import best_checkpoint, diverged_since
from fedkeras.reports.headline import best
from fedkeras.reports.report import report
from fedkeras.reports.run import read_run
from fedkeras.runtime.in_process import InProcessGrid
from fedkeras.workflows.preparation import Preparation

NAN = float("nan")


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    """Toy clients have arrays and no Keras model."""
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda n: None)  # this process has begun with others
    monkeypatch.setattr(factory.CentralEvaluation, "save", lambda self, weights, path: None)
    monkeypatch.setattr(factory.CentralEvaluation, "load", lambda self: None)
    monkeypatch.setattr(factory.CentralEvaluation, "predictions", lambda self, weights: None)
    monkeypatch.setattr(factory.CentralEvaluation, "weight_names", lambda self: None)


def train(cid, server_round, weights, config):
    """The variance falls to 0 in round 1: another step of that length goes below it."""
    start = floats(**{"0.kernel": [1, 2], "1.moving_variance": [8.0]})
    return content({**start, "1.moving_variance": np.float32([max(0, 8 - 8 * server_round)])}, cid + 1, loss=1.0)


def evaluating(*losses):
    def evaluate(cid, server_round, weights, config):
        return content(None, cid + 1, loss=losses[server_round - 1], accuracy=0.9 if np.isnan(losses[0]) else 0.5)

    return evaluate


def run(tmp_path, monkeypatch, *losses, central=None, strategy="fedavg", **fields):
    """A run with these losses at the clients, or on the central test set; its folder and summary."""
    monkeypatch.setattr(Preparation, "dealt", lambda _: {})  # the toy clients have no part of the data set
    if central:
        monkeypatch.setattr(
            factory.CentralEvaluation,
            "__call__",
            lambda self, number, weights: {"num-examples": 9, "loss": central[number - 1], "accuracy": number / 10},
        )
    clients = ToyClients(train, evaluating(*(losses or [1.0] * len(central))))
    config = configure(
        num_server_rounds=len(losses or central), central_evaluation=bool(central), strategy=strategy, **fields
    )
    grid = InProcessGrid(clients, 3, config.for_clients())
    summary = server.train(grid, config, tmp_path / "runs")
    return RunFolder(summary["folder"]), summary


def test_a_central_loss_that_is_not_finite_is_said_at_once_once_and_at_the_end(tmp_path, monkeypatch, capfd):
    """Its accuracy is the highest of all, as that of a model which always says the first class may be."""
    folder, summary = run(tmp_path, monkeypatch, central=[0.5, 0.4, NAN, NAN])
    out, err = capfd.readouterr()
    assert err.count("the central loss is not finite") == 1
    assert err.startswith("warning:") and "warning: round 3: the central loss is not finite, so that" in err
    assert out.splitlines()[-1] == str(folder.path)
    assert re.fullmatch(r"diverged in \d+\.\d s: the loss is not finite since round 3", out.splitlines()[-2])
    assert "round 3: the central loss" in folder.log_path.read_text()
    assert (summary["status"], summary["best_round"], summary["best_accuracy"], summary["loss"]) == (
        "diverged", 2, 0.2, None,
    )  # fmt: skip
    assert json.loads(folder.summary_path.read_text())["warnings"] == summary["warnings"] != []
    page = report(read_run(folder.path))
    assert "round 3: the central loss is not finite" in page and 'class="badge diverged"' in page
    with pytest.raises(RunFailed) as failed:
        server.require_result(summary)
    assert failed.value.status == 3 and "not finite since round 3" in str(failed.value)
    assert str(folder.checkpoints_path / "round-00002.ckpt") in str(failed.value)
    assert (folder.checkpoints_path / "round-00002.ckpt").exists()


def test_to_resume_it_is_status_3_again_and_more_rounds_go_on(tmp_path, monkeypatch):
    folder, _ = run(tmp_path, monkeypatch, central=[0.5, NAN])
    config = configure(resume=str(folder.path), num_server_rounds=2)
    with pytest.raises(RunFailed, match="ended without a result"):
        resuming.already_finished(config)
    assert not resuming.already_finished(configure(resume=str(folder.path), num_server_rounds=3))


def test_if_every_clients_loss_is_not_finite_so_is_their_mean(tmp_path, monkeypatch):
    """Each is a failed client to the server; the training loss, which looks well, does not stand for the run."""
    folder, summary = run(tmp_path, monkeypatch, 0.5, NAN)
    [mean] = [row for row in read_rows(folder.history_path) if (row["round"], row["phase"]) == (2, "evaluate")]
    assert mean["client"] == "all" and np.isnan(mean["loss"])
    assert (summary["status"], summary["source"], summary["best_round"]) == ("diverged", "clients", 1)
    assert "round 2: the clients' mean loss is not finite" in summary["warnings"][0]


def test_a_loss_that_comes_back_is_a_warning_and_no_other_end(tmp_path, monkeypatch, capfd):
    _, summary = run(tmp_path, monkeypatch, central=[NAN, 0.4, 0.3])
    assert summary["status"] == "finished"
    out = capfd.readouterr().out.splitlines()
    assert "warning: round 1: the central loss is not finite" in out[-3]
    assert re.fullmatch(r"finished in \d+\.\d s, with 1 warning", out[-2])
    server.require_result(summary)


class StepsAll(FedAdam):
    """What Flower's did before it was shown the trainable arrays alone."""

    takes_all = True


def test_a_variance_below_zero_is_said_at_once_and_at_the_end(tmp_path, monkeypatch, capfd):
    name = f"{__name__}:StepsAll"
    folder, summary = run(tmp_path, monkeypatch, central=[0.5] * 4, strategy=name, strategy_args="eta=9.0")
    out, err = capfd.readouterr()
    assert err.count("'1.moving_variance' is down to -") == 1
    assert out.splitlines()[-2].endswith("with 1 warning") and "no variance is below zero" in out.splitlines()[-3]
    assert summary["status"] == "finished" and "'1.moving_variance'" in summary["warnings"][0]
    assert "moving_variance" in report(read_run(folder.path))


def test_a_strategy_that_does_nothing_says_so_at_the_start(tmp_path, monkeypatch, capfd):
    _, summary = run(tmp_path, monkeypatch, 0.5, strategy="trimmed_mean", strategy_args="beta=0.2")
    assert "warning: trimmed_mean with beta=0.2 trims nothing of 3 clients' values" in capfd.readouterr().err
    assert "trims nothing" in summary["warnings"][0]


def rows_of(losses, client="server"):
    return [
        {"round": number, "phase": "evaluate", "client": client, "loss": loss, "accuracy": 0.1 * number}
        for number, loss in enumerate(losses, 1)
    ]


@pytest.mark.parametrize(
    ("losses", "since"),
    [([1, NAN, NAN], 2), ([NAN, 1, float("inf")], 3), ([NAN, 1], None), ([1, 2], None), ([], None), ([NAN], 1)],
)
def test_since_when_the_loss_is_not_finite(losses, since):
    assert diverged_since(rows_of(losses)) == since
    assert diverged_since([*rows_of(losses, "all"), *rows_of([1.0] * len(losses))]) == since


def test_a_row_without_a_finite_loss_is_never_the_best():
    assert best(rows_of([2.0, 1.0, NAN]))["round"] == 2
    assert best(rows_of([NAN, float("-inf")])) == {}
    without_accuracy = [{name: row[name] for name in row if name != "accuracy"} for row in rows_of([2, 1, 3, NAN])]
    assert best(without_accuracy)["round"] == 2


def test_no_checkpoint_is_named_whose_own_losses_are_not_finite(tmp_path):
    folder = RunFolder(tmp_path)
    folder.checkpoints_path.mkdir()
    for number in (1, 2, 3):
        reports.checkpoints.path_of(folder, number).touch()
    rows = [*rows_of([1.0, 0.5, 0.4]), *rows_of([1.0, 0.5, NAN], "all")]
    assert best_checkpoint(folder, rows)[0].name == "round-00002.ckpt"
    assert best_checkpoint(folder, rows_of([NAN] * 3)) is None
