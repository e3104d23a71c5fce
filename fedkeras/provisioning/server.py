"""The model file on the server: its digest, what it says of its shapes, and the pieces in which it is sent.

The server's side: what it hands out, checked before anything is sent, and the script of giving it to one client.

What is particular about a server-led run when it is assembled: what it hands out, its name, what it tests.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedkeras.config import Config, fields_of
from fedkeras.data import labels
from fedkeras.data.partition import divide, parse_share
from fedkeras.data.readers.tables import read_xy
from fedkeras.errors import UserError
from fedkeras.factory import CentralEvaluation
from fedkeras.federation.dialogue import ClientRefused, Script
from fedkeras.models.file_info import SUFFIXES, Shapes, file_shapes, input_shape
from fedkeras.provisioning import central_evaluation, protocol
from fedkeras.provisioning.central_evaluation import TableEvaluation
from fedkeras.provisioning.preprocessing import Described, Preprocessing, described_in
from fedkeras.provisioning.protocol import ask, value_of
from fedkeras.provisioning.shards import Shard
from fedkeras.reports import RunFolder

PIECE_BYTES = 16 << 20


@dataclass(frozen=True)
class ModelFile:
    """A .keras or .h5 file as it was when the run began."""

    content: bytes
    suffix: str
    digest: str
    shapes: Shapes

    @property
    def outputs(self) -> int | None:
        """The number of outputs, if they stand in one row and the file says so."""
        gives = self.shapes.gives
        return gives[0] if gives is not None and len(gives) == 1 else None

    def pieces(self) -> Iterator[tuple[int, np.ndarray]]:
        """(first byte, bytes), in order."""
        whole = np.frombuffer(self.content, np.uint8)
        for start in range(0, len(whole), PIECE_BYTES):
            yield start, whole[start : start + PIECE_BYTES]


def open_model(name: str) -> ModelFile:
    """The file that --model names. Raises UserError."""
    if not name.endswith(SUFFIXES):
        said = f"'{name}'" if name else "not given"
        raise UserError(f"--data-source hands a model file out: --model must be a .keras or .h5 file, and is {said}")
    path = Path(name).expanduser()
    shapes = file_shapes(path)
    content = path.read_bytes()
    return ModelFile(content, path.suffix, hashlib.sha256(content).hexdigest(), shapes)


Say = Callable[[int, str], None]


@dataclass(frozen=True)
class Provision:
    """What the server hands out in a run; `parts` by cid, none if clients have data of their own.

    `test` is kept: the central test set, x and y, if there is one.
    """

    model: ModelFile
    parts: dict[int, Shard]
    test: dict[str, np.ndarray] | None = None


def read_provision(config: Config) -> Provision:
    """Read the model file and, with --data-source server, the tables. Raises UserError for whatever does not fit."""
    model = open_model(config.model)
    share = parse_share(config.share)
    if config.data_source != "server":
        if share:
            raise UserError("--share divides the server's data; it needs --data-source server")
        return Provision(model, {}, _open_test(config, model))
    folder = _folder(config)
    x, y = read_xy(folder / "X", folder / "Y" if config.target == "XY" else None)
    _check_width(config, model, x)
    test = _open_test(config, model)
    classes = _classes(y)
    rows = divide(len(x), range(config.num_partitions), classes=classes, share=share, seed=config.seed)
    return Provision(model, {cid: Shard(x, y, part) for cid, part in rows.items()}, test)


def hand_out(cid: int, given: Provision, settled: str, tell: Mapping, say: Say) -> Script[Described | None]:
    """Give one client what it lacks, and ask what its data are like; None if it has settled on `settled` already."""
    has_settled = yield from give(cid, given, tell, say)
    if settled and has_settled == settled:
        return None
    say(cid, "looking at its data")
    answer = yield ask("describe", tell)
    described = described_in(answer)
    if not described.rows:
        raise ClientRefused("has no examples")
    return described


def give(cid: int, given: Provision, tell: Mapping, say: Say) -> Script[str]:
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


def settle(settlement: Preprocessing, tell: Mapping) -> Script[None]:
    """Tell one client what all agree upon."""
    yield ask("settle", tell, settlement.arrays(), settlement=settlement.text())


def _folder(config: Config) -> Path:
    return Path(config.data_dir or "dataset").expanduser()


def _open_test(config: Config, model: ModelFile) -> dict[str, np.ndarray] | None:
    if config.data_source == "keras" or not config.central_evaluation:
        return None
    test = central_evaluation.open_test(config, _folder(config))
    if test:
        _check_width(config, model, test["x"])
    return test


def _check_width(config: Config, model: ModelFile, x: np.ndarray) -> None:
    try:
        input_shape(model.shapes.takes, x.shape[1:])
    except UserError as error:
        raise UserError(f"--model {config.model}: {error}") from None


def _send_rows(cid: int, part: Shard, others: int, tell: Mapping, say: Say) -> Script[None]:
    """The first slice opens files and warms the line up, the second is the sample that decides about compression."""
    compress = False
    for number, (first, rows) in enumerate(part.slices()):
        count = len(rows["x"])
        last = first + count == len(part)
        sent = protocol.pack(rows) if compress else rows
        started = time.perf_counter()
        yield ask("data_rows", tell, sent, wait=number < 2 or last, first=first, count=count, packed=compress)
        if number == 1:
            compress = protocol.pays(rows, time.perf_counter() - started, others)
        say(cid, f"receiving data {100 * (first + count) // len(part)} %")


def _classes(y: np.ndarray | None) -> np.ndarray | None:
    """What parts are stratified by: whole numbers and words as they are, one-hot rows by their class."""
    if y is None or (kind := labels.kind_of(y)) == "numbers":
        return None
    return np.argmax(y, axis=1) if kind == "one-hot" else np.unique(y, return_inverse=True)[1]


def _check_shape(model: ModelFile, shape: list) -> None:
    if not all(type(size) is int and size > 0 for size in shape):
        raise ClientRefused("sent a shape that is none")
    try:
        input_shape(model.shapes.takes, tuple(shape))
    except UserError as error:
        raise ClientRefused(str(error)) from error


def open_provision(config: Config) -> Provision | None:
    """What is handed out, checked; None in an ordinary run. Raises UserError, for flags that make no sense too.

    Called before anything in the folder of a run that is resumed has been changed.
    """
    if config.resume and (config.collect_only or config.mode == "collect"):
        raise UserError(
            f"--resume is for rounds, and {config.resume} is a run that collects. What has arrived lies in its folder "
            "clients; what clients still hold is taken by --collect-only (and client.py --deliver); python -m fedkeras "
            "aggregate combines model files. Or start a new run"
        )
    if config.data_source:
        if config.split != "off":
            raise UserError("--split is not for --data-source: its clients have a part of the model each")
        if config.mode != "collect" and config.method != "fit":
            raise UserError("--method kfold trains once and not by rounds: it needs --mode collect")
        return read_provision(config)
    names = (*fields_of(workflow="server-led"), "mode")
    config.refuse(names, "is for server-led training: add --data-source server, client or keras")
    return None


def is_tested_centrally(config: Config, given: Provision | None) -> bool:
    """True if there is a central test set for the rounds: a data set's, or X_test and Y_test."""
    rounds = config.mode == "federated" and not config.collect_only
    there = given.test is not None if given and config.data_source != "keras" else True
    return config.central_evaluation and there and rounds


def central(
    config: Config, given: Provision | None, folder: RunFolder, threads: int, otherwise: CentralEvaluation
) -> CentralEvaluation:
    """What tests on the server: on tables where there are some, else `otherwise`."""
    return otherwise if given is None or given.test is None else TableEvaluation(config, given.test, folder, threads)


def bar(config: Config) -> bool | None:
    """False where there are no rounds for a progress bar to count; None: where stdout is a terminal."""
    return False if config.collect_only or config.mode == "collect" else None


def name(config: Config) -> str:
    """The last part of the run folder's name; "" for an ordinary run's."""
    if config.collect_only:
        return "collected"
    if not config.data_source:
        return ""
    what = config.dataset if config.data_source == "keras" else Path(config.model).stem
    return f"{what}-{config.strategy if config.mode == 'federated' else 'collect'}"
