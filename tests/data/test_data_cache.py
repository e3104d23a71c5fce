"""The cache of parsed data sets: made once, shared, replaced when files change, never in the way."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fedkeras import atomic
from fedkeras.data import cache
from fedkeras.data.cache import cached, fingerprint
from fedkeras.errors import UserError


def test_second_start_does_not_build(own_cache: Path) -> None:
    built = []

    def build() -> cache.Arrays:
        built.append(1)
        return {"x": np.arange(6, dtype=np.uint8).reshape(2, 3), "names": np.array(["a", "bc"])}

    for _ in range(2):
        arrays = cached("set", "key", build)
        assert isinstance(arrays["x"], np.memmap) and not arrays["x"].flags.writeable
        assert arrays["x"].tolist() == [[0, 1, 2], [3, 4, 5]] and list(arrays["names"]) == ["a", "bc"]
    assert built == [1]
    assert [path.name for path in own_cache.iterdir() if not path.name.endswith(".lock")] == ["set-key"]


def test_another_file_is_another_key(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    first = fingerprint([file], "words")
    assert fingerprint([file], "words") == first != fingerprint([file], "other words")
    file.write_text("three")
    second = fingerprint([file], "words")
    os.utime(file, ns=(0, 0))
    assert len({first, second, fingerprint([file], "words")}) == 3


def test_a_damaged_entry_is_made_anew(own_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cached("set", "key", lambda: {"x": np.arange(3)})
    (own_cache / "set-key" / "x.npy").write_bytes(b"\x93NUMPY torn")
    assert cached("set", "key", lambda: {"x": np.arange(4)})["x"].tolist() == [0, 1, 2, 3]
    assert "is made anew" in caplog.text
    assert cached("set", "key", lambda: {})["x"].tolist() == [0, 1, 2, 3]


def test_errors_of_the_parser_pass_and_leave_nothing(own_cache: Path) -> None:
    def build() -> cache.Arrays:
        raise UserError("bad file")

    with pytest.raises(UserError, match="bad file"):
        cached("set", "key", build)
    assert not [path for path in own_cache.iterdir() if path.is_dir()]
    assert cached("set", "key", lambda: {"x": np.arange(2)})["x"].tolist() == [0, 1]


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("FEDKERAS_CACHE", "/dev/null/cache")
    for _ in range(2):
        assert cached("set", "key", lambda: {"x": np.arange(2)})["x"].tolist() == [0, 1]
    assert caplog.text.count("going on in memory") == 1


def _on_a_full_disk(answers) -> None:
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    arrays = cached("set", "key", lambda: {"x": np.zeros(10_000)})
    answers.put((len(arrays["x"]), [str(path) for path in cache.folder().iterdir() if path.is_dir()]))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on file sizes to play a full disk with")
def test_a_full_disk_leaves_nothing_behind() -> None:
    spawn = multiprocessing.get_context("spawn")
    answers = spawn.Queue()
    process = spawn.Process(target=_on_a_full_disk, args=(answers,))
    process.start()
    assert answers.get(timeout=30) == (10_000, [])
    process.join()


def _build_slowly(folder: Path, barrier, answers) -> None:
    def build() -> cache.Arrays:
        (folder / f"built-by-{os.getpid()}").touch()
        time.sleep(0.3)
        return {"x": np.arange(1000)}

    barrier.wait()
    answers.put(int(cached("set", "key", build)["x"].sum()))


def test_four_processes_at_once_parse_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(4), spawn.Queue()
    processes = [spawn.Process(target=_build_slowly, args=(tmp_path, barrier, answers)) for _ in range(4)]
    for process in processes:
        process.start()
    assert [answers.get(timeout=60) for _ in processes] == [499_500] * 4
    for process in processes:
        process.join()
    if sys.platform != "win32":
        assert len(list(tmp_path.glob("built-by-*"))) == 1


def test_without_locks_the_slower_one_takes_what_is_there(own_cache: Path) -> None:
    def build() -> cache.Arrays:
        cache._write(own_cache / "set-key", {"x": np.arange(5)})  # another process, meanwhile
        return {"x": np.arange(5)}

    assert isinstance(cached("set", "key", build)["x"], np.memmap)
    assert [path.name for path in own_cache.iterdir() if path.is_dir()] == ["set-key"]


def test_what_a_killed_process_left_is_removed_a_day_later(own_cache: Path) -> None:
    """Of this machine's processes it is known which are dead; another machine's work is never a day old."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    old, young = (own_cache / f".part-elsewhere-{os.getpid()}-{name}-set-key" for name in ("old", "young"))
    killed, busy = (own_cache / f".part-{atomic.machine()}-{pid}-abc-set-key" for pid in (dead.pid, os.getpid()))
    for folder in (old, young, killed, busy):
        folder.mkdir(parents=True)
        (folder / "x.npy").write_bytes(b"half")
    yesterday = time.time() - 25 * 3600
    os.utime(old, (yesterday, yesterday))
    os.utime(busy, (yesterday, yesterday))
    cached("set", "key", lambda: {"x": np.arange(3)})
    assert young.is_dir() and not old.exists()
    assert busy.is_dir() and not killed.exists()
