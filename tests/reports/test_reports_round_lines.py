"""What a client's terminal shows of rounds: a line a round, and at the end what it took part in."""

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
    assert [line.split() for line in said] == [
        ["round", "examples", "loss", "accuracy", "seconds", "test", "loss", "accuracy"],
        ["1/3", "100", "2.0000", "0.5000", "0.25", "1.5000", "0.5000"],
        ["2/3", "100", "1.2500", "-", "2.00", "-", "-"],
        ["3/3", "100", "1.0000", "0.5000", "0.25", "-", "-"],
        ["trained", "in", "3", "of", "3", "rounds"],
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
    assert said[4:] == ["client 1 trained in 0 of 5 rounds", "client 4 trained in 1 of 5 rounds"]
    assert all(len(f"client: {line}") <= 80 for line in said)


def test_many_clients_of_a_process_are_one_line_at_the_end_and_without_a_terminal_there_is_none() -> None:
    said: list[str] = []
    lines, silent = RoundLines(said.append, MOST + 1), RoundLines()
    for each in (lines, silent):
        for cid in range(3):
            each.trained(cid, 1, 2, figures(1.0))
        each.close()
    assert said == ["3 clients of this process trained 3 times"]
