"""What the pages of strategies have in common, so that a page holds its paper's arithmetic and nothing else.

A page extends `BaseStrategy` if it takes one update after the other, as FedAvg does, or `AllAtOnce` if it must see all
updates together (a median, a distance between clients).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.aggregation import Mean, as_dtype
from fedkeras.federation.messages import arrays_of, contents, mean_metrics, metrics_of, num_examples, to_all
from fedkeras.federation.records import record, view, views
from fedkeras.named_code import parse_specs

Stack = np.ndarray
"""One array of all clients, shape (clients, *shape)."""


class BaseStrategy(Strategy):
    """Sends the global arrays to every node of the grid it is shown; metrics are example-weighted means.

    What is missing is `aggregate_train`.
    """

    streams = False
    """True: replies may be handed over while others are still under way, for nothing is remembered between rounds."""
    takes_all = False
    """True: the rule is for all arrays. Else the strategy is shown the trainable ones alone, when it configures and
    when it aggregates; the others (BatchNormalization's statistics, counters, frozen layers) are averaged as in FedAvg.
    """
    robust = False
    """True: it withstands liars. The clients' figures are then medians too, each client counted once: what a run
    publishes, and the best checkpoint, are no more a liar's than its weights are."""
    moves_global_model = False
    """True: it moves the global model of the round before, so that it cannot combine models that were trained apart."""
    needs_rounds = False
    """True: all updates that it is handed together must begin at the same global arrays, as those of a round do."""
    mods = ""
    """Mods that its clients need, as --mods names them: where it is chosen they are added, innermost, and said."""
    trainable: tuple[str, ...] | None = None
    """The names of the trainable arrays, set before the first round; None: nobody has said."""

    def prepare(self, config: Config) -> None:
        """Told the run's configuration when it is made: what its arithmetic needs of the clients' settings.

        Raise UserError, in one line, for what it cannot go with.
        """

    def check(self, clients: int) -> Iterable[str]:
        """What should be known before the first round, which asks `clients` clients to train: a warning a sentence.

        Raise ValueError for what cannot go well with so many.
        """
        return ()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """One train message a node."""
        return to_all(grid, MessageType.TRAIN, server_round, arrays, config)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """One evaluate message a node."""
        return to_all(grid, MessageType.EVALUATE, server_round, arrays, config)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The example-weighted mean of the replies' metrics; None without a reply."""
        return mean_metrics([metrics_of(content) for content in contents(replies)])

    def summary(self) -> None:
        """Nothing to add to the run's own log."""


class AllAtOnce(BaseStrategy):
    """An aggregation that is given as a function of all updates."""

    def combine(self, updates: Sequence[ArrayRecord]) -> dict[str, np.ndarray]:
        """The new global arrays from all clients' arrays."""
        raise TypeError(f"{type(self).__name__} does not say how to combine updates")

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """What `combine` makes of the arrays; metrics are example-weighted means, as in FedAvg."""
        received = list(contents(replies))
        if not received:
            return None, None
        metrics = mean_metrics([metrics_of(content) for content in received])
        return record(self.combine([arrays_of(content) for content in received])), metrics


def refuse_mods(config: Config, strategy: str, why: Mapping[str, str]) -> None:
    """Raise UserError if --mods names one of those in `why`, {mod: reason}, with which this strategy does not go."""
    named = [spec.name for spec in parse_specs(config.mods, "mods")]
    if found := [name for name in named if name in why]:
        raise UserError(f"--strategy {strategy} does not go with --mods {found[0]}: {why[found[0]]}")


def mean_of(replies: Iterable[Message]) -> tuple[dict[str, np.ndarray], MetricRecord | None]:
    """The example-weighted means of the replies' arrays, in float64, and of their metrics; ({}, None) without a reply.

    One reply is in memory at a time, if they come so.
    """
    mean, metrics = Mean(), []
    for content in contents(replies):
        metrics.append(metrics_of(content))
        mean.add(views(arrays_of(content)), num_examples(content))
    return mean.exact(), mean_metrics(metrics)


def by_array(updates: Sequence[ArrayRecord], function: Callable[[Stack], np.ndarray]) -> dict[str, np.ndarray]:
    """Apply `function` to each array's stack in turn, so that only one array's copies are in memory at once.

    Results have the arrays' own dtypes (`as_dtype`).
    """
    result = {}
    for name, first in updates[0].items():
        stack = np.stack([view(update[name]) for update in updates])
        result[name] = as_dtype(np.asarray(function(stack)), np.dtype(first.dtype))
    return result
