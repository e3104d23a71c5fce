"""The file that `benchmarks.all` writes and `benchmarks.compare` reads, and what is to be read off a case in it.

    {"format", "date", "state": "finished" | "interrupted", "seconds", "revision", "machine", "versions",
     "cases": {NAME: {"benchmark", "arguments", "runs": [RUN, ...]}}}

A RUN has `figures` (the JSON of the benchmark's last line), `fault` (why there are none) or `left_out` (what is missing
here). Beside them stands when it was `started`, its `seconds` and `cpu_seconds`, and the machine's state `before` and
`after` it: `busy_cores` of others, `load_average`, and the seconds of the `yardsticks` (machine.py).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.machine import BUSY_CORES
from fedkeras.atomic import replace_file
from fedkeras.errors import UserError

FORMAT = 1
FIELDS = ("format", "date", "state", "revision", "machine", "versions", "cases")
File = Mapping[str, object]
Measured = Mapping[str, object]
"""A case in the file."""
NOTHING: Measured = {"arguments": None, "runs": []}
"""A case that the file does not have."""


def write(path: Path, content: File) -> None:
    """The file, whole. Raises UserError."""
    replace_file(path, f"{json.dumps(content, indent=1)}\n".encode())


def read(path: Path) -> File:
    """The file. Raises UserError if it is none of ours."""
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(
            f"{path} is no JSON: {error}; give a file that `python -m benchmarks.all` has written"
        ) from error
    if not isinstance(found, dict) or (missing := [name for name in FIELDS if name not in found]):
        lacks = f": it has no {missing[0]}" if isinstance(found, dict) else ""
        raise UserError(f"{path} is no file of `python -m benchmarks.all`{lacks}")
    if found["format"] != FORMAT:
        raise UserError(
            f"{path} has format {found['format']}, this reads {FORMAT}: measure it again with this checkout"
        )
    return found


def figures(case: Measured) -> list[object]:
    """What its runs have measured."""
    return [run["figures"] for run in case["runs"] if "figures" in run]


def faults(case: Measured) -> list[str]:
    """Why runs have failed."""
    return [run["fault"] for run in case["runs"] if "fault" in run]


def left_out(case: Measured) -> list[str]:
    """What was missing."""
    return [run["left_out"] for run in case["runs"] if "left_out" in run]


def states(case: Measured) -> list[Mapping[str, object]]:
    """The machine's, around the runs that have measured something."""
    return [run[when] for run in case["runs"] if "figures" in run for when in ("before", "after")]


def yardsticks(case: Measured) -> list[Mapping[str, Sequence[float]]]:
    """Of all these states."""
    return [state["yardsticks"] for state in states(case)]


def beside(case: Measured) -> float:
    """Cores that others used at most around a run, if that is more than a time can bear; else 0."""
    most = max((state["busy_cores"] or 0.0 for state in states(case)), default=0.0)
    return most if most > BUSY_CORES else 0.0
