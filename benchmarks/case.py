"""A small run of a benchmark, as its module declares it: `QUICK = [Case("--rounds 5", seconds=40)]`."""

import importlib
import os
import pkgutil
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import benchmarks

DATA = Path(os.environ.get("FEDKERAS_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
"""Where the data sets lie: mnist/ and femnist/leaf/."""


@dataclass(frozen=True)
class Case:
    """What `python -m benchmarks.all --quick` runs of a benchmark, in a process of its own."""

    arguments: str
    """As typed; `{data}` is the data's folder and `{folder}` one that is deleted afterwards."""

    seconds: float
    """About how long one run takes on two quiet cores; after six times as long, and two minutes, it is ended."""

    name: str = ""
    """What tells it from other cases of its benchmark; "": it is the only one."""

    times: int = 1
    """Runs, in turns with other cases': for a benchmark that measures a thing once."""

    data: tuple[str, ...] = ()
    """Folders below `{data}` without which it is left out, such as "mnist"."""

    programs: tuple[str, ...] = ()
    """Programs of which one must be on the PATH, or it is left out."""

    @property
    def limit(self) -> float:
        """Seconds after which a run is ended."""
        return 120 + 6 * self.seconds

    def words(self, folder: Path) -> list[str]:
        """The arguments of one run, whose files go to `folder`."""
        return [word.format(data=DATA, folder=folder) for word in shlex.split(self.arguments)]

    def missing(self) -> str:
        """Why it cannot be run here; "" if it can."""
        for name in self.data:
            if not (DATA / name).is_dir():
                return f"there is no {DATA / name}; set FEDKERAS_DATA to the folder above it"
        if self.programs and not any(map(shutil.which, self.programs)):
            return f"{' or '.join(self.programs)} is not on the PATH"
        return ""


@dataclass(frozen=True)
class Listed:
    """A case with the module that it is of, such as "benchmarks.start"; `fault` says why it cannot be run at all."""

    module: str
    case: Case
    fault: str = ""

    @property
    def benchmark(self) -> str:
        """The module's own name."""
        return self.module.rpartition(".")[2]


def quick_cases() -> Mapping[str, Listed]:
    """By name, the cases of all modules here that declare some; a module that cannot be imported is one with a fault.

    A case is named by its module, and by its own name where it has one: `start`, `start-simulation`.
    """
    found = {}
    for name in sorted(each.name for each in pkgutil.iter_modules(benchmarks.__path__)):
        module = f"benchmarks.{name}"
        try:
            declared = getattr(importlib.import_module(module), "QUICK", ())
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are to run
            found[name] = Listed(module, Case("", 0.0), f"cannot be imported: {type(error).__name__}: {error}")
            continue
        for case in declared:
            found["-".join(filter(None, (name, case.name)))] = Listed(module, case)
    return found
