"""A client's answers in federated rounds: initial weights, training, evaluation."""

import functools
import time
from typing import TYPE_CHECKING

from flwr.app import Message, MessageType, MetricRecord

from fedkeras import factory, models
from fedkeras.errors import UserError
from fedkeras.federation import records
from fedkeras.federation.initial_weights import INITIAL_WEIGHTS, LAYER_INDICES, LAYER_KINDS, LAYERS, content_of
from fedkeras.federation.messages import (
    INITIAL_LOSS,
    LOCAL_EPOCHS,
    LOCAL_STEPS,
    LOSS_FIRST,
    MOST_SECONDS,
    MOST_STEPS,
    OBJECTIVE_ARRAYS,
    PART,
    TRAINING_NUMBER,
)
from fedkeras.federation.requests import ClientContext, ClientRequest
from fedkeras.models.layers import layers_of_weights
from fedkeras.mods.chain import make_mods
from fedkeras.randomness import generator
from fedkeras.reports import round_lines
from fedkeras.tensorflow_import import import_tensorflow
from fedkeras.workflows.local_trainer import LocalTrainer

if TYPE_CHECKING:
    import keras

    from fedkeras.learning.objectives import Objective
    from fedkeras.learning.results import TrainingResult
    from fedkeras.learning.step_limit import StepLimit


def initial_weights(request: ClientRequest) -> Message:
    """The untrained model's weights, from the seed, and which are trained: the server needs no TensorFlow to begin."""
    trainer = LocalTrainer(request)
    if request.config.class_weight != "none":
        trainer.sample_weights()  # whether the targets are classes is said before a round
    initial, model = trainer.model.initial, trainer.model.learner.model
    layers = _layers(model) if request.sent.get(LAYERS) else None
    return request.reply_with(content_of(records.record(initial), models.trainable_names(model), layers))


def _layers(model: "keras.Model") -> dict[str, list[str] | list[int]]:
    """What a mod on this client is told of the layers of the model's arrays."""
    found = layers_of_weights(model)
    return {
        LAYERS: [layer.path for layer in found],
        LAYER_KINDS: [layer.kind for layer in found],
        LAYER_INDICES: [layer.index for layer in found],
    }


def train(request: ClientRequest) -> Message:
    """Train the global weights on this client's examples for the local epochs, under the objective that is named."""
    limit = _limit(request)
    config, trainer = request.config, LocalTrainer(request)
    learner, (x, y) = trainer.model.learner, trainer.training_examples()
    learner.set_weights(records.views(request.arrays))
    server_round, epochs = int(request.sent["server-round"]), _epochs(request)
    part, number = str(request.sent.get(PART, "")), int(request.sent.get(TRAINING_NUMBER, server_round))
    round_lines.shown.at(request.cid, server_round, config.num_server_rounds, _doing(part))
    started = time.perf_counter()
    first = {INITIAL_LOSS: learner.evaluate(x, y).loss} if request.sent.get(LOSS_FIRST) else {}
    result = learner.train(
        x,
        y,
        epochs=epochs,
        batch_size=config.batch_size,
        rng=generator(config.seed, "train", number, request.cid, *([part] if part else [])),
        objective=_objective(request, trainer),
        # Only where a bar shows them: one graph call for all epochs is the same to the bit, and a little faster.
        on_epoch=functools.partial(_show, request, server_round) if epochs > 1 and round_lines.shown.draws else None,
        sample_weight=trainer.sample_weights(),
        limit=limit,
    )
    own = {} if limit is None else {LOCAL_STEPS: result.steps}
    metrics = MetricRecord(factory.metrics_of(result, time.perf_counter() - started) | own | first)
    if not part:
        round_lines.shown.trained(request.cid, server_round, config.num_server_rounds, metrics)
    return request.reply(arrays=records.record(learner.get_weights()), metrics=metrics)


def _objective(request: ClientRequest, trainer: LocalTrainer) -> "Objective | None":
    """The one that is named, with the arrays that the message brings for it. Raises UserError."""
    import_tensorflow()
    from fedkeras.learning.objectives import objective_of

    objective = objective_of(request.sent, request.permission)
    if objective is not None and (brought := request.content.get(OBJECTIVE_ARRAYS)) is not None:
        names = models.trainable_names(trainer.model.learner.model)
        if missing := [name for name in names if name not in brought]:
            raise UserError(f"the message has no array '{missing[0]}' for its objective")
        objective.take([records.view(brought[name]) for name in names])
    return objective


def _epochs(request: ClientRequest) -> int:
    """The run's local epochs, or as many as the message says, if that is fewer or one of the run's mods has them.

    Raises ValueError for any other number.
    """
    usual = request.config.local_epochs
    epochs, most = request.sent.get(LOCAL_EPOCHS, usual), usual
    if PART in request.sent:
        most = make_mods(request.config.mods, request.permission).most_epochs(request.config)
    if type(epochs) is not int or not 1 <= epochs <= most:
        raise ValueError(
            f"the train message asks for {epochs!r} epochs; --local-epochs is {usual}, and fewer may be asked"
        )
    return epochs


def _doing(part: str) -> str:
    return f"training ({part})" if part else "training"


def _limit(request: ClientRequest) -> "StepLimit | None":
    """How far the message lets it train; None: it says nothing of it. Raises ValueError for what is no such limit."""
    from fedkeras.learning.step_limit import StepLimit

    steps, seconds = request.sent.get(MOST_STEPS), request.sent.get(MOST_SECONDS)
    if steps is None and seconds is None:
        return None
    if not (steps is None or (type(steps) is int and steps >= 0)) or not (seconds is None or type(seconds) is float):
        raise ValueError(f"the train message allows {steps!r} steps and {seconds!r} seconds, which is no limit")
    return StepLimit(steps or None, None if seconds is None else time.monotonic() + seconds)


def _show(request: ClientRequest, server_round: int, epoch: int, result: "TrainingResult") -> None:
    """A finished epoch of a round on this client's terminal."""
    epochs = _epochs(request)
    doing = f"{_doing(str(request.sent.get(PART, '')))}, epoch {epoch}/{epochs}, loss {result.loss:.4g}"
    round_lines.shown.at(request.cid, server_round, request.config.num_server_rounds, doing, epoch / epochs)


def evaluate(request: ClientRequest) -> Message:
    """Test the global weights on the examples this client held out."""
    trainer = LocalTrainer(request)
    learner, (x, y) = trainer.model.learner, trainer.test_examples()
    learner.set_weights(records.views(request.arrays))
    where = request.cid, int(request.sent["server-round"]), request.config.num_server_rounds
    own_test = PART not in request.sent
    round_lines.shown.at(*where, "testing", 1.0)
    started = time.perf_counter()
    result = learner.evaluate(x, y)
    metrics = MetricRecord(factory.metrics_of(result, time.perf_counter() - started))
    if own_test:
        round_lines.shown.tested(*where, metrics)
    return request.reply(metrics=metrics)


HANDLERS = {INITIAL_WEIGHTS: initial_weights, MessageType.TRAIN: train, MessageType.EVALUATE: evaluate}
"""Message type -> handler."""


def prepare(client: ClientContext) -> None:
    """Load data and model when the client has joined; not where the server has yet to say what there is to load."""
    if not client.config.data_source:
        LocalTrainer(client).prepare()
