"""Weights of models that were trained apart, combined by one of the strategies as if they were a round's answers."""

from collections.abc import Mapping, Sequence

import numpy as np
from flwr.app import Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp.strategy import Strategy

from fedkeras.errors import UserError
from fedkeras.federation import registry
from fedkeras.federation.messages import NUM_EXAMPLES
from fedkeras.federation.records import record, views
from fedkeras.federation.strategy_adapter import aggregate_train, conform, kept_from, tell
from fedkeras.federation.trainable import trainable_of
from fedkeras.federation.validation import fault_of_train
from fedkeras.flower.identity import SERVER_NODE_ID, act_as, node_id_of
from fedkeras.strategy_names import OFFLINE

Weights = Mapping[str, np.ndarray]

NOTES = {
    "fedprox": "FedProx: offline, the aggregate is FedAvg's. Its proximal term, mu/2 * ||w - w_global||^2, belongs to "
    "the training of each part. --base FILE --proximal-mu MU holds the aggregate itself near a global model.",
    "fedmedian": "FedMedian counts every file once: --weights play no part.",
    "trimmed_mean": "Trimmed mean counts every file once: --weights play no part.",
    "krum": "Krum counts every file once: --weights play no part.",
    "bulyan": "Bulyan counts every file once: --weights play no part.",
    "multikrum": "Multi-Krum counts every file once: --weights play no part.",
}
"""What somebody who names this strategy should know."""


def check_strategy(spec: str, args: Mapping[str, object]) -> Strategy:
    """The strategy named `spec`. Raises UserError for one that moves a global model, of which there is none here."""
    strategy = registry.load(spec, args)
    if getattr(strategy, "moves_global_model", False) or hasattr(strategy, "current_arrays"):  # Flower's
        raise UserError(
            f"--strategy {spec} moves the current global model towards the parts' mean, with a memory of earlier "
            f"rounds; offline there is neither: take {', '.join(OFFLINE)}"
        )
    return strategy


def combine(
    strategy: Strategy,
    parts: Mapping[str, Weights],
    num_examples: Sequence[int],
    trainable: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    """The strategy's aggregate of `parts` (by file name) with the weights of the same names, shapes and dtypes.

    `trainable` are the names of the weights that are trained: the others are averaged, unless the strategy takes all.

    Raises UserError naming the file whose weights cannot be used, or with the strategy's own reason.
    """
    act_as(SERVER_NODE_ID, 1)
    replies = []
    like = record(next(iter(parts.values())))
    for cid, ((name, weights), count) in enumerate(zip(parts.items(), num_examples, strict=True)):
        question = Message(RecordDict(), node_id_of(cid), MessageType.TRAIN)
        content = RecordDict({"arrays": record(weights), "metrics": MetricRecord({NUM_EXAMPLES: int(count)})})
        replies.append(Message(content, reply_to=question))
        if fault := fault_of_train(replies[-1], like):
            raise UserError(f"{name}: {fault}")
    try:
        names = trainable_of(like, trainable)
        tell(strategy, names)
        new, _ = aggregate_train(strategy, 1, replies, kept_from(strategy, like, names))
    except ValueError as error:
        raise UserError(str(error)) from error
    return views(conform(new, like, strategy))


def held_near(mean: Weights, base: Weights, mu: float, trainable: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """The weights nearest to all parts, by examples, and to the global model from which the parts started.

    They minimise sum_k n_k/n * ||w - w_k||^2 + mu * ||w - base||^2, which is (mean + mu * base) / (1 + mu). That is not
    the proximal term of Li et al. (FedProx, MLSys 2020), which holds each part near while it is trained. Weights that
    are not trained (`trainable` are the names of those that are) stay the parts' mean.
    """
    names = trainable_of(record(mean), trainable)
    near = dict(mean)
    for name in names:
        exact = (mean[name].astype(np.float64) + mu * base[name].astype(np.float64)) / (1.0 + mu)
        near[name] = exact.astype(mean[name].dtype)
    return near
