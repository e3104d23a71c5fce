"""Rounds in which every client evaluates the global model on the examples it trains on: the papers' training loss.

`--mode benchmarks.references.training_loss:OnTrainingExamples`. The mean over clients, each counted by its number of
examples, is the loss over all training examples: the line `evaluate,all` of history.csv.
"""

import time
from collections.abc import Mapping

from flwr.app import Message, MessageType, MetricRecord

from fedkeras import factory
from fedkeras.federation import records
from fedkeras.federation.requests import ClientRequest, Handler
from fedkeras.workflows.local_trainer import LocalTrainer
from fedkeras.workflows.rounds.server import RoundsWorkflow


class OnTrainingExamples(RoundsWorkflow):
    """Federated rounds as always, but for what an evaluation is made on."""

    fixed_counts = False

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """Those of federated rounds, with another evaluation."""
        return {**super().handlers, MessageType.EVALUATE: evaluate}


def evaluate(request: ClientRequest) -> Message:
    """Test the global weights on this client's own training examples."""
    trainer = LocalTrainer(request)
    learner, (x, y) = trainer.model.learner, trainer.training_examples()
    learner.set_weights(records.views(request.arrays))
    started = time.perf_counter()
    result = learner.evaluate(x, y)
    return request.reply(metrics=MetricRecord(factory.metrics_of(result, time.perf_counter() - started)))
