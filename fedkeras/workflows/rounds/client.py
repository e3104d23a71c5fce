"""A client's answers in federated rounds: initial weights, training, evaluation."""

import functools
import time
from typing import TYPE_CHECKING

from flwr.app import Message, MessageType, MetricRecord

from fedkeras import factory, models
from fedkeras.federation import records
from fedkeras.federation.initial_weights import INITIAL_WEIGHTS, content_of
from fedkeras.federation.messages import LOCAL_EPOCHS, LOCAL_STEPS, MOST_STEPS, TRAINING_NUMBER
from fedkeras.federation.requests import ClientContext, ClientRequest
from fedkeras.randomness import generator
from fedkeras.reports import round_lines
from fedkeras.tensorflow_import import import_tensorflow
from fedkeras.workflows.local_trainer import LocalTrainer

if TYPE_CHECKING:
    from fedkeras.learning.results import TrainingResult


def initial_weights(request: ClientRequest) -> Message:
    """The untrained model's weights, from the seed, and which are trained: the server needs no TensorFlow to begin."""
    trainer = LocalTrainer(request)
    if request.config.class_weight != "none":
        trainer.sample_weights()  # whether the targets are classes is said before a round
    model = trainer.model
    return request.reply_with(content_of(records.record(model.initial), models.trainable_names(model.learner.model)))


def train(request: ClientRequest) -> Message:
    """Train the global weights on this client's examples for the local epochs, under the objective that is named."""
    import_tensorflow()
    from fedkeras.learning.objectives import objective_of

    config, trainer = request.config, LocalTrainer(request)
    learner, (x, y) = trainer.model.learner, trainer.training_examples()
    learner.set_weights(records.views(request.arrays))
    server_round, epochs = int(request.sent["server-round"]), _epochs(request)
    round_lines.shown.at(request.cid, server_round, config.num_server_rounds, "training")
    started = time.perf_counter()
    result = learner.train(
        x,
        y,
        epochs=epochs,
        batch_size=config.batch_size,
        rng=generator(config.seed, "train", int(request.sent.get(TRAINING_NUMBER, server_round)), request.cid),
        objective=objective_of(request.sent, request.permission),
        # Only where a bar shows them: one graph call for all epochs is the same to the bit, and a little faster.
        on_epoch=functools.partial(_show, request, server_round) if epochs > 1 and round_lines.shown.draws else None,
        sample_weight=trainer.sample_weights(),
    )
    own = {LOCAL_STEPS: epochs * -(-len(x) // config.batch_size)} if MOST_STEPS in request.sent else {}
    metrics = MetricRecord(factory.metrics_of(result, time.perf_counter() - started) | own)
    round_lines.shown.trained(request.cid, server_round, config.num_server_rounds, metrics)
    return request.reply(arrays=records.record(learner.get_weights()), metrics=metrics)


def _epochs(request: ClientRequest) -> int:
    """The run's local epochs, or fewer if the message says so. Raises ValueError for any other number."""
    most = request.config.local_epochs
    epochs = request.sent.get(LOCAL_EPOCHS, most)
    if type(epochs) is not int or not 1 <= epochs <= most:
        raise ValueError(
            f"the train message asks for {epochs!r} epochs; --local-epochs is {most}, and fewer may be asked"
        )
    return epochs


def _show(request: ClientRequest, server_round: int, epoch: int, result: "TrainingResult") -> None:
    """A finished epoch of a round on this client's terminal."""
    epochs = _epochs(request)
    doing = f"training, epoch {epoch}/{epochs}, loss {result.loss:.4g}"
    round_lines.shown.at(request.cid, server_round, request.config.num_server_rounds, doing, epoch / epochs)


def evaluate(request: ClientRequest) -> Message:
    """Test the global weights on the examples this client held out."""
    trainer = LocalTrainer(request)
    learner, (x, y) = trainer.model.learner, trainer.test_examples()
    learner.set_weights(records.views(request.arrays))
    where = request.cid, int(request.sent["server-round"]), request.config.num_server_rounds
    round_lines.shown.at(*where, "testing", 1.0)
    started = time.perf_counter()
    result = learner.evaluate(x, y)
    metrics = MetricRecord(factory.metrics_of(result, time.perf_counter() - started))
    round_lines.shown.tested(*where, metrics)
    return request.reply(metrics=metrics)


HANDLERS = {INITIAL_WEIGHTS: initial_weights, MessageType.TRAIN: train, MessageType.EVALUATE: evaluate}
"""Message type -> handler."""


def prepare(client: ClientContext) -> None:
    """Load data and model when the client has joined; not where the server has yet to say what there is to load."""
    if not client.config.data_source:
        LocalTrainer(client).prepare()
