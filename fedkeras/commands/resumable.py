"""What commands share that train many runs in one folder, and go on there when they are called again with it."""

import contextlib
import itertools
import signal
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from fedkeras import data
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.flags import parse_flags

T = TypeVar("T")
Saved = Callable[[Path], T | None]
"""The settings that a folder was begun with; None: it is none of this command's. Raises UserError if it is damaged."""


def read_flags(kind: type[T], saved: Saved[T], args: Sequence[str], prog: str) -> tuple[T, T | None]:
    """What was typed, over the settings of the folder in --out; and those settings. Raises UserError.

    The data set may come first, without its flag.
    """
    words = [*(["--dataset"] if args and not args[0].startswith("-") else []), *args]
    out = _out_in(words)
    before = saved(Path(out)) if out else None
    return parse_flags(kind, words, prog, before), before


def make_folder(out: str, dataset: str, command: str, noun: str, saved: Saved[T]) -> Path:
    """`out`, or a new folder below runs, named by the command. Raises UserError for one that holds no `noun`."""
    name = Path(dataset).stem.replace(":", "-")
    folder = Path(out or f"runs/{datetime.now():%Y%m%d-%H%M%S}-{command}-{name}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if saved(folder) is None and any(path.name != ".lock" for path in folder.iterdir()):
            raise UserError(f"--out {folder} holds other files, and is no {noun}: choose another")
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror or error}; choose another --out") from error
    return folder


def check_test_sets(config: Config, what: str, under: str = "") -> None:
    """Raise UserError where there is no central test set, on which `what` happens, or a client can hold nothing out.

    `under` names a condition that this is so under.
    """
    description = data.describe(config)
    if not description.central_test_size:
        raise UserError(f"--dataset {config.dataset} has no central test set: {what} on it")
    without = [cid for cid, size in enumerate(description.test_sizes) if not size]
    if config.test_fraction and without:
        where = f" under {under}" if under else ""
        raise UserError(
            f"with seed {config.seed}{where} client {without[0]} has too little to hold any of it out; lower "
            "--num-partitions, or leave the clients' own test sets out with --test-fraction 0"
        )


@contextlib.contextmanager
def ending_by_signal() -> Iterator[None]:
    """SIGTERM ends it as Ctrl-C does."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _out_in(args: Sequence[str]) -> str:
    """The value of --out, looked for before the flags are read, whose defaults it decides."""
    out = ""
    for word, following in itertools.pairwise([*args, ""]):
        if word == "--out":
            out = following
        elif word.startswith("--out="):
            out = word.removeprefix("--out=")
    return out
