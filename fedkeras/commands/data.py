"""`fedkeras data DATASET`: where a data set comes from, and which client holds how much of what."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedkeras.atomic import check_writable
from fedkeras.checkout import program, typed
from fedkeras.config import DATA, Config, fields_of
from fedkeras.data import Description, Source, describe, kind_of, write_parts
from fedkeras.errors import UserError
from fedkeras.fields import OPTIONS, embedded, setting
from fedkeras.flags import parse_flags
from fedkeras.models import DEFAULT_MODELS

if TYPE_CHECKING:
    from rich.table import Table

PROG = program("data")
WIDE = 12  # more classes than this do not fit side by side
MANY = 20  # of more clients only as many are listed


USED = {"dataset", "seed", *fields_of(group=DATA)} - {"normaliser"}
"""Fields of Config that decide what is printed. The others are read all the same: server.py's command line will do."""


@dataclass(frozen=True)
class DataFlags:
    """Print and plot the label distribution over clients.

    The data set may come first: `data motionsense --data-dir DIR`. The flags are server.py's; its others are ignored.
    """

    config: Config = embedded(Config, hidden={*fields_of()} - USED)
    plot: str = setting("", OPTIONS)
    """Write the label distribution as a picture to this PNG file."""
    write: str = setting("", OPTIONS)
    """Write each client's part as an .npz file into this folder, and the central test set."""


def main(args: Sequence[str]) -> int:
    """Run the command; `args` are the words after `data`. Raises UserError."""
    args = list(args)
    if args and not args[0].startswith("-"):
        args.insert(0, "--dataset")
    flags = parse_flags(DataFlags, args, PROG)
    path = _writable(flags.plot) if flags.plot else None
    description = describe(flags.config)
    _print(description)
    if path is not None:
        from fedkeras.data.plot import plot_labels

        try:
            plot_labels(description, path)
        except OSError as error:  # the disk may have filled up meanwhile
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error
        print(f"\nlabel distribution: {path}")
    if flags.write:
        written = write_parts(flags.config, Path(flags.write).expanduser())
        print("", *written, sep="\n")
        model = DEFAULT_MODELS.get(kind_of(flags.config.dataset, flags.config.data_dir), "MODEL")
        print(f"to train on one alone: {typed('train', written[0].partition(': ')[0], '--model', model)}")
    return 0


def _print(description: Description) -> None:
    from rich.console import Console

    source, division = description.source, description.partition
    console = Console(highlight=False)
    shape = " x ".join(map(str, source.input_shape))
    console.print(f"[bold]{source.name}[/bold]: {source.provenance}")
    console.print(f"examples of shape {shape}, {_learned(source)}")
    if source.columns:
        console.print(f"columns (no value is missing): {', '.join(source.columns)}", markup=False)
    console.print(f"{len(source.labels)} training examples, {description.central_test_size} in the central test set")
    for note in (*source.notes, *(f"{name}: {text}" for name, text in source.chosen.items())):
        console.print(note, markup=False)
    console.print(f"\n{division.scheme}")
    console.print(_table(description))
    clients = len(division.parts)
    sizes = np.sort(description.counts.sum(axis=1))
    if clients > MANY:
        console.print(f"and {clients - MANY} more clients")
    console.print(f"a client holds {sizes[0]} to {sizes[-1]} examples, the median client {np.median(sizes):.0f}")
    console.print(f"left out: {division.left_out} training examples that no client holds")


def _learned(source: Source) -> str:
    """The classes by name, or the range of the amounts; of both the test set's are counted in."""
    if source.targets is None:
        return f"{len(source.classes)} classes: {', '.join(source.classes)}"
    amounts = np.concatenate([source.targets, source.test().y])
    low, high, mean, spread = (float(each) for each in (amounts.min(), amounts.max(), amounts.mean(), amounts.std()))
    more = f", {source.outputs} an example" if source.outputs > 1 else ""
    return f"amounts from {low:.6g} to {high:.6g}{more} (mean {mean:.4g}, standard deviation {spread:.4g})"


def _table(description: Description) -> "Table":
    """A row a client; a column a label where they fit, else the commonest labels by name."""
    from rich.table import Table

    classes, table = description.source.classes, Table(box=None, header_style="bold", pad_edge=False)
    wide = len(classes) > WIDE
    for name in ("client", "train", "test", *(() if wide else classes)):
        table.add_column(name, justify="right")
    if wide:
        table.add_column("labels", justify="right")
        table.add_column("commonest labels")
    for cid, counts in enumerate(description.counts[:MANY]):
        row = [str(cid), str(description.train_sizes[cid]), str(description.test_sizes[cid])]
        if wide:
            top = [label for label in np.argsort(-counts, kind="stable")[:5] if counts[label]]
            row += [str(np.count_nonzero(counts)), ", ".join(f"{classes[label]}: {counts[label]}" for label in top)]
        else:
            row += [str(count) for count in counts]
        table.add_row(*row)
    return table


def _writable(name: str) -> Path:
    """Where the picture goes; said before the work, not after it."""
    path = Path(name).expanduser()
    if path.suffix.lower() != ".png":
        raise UserError(f"--plot is '{name}'; give a file that ends in .png")
    if not path.parent.is_dir():
        raise UserError(f"--plot {name}: there is no folder {path.parent}")
    check_writable(path)
    return path
