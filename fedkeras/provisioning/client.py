"""The client's side of provisioning: what it answers while it is given model and data, before the first round.

What a client has been given belongs to one run, whose Context says which: a client that joins a server anew is offered
everything anew, and lacks nothing of it.
"""

import functools
import logging
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from flwr.app import ConfigRecord, Context, RecordDict

from fedkeras import data
from fedkeras.config import Config
from fedkeras.data import scaling
from fedkeras.data.columns import Columns, check_same, names_in
from fedkeras.data.readers.labelled_table import Chosen, read_labelled
from fedkeras.data.readers.numerals import Marks
from fedkeras.data.readers.tables import merged_notes, read_examples, read_xy
from fedkeras.data.statistics import Statistics
from fedkeras.errors import UserError
from fedkeras.federation.requests import ClientRequest, ContentHandler
from fedkeras.models.file_child import check_in_child
from fedkeras.provisioning import download_cache
from fedkeras.provisioning.agreement import DataDescription, answer_of, described
from fedkeras.provisioning.client_data import SMALLEST_PART, ProvisionedClient
from fedkeras.provisioning.preprocessing import Preprocessing
from fedkeras.provisioning.protocol import arrays_of, decompress, reply
from fedkeras.provisioning.shards import Tables
from fedkeras.reports import progress_bar

log = logging.getLogger("fedkeras")

STATE = "provisioning"
"""The record in a Context that names the run: its id is drawn when the client is first offered something in it."""


class ProvisionedClients:
    """What a client process keeps from message to message: of each cid it serves, what it has been given in its run."""

    def __init__(self) -> None:
        self._runs: dict[int, str] = {}
        self._clients: dict[int, ProvisionedClient] = {}

    def get(self, context: Context, cid: int) -> ProvisionedClient:
        """Client `cid` in this run. Raises UserError if it has been given nothing yet."""
        client = self.find(context, cid)
        if client is None:
            raise UserError("this client has not been given the model yet (it joined a moment ago)")
        return client

    def find(self, context: Context, cid: int) -> ProvisionedClient | None:
        """The same; None if it has been given nothing in this run."""
        if STATE not in context.state or context.state[STATE]["run"] != self._runs.get(cid):
            return None
        return self._clients.get(cid)

    def begin(self, context: Context, client: ProvisionedClient) -> None:
        """Keep this client, for the run of this Context; what its cid had in another run is forgotten."""
        if client.cid in self._clients:
            self._clients[client.cid].drop_receivers()
        self._runs[client.cid], self._clients[client.cid] = uuid.uuid4().hex, client
        context.state[STATE] = ConfigRecord({"run": self._runs[client.cid]})

    def replace(self, client: ProvisionedClient) -> None:
        """Keep this one instead, in the same run."""
        self._clients[client.cid] = client


provisioned_clients = ProvisionedClients()
"""This process's."""


def offer(request: ClientRequest) -> RecordDict:
    """What this client lacks. Raises UserError where there is no room for it, and for one that only delivers."""
    if request.context.node_config.get("deliver"):
        raise UserError("this client only delivers what it has trained (--deliver): collect it with --collect-only")
    model, suffix, rows = (str(request.sent[key]) for key in ("model", "suffix", "rows"))
    if not (_is_digest(model) and suffix in (".keras", ".h5") and (not rows or _is_digest(rows))):
        raise ValueError("the server's offer names no digests")
    client = provisioned_clients.find(request.context, request.cid)
    if client is not None:
        client.drop_receivers()
    if client is None or client.digests != (model, rows):
        client = ProvisionedClient(request.cid, download_cache.model_path(model, suffix), (model, rows))
        provisioned_clients.begin(request.context, client)
    shape: list[int] = []
    if request.config.data_source == "client":
        if client.tables is None:
            client.tables, client.columns = _own_tables(request)
        shape = [int(size) for size in client.x.shape[1:]]
    lacks_model = not client.model.is_file()
    lacks_rows = bool(rows) and not download_cache.rows_path(rows).is_dir()
    model_bytes, rows_bytes = int(request.sent["model-bytes"]), int(request.sent["rows-bytes"])
    wanted = lacks_model * max(model_bytes, 0) + lacks_rows * max(rows_bytes, 0)
    if wanted:
        download_cache.require_space(wanted, request.download_bytes)
    if lacks_model:
        client.model_receiver = download_cache.ModelReceiver(model, suffix, model_bytes)
    else:
        _open_elsewhere_first(request, client)  # whoever put it into the cache
    if lacks_rows:
        client.rows_receiver = download_cache.RowsReceiver(rows, str(request.sent["layout"]), rows_bytes)
    known = client.preprocessing.digest if client.preprocessing and not wanted else ""
    return reply(model=lacks_model, rows=lacks_rows, shape=shape, preprocessing=known)


def model_file(request: ClientRequest) -> RecordDict:
    """Take a piece of the model file."""
    receiver = _client(request).model_receiver
    if receiver is None:
        raise ValueError("a piece of a model file that was not begun")
    receiver.add(int(request.sent["first"]), arrays_of(request.content)["piece"])
    done, size = receiver.progress
    progress_bar.shown.moved(request.cid, "receiving the model", done, size)
    if done == size:
        _open_elsewhere_first(request, _client(request))
    return reply()


def data_rows(request: ClientRequest) -> RecordDict:
    """Take rows of this client's shard."""
    receiver = _client(request).rows_receiver
    if receiver is None:
        raise ValueError("rows of data that were not begun")
    first, count, arrays = int(request.sent["first"]), int(request.sent["count"]), arrays_of(request.content)
    receiver.check_slice(first, count)
    if request.sent["compressed"]:
        shapes = {name: (dtype, (count, *shape[1:])) for name, (dtype, shape) in receiver.layout.items()}
        arrays = {name: decompress(array, *shapes[name]) for name, array in arrays.items()}
    receiver.add(first, arrays)
    progress_bar.shown.moved(request.cid, "receiving data", *receiver.progress)
    return reply()


