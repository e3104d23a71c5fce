"""The client's side: what it answers while it is given model and data, before the first round.

What a client has been given is its seat, and belongs to this run's Context: a client that joins a server anew is asked
anew what it lacks, which is then nothing.
"""

import functools
import json
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import ConfigRecord, Context, RecordDict

from fedkeras.config import Config
from fedkeras.data import labels, load_client
from fedkeras.data.readers.tables import read_xy
from fedkeras.errors import UserError
from fedkeras.provisioning import download_cache, preprocessing
from fedkeras.provisioning.client_data import ProvisionedClient
from fedkeras.provisioning.protocol import arrays_of, reply, unpack
from fedkeras.reports import progress_bar

STATE = "handout"

_seats: dict[int, tuple[str, ProvisionedClient]] = {}
"""By cid: the word in the Context of the run it belongs to, and the seat."""


@dataclass(frozen=True)
class ProvisioningRequest:
    """One message."""

    config: Config
    cid: int
    content: RecordDict
    context: Context

    @property
    def sent(self) -> ConfigRecord:
        """The message's small values."""
        return self.content["config"]

    @property
    def seat(self) -> ProvisionedClient:
        """What this client has been given. Raises UserError."""
        return seat_of(self.context, self.cid)

    @property
    def trusts_code(self) -> bool:
        """Started with --trust-code."""
        return bool(self.context.node_config.get("trust-code", False))


def seat_of(context: Context, cid: int) -> ProvisionedClient:
    """The seat of client `cid` in this run. Raises UserError."""
    word, seat = _seats.get(cid, ("", None))
    if seat is None or STATE not in context.state or context.state[STATE]["word"] != word:
        raise UserError("this client has not been given the model yet (it joined a moment ago)")
    return seat


def offer(task: ProvisioningRequest) -> RecordDict:
    """What this client lacks. Raises UserError where there is no room for it."""
    model, suffix, rows = (str(task.sent[key]) for key in ("model", "suffix", "rows"))
    if not (_is_digest(model) and suffix in (".keras", ".h5") and (not rows or _is_digest(rows))):
        raise ValueError("the server's offer names no digests")
    word, seat = _seats.get(task.cid, ("", None))
    known = STATE in task.context.state and task.context.state[STATE]["word"] == word
    if seat is None or not known or seat.digests != (model, rows):
        seat, word = (
            ProvisionedClient(task.cid, download_cache.model_path(model, suffix), (model, rows)),
            uuid.uuid4().hex,
        )
        _seats[task.cid] = word, seat
        task.context.state[STATE] = ConfigRecord({"word": word})
    shape: list[int] = []
    if task.config.data_source == "client":
        if seat.tables is None:
            seat.tables = _own_tables(task)
        shape = [int(size) for size in seat.x.shape[1:]]
    lacks_model = not seat.model.is_file()
    lacks_rows = bool(rows) and not download_cache.rows_path(rows).is_dir()
    wanted = lacks_model * int(task.sent["model-bytes"]) + lacks_rows * int(task.sent["rows-bytes"])
    if wanted:
        download_cache.require_space(wanted)
    seat.receiving.clear()
    if lacks_model:
        seat.receiving["model"] = download_cache.ModelReceiver(model, suffix, int(task.sent["model-bytes"]))
    if lacks_rows:
        seat.receiving["rows"] = download_cache.RowsReceiver(
            rows, str(task.sent["layout"]), int(task.sent["rows-bytes"])
        )
    settled = seat.settlement.digest if seat.settlement and not wanted else ""
    return reply(model=lacks_model, rows=lacks_rows, shape=shape, settled=settled)


def model_file(task: ProvisioningRequest) -> RecordDict:
    """A piece of the model file."""
    receiver = task.seat.receiving.get("model")
    if receiver is None:
        raise ValueError("a piece of a model file that was not begun")
    receiver.add(int(task.sent["first"]), arrays_of(task.content)["piece"])
    progress_bar.shown.moved(task.cid, "receiving the model", *receiver.progress)
    return reply()


def data_rows(task: ProvisioningRequest) -> RecordDict:
    """Rows of this client's part."""
    receiver = task.seat.receiving.get("rows")
    if receiver is None:
        raise ValueError("rows of data that were not begun")
    first, count, arrays = int(task.sent["first"]), int(task.sent["count"]), arrays_of(task.content)
    if task.sent["packed"]:
        shapes = {name: (dtype, (count, *shape[1:])) for name, (dtype, shape) in receiver.layout.items()}
        arrays = {name: unpack(array, *shapes[name]) for name, array in arrays.items()}
    receiver.add(first, arrays)
    progress_bar.shown.moved(task.cid, "receiving data", *receiver.progress)
    return reply()


def describe(task: ProvisioningRequest) -> RecordDict:
    """How many examples there are, their statistics, their labels; never a row."""
    seat, config = task.seat, task.config
    seat.receiving.clear()
    from fedkeras.models.trusted_code import code_in  # Keras: not before the server is found

    code = code_in(seat.model)
    if code and not task.trusts_code:
        raise UserError(
            f"the server's model file needs {code[0]}: it is only loaded if this client is started with --trust-code"
        )
    if config.data_source == "keras":
        return reply({}, rows=len(load_client(config, task.cid).train), classes="")
    if config.target == "XY" and seat.y is None:
        raise UserError("--target XY needs targets, and there are none; autoencoders take --target XX")
    train, _ = seat.sides(config)
    classes = json.dumps(labels.fit(np.asarray(seat.y)).to_dict()) if seat.are_classes(config) else ""
    return reply(_statistics(seat, config), rows=len(train), classes=classes)


def settle(task: ProvisioningRequest) -> RecordDict:
    """What all clients agree upon."""
    agreed = preprocessing.from_parts(str(task.sent["settlement"]), arrays_of(task.content))
    seat = task.seat
    if seat.settlement is None or seat.settlement.digest != agreed.digest:
        # another seat: what is kept of the old one's examples is none of this
        seat = ProvisionedClient(seat.cid, seat.model, seat.digests, seat.tables, settlement=agreed)
        if task.config.data_source != "keras":
            seat.check_labels(task.config)
        _seats[task.cid] = _seats[task.cid][0], seat
    return reply()


HANDLERS: dict[str, Callable[[ProvisioningRequest], RecordDict]] = {
    handler.__name__: handler for handler in (offer, model_file, data_rows, describe, settle)
}
"""Action -> handler."""


@functools.lru_cache(maxsize=8)
def _statistics(seat: ProvisionedClient, config: Config) -> dict[str, np.ndarray]:
    """Of each part, stacked: one pass over the rows, and none where nothing is scaled."""
    if config.normaliser in ("none", "default"):
        return {}
    parts = [part.to_dict() for part in seat.statistics(config)]
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}


def _own_tables(task: ProvisioningRequest) -> dict[str, np.ndarray]:
    folder = Path(str(task.context.node_config.get("data-dir") or "dataset"))
    targets = folder / "Y" if task.config.target == "XY" else None
    x, y = read_xy(folder / "X", targets)
    return {"x": x} if y is None else {"x": x, "y": y}


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(char in "0123456789abcdef" for char in text) and os.sep not in text
