"""Model files that somebody else has made are opened in a process of its own first, with bounds on memory and time.

    python -m fedkeras.models.file_child [--build] FILE ...

What a file does there (to zlib, to HDF5's library, to Keras) ends that process and no other. It walks the files and
reads their configurations; with `--build`, which takes seconds since it needs TensorFlow, it makes the models too.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fedkeras.errors import UserError

MEMORY_BYTES, FILE_TIMES = 512 << 20, 8
"""What the process may take beyond what it has before a file: this much, and the file's size so often."""
CPU_SECONDS, BUILD_CPU_SECONDS = 30, 120
WALL_SECONDS, MORE_SECONDS = 300.0, 10.0
"""Even on a machine that has other work to do: for one file, and for each more."""

_known: dict[tuple[Path, int, int, bool], str] = {}
"""What was found before, by file and its state."""


def check_in_child(path: Path, build: bool = False) -> None:
    """Raise UserError for a model file that is not to be read, or that takes too much to find out."""
    if fault := faults_of([path], build)[path]:
        raise UserError(fault)


def faults_of(paths: Sequence[Path], build: bool = False) -> dict[Path, str]:
    """The same of many files, which one process looks at as long as none ends it: what is wrong with each, or ""."""
    found = {path: f"there is no model file {path}" for path in paths if not path.is_file()}
    states = {path: (path.absolute(), path.stat().st_mtime_ns, path.stat().st_size, build) for path in paths
              if path not in found}  # fmt: skip
    found |= {path: _known[state] for path, state in states.items() if state in _known}
    left = [path for path in states if path not in found]
    while left:
        told = _ask(left, build)
        if len(told) < len(left):  # the next file has ended the process, or taken all of its time
            told.append(
                f"the model file {left[len(told)]} could not be read within the memory and the time it may take"
            )
        found |= dict(zip(left, told, strict=False))
        left = left[len(told) :]
    _known.update({states[path]: fault for path, fault in found.items() if path in states})
    return found


def _ask(paths: Sequence[Path], build: bool) -> list[str]:
    """The faults of the first of these files, of as many as the process has come through."""
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", __name__, *["--build"] * build, *map(str, paths)]
    try:
        text = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=WALL_SECONDS + MORE_SECONDS * (len(paths) - 1), check=False,
        ).stdout  # fmt: skip
    except subprocess.TimeoutExpired as late:
        text = late.stdout or b""
    faults = []
    for line in text.decode(errors="replace").splitlines():
        try:
            told = json.loads(line)
        except ValueError:
            continue  # a library's own words, or a line that was cut
        if isinstance(told, dict) and isinstance(told.get("fault"), str):
            faults.append(told["fault"])
    return faults[: len(paths)]


def main() -> None:
    """The process's work: a line of JSON on stdout for each file, whose `fault` is empty for a good one."""
    words = sys.argv[1:]
    build = words[:1] == ["--build"]
    if build:
        from fedkeras.tensorflow_import import import_tensorflow

        import_tensorflow()
    for path in map(Path, words[build:]):
        print("\n" + json.dumps({"fault": _fault_of(path, build)}), flush=True)
    os._exit(0)  # what a library still does does not matter


def _fault_of(path: Path, build: bool) -> str:
    from fedkeras.models import file_info

    try:
        _limit(path, BUILD_CPU_SECONDS if build else CPU_SECONDS)
        file_info.read_config(path)
        if build:
            from fedkeras.models import files

            files.load(path)
    except UserError as error:
        return str(error)
    except MemoryError:
        return f"the model file {path} takes more memory than it may"
    return ""


def _limit(path: Path, seconds: int) -> None:
    """Bound memory and processor time from here on, where the system can."""
    try:
        import resource
    except ImportError:  # Windows: the time is bounded by the one who waits
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + seconds, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    statm = Path("/proc/self/statm")
    if statm.exists():
        mapped = int(statm.read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        # beyond what is mapped already: TensorFlow's import maps gigabytes that it never touches
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES + FILE_TIMES * path.stat().st_size, hard))


if __name__ == "__main__":
    main()
