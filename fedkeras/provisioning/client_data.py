"""One client's data in a run: its examples as they came, as they are scaled and held out, and on the device.

And the model file it was given as a Learner, without which nothing goes to the device.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedkeras import data, models, stratified
from fedkeras.config import Config, options
from fedkeras.data import labels
from fedkeras.data.columns import UNNAMED, Columns, Names, order_of
from fedkeras.data.labels import Labels
from fedkeras.data.sample_weights import checked
from fedkeras.data.statistics import Statistics, statistics_of
from fedkeras.errors import UserError
from fedkeras.models.file_info import Shape, file_shapes, input_shape, last_activation
from fedkeras.provisioning import download_cache
from fedkeras.provisioning.download_cache import ModelReceiver, RowsReceiver
from fedkeras.provisioning.preprocessing import Preprocessing, own_normaliser_of
from fedkeras.provisioning.shards import Tables
from fedkeras.randomness import generator
from fedkeras.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    import tensorflow as tf

    from fedkeras.learning import Learner
    from fedkeras.learning.losses import Targets

    Placed = tuple[tf.Tensor, tf.Tensor]

SMALLEST_PART = 5
"""Rows of a client's own data that statistics are sent of, at least."""


@dataclass(eq=False)
class ProvisionedClient:
    """What client `cid` has been given in a run.

    `model` is the model file; `digests` are that file's and that of the client's shard, "" for data of its own.
    `tables` are memory-mapped; None before they are looked at, or if the data come from the catalogue. `columns` are
    the names of theirs, as they stand; examples have them in the order of the preprocessing.
    """

    cid: int
    model: Path
    digests: tuple[str, str]
    tables: Tables | None = None
    preprocessing: Preprocessing | None = None
    model_receiver: ModelReceiver | None = None
    rows_receiver: RowsReceiver | None = None
    columns: Columns = UNNAMED

    def drop_receivers(self) -> None:
        """Leave nothing of what was not received to its end."""
        for receiver in (self.model_receiver, self.rows_receiver):
            if receiver is not None:
                receiver.drop()
        self.model_receiver = self.rows_receiver = None

    @property
    def x(self) -> np.ndarray:
        """The examples as they came."""
        if self.tables is None:
            self.tables = download_cache.open_rows(self.digests[1])
        return self.tables["x"]

    @property
    def y(self) -> np.ndarray | None:
        """The targets as they came."""
        return self.tables["y"] if len(self.x) and "y" in self.tables else None

    def sample_weights(self, config: Config) -> np.ndarray | None:
        """What each of the rows that are trained on weighs, float64 (rows,); None: 1. Raises UserError."""
        count = len(self.x)
        if "sample_weight" not in self.tables:
            return None
        rows = self.train_and_test_rows(config)[0]
        weights = checked(self.tables["sample_weight"], count, f"client {self.cid}'s sample weights")[rows]
        return checked(weights, len(rows), f"the weights of what client {self.cid} trains on")

    @functools.cached_property
    def takes(self) -> Shape:
        """The shape of an example as the model takes it. Raises UserError if they do not fit."""
        return input_shape(file_shapes(self.model).takes, self.x.shape[1:])

    def loss(self, config: Config) -> str:
        """Its name: a flag's, or the model file's, as `losses.name_of` has it; "" for neither."""
        import_tensorflow()  # not before the server is found
        from fedkeras.learning.losses import name_of
        from fedkeras.models.compile_config import training_config

        own = config.loss.partition(":")[0] or training_config(self.model).loss or ""
        if isinstance(own, dict):
            own = own["config"] if own.get("class_name") == "function" else own.get("class_name")
        return name_of(str(own)) if own else ""

    def are_classes(self, config: Config) -> bool:
        """True if the targets are classes: by what they are; for whole numbers by the loss, for rows by the model.

        Rows of several columns that are one-hot may still mean several classes at once, of which a small client has
        one in each of its rows: where the loss or the model's end says it, no client's rows are asked.
        """
        if config.target == "XX" or self.y is None:
            return False
        kind, loss = labels.kind_of(self.y), self.loss(config)
        if kind == "one-hot":
            return "categorical" in loss or not (loss.startswith("binary") or last_activation(self.model) == "sigmoid")
        return kind == "words" or (kind == "integers" and (loss in ("", "ce") or "crossentropy" in loss))

    @functools.lru_cache(maxsize=4)  # noqa: B019 - a process has few clients
    def train_and_test_rows(self, config: Config) -> tuple[np.ndarray, np.ndarray]:
        """Rows that are trained on and rows that are held out, sorted; where a run collects, all are trained on."""
        count = len(self.x)
        wanted = num_held_out(config, count)
        order = np.zeros(count, np.int8)
        if self.are_classes(config):
            order = np.unique(_flat(self.y), return_inverse=True)[1]
        held = stratified.sample(count, wanted, generator(config.seed, "client test", self.cid), order)
        return np.setdiff1d(np.arange(count), held), held

    @functools.lru_cache(maxsize=4)  # noqa: B019 - a process has few clients
    def folds(self, config: Config) -> list[tuple[np.ndarray, np.ndarray]]:
        """K-fold's (training rows, held-out rows), the same whenever it is asked. Raises UserError."""
        from fedkeras.learning.cross_validation import split

        classes = np.unique(_flat(self.y), return_inverse=True)[1] if self.are_classes(config) else None
        return split(len(self.x), config.folds, generator(config.seed, "folds", self.cid), classes)

    def statistics(self, config: Config) -> list[Statistics]:
        """Of the rows that are trained on: of each feature, or of all numbers where an example is an image.

        With k-fold, of each fold's held-out part: of all parts but one are made the statistics of that fold's training
        rows. Raises UserError where a part is so small that its statistics would give away rows nobody has been shown.
        """
        if config.method != "kfold":
            rows = self.train_and_test_rows(config)[0]
            if config.data_source == "client" and len(rows) < SMALLEST_PART:
                return []  # its mean and extremes would say what they are
            return [self._statistics(rows)]
        parts = [held_out for _, held_out in self.folds(config)]
        if config.data_source == "client" and (least := min(map(len, parts))) < SMALLEST_PART:
            raise UserError(
                f"{len(self.x)} examples in {config.folds} folds are parts of {least}: the statistics of fewer than "
                f"{SMALLEST_PART} rows give the rows away; take fewer --folds, or --normaliser none"
            )
        return [self._statistics(part) for part in parts]

    def parts_of_training_rows(self, config: Config) -> list[np.ndarray]:
        """With --data-source keras, numbers in the data set of what each fold holds out; without folds, of all."""
        rows = data.own_rows(config, self.cid)[0]
        return [rows[held_out] for _, held_out in keras_folds(config, self.cid)] if config.method == "kfold" else [rows]

    def _statistics(self, chosen: np.ndarray) -> Statistics:
        rows = self.x if len(chosen) == len(self.x) else _blocks(self.x, chosen)
        if self.x.shape[1:] != self.takes:
            rows = (block.reshape(len(block), *self.takes) for block in ([rows] if rows is self.x else rows))
        return statistics_of(rows, per_feature=len(self.takes) < 3)

    def examples(self, config: Config, rows: np.ndarray, fold: int = 0) -> tuple[np.ndarray, np.ndarray | None]:
        """These rows scaled (as k-fold's fold `fold` does), in the model's shape; classes as numbers from 0.

        Raises UserError.
        """
        if self.preprocessing is None:
            raise UserError("this client has not been given what it needs yet")
        wanted = self.preprocessing.columns
        x, y = _by_name(self.x[rows], self.columns.x, wanted.x).reshape(len(rows), *self.takes), None
        if config.target == "XY":
            if self.y is None:
                raise UserError("--target XY needs targets, and there is no folder Y; autoencoders take --target XX")
            y = np.asarray(_by_name(self.y[rows], self.columns.y, wanted.y))
            if self.preprocessing.labels:
                y = self.preprocessing.labels.encode(y)
            elif "sparse" in self.loss(config) and y.dtype.kind == "f" and (y == np.rint(y)).all():
                if np.abs(y).max() >= 2**31:
                    raise UserError(f"the label {y.flat[np.abs(y).argmax()]:.0f} numbers no class: they begin at 0")
                y = y.astype(np.int32)
        return self.preprocessing.of_fold(fold).normaliser.apply(x), y

    def check_labels(self, config: Config) -> None:
        """Raise UserError for a label that the others do not know."""
        if self.preprocessing.labels and self.are_classes(config):
            self.preprocessing.labels.encode(np.asarray(self.y))


