"""`fedkeras curves RUN_DIR [--out FILE.png]`: draw a run's learning curves, also while it runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from fedkeras.checkout import program
from fedkeras.errors import UserError, complain
from fedkeras.flags import parse_flags
from fedkeras.reports import RunFolder, plot_curves
from fedkeras.reports.curves import EPOCHS, ROUNDS
from fedkeras.reports.run import is_local

PROG = program("curves")


@dataclass(frozen=True)
class CurvesFlags:
    """Draw loss and accuracy by round: central, mean over clients, and each client."""

    run_dir: Annotated[Positional[str], arg(metavar="RUN_DIR")]
    """A run's folder, such as runs/20260131-142233-digits-fedavg."""
    out: str = ""
    """The picture, .png or .svg; unset: curves.png in the run's folder."""


def main(args: Sequence[str]) -> int:
    """Draw, print the picture's path, and return the exit status."""
    try:
        flags = parse_flags(CurvesFlags, list(args), PROG)
        folder = RunFolder(Path(flags.run_dir))
        if not folder.path.is_dir():
            raise UserError(f"there is no folder {folder.path}")
        out = Path(flags.out) if flags.out else folder.curves_path
        plot_curves(folder.history_path, out, EPOCHS if is_local(folder.config_table()) else ROUNDS)
    except UserError as error:
        return complain(PROG, error)
    print(out)
    return 0
