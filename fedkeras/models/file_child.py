"""A model file that somebody else has made is opened in a process of its own first, with bounds on memory and time.

    python -m fedkeras.models.file_child FILE [build]

What a file does there (to zlib, to HDF5's library, to Keras) ends that process and no other. It walks the file and
reads its configuration; with `build`, which takes seconds since it needs TensorFlow, it makes the model too.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from fedkeras.errors import UserError

MEMORY_BYTES, FILE_TIMES = 512 << 20, 8
"""What the process may take beyond its start: this much, and the file's size so often."""
CPU_SECONDS, BUILD_CPU_SECONDS = 30, 120
WALL_SECONDS = 300.0
"""Even on a machine that has other work to do."""


def check_in_child(path: Path, build: bool = False) -> None:
    """Raise UserError for a model file that is not to be read, or that takes too much to find out."""
    if not path.is_file():
        raise UserError(f"there is no model file {path}")
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", __name__, str(path), *["build"] * build]
    try:
        ended = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=WALL_SECONDS, check=False,
        )  # fmt: skip
        told = json.loads(ended.stdout.rpartition("\n{")[2].join(["{", ""]) if ended.stdout else "null")
    except subprocess.TimeoutExpired:
        told = None
    except ValueError:
        told = None
    if not isinstance(told, dict) or "fault" not in told:
        raise UserError(f"the model file {path} could not be read within the memory and the time that it may take")
    if told["fault"]:
        raise UserError(str(told["fault"]))


def main() -> None:
    """The process's work: a line of JSON on stdout, whose `fault` is empty for a good file."""
    path, build = Path(sys.argv[1]), sys.argv[2:] == ["build"]
    from fedkeras.models import file_info

    fault = ""
    try:
        _limit(path, CPU_SECONDS)
        file_info.read_config(path)
        if build:
            _unlimit()
            from fedkeras.models import files
            from fedkeras.tensorflow_import import import_tensorflow

            import_tensorflow()
            _limit(path, BUILD_CPU_SECONDS)
            files.load(path)
    except UserError as error:
        fault = str(error)
    except MemoryError:
        fault = f"the model file {path} takes more memory than it may"
    sys.stdout.write("\n" + json.dumps({"fault": fault}))
    sys.stdout.flush()
    os._exit(0)  # what a library still does does not matter


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
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES + FILE_TIMES * path.stat().st_size, hard))


def _unlimit() -> None:
    """TensorFlow's import maps gigabytes that it never touches: it is not the file's doing."""
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


if __name__ == "__main__":
    main()
