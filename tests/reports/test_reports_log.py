"""Foreign words in the log and on the terminal: one printable line of bounded length, in files of bounded size.

A disk or a terminal that refuses the log costs its lines, and not the run.
"""

import logging
import sys
from pathlib import Path

import pytest

from fedkeras.errors import UserError, complain, one_line
from fedkeras.reports import log as run_log
from fedkeras.reports import show_warnings, start_log, stop_log

log = logging.getLogger("fedkeras")

FORGED = "0.1.0\r\n2026-11-30 00:00:00,000 INFO    fedkeras: client 0 joined\x1b[2J\x1b]0;title\x07\u202e\u2028"
CLEANED = "0.1.0 2026-11-30 00:00:00,000 INFO fedkeras: client 0 joined [2J ]0;title"


@pytest.fixture(autouse=True)
def _as_before():
    """Loggers are the process's: leave them as they were."""
    loggers = [logging.getLogger(name) for name in run_log.NAMES]
    before = [list(logger.handlers) for logger in loggers]
    yield
    stop_log()
    for logger, handlers in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers


def test_one_line_is_printable_and_has_500_characters_its_beginning_and_its_end():
    assert one_line(" two\nlines\t and \x00 a bell\a") == "two lines and a bell"
    assert one_line(FORGED) == CLEANED
    assert one_line("\udcff half\ud800") == "half"
    assert one_line("a" * 500) == "a" * 500
    assert one_line("a" * 400 + "b" * 101) == "a" * 400 + " ... " + "b" * 95
    megabytes = one_line("\x1b" * 3_000_000 + "what to do")
    assert megabytes == "... what to do"
    assert len(one_line("ab" * 2_000_000)) == 500


def test_foreign_words_are_a_line_in_the_log_and_on_the_terminal(tmp_path: Path, capsys):
    start_log(tmp_path / "run.log")
    log.warning("refused a client: it runs fedkeras %s", FORGED)
    log.warning("%s", "x" * 3_000_000)
    try:
        raise ValueError(FORGED)
    except ValueError:
        log.exception("a fault")
    stop_log()
    complain("client.py", UserError(FORGED))
    assert capsys.readouterr().err.splitlines() == [
        f"warning: refused a client: it runs fedkeras {CLEANED}",
        "warning: " + "x" * 400 + " ... " + "x" * 95,
        "error: a fault",
        f"client.py: {CLEANED}",
    ]
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert len(lines[1]) < 600 and all(line.isprintable() for line in lines)
    assert [line.partition(": ")[2] for line in lines if line.startswith("20")] == [
        f"refused a client: it runs fedkeras {CLEANED}", "x" * 400 + " ... " + "x" * 95, "a fault",
    ]  # fmt: skip
    assert lines[3].startswith("    Traceback"), "a traceback's lines are indented: none of them can pass for a record"
    assert all(line.startswith("    ") for line in lines[3:])


def test_a_command_shows_warnings_before_and_after_its_run(tmp_path: Path, capsys):
    show_warnings()
    log.warning("before\x1b[2J")
    start_log(tmp_path / "run.log")
    log.warning("within")
    stop_log()
    log.warning("after\x1b[2J")
    assert capsys.readouterr().err.splitlines() == ["warning: before [2J", "warning: within", "warning: after [2J"]
    assert "within" in (tmp_path / "run.log").read_text() and "after" not in (tmp_path / "run.log").read_text()


def test_the_log_is_a_few_files_of_bounded_size_and_goes_on_with_what_is_there(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(run_log, "MAX_BYTES", 2000)
    (tmp_path / "run.log").write_text("of the run before\n")
    start_log(tmp_path / "run.log")
    for number in range(200):
        log.info("line %d", number)
    stop_log()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["run.log", "run.log.1", "run.log.2", "run.log.3", "run.log.4"]
    assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir())
    assert (tmp_path / "run.log").read_text().endswith("line 199\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux'")
def test_a_full_disk_is_said_once_and_ends_nothing(capsys):
    start_log(Path("/dev/full"))
    try:
        for number in range(3):
            logging.getLogger("fedkeras.anything").info("line %d", number)
    finally:
        stop_log()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "warning: cannot write /dev/full: No space left on device; the run goes on, and its log lacks lines"
    ]


def test_a_terminal_that_is_gone_ends_nothing(tmp_path: Path, monkeypatch):
    start_log(tmp_path / "run.log")
    try:
        with Path("/dev/null").open("w") as gone:
            pass
        monkeypatch.setattr(sys, "stderr", gone)
        logging.getLogger("fedkeras.anything").warning("nobody reads this")
    finally:
        monkeypatch.undo()
        stop_log()
    assert "nobody reads this" in (tmp_path / "run.log").read_text()


def test_what_the_live_table_says_is_not_printed_above_it_too(tmp_path, capsys):
    start_log(tmp_path / "run.log")
    try:
        logging.getLogger("fedkeras").warning("waiting for %d", 1, extra=run_log.ON_TABLE)
        run_log.table_is_drawn.set()
        logging.getLogger("fedkeras").warning("waiting for %d", 2, extra=run_log.ON_TABLE)
        logging.getLogger("fedkeras").warning("another")
    finally:
        run_log.table_is_drawn.clear()
        stop_log()
    assert capsys.readouterr().err == "warning: waiting for 1\nwarning: another\n"
    assert "waiting for 2" in (tmp_path / "run.log").read_text()
