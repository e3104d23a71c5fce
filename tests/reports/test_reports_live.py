"""The live table: what it says at 3 and at 300 clients, that it fits any terminal, and what a simulation relays."""

import io
import itertools
import json
import re
from types import SimpleNamespace

import pytest
from live_states import Clock, half_way, line
from rich.console import Console

from fedkeras.reports.live import Follower, Picture, Relay
from fedkeras.reports.live_state import LiveState
from fedkeras.reports.live_table import lines


def drawn(state, width=80, height=24, encoding="utf-8"):
    """The lines that a terminal of this size shows, as rich prints them."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, height=height, force_terminal=True, color_system=None)
    console.print(Picture(state.snapshot()))
    file.flush()
    return file.buffer.getvalue().decode(encoding).splitlines()


def test_three_clients_have_a_line_each():
    clock = Clock()
    state = LiveState(3, 10, clock)
    assert drawn(state)[0] == "waiting for clients  0 of 3 connected  0.0 s"
    state.on_clients([1], 3)
    assert drawn(state)[0] == "waiting for clients  1 of 3 connected  0.0 s" and "connected" in drawn(state)[4]
    state.patience = 300.0
    assert drawn(state)[0] == "waiting for clients  1 of 3 connected  0.0 s, giving up after 300 s"
    state.on_clients([0, 1, 2], 3)
    assert drawn(state)[0] == "getting ready  3 of 3 connected  0.0 s"
    state.on_phase_begin(1, "train", [0, 1, 2], [])
    clock.now = 102.0
    state.on_client_result(2, line(2, 0.5, 0.75))
    state.on_client_failure(0, "ran out of\nmemory")
    clock.now = 103.25
    shown = [" ".join(each.split()) for each in drawn(state)]
    assert shown[0] == "round 1 of 10 training 1/3 answered 1 failed 3.2 s"
    assert shown[1].endswith("0/10 rounds 0:00:03")
    assert shown[2] == "client state loss (train) loss (test) accuracy seconds"
    assert shown[3] == "0 failed ran out of memory"
    assert shown[4] == "1 training - - - 3.2"
    assert shown[5] == "2 answered 0.5000 - 0.7500 2.00"
    state.on_client_result(1, line(1, 0.25, 0.5))
    assert "aggregating" in drawn(state)[0]
    state.on_phase_begin(1, "evaluate", [1, 2], [0])
    state.on_client_result(1, line(1, 1.5, 0.625))
    shown = [" ".join(each.split()) for each in drawn(state)]
    assert shown[0].startswith("round 1 of 10 evaluating 1/2 answered 1 suspended")
    assert shown[3] == "0 suspended - - -" and shown[4] == "1 answered 0.2500 1.5000 0.6250 0.00"
    clock.now = 110.0
    state.end_round(1)
    assert drawn(state)[0] == "round 1 of 10  done  0.0 s"
    assert drawn(state)[1].endswith("1/10 rounds  0:00:10, some 0:01:30 left"), "nine more of ten seconds"
    state.close()
    assert drawn(state) == []


def test_300_clients_fit_and_every_count_is_right():
    shown = drawn(half_way(300))
    assert len(shown) <= 24 - 4 and max(map(len, shown)) <= 80
    # 30 are suspended; of the cohort of 270, 15 failed; the even cids of the others answered: 150 less those 15
    assert shown[0] == "round 2 of 10  training  135/270 answered  15 failed  30 suspended  7.5 s"
    text = "\n".join(shown)
    # cid/300 at cids 0 to 299: the median is 149.5/300, the highest 299/300, the lowest thirty have 14.5/300
    assert "accuracy    median 0.4983, 0.0000 to 0.9967, worst 10 % 0.0483 (own test sets)" in text
    assert "loss        median 1.5000, 1.5000 to 1.5000, worst 10 % 1.5000 (own test sets)" in text
    # Client 298 is the 270th of the cohort and answers after 1 + 2.69 s; 296 is the 268th, and 294 the 266th
    assert "slowest: client 298 (3.7), 296 (3.7), 294 (3." in text
    assert "at work     297, 295, 293, 291, 287, 285, 283, 281 and 112 more" in text, "the slowest of last time first"
    assert "failed      client 8: ran out of memory" in text and "            and 12 more" in text
    strip = [each[5:].replace(" ", "") for each in shown if re.match(r" *\d+  [^a-z]", each)]
    marks = "".join(strip)
    assert len(marks) == 300
    assert {mark: marks.count(mark) for mark in "■□×z"} == {"■": 135, "□": 120, "×": 15, "z": 30}
    assert [marks[cid] for cid in (0, 1, 8, 9, 298)] == ["■", "□", "×", "z", "■"]
    assert shown[-1].split() == ["×", "failed", "□", "training", "z", "suspended", "■", "answered"]


@pytest.mark.parametrize("clients", [1, 3, 14, 15, 60, 300, 2000])
def test_it_fits_every_terminal(clients):
    state = half_way(clients)
    for width, height in itertools.product((20, 40, 80, 200), (1, 2, 5, 10, 24, 50)):
        shown = drawn(state, width, height)
        assert 1 <= len(shown) <= max(1, height - 1) and max(map(len, shown)) <= width, (width, height)
    assert "round 2 of 10" in drawn(state)[0]


def test_of_very_many_clients_a_mark_is_several_and_shows_the_worst():
    state = LiveState(5000, 2, Clock())
    state.on_phase_begin(1, "train", range(5000), [])
    for cid in range(5000):
        state.on_client_result(cid, line(cid, 1.0, 0.5))
    state.on_client_failure(4321, "died")
    text = "\n".join(drawn(state))
    assert len(drawn(state)) <= 20 and text.count("×") == 2, "one in the strip, one in the legend"
    assert re.search(r"a mark is \d+ clients", text)


def test_a_terminal_without_unicode_gets_other_marks():
    shown = drawn(half_way(300), encoding="ascii")
    assert "! failed" in shown[-1] and "# answered" in shown[-1] and len(shown) <= 20
    assert "===" in shown[1] or "---" in shown[1]


def test_a_picture_does_not_change_while_it_is_drawn():
    state = half_way(3)
    before = state.snapshot()
    state.on_phase_begin(3, "evaluate", [0], [1])
    assert lines(before, 80, 24)[0].plain.startswith("round 2 of 10  training")


def test_a_model_of_its_own_metric_shows_that():
    state = LiveState(1, 2, Clock())
    state.on_phase_begin(1, "train", [0], [])
    state.on_client_result(0, {"client": "0", "loss": 3.0, "mean_absolute_error": 0.125, "bytes_up": 7, "seconds": 1.0})
    shown = drawn(state)
    assert "mean_absolute_error" in shown[2] and "0.1250" in shown[3]


def test_what_a_simulation_relays_is_the_same_state(tmp_path):
    relay, direct = Relay(tmp_path / "live"), LiveState(3, 2, Clock())
    (tmp_path / "live").touch()
    followed = LiveState(3, 2, Clock())
    with (tmp_path / "live").open() as file:
        follower = Follower(file, followed)
        for each in (relay, direct):
            each.on_clients([0, 2], 3)
            each.on_phase_begin(1, "train", {0, 1}, [2])
            each.on_client_result(1, line(1, 0.5, 0.75))
        follower.catch_up()
        assert drawn(followed) == drawn(direct)
        for each in (relay, direct):
            each.on_client_failure(0, "late")
            assert each.on_round_end(SimpleNamespace(round=1)) is False
            each.close()
        whole = (tmp_path / "live").read_text()
        with (tmp_path / "live").open("a") as more:
            more.write('["end_rou')  # half a line, as it may be read
        follower.catch_up()
        assert followed.clients[0].reason == "late" and followed.phase == "over"
    assert [json.loads(each)[0] for each in whole.splitlines()][-1] == "close"


def test_a_relay_that_cannot_write_does_not_end_the_run(tmp_path, caplog):
    relay = Relay(tmp_path / "nowhere" / "live")
    relay.on_round_end(SimpleNamespace(round=1))
    relay.on_round_end(SimpleNamespace(round=2))
    assert caplog.text.count("no live table any more") == 1
