"""The live table of real runs on a pseudo-terminal: over gRPC with three clients and a Ctrl-C, and in a simulation."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "runtime"))
from pseudo_terminal import Terminal, all_ended  # noqa: E402

SIZE = 24, 80
ROW = re.compile(r" {4}(\d)  +\d\.\d{4}  +\d\.\d{4}  +\d+\.\d\d  +3/3\n")


def test_three_clients_over_grpc_and_a_ctrl_c(tmp_path: Path) -> None:
    # One process serves all three clients: three imports of TensorFlow would show nothing more.
    flags = ["--port", "0", "--spawn", "1", "--num-server-rounds", "9", "--local-epochs", "30"]
    screen = Terminal(ROOT, ROOT / "server.py", *flags, "--run-dir", tmp_path, size=SIZE)
    try:
        screen.wait_for_drawn(r"waiting for clients  \d of 3 connected|round 1 of 9")
        screen.wait_for_drawn(r"round 2 of 9  training  \d/3 answered")
        os.kill(screen.process.pid, signal.SIGINT)
        [status] = all_ended(screen)
    finally:
        screen.close()
    text = screen.text
    assert status == 130 and "Ctrl-C again ends at once" in text and "to go on: python server.py --resume" in text
    # Drawn in round 2, with the figures of round 1; seconds have one place while a client is at work, else two
    assert re.search(r"^ {5}2  (training|answered) +\d\.\d{4} +\d\.\d{4} +\d\.\d{4} +\d+\.\d", text, re.MULTILINE)
    assert re.search(r"1/9 rounds  0:0\d:\d\d, some \d:\d\d:\d\d left", text)
    rows = [int(number) for number in ROW.findall(text)]
    assert rows == list(range(1, len(rows) + 1)) and len(rows) >= 2
    assert text.count("round   loss (central)") == 1, "the finished rounds are printed once, not drawn again"
    last = screen.shown.rfind("\x1b[?25h")
    assert last > 0 and "training  " not in screen.shown[last:], "the cursor is given back, and the table has gone"
    assert re.search(r"(?m)^interrupted in \d+\.\d s$", text) and "Traceback" not in text


@pytest.mark.slow
def test_a_simulation_has_the_same_table(tmp_path: Path) -> None:
    flags = ["--num-server-rounds", "3", "--local-epochs", "30", "--run-dir", str(tmp_path)]
    screen = Terminal(ROOT, "-m", "fedkeras", "simulate", *flags, size=SIZE)
    try:
        [status] = all_ended(screen)
    finally:
        screen.close()
    text = screen.text
    assert status == 0, text[-2000:]
    assert re.search(r"round 2 of 3  (training|evaluating|aggregating)", text)
    assert re.search(r"^ {5}2  \w+ +\d\.\d{4} +\d\.\d{4} +\d\.\d{4} ", text, re.MULTILINE)
    assert [int(number) for number in ROW.findall(text)] == [1, 2, 3]
    assert re.search(r"(?m)^finished in \d+\.\d s$", text)
