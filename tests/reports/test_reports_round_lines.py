"""What a client's terminal shows of rounds: a line a round, a bar meanwhile, and at the end what it took part in."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "runtime"))
from pseudo_terminal import Terminal, all_ended

from fedkeras.reports.own_part import OwnPart
from fedkeras.reports.progress_bar import ProgressBar
from fedkeras.reports.round_lines import MOST, RoundLines


def figures(loss: float, count: int = 100, **more: float) -> dict:
    return {"num-examples": count, "loss": loss, "accuracy": 0.5, "seconds": 0.25, **more}


def test_a_round_is_one_line_with_training_and_test() -> None:
    said: list[str] = []
    lines = RoundLines(said.append)
    lines.trained(0, 1, 3, figures(2.0))
    assert said == [], "the test that follows is waited for"
    lines.tested(0, 1, 3, figures(1.5, 10))
    lines.trained(0, 2, 3, {"num-examples": 100, "loss": 1.25, "seconds": 2.0})
    lines.trained(0, 3, 3, figures(1.0))  # no test in round 2
    lines.close()
    assert [line.split() for line in said[:4]] == [
        ["round", "examples", "loss", "accuracy", "seconds", "test", "loss", "accuracy"],
        ["1/3", "100", "2.0000", "0.5000", "0.25", "1.5000", "0.5000"],
        ["2/3", "100", "1.2500", "-", "2.00", "-", "-"],
        ["3/3", "100", "1.0000", "0.5000", "0.25", "-", "-"],
    ]
    assert said[4:] == [
        "trained in 3 of 3 rounds on 100 examples, tested in 1 on 10",
        "best test loss 1.5000, accuracy 0.5000, in round 1",
    ]
    assert all(len(f"client.py: {line}") <= 80 for line in said)


def test_several_clients_are_named_and_a_test_of_another_round_is_its_own_line() -> None:
    said: list[str] = []
    lines = RoundLines(said.append, clients=2)
    lines.trained(4, 1, 5, figures(2.0))
    lines.tested(1, 1, 5, figures(1.0))
    lines.tested(4, 2, 5, figures(1.5))
    lines.close()
    assert [line.split()[:2] for line in said[1:4]] == [["1", "1/5"], ["4", "1/5"], ["4", "2/5"]]
    assert said[4:] == [
        "client 1 trained in 0 of 5 rounds, tested in 1 on 100",
        "client 1 best test loss 1.0000, accuracy 0.5000, in round 1",
        "client 4 trained in 1 of 5 rounds on 100 examples, tested in 1 on 100",
        "client 4 best test loss 1.5000, accuracy 0.5000, in round 2",
    ]
    assert all(len(f"client: {line}") <= 80 for line in said)


def test_many_clients_of_a_process_are_one_line_at_the_end_and_without_a_terminal_there_is_none() -> None:
    said: list[str] = []
    lines, silent = RoundLines(said.append, MOST + 1), RoundLines()
    for each in (lines, silent):
        for cid in range(3):
            each.trained(cid, 1, 2, figures(1.0))
        each.close()
    assert said == ["3 clients of this process trained 3 times"]


def test_the_best_loss_is_that_of_the_test_where_there_is_one_and_no_number_is_none() -> None:
    part = OwnPart(rounds=4)
    for number, loss in enumerate((2.0, float("nan"), 0.5, 1.0), 1):
        part.has_trained(number, {"loss": loss, "num-examples": 1})
    assert part.lines() == ["trained in 4 of 4 rounds on 1 example", "best training loss 0.5000, in round 3"]
    part.has_tested(4, figures(3.0))
    assert part.lines()[1] == "best test loss 3.0000, accuracy 0.5000, in round 4"
    lost = OwnPart(rounds=1)
    lost.has_trained(1, {"loss": float("nan")})
    assert lost.lines() == ["trained in 1 of 1 rounds"]


def test_one_training_is_said_with_its_figures_and_where_its_model_is() -> None:
    here = "its model is kept here, to be delivered later"
    for delivered, where in ((True, "the server has its model"), (False, here)):
        said: list[str] = []
        lines = RoundLines(said.append)
        lines.collected(0, "k-fold, 5 folds of 3 epochs,", figures(0.25, 1500, **{"cv-loss": 0.5}))
        if delivered:
            lines.delivered(0)
        lines.close()
        assert said == [
            "trained: loss 0.2500, accuracy 0.5000, cv-loss 0.5000; 0.2 s",
            "trained once: k-fold, 5 folds of 3 epochs, on 1,500 examples",
            where,
        ]
    lines = RoundLines(said.append)
    lines.delivered(0)
    lines.close()
    assert said[-1] == "delivered what it held"


def test_a_test_without_a_round_belongs_to_the_last_training() -> None:
    """Split learning's server does not say which round's model is tested."""
    said: list[str] = []
    lines = RoundLines(said.append)
    lines.trained(0, 2, 3, figures(1.0))
    lines.tested(0, 0, 3, figures(0.5))
    assert said[1].split()[0] == "2/3" and said[1].split()[-2:] == ["0.5000", "0.5000"]


def test_the_bar_of_rounds_is_the_whole_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    bar, moved = ProgressBar(live=True), []
    monkeypatch.setattr(bar, "in_rounds", lambda *where: moved.append(where))
    lines = RoundLines(print, 2, bar)
    lines.at(0, 1, 4, "training")
    lines.at(0, 1, 4, "training, epoch 1/2", 0.5)
    lines.trained(0, 1, 4, figures(1.0))
    lines.at(1, 1, 4, "training", 0.5)
    lines.trained(1, 1, 4, figures(1.0))
    lines.tested(0, 4, 4, figures(1.0))
    assert [(title, doing, done) for title, doing, done, _ in moved] == [
        ("round 1/4", "client 0 training", 0.0),
        ("round 1/4", "client 0 training, epoch 1/2", 0.25),
        ("round 1/4", "client 0 waiting for the others", 0.5),
        ("round 1/4", "client 1 training", 0.75),
        ("round 1/4", "client 1 waiting for the others", 1.0),
        ("round 4/4", "client 0 done", 3.5),
    ]


def test_on_a_terminal_the_bar_is_drawn_and_is_gone_when_the_end_is_said(tmp_path: Path) -> None:
    script = tmp_path / "shows.py"
    script.write_text(
        "import time\n"
        "from fedkeras.reports.progress_bar import ProgressBar\n"
        "from fedkeras.reports.round_lines import RoundLines\n"
        "lines = RoundLines(print, bar=ProgressBar())\n"
        "lines.at(0, 2, 2, 'training, epoch 1/2', 0.5)\n"
        "time.sleep(0.6)\n"  # four pictures a second
        "lines.trained(0, 2, 2, {'num-examples': 5, 'loss': 1.0})\n"
        "lines.close()\n"
    )
    terminal = Terminal(tmp_path, script, size=(24, 80))
    assert all_ended(terminal) == [0]
    terminal.close()
    *drawn, round_line, part, best = terminal.text.rstrip().split("\n")
    assert re.search(r"round 2/2 ━+.* 75% training, epoch 1/2", "".join(drawn)) and "client 0" not in terminal.text
    assert round_line.split()[:2] == ["2/2", "5"] and part == "trained in 1 of 2 rounds on 5 examples"
    assert best.endswith("in round 2") and "\x1b[?25h" in terminal.shown  # the cursor is back


def test_without_a_terminal_there_is_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    lines = RoundLines(print, bar=ProgressBar(live=False))
    lines.at(0, 1, 2, "training", 0.5)
    assert not lines.draws and capsys.readouterr().out == ""
