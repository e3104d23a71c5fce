"""The search space by hand; a seeded toy that is pruned, interrupted and gone on with."""

import math

import pytest

from fedkeras.commands.sweep import main
from fedkeras.errors import UserError
from fedkeras.sweep.search_space import Alternatives, Range, parse_search
from fedkeras.sweep.trials import ended, open_study, search

SPACE = parse_search("learning-rate=log:1e-3..1,batch-size=16/32/64")
TRIALS = 14


def toy(values, report):
    """Best at a learning rate of 0.1 and batches of 32; five rounds that come nearer to it."""
    best = 1 - abs(math.log10(values["learning_rate"]) + 1) / 4 - abs(values["batch_size"] - 32) / 320
    for number in range(1, 6):
        if report(number, best * number / 5):
            return None
    return best


def tried(folder):
    return [(trial.params, trial.value, trial.state.name) for trial in ended(open_study(folder))]


def test_a_search_space_is_read():
    assert {"learning_rate": Range(0.001, 1.0, log=True), "batch_size": Alternatives((16, 32, 64))} == SPACE
    assert parse_search("local-epochs=1..5, strategy=fedavg/fedprox") == {
        "local_epochs": Range(1, 5),
        "strategy": Alternatives(("fedavg", "fedprox")),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("learning-rate", "write FIELD"),
        ("seed=1/2", "cannot be searched"),
        ("port=1..2", "cannot be searched"),
        ("learning-rate=1..0.1", "empty range"),
        ("learning-rate=1..1", "empty range"),
        ("learning-rate=log:0..1", "above 0"),
        ("learning-rate=0.1..inf", "not a number"),
        ("batch-size=16/1.5", "not a whole number"),
        ("batch-size=16/16", "twice"),
        ("batch-size=16,batch-size=32", "twice"),
        ("optimizer=sgd..adam", "only a number"),
    ],
)
def test_what_cannot_be_searched_is_refused(text, said):
    with pytest.raises(UserError, match=said):
        parse_search(text)


def test_no_trial_is_refused(tmp_path):
    with pytest.raises(UserError, match="at least 1"):
        search(SPACE, 0, 7, tmp_path, toy)


def test_pruning_does_not_change_the_winner(tmp_path):
    for name, prune in (("pruned", True), ("whole", False)):
        (tmp_path / name).mkdir()
        search(SPACE, TRIALS, 7, tmp_path / name, toy, prune)
    assert "PRUNED" in [state for _, _, state in tried(tmp_path / "pruned")]
    winners = [open_study(tmp_path / name).best_trial for name in ("pruned", "whole")]
    assert winners[0].params == winners[1].params
    assert winners[0].value == winners[1].value


def test_an_interrupted_search_goes_on_as_if_it_had_not_been(tmp_path):
    for name in ("whole", "interrupted"):
        (tmp_path / name).mkdir()
    search(SPACE, TRIALS, 7, tmp_path / "whole", toy)
    calls = 0

    def stopped(values, report):
        nonlocal calls
        calls += 1
        if calls == 8:
            report(1, 0.1)
            raise KeyboardInterrupt
        return toy(values, report)

    with pytest.raises(KeyboardInterrupt):
        search(SPACE, TRIALS, 7, tmp_path / "interrupted", stopped)
    assert len(tried(tmp_path / "interrupted")) == 7
    search(SPACE, TRIALS, 7, tmp_path / "interrupted", toy)
    assert tried(tmp_path / "interrupted") == tried(tmp_path / "whole")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--trials", "0"], "--trials must be at least 1"),
        (["--mods", "dp:noise=1,norm=1"], "privacy that every trial spends"),
        (["--split", "sequential"], "searches federated training"),
        (["--learning-rate", "0.2"], "is searched"),
        (["--search", "seed=1/2"], "cannot be searched"),
        (["--test-fraction", "0"], "chooses on what the clients hold out"),
        (["--no-central-evaluation"], "is not for sweep"),
    ],
)
def test_what_a_sweep_cannot_do_is_refused(flags, said, capsys):
    assert main(["digits", *flags]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_sweep_on_real_processes_tests_the_winner_alone_centrally(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = ["digits", "--search", "batch-size=16/32", "--num-server-rounds", "1", "--num-partitions", "2"]
    assert main([*flags, "--trials", "1", "--out", "swept"]) == 0
    assert "central test set: 0." in capsys.readouterr().out
    trial, winner = (next((tmp_path / "swept" / name).glob("*/*-run/history.csv")) for name in ("trials", "winner"))
    assert ",server," not in trial.read_text()
    assert ",server," in winner.read_text()
    assert main([*flags, "--trials", "2", "--search", "batch-size=8/16", "--out", "swept"]) == 2
