"""The server's side: what it hands out, checked before anything is sent, and the script of giving it to one client."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data import labels
from data.shares import divide, parse_share
from data.tables import read_xy
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.handout import central, packing
from fedkeras.handout.agreeing import Described, described_in
from fedkeras.handout.fitting_shapes import input_shape
from fedkeras.handout.model_file import ModelFile, open_model
from fedkeras.handout.parcels import ask, value_of
from fedkeras.handout.part import Part
from fedkeras.handout.settlement import Settlement
from strategies.dialogue import Refused, Script

Say = Callable[[int, str], None]


@dataclass(frozen=True)
class Given:
    """What the server hands out in a run; `parts` by cid, none if clients have data of their own.

    `test` is kept: the central test set, x and y, if there is one.
    """

    model: ModelFile
    parts: dict[int, Part]
    test: dict[str, np.ndarray] | None = None


def open_given(config: Config) -> Given:
    """Read the model file and, with --data-source server, the tables. Raises UserError for whatever does not fit."""
    model = open_model(config.model)
    share = parse_share(config.share)
    if config.data_source != "server":
        if share:
            raise UserError("--share divides the server's data; it needs --data-source server")
        return Given(model, {}, _open_test(config, model))
    folder = _folder(config)
    x, y = read_xy(folder / "X", folder / "Y" if config.target == "XY" else None)
    _check_width(config, model, x)
    test = _open_test(config, model)
    classes = _classes(y)
    rows = divide(len(x), range(config.num_partitions), classes=classes, share=share, seed=config.seed)
    return Given(model, {cid: Part(x, y, part) for cid, part in rows.items()}, test)


def hand_out(cid: int, given: Given, settled: str, tell: Mapping, say: Say) -> Script[Described | None]:
    """Give one client what it lacks, and ask what its data are like; None if it has settled on `settled` already."""
    has_settled = yield from give(cid, given, tell, say)
    if settled and has_settled == settled:
        return None
    say(cid, "looking at its data")
    answer = yield ask("describe", tell)
    described = described_in(answer)
    if not described.rows:
        raise Refused("has no examples")
    return described


def give(cid: int, given: Given, tell: Mapping, say: Say) -> Script[str]:
    """Give one client what it lacks of model and data; the digest of what it has settled on before, or ""."""
    model, part = given.model, given.parts.get(cid)
    rows = {"rows": "", "layout": "", "rows-bytes": 0}
    if part is not None:
        rows = {"rows": part.digest, "layout": part.layout, "rows-bytes": part.num_bytes}
    about = {"model": model.digest, "suffix": model.suffix, "model-bytes": len(model.content)}
    answer = yield ask("offer", tell, **about, **rows)
    if shape := value_of(answer, "shape", list):
        _check_shape(model, shape)
    if value_of(answer, "model", bool):
        say(cid, "receiving the model")
        for first, piece in model.pieces():
            last = first + len(piece) == len(model.content)
            yield ask("model_file", tell, {"piece": piece}, wait=last, first=first)
    if part is not None and value_of(answer, "rows", bool):
        yield from _send_rows(cid, part, len(given.parts), tell, say)
    return value_of(answer, "settled", str)


def settle(settlement: Settlement, tell: Mapping) -> Script[None]:
    """Tell one client what all agree upon."""
    yield ask("settle", tell, settlement.arrays(), settlement=settlement.text())


def _folder(config: Config) -> Path:
    return Path(config.data_dir or "dataset").expanduser()


def _open_test(config: Config, model: ModelFile) -> dict[str, np.ndarray] | None:
    if config.data_source == "keras" or not config.central_evaluation:
        return None
    test = central.open_test(config, _folder(config))
    if test:
        _check_width(config, model, test["x"])
    return test


def _check_width(config: Config, model: ModelFile, x: np.ndarray) -> None:
    try:
        input_shape(model.shapes.takes, x.shape[1:])
    except UserError as error:
        raise UserError(f"--model {config.model}: {error}") from None


def _send_rows(cid: int, part: Part, others: int, tell: Mapping, say: Say) -> Script[None]:
    """The first slice opens files and warms the line up, the second is the sample that decides about compression."""
    compress = False
    for number, (first, rows) in enumerate(part.slices()):
        count = len(rows["x"])
        last = first + count == len(part)
        sent = packing.pack(rows) if compress else rows
        started = time.perf_counter()
        yield ask("data_rows", tell, sent, wait=number < 2 or last, first=first, count=count, packed=compress)
        if number == 1:
            compress = packing.pays(rows, time.perf_counter() - started, others)
        say(cid, f"receiving data {100 * (first + count) // len(part)} %")


def _classes(y: np.ndarray | None) -> np.ndarray | None:
    """What parts are stratified by: whole numbers and words as they are, one-hot rows by their class."""
    if y is None or (kind := labels.kind_of(y)) == "numbers":
        return None
    return np.argmax(y, axis=1) if kind == "one-hot" else np.unique(y, return_inverse=True)[1]


def _check_shape(model: ModelFile, shape: list) -> None:
    if not all(type(size) is int and size > 0 for size in shape):
        raise Refused("sent a shape that is none")
    try:
        input_shape(model.shapes.takes, tuple(shape))
    except UserError as error:
        raise Refused(str(error)) from error
