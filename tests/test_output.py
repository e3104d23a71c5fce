"""Output that goes away: nobody reads it, or the disk behind it is full. No traceback, and the command goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FULL = Path("/dev/full")
GOES_ON = "from fedkeras.output import outlast; outlast(); print('x' * 100_000, flush=True); open({!r}, 'w').close()"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes and terminals of Unix")


def run(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    options = {"stderr": subprocess.PIPE, "text": True, "timeout": 100, "env": environment, **options}
    return subprocess.run([sys.executable, *words], check=False, **options)


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    done = tmp_path / "done"
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as nobody:
        ended = run("-c", GOES_ON.format(str(done)), stdout=nobody)
        listed = run("-m", "fedkeras", "--help", stdout=nobody)
    assert (ended.returncode, ended.stderr, done.exists()) == (0, "", True)
    assert (listed.returncode, listed.stderr) == (0, "")


@pytest.mark.skipif(not FULL.exists(), reason="a device that is always full is Linux'")
def test_a_full_disk_behind_stdout_is_said_and_one_behind_stderr_cannot_be(tmp_path: Path) -> None:
    done = tmp_path / "done"
    with FULL.open("w") as full:
        ended = run("-c", GOES_ON.format(str(done)), stdout=full)
        silent = run("-m", "fedkeras", "nothing", stderr=full, stdout=full)
    assert ended.stderr == "warning: stdout takes no more lines: No space left on device\n"
    assert ended.returncode == 0 and done.exists() and silent.returncode == 2


def test_a_terminal_that_is_closed(tmp_path: Path) -> None:
    code = "import os, signal; from fedkeras.output import outlast; outlast(); os.kill(os.getpid(), signal.SIGHUP)"
    assert run("-c", f"{code}; open({str(tmp_path / 'done')!r}, 'w').close()").returncode == 0
    assert (tmp_path / "done").exists()
