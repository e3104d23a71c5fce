"""The server's side of provisioning: what it hands out, checked before anything is sent, and the scripts of sending it.

A script is one client's conversation, a generator of messages; the dispatcher goes through all clients' at once.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedkeras import data
from fedkeras.config import Config, fields_of
from fedkeras.data import labels
from fedkeras.data.columns import UNNAMED, Columns
from fedkeras.data.partition import divide, parse_share
from fedkeras.data.readers.tables import Table, merged_notes, read_xy
from fedkeras.errors import UserError
from fedkeras.federation.dispatcher import ClientRefused, Script
from fedkeras.provisioning.agreement import DataDescription, described, description_in
from fedkeras.provisioning.central_evaluation import marks_of, open_test
from fedkeras.provisioning.client_data import ProvisionedClient
from fedkeras.provisioning.model_file import ModelFile, open_model_file
from fedkeras.provisioning.preprocessing import Preprocessing
from fedkeras.provisioning.protocol import ReportState, ask, compress, compression_pays, value_of
from fedkeras.provisioning.shards import Shard, Tables

TEXT = ("table_source", "xy_folder")
"""The pages of data/ that may read text."""


@dataclass(frozen=True)
class Provision:
    """What the server hands out in a run: the model file and, by cid, shards of its tables.

    There are no shards where clients have data of their own. `test` is not handed out: the central test set, x and y.
    `columns` are those of the server's own table, of which clients' are the same: X's, or where it has none X_test's;
    `test_columns` are X_test's. `notes` say what was decided about the server's own files, by name.
    """

    model: ModelFile
    shards: dict[int, Shard] = field(default_factory=dict)
    test: Tables | None = None
    columns: Columns = UNNAMED
    test_columns: Columns = UNNAMED
    notes: Mapping[str, str] = field(default_factory=dict)


def check_flags(config: Config) -> None:
    """Raise UserError for flags of server-led training that do not go together."""
    if config.class_weight != "none" and (config.target == "XX" or config.collect_only):
        what = "--collect-only trains nothing" if config.collect_only else "--target XX learns the examples themselves"
        raise UserError(
            f"--class-weight {config.class_weight} needs classes to weigh, and {what}: leave one of them out"
        )
    if config.uses_catalogue and data.kind_of(config.dataset, config.data_dir) not in TEXT:
        config.refuse(["decimal", "thousands"], f"is for text files, and {config.dataset} is none")
    if config.decimal and config.decimal == config.thousands:
        raise UserError(f"--decimal and --thousands are both '{config.decimal}': they are two marks")
    if config.data_source:
        if config.split != "off":
            raise UserError("--split is not for --data-source: its clients have a part of the model each")
        if config.mode != "collect" and config.method != "fit":
            raise UserError("--method kfold trains once and not by rounds: it needs --mode collect")
        if parse_share(config.share) and config.data_source != "server":
            raise UserError("--share divides the server's data; it needs --data-source server")
        return
    names = [*fields_of(workflow="server-led"), *(["mode"] if config.mode == "collect" else [])]
    config.refuse(names, "is for server-led training: add --data-source server, client or keras")


def open_provision(config: Config) -> Provision | None:
    """Read and check the model file and, with --data-source server, the tables; None without --data-source.

    To be called before anything in the folder of a run that is resumed is changed. Raises UserError for whatever does
    not fit together.
    """
    if not config.data_source:
        return None
    model = open_model_file(config.model)
    share = parse_share(config.share)
    if config.data_source != "server":
        test = _open_test(config, model)
        own = _columns(*test)
        return Provision(model, test=_arrays(*test), columns=own, test_columns=own, notes=merged_notes(test))
    folder = _folder(config)
    folder_y = folder / "Y" if config.target == "XY" else None
    tables = read_xy(folder / "X", folder_y, marks_of(config), weights=config.sample_weight)
    x, y = (None if table is None else table.rows for table in tables)
    _check_width(config, model, x)
    test = _open_test(config, model)
    rows = divide(len(x), range(config.num_partitions), classes=_classes(y), share=share, seed=config.seed)
    shards = {cid: Shard(x, y, chosen, tables[0].weights) for cid, chosen in rows.items()}
    notes = merged_notes([*tables, *test])
    return Provision(model, shards, _arrays(*test), _columns(*tables), _columns(*test), notes)


class Provisioned(NamedTuple):
    """A client has model and data. `ready`: the preprocessing too; else `description` is of its data, if it has own."""

    ready: bool
    description: DataDescription | None = None


def provision_client(
    cid: int, provision: Provision, preprocessing: Preprocessing | None, report: ReportState, asks: bool = True
) -> Script[Provisioned]:
    """Send one client what it lacks; what its data are like it is asked (`asks`) where this server cannot know."""
    known = yield from send_provision(cid, provision, report)
    if preprocessing is not None and (known == preprocessing.digest or not asks):
        return Provisioned(known == preprocessing.digest)
    report(cid, "looking at its data")
    answer = yield ask("describe")
    description = description_in(answer)
    if not description.rows:
        raise ClientRefused("has no examples")
    if description.shape:
        _check_shape(provision.model, list(description.shape))
    return Provisioned(False, description)


def describe_shards(config: Config, provision: Provision) -> dict[int, DataDescription]:
    """What the clients would say of the rows that they are handed, by cid: this server has them. Raises UserError."""
    path, digests = Path(config.model).expanduser(), ("", "")
    return {
        cid: described(ProvisionedClient(cid, path, digests, shard.rows), config)
        for cid, shard in provision.shards.items()
    }


def send_provision(cid: int, provision: Provision, report: ReportState) -> Script[str]:
    """Send one client what it lacks of model and data; returns the digest of the preprocessing it has, or ""."""
    model, shard = provision.model, provision.shards.get(cid)
    rows = {"rows": "", "layout": "", "rows-bytes": 0}
    if shard is not None:
        rows = {"rows": shard.digest, "layout": shard.layout, "rows-bytes": shard.num_bytes}
    about = {"model": model.digest, "suffix": model.suffix, "model-bytes": len(model.content)}
    answer = yield ask("offer", **about, **rows)
    if shape := value_of(answer, "shape", list):
        _check_shape(model, shape)
    if value_of(answer, "model", bool):
        report(cid, "receiving the model")
        for first, piece in model.pieces():
            last = first + len(piece) == len(model.content)
            yield ask("model_file", {"piece": piece}, wait=last, first=first)
    if shard is not None and value_of(answer, "rows", bool):
        yield from _send_rows(cid, shard, len(provision.shards), report)
    return value_of(answer, "preprocessing", str)


def send_preprocessing(preprocessing: Preprocessing) -> Script[None]:
    """Send one client the preprocessing that all clients share."""
    yield ask("set_preprocessing", preprocessing.arrays(), preprocessing=preprocessing.text())


def _send_rows(cid: int, shard: Shard, clients: int, report: ReportState) -> Script[None]:
    """Send a shard, one of as many clients' as receive theirs at the same time.

    The first slice opens files and warms the connection up; the second is the sample that decides about compression.
    """
    compressed = False
    for number, (first, rows) in enumerate(shard.slices()):
        count = len(rows["x"])
        last = first + count == len(shard)
        sent = compress(rows) if compressed else rows
        started = time.perf_counter()
        yield ask("data_rows", sent, wait=number < 2 or last, first=first, count=count, compressed=compressed)
        if number == 1:
            compressed = compression_pays(rows, time.perf_counter() - started, clients)
        report(cid, f"receiving data {100 * (first + count) // len(shard)} %")


def _folder(config: Config) -> Path:
    return Path(config.data_dir or "dataset").expanduser()


def _open_test(config: Config, model: ModelFile) -> tuple[Table | None, Table | None]:
    """X_test and Y_test, None each where it is not there."""
    if config.data_source == "keras" or not config.central_evaluation:
        return None, None
    x, y = open_test(config, _folder(config))
    if x is not None:
        _check_width(config, model, x.rows)
    return x, y


def _arrays(x: Table | None, y: Table | None) -> Tables | None:
    return None if x is None else {"x": x.rows} | ({} if y is None else {"y": y.rows})


def _columns(x: Table | None, y: Table | None) -> Columns:
    return Columns(x and x.names, y and y.names)


def _check_width(config: Config, model: ModelFile, x: np.ndarray) -> None:
    try:
        model.check_takes(x.shape[1:])
    except UserError as error:
        raise UserError(f"--model {config.model}: {error}") from None


def _check_shape(model: ModelFile, shape: list[int]) -> None:
    if not all(type(size) is int and size > 0 for size in shape):
        raise ClientRefused("sent a shape that is none")
    try:
        model.check_takes(tuple(shape))
    except UserError as error:
        raise ClientRefused(str(error)) from error


def _classes(y: np.ndarray | None) -> np.ndarray | None:
    """What shards are stratified by: whole numbers and words as they are, one-hot rows by their class."""
    if y is None or (kind := labels.kind_of(y)) == "numbers":
        return None
    return np.argmax(y, axis=1) if kind == "one-hot" else np.unique(y, return_inverse=True)[1]