def num_held_out(config: Config, count: int) -> int:
    """How many of a client's `count` rows it holds out as its test set; where a run collects, none."""
    if config.mode == "collect" or not config.test_fraction:
        return 0
    return min(max(round(count * config.test_fraction), 1), count - 1)


def _by_name(rows: np.ndarray, names: Names | None, wanted: Names | None) -> np.ndarray:
    """Rows (n, columns) with their columns in the order of `wanted`."""
    order = order_of(names, wanted)
    return np.ascontiguousarray(rows if order is None or rows.ndim != 2 else rows[:, order])


def _flat(y: np.ndarray) -> np.ndarray:
    return np.argmax(y, axis=1) if y.ndim == 2 else np.asarray(y)


def _blocks(x: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    return (x[rows[start : start + 2048]] for start in range(0, len(rows), 2048))


def keras_folds(config: Config, cid: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """With --data-source keras, k-fold's (training rows, held-out rows) among a client's training examples."""
    from fedkeras.learning.cross_validation import split

    count = len(data.own_rows(config, cid)[0])
    return split(count, config.folds, generator(config.seed, "folds", cid))


FILES_OWN = ("default", "compiled")
"""Values of --optimizer that leave the choice to the model file; the second insists on it."""


def learns(config: Config, preprocessing: Preprocessing | None) -> "Targets":
    """What the clients' models are to learn, once they have agreed on their labels."""
    if preprocessing is None and config.target == "XY" and not config.uses_catalogue:
        return ""
    return learned_from(config, None if preprocessing is None else preprocessing.labels)


def learned_from(config: Config, found: Labels | None) -> "Targets":
    """What is learned if the targets are these classes; None: if they are none."""
    if config.target == "XX":
        return "itself"
    if config.uses_catalogue:
        return "classes"
    if found is None:
        return "numbers"
    return "classes" if isinstance(found.names[0], str) or tuple(found.names) == (0, 1) else "integers"


def make_learner(config: Config, path: Path, trust_code: bool, learns: "Targets") -> "Learner":
    """The model file at `path` as a Learner. Loss, optimizer and metrics are the file's, unless flags say otherwise.

    A learning rate other than the flag's default overrides the file's. Raises UserError.
    """
    import_tensorflow()
    from fedkeras.learning import Learner, limit_threads
    from fedkeras.models.compile_config import make_optimizer, training_config
    from fedkeras.models.precision import with_precision

    limit_threads(config.threads_per_client)
    own = training_config(path)
    optimizer = config.optimizer
    if optimizer in FILES_OWN:
        rate = config.learning_rate if config.learning_rate != Config().learning_rate else None
        made = make_optimizer(own.optimizer, trust_code, rate)
        if made is None and optimizer == "compiled":
            raise UserError("--optimizer compiled: the model file was not compiled with one; name an optimizer")
        optimizer = "sgd" if made is None else made
    return Learner(
        with_precision(models.load(path, trust_code, own_loss=not config.loss), config.precision),
        optimizer=optimizer,
        learning_rate=config.learning_rate,
        optimizer_args=options(config.optimizer_args, "optimizer-args"),
        loss=config.loss,
        learns=learns,
    )


def training_examples(config: Config, client: ProvisionedClient, learner: "Learner", fold: int = 0) -> "Placed":
    """(x, y) of the rows that are trained on, on the device; scaled as k-fold's fold `fold` does. Raises UserError."""
    if config.data_source == "keras":
        examples = data.load_client(
            config, client.cid, own_normaliser_of(config, client.preprocessing.of_fold(fold))
        ).train
        return place(config, learner, examples.x, examples.y)
    return place(config, learner, *client.examples(config, client.train_and_test_rows(config)[0], fold))


def test_examples(config: Config, client: ProvisionedClient, learner: "Learner") -> "Placed":
    """(x, y) of the rows that are held out, on the device. Raises UserError."""
    if config.data_source == "keras":
        examples = data.load_client(config, client.cid, own_normaliser_of(config, client.preprocessing)).test
        x, y = examples.x, examples.y
    else:
        x, y = client.examples(config, client.train_and_test_rows(config)[1])
    if not len(x):
        raise UserError(f"client {client.cid} holds out no examples; raise --test-fraction, or --fraction-evaluate 0")
    return place(config, learner, x, y)


def place(config: Config, learner: "Learner", x: np.ndarray, y: np.ndarray | None) -> "Placed":
    """(x, y) on the device, in the shape that the model takes. Raises UserError for what does not fit it."""
    from fedkeras.learning.learner import place_for_target

    return place_for_target(learner, x, y, config.target)
