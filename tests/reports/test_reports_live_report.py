"""report.html during a run: it reloads itself until the run has ended, is drawn seldom, and never costs the run."""

import os
import re
import signal
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest
from test_reports_html import read
from test_reports_recorder import folder, outcome  # noqa: F401 - `folder` is a fixture

from fedkeras.config import Config
from fedkeras.reports import Recorder, held, live_report, section
from fedkeras.reports.live_report import EVERY_SECONDS, SHARE, LiveReport

REFRESH = '<meta http-equiv="refresh" content="5">'


class Clock:
    """Time that passes when a page is drawn, and when it is told to."""

    def __init__(self, monkeypatch, draw_seconds):
        self.now, self.draws, self.draw_seconds = 100.0, [], list(draw_seconds)
        monkeypatch.setattr(live_report, "write_report", self.draw)

    def __call__(self):
        return self.now

    def draw(self, _folder, **_more):
        self.draws.append(self.now)
        self.now += self.draw_seconds.pop(0) if len(self.draw_seconds) > 1 else self.draw_seconds[0]


def test_it_reloads_itself_until_the_run_has_ended_and_runs_no_script(folder):  # noqa: F811
    with held(folder), Recorder(folder, Config(num_server_rounds=3), live=False) as recorder:
        first = read(folder.report_path)
        assert REFRESH in first.text and 'class="badge running"' in first.text and not first.tags["script"]
        assert "default-src 'none'" in first.text and "No round is finished yet" in first.words["curves"]
        assert re.search(r"Drawn \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.", first.words[""]) and "was killed" in first.words[""]
        recorder.on_round_end(outcome(1))
        recorder.finish()
    last = folder.report_path.read_text()
    assert "refresh" not in last and "Drawn" not in last and 'class="badge finished"' in last


def test_a_round_is_in_the_page_when_its_time_has_come(folder, monkeypatch):  # noqa: F811
    monkeypatch.setattr(live_report, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(live_report, "SHARE", 1e9)
    sections = lambda: [section("Privacy", ["counted"])]  # noqa: E731
    with Recorder(folder, Config(), live=False, sections=sections) as recorder:
        result = outcome(1, failures={2: "asleep"})
        recorder.on_round_end(result)
        recorder.live_view.on_round_end(result)
        page = read(folder.report_path)
        assert "0.5000" in page.words[""] and page.tables["failures"][1:] == [["1", "2", "asleep"]]
        assert "counted" in page.text and 'content="0"' in page.text


@pytest.mark.parametrize("draw_seconds", [[0.5, 0.004], [0.5, 0.2], [0.5, 0.01, 0.01, 3.0, 0.01]])
def test_it_is_drawn_at_most_every_few_seconds_and_for_under_a_hundredth_of_the_time(monkeypatch, draw_seconds):
    clock = Clock(monkeypatch, draw_seconds)
    page = LiveReport(SimpleNamespace(path="run"), clock=clock)
    page.start()
    for _ in range(6000):  # rounds of a tenth of a second, ten minutes
        clock.now += 0.1
        page.on_round_end(outcome(1))
    gaps = [later - earlier for earlier, later in zip(clock.draws, clock.draws[1:], strict=False)]
    assert len(gaps) >= 3 and min(gaps[1:]) >= EVERY_SECONDS  # twice at the start
    assert page._spent <= SHARE * (clock.now - 100.0)
    if 3.0 in draw_seconds:
        assert max(gaps) > 250  # a page of three seconds is paid for before there is another
    elif draw_seconds[1] < 0.05:
        assert max(gaps) < EVERY_SECONDS + 0.2


def test_nothing_new_is_not_drawn_again(monkeypatch):
    clock = Clock(monkeypatch, [0.0])
    page = LiveReport(SimpleNamespace(path="run"), clock=clock)
    page.on_round_end(outcome(1))
    assert clock.draws == []  # it has not been started
    page.start()
    for _ in range(3):
        clock.now += 60
        page.on_phase_begin(1, "train", {0}, ())
    assert len(clock.draws) == 2
    page.on_client_result(0, {"phase": "train"})
    clock.now += 60
    page.on_phase_begin(1, "evaluate", {0}, ())
    assert len(clock.draws) == 3


def test_a_full_disk_costs_the_page_and_one_warning(folder, monkeypatch, caplog):  # noqa: F811
    def full(_folder, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(live_report, "write_report", full)
    monkeypatch.setattr(live_report, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(live_report, "SHARE", 1e9)
    with Recorder(folder, Config(), live=False) as recorder:
        for number in (1, 2):
            recorder.live_view.on_round_end(outcome(number))
        assert recorder.finish()["status"] == "finished"
    assert caplog.text.count("report.html is not drawn during the run: OSError") == 1


def test_a_section_that_is_not_there_yet_costs_the_page_nothing(folder, caplog):  # noqa: F811
    there = []

    def sections():
        return [section("Privacy", [f"spent {there[0]}"])]

    with Recorder(folder, Config(), live=False, sections=sections) as recorder:
        assert REFRESH in folder.report_path.read_text() and "Privacy" not in folder.report_path.read_text()
        there.append("a little")
        recorder.finish()
    assert "spent a little" in folder.report_path.read_text()
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_run_that_was_killed_leaves_its_page_and_the_command_makes_it_rest(tmp_path):
    code = f"""
        from pathlib import Path
        from fedkeras.config import Config
        from fedkeras.reports import Recorder, create_run_folder, held
        folder = create_run_folder(Path({str(tmp_path)!r}), "x", Config())
        with held(folder), Recorder(folder, Config(), live=False):
            print(folder.path, flush=True)
            input()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    path = tmp_path / process.stdout.readline().strip()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert REFRESH in (path / "report.html").read_text()
    from fedkeras.commands import report as command

    assert command.main([str(path)]) == 0
    text = (path / "report.html").read_text()
    assert "refresh" not in text and 'class="badge unfinished"' in text