def describe(request: ClientRequest) -> RecordDict:
    """How many examples there are, their statistics, their labels and how many have each; never a row."""
    config = request.config
    if not config.data_source:
        return _describe_part(config, request.cid, [data.own_rows(config, request.cid)[0]])
    client = _complete(request)
    if config.data_source == "keras":
        return _describe_part(config, request.cid, client.parts_of_training_rows(config))
    if config.target == "XY" and client.y is None:
        raise UserError("--target XY needs targets, and there are none; autoencoders take --target XX")
    return answer_of(_described(client, config))


def set_preprocessing(request: ClientRequest) -> RecordDict:
    """Take the preprocessing that all clients share. Raises UserError for a label or column that is not its own."""
    preprocessing = Preprocessing.from_parts(str(request.sent["preprocessing"]), arrays_of(request.content))
    client = _complete(request)
    if client.preprocessing is None or client.preprocessing.digest != preprocessing.digest:
        # another client to those who keep something by client: placed examples of the old one are none of this
        own = client.columns
        check_same(own, preprocessing.columns, "this client", "the run")
        if preprocessing.columns.x and own.x not in (None, preprocessing.columns.x):
            log.warning("columns: X's are put into the order of the run, by their names")
        client = ProvisionedClient(client.cid, client.model, client.digests, client.tables, preprocessing, columns=own)
        if request.config.data_source != "keras":
            client.check_labels(request.config)
        provisioned_clients.replace(client)
    return reply()


STEPS = (offer, model_file, data_rows, describe, set_preprocessing)
HANDLERS = {f"query.{step.__name__}": ContentHandler(step) for step in STEPS}
"""Message type -> handler."""


def _open_elsewhere_first(request: ClientRequest, client: ProvisionedClient) -> None:
    """See that a file of somebody else's may be read, before this process does. Raises UserError; it is gone then."""
    if not request.is_guest:
        return
    try:
        check_in_child(client.model)
    except UserError:
        client.model.unlink(missing_ok=True)
        raise


def _client(request: ClientRequest) -> ProvisionedClient:
    """What this client has been given. Raises UserError."""
    return provisioned_clients.get(request.context, request.cid)


def _complete(request: ClientRequest) -> ProvisionedClient:
    """What this client has been given, model and rows. Raises UserError for a model that brings code uninvited."""
    client = _client(request)
    client.drop_receivers()
    from fedkeras.models.trusted_code import code_in  # Keras: not before the server is found

    code = code_in(client.model)
    if code and not request.trusts_code:
        raise UserError(
            f"the server's model file needs {code[0]}: it is only loaded if this client is started with --trust-code"
        )
    return client


def _describe_part(config: Config, cid: int, parts: Sequence[np.ndarray]) -> RecordDict:
    """Of a client's part of the data set: `parts` are numbers of training examples, all of them or (k-fold) divided.

    Statistics of a few examples would give them away: then none are sent.
    """
    source, (rows, held_out) = data.open_source(config), data.own_rows(config, cid)
    found: list[Statistics] = []
    name = "none"
    if scaling.fixed_normaliser(source, config) is None:
        name = scaling.normaliser_name(source, config)
        if min(map(len, parts)) >= SMALLEST_PART:
            whole = len(parts) == 1
            found = [data.client_statistics(config, cid) if whole else scaling.statistics_of_rows(source, part)
                     for part in parts]  # fmt: skip
    counts = data.label_counts(config, [cid]).tolist() if config.class_weight != "none" else []
    return answer_of(
        DataDescription(len(rows), found, None, normaliser=name, counts=tuple(counts), held_out=len(held_out))
    )


_described = functools.lru_cache(maxsize=8)(described)
"""One pass over the rows, however often the server asks."""


def _own_tables(request: ClientRequest) -> tuple[Tables, Columns]:
    """This client's own rows: the file of --data, or data-dir's X and Y."""
    own = request.context.node_config
    marks = Marks(str(own.get("decimal", "")), str(own.get("thousands", "")))
    path = Path(str(own.get("data") or ""))
    if own.get("data") and not (path / "X").is_dir():
        return _own_file(request, path, marks)
    folder = path if own.get("data") else Path(str(own.get("data-dir") or "dataset"))
    targets = folder / "Y" if request.config.target == "XY" else None
    x, y = read_xy(folder / "X", targets, marks, weights=request.config.sample_weight)
    for name, text in merged_notes((x, y)).items():
        log.warning("%s: %s", name, text)  # on the terminal of this client, who alone knows its files
    named = {"x": x.rows, "y": y and y.rows, "sample_weight": x.weights}
    rows = {name: table for name, table in named.items() if table is not None}
    return rows, Columns(x.names, None if y is None else y.names)


def _own_file(request: ClientRequest, path: Path, marks: Marks) -> tuple[Tables, Columns]:
    config = request.config
    if config.target == "XX":
        table = read_examples(path, marks)
        return {"x": table.rows}, Columns(table.names)
    label = str(request.context.node_config.get("label-column") or config.label_column)
    features = names_in(config.feature_columns, "feature-columns")
    table = read_labelled(path, Chosen(label, features, config.sample_weight, marks=marks))
    for name, text in table.notes.items():
        log.warning("%s: %s", name, text)
    weights = {} if table.weights is None else {"sample_weight": table.weights}
    return {"x": table.x, "y": table.y, **weights}, Columns(table.names, (table.label,))


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(char in "0123456789abcdef" for char in text) and os.sep not in text
