"""One real round of clients that hold a few images each, recorded as the server sees it, with a run's mods around it.

It is the run's own code on both sides: messages, mods, the compiled training. What a mod leaves of an update (the sum
alone, say) is what its `server_saw` states, the same that the report shows.
"""

import contextlib
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MessageType

from fedkeras import client, data, factory, models, server
from fedkeras.callbacks import FinishedRound
from fedkeras.config import Config
from fedkeras.data import Examples
from fedkeras.errors import UserError
from fedkeras.federation.records import of_kind, views
from fedkeras.mods.chain import make_mods
from fedkeras.randomness import generator
from fedkeras.reports.checkpoints import newest_checkpoint
from fedkeras.reports.run_folder import RunFolder
from fedkeras.reports.server_view import SUM, UPDATE, Seen
from fedkeras.workflows.base import workflow_of
from fedkeras.workflows.interruption import Interruption, StopRequested

if TYPE_CHECKING:
    import keras

    from fedkeras.audit.inversion.gradient_matching import Batches

KEPT = (
    "seed", "model", "loss", "precision", "trust_code", "mods", "client_weights", "rest_after", "num_server_rounds",
    "local_epochs", "batch_size", "optimizer", "learning_rate", "optimizer_args", "threads_per_client",
)  # fmt: skip
"""Settings of the run that the round has too; noise that is computed for an epsilon depends on how many there are."""

Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class SeenUpdate:
    """An update of all trainable arrays, in the model's order, and what it was made of, which the attack must not use.

    `batches` are the places of each client's images in `images` (n, ...), step by step.
    """

    whose: str
    update: Sequence[np.ndarray]
    batches: "Batches"
    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class View:
    """What the server sees of a round: an update of each client, or one of all together. `model` has its weights."""

    mods: str
    model: "keras.Model"
    rate: float
    """The clients' learning rate."""
    updates: Sequence[SeenUpdate]
    line: Seen
    """What the report says of it."""


def round_of_few(config: Config, images: np.ndarray, labels: np.ndarray, classes: Sequence[str], clients: int) -> View:
    """The first round of as many clients as divide these images (n, ...) and labels (n,) among themselves evenly.

    All else is as in the run of `config`. Raises UserError for a mod whose update is in a form that nobody here reads.
    """
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "few.npz"
        arrays = {"x_train": images, "y_train": labels, "x_test": images[:1], "y_test": labels[:1]}
        np.savez(path, classes=np.array(classes), **arrays)
        few = Config(
            **{field: getattr(config, field) for field in KEPT} | {"model": factory.model_name(config)},
            dataset=str(path), run_dir=name, num_partitions=clients, normaliser="none",
            test_fraction=0.0, fraction_evaluate=0.0, central_evaluation=False,
        )  # fmt: skip
        return _view(few, Path(name))


class _FirstRound(Interruption):
    """Ends a run when its first round is over and kept."""

    def on_round_end(self, result: FinishedRound) -> bool:
        """Raises StopRequested, unless there is but one."""
        if result.round < result.num_rounds:
            raise StopRequested
        return False


def _view(few: Config, parent: Path) -> View:
    before: dict[int, Weights] = {}
    after: dict[int, Weights] = {}

    def recorded(message: Message, context: Context) -> Message:
        reply = client.app(message, context)
        if message.metadata.message_type == MessageType.TRAIN and not reply.has_error():
            cid = int(context.node_config["partition-id"])
            before[cid], after[cid] = _copies(message), _copies(reply)
        return reply

    # What is warned of is a run that is so small on purpose.
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(StopRequested):
        server.in_process(few, recorded, parent, interruption=_FirstRound())
    (folder,) = (RunFolder(path.parent) for path in parent.glob("*/config.json"))
    if len(before) < few.num_partitions:
        missing = sorted(set(range(few.num_partitions)) - set(before))
        raise UserError(f"the round to attack lacks the clients {missing}: they were not asked, or failed")
    mods = make_mods(few.mods)
    line = mods.server_saw(workflow_of(few).server_saw(few), few)[UPDATE]
    model = factory.learner_of(few, factory.build_model(few)).model  # compiled, so that it knows its loss
    sent = before[min(before)]
    _require_plain(model, sent, few.mods)
    models.set_weights(model, sent)
    parts = {cid: data.load_client(few, cid).train for cid in range(few.num_partitions)}
    if line.whose == SUM:
        updates = [_of_all(few, model, folder, sent, parts)]
    else:
        updates = [
            SeenUpdate(
                f"client {cid}",
                _moved(model, before[cid], arrays, few.mods),
                [_batches(few, model, cid, len(parts[cid]))],
                parts[cid].x,
                parts[cid].y,
            )
            for cid, arrays in sorted(after.items())
        ]
    return View(few.mods, model, few.learning_rate, updates, line)


def _of_all(
    few: Config, model: "keras.Model", folder: RunFolder, sent: Weights, parts: dict[int, Examples]
) -> SeenUpdate:
    """The mean of all clients' updates, which is what the global weights have moved by."""
    checkpoint = newest_checkpoint(folder)
    assert checkpoint is not None  # the run has come to its end
    first, batches = 0, []
    for cid, part in parts.items():
        batches.append([first + places for places in _batches(few, model, cid, len(part))])
        first += len(part)
    images, labels = (np.concatenate([getattr(part, name) for part in parts.values()]) for name in ("x", "y"))
    moved = _moved(model, sent, dict(checkpoint.weights), few.mods)
    return SeenUpdate(f"the sum of {len(parts)} clients", moved, batches, images, labels)


def _moved(model: "keras.Model", before: Weights, after: Weights, mods: str) -> list[np.ndarray]:
    _require_plain(model, after, mods)
    return [np.asarray(after[name], np.float64) - before[name] for name in models.trainable_names(model)]


def _require_plain(model: "keras.Model", arrays: Weights, mods: str) -> None:
    kinds = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    if any(kinds.get(name) != (array.shape, array.dtype) for name, array in models.get_weights(model).items()):
        raise UserError(f"--mods {mods}: its updates travel in a form of its own, which this attack does not read")


def _batches(few: Config, model: "keras.Model", cid: int, count: int) -> list[np.ndarray]:
    """The order of a client's batches in the first round: the server knows the seed, and so this too."""
    from fedkeras.learning.learner import draw

    rng = generator(few.seed, "train", 1, cid)
    _, orders = draw(rng, len(models.random_states(model)), count, few.local_epochs)
    return [order[i : i + few.batch_size] for order in orders for i in range(0, count, few.batch_size)]


def _copies(message: Message) -> Weights:
    """The arrays of a message; none where it has none."""
    records = of_kind(message.content, ArrayRecord).values()
    return {name: np.array(array) for found in records for name, array in views(found).items()}
