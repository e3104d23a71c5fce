"""What appears whole or not at all, and what killed processes leave of it."""

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fedkeras import atomic
from fedkeras.errors import UserError
from fedkeras.reports.history import FAILURES, History, read_rows


@pytest.fixture
def dead() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def left(folder: Path, machine: str, pid: int, name: str, age: float = 0.0) -> str:
    """What a process has left under a partial_path of `name`."""
    path = folder / f".part-{machine}-{pid}-0a1b2c-{name}"
    path.write_text("half")
    os.utime(path, (time.time() - age, time.time() - age))
    return path.name


def test_a_file_is_replaced_when_it_is_whole(tmp_path):
    place = tmp_path / "model.keras"
    place.write_text("old")
    with atomic.new_file(place) as partial:
        partial.write_text("new")
        assert place.read_text() == "old" and partial.suffix == ".keras"
    assert place.read_text() == "new"
    with pytest.raises(KeyboardInterrupt), atomic.new_file(place) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert place.read_text() == "new" and names(tmp_path) == ["model.keras"]


def test_a_folder_appears_when_it_is_whole_and_the_first_one_stays(tmp_path):
    place = tmp_path / "entry"
    with atomic.new_folder(place) as first, atomic.new_folder(place) as second:
        (first / "file").write_text("slow")
        (second / "file").write_text("fast")
        assert not place.exists()
    assert (place / "file").read_text() == "fast" and names(tmp_path) == ["entry"]
    with pytest.raises(OSError, match="disk is full"), atomic.new_folder(tmp_path / "other") as partial:
        (partial / "file").write_text("half")
        raise OSError("disk is full")
    assert names(tmp_path) == ["entry"]


def test_a_folder_that_was_filled_bit_by_bit_is_put_into_place_once(tmp_path):
    place = tmp_path / "entry"
    for content in ("fast", "slow"):
        partial = atomic.partial_path(place)
        partial.mkdir()
        (partial / "file").write_text(content)
        atomic.into_place(partial, place)
    assert (place / "file").read_text() == "fast" and names(tmp_path) == ["entry"]
    with pytest.raises(FileNotFoundError):
        atomic.into_place(place, tmp_path / "nowhere" / "entry")
    assert names(tmp_path) == ["entry"]


def test_the_dead_are_swept_and_nobody_else(tmp_path, dead):
    """A machine's name may begin with another's; a dash in it becomes another sign, so that both can be told apart."""
    here = atomic.machine()
    gone = left(tmp_path, here, dead, "rows-ab")
    other_file = left(tmp_path, here, dead, "rows-abc")
    busy = left(tmp_path, here, os.getpid(), "rows-ab", age=10**6)
    elsewhere = left(tmp_path, f"{here}_{dead}", 1, "rows-ab", age=10**6)
    young = left(tmp_path, "elsewhere", dead, "rows-ab", age=10.0)
    atomic.sweep(tmp_path, "rows-ab")
    assert names(tmp_path) == sorted([other_file, busy, elsewhere, young]) and gone not in names(tmp_path)
    atomic.sweep(tmp_path, others_after=1000.0)
    assert names(tmp_path) == sorted([busy, young])


def test_a_partial_path_is_that_of_a_living_process_and_of_nobody_else(tmp_path):
    first, second = (atomic.partial_path(tmp_path / "x") for _ in range(2))
    assert first != second and first.parent == tmp_path
    first.write_text("half")
    assert list(atomic.abandoned(tmp_path)) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_private_is_for_its_user_alone(tmp_path: Path) -> None:
    """Of what is there already, too; and what is written afterwards is as it was before."""
    (old := tmp_path / "old").mkdir(mode=0o755)
    (old / "a").touch(mode=0o644)
    (old / "link").symlink_to(tmp_path)
    (new := tmp_path / "new").mkdir(mode=0o755)
    before = os.umask(0o022)
    try:
        with atomic.private(True, old):
            (new / "folder").mkdir()
            atomic.replace_file(new / "folder" / "b", b"x")
        with atomic.private(False, new):
            (new / "c").touch()
        atomic.replace_file(new / "d", b"x")
    finally:
        os.umask(before)
    modes = {path.relative_to(tmp_path).as_posix(): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    del modes["old/link"]
    assert modes == {
        **{"old": 0o700, "old/a": 0o600, "new": 0o755, "new/folder": 0o700, "new/folder/b": 0o600},
        **{"new/c": 0o644, "new/d": 0o644},
    }


@pytest.fixture
def no_descriptor_left():
    """Takes all that this process may open, and gives the function that closes them."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as taken:
        first = os.open(os.devnull, os.O_RDONLY)
        os.close(first)
        resource.setrlimit(resource.RLIMIT_NOFILE, (first + 20, hard))
        taken.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with contextlib.suppress(OSError):
            while True:
                taken.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        yield taken.close


def test_running_out_of_descriptors_is_waited_out_with_one_line(tmp_path, caplog, no_descriptor_left):
    """By all tables of a run; and where nobody closes any, it is said in the end."""
    later = threading.Timer(0.5, no_descriptor_left)
    later.start()
    History(tmp_path / "history.csv").append([{"round": 1, "phase": "train", "client": "0", "loss": 0.5}])
    later.join()
    assert [record.getMessage() for record in caplog.records] == [
        "Too many open files: waiting up to 120 s until a file is closed"
    ]
    FAILURES.append(tmp_path / "failures.csv", [{"round": 1, "client": "0", "reason": "gone"}])
    assert read_rows(tmp_path / "history.csv") == [{"round": 1, "phase": "train", "client": "0", "loss": 0.5}]


def test_descriptors_that_never_come_back_are_said(tmp_path, caplog, monkeypatch, no_descriptor_left):
    monkeypatch.setattr(atomic, "PATIENCE_SECONDS", 0.1)
    with pytest.raises(UserError, match=r"cannot write .*history.csv: Too many open files"):
        History(tmp_path / "history.csv")
    assert len(caplog.records) == 1 and caplog.records[0].levelno == logging.WARNING
