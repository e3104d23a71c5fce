"""`fedkeras report RUN_DIR...`: a run's report, also of one that broke off, or several compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from fedkeras.checkout import program, typed
from fedkeras.errors import UserError, complain
from fedkeras.flags import parse_flags
from fedkeras.reports import RunFolder, write_comparison, write_report

PROG = program("report")


@dataclass(frozen=True)
class ReportFlags:
    """Write one HTML page: of one run all that its folder holds, of several their curves and what differs."""

    run_dirs: Annotated[Positional[tuple[str, ...]], arg(metavar="RUN_DIR [RUN_DIR ...]")]
    """Folders of runs, such as runs/20260131-142233-digits-fedavg."""
    out: str = ""
    """The page; unset: report.html in the run's folder, or comparison.html here."""


def main(args: Sequence[str]) -> int:
    """Write the page, print its path, and return the exit status."""
    try:
        flags = parse_flags(ReportFlags, list(args), PROG)
        folders = [Path(name) for name in flags.run_dirs]
        if not folders:
            raise UserError(f"name the folder of a run, or of several; `{typed('runs')}` lists them")
        if flags.out and not flags.out.lower().endswith((".html", ".htm")):
            raise UserError(f"--out is '{flags.out}'; give a file that ends in .html")
        if len(folders) == 1:
            out = write_report(RunFolder(folders[0]), Path(flags.out) if flags.out else None)
        else:
            out = write_comparison(folders, Path(flags.out or "comparison.html"))
    except UserError as error:
        return complain(PROG, error)
    print(out)
    return 0
