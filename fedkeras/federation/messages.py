"""What is in a round's messages: the parts that strategies and the round loop read and make."""

from collections.abc import Iterable, Sequence

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from fedkeras.federation.records import of_kind

NUM_EXAMPLES = "num-examples"
"""The metric that every reply has: how many examples it is about, not how many batches."""

LOCAL_EPOCHS = "local-epochs"
"""Key of a train message's configuration: this client is to do so many epochs, and not as many as the run's setting."""

MOST_STEPS = "most-steps"
"""Key of a train message's configuration: this client is to do so many steps at most (0: as many as its epochs have),
and to say how many it did."""

MOST_SECONDS = "most-seconds"
"""The same in seconds from when it begins: it stops at its last whole step within them, and does one at least."""

LOCAL_STEPS = "local-steps"
"""The metric that says it: batches that a client trained on, over all its epochs."""

TRAINING_NUMBER = "training-number"
"""Key of a train message's configuration, where there are no rounds in which each client trains once: this is the
client's training of that number. It takes the round's place beside the seed."""

PART = "part"
"""Key of the same: one of several trainings that a mod on the client has in a round, by a name of its own. Each has its
own order of examples, and the client's terminal has a line for the one without a name alone."""

OBJECTIVE_ARRAYS = "objective-arrays"
"""The record of a train message, beside the model's arrays, with what its objective is given: an array for each that is
trained, by its name."""

LOSS_FIRST = "loss-first"
"""Key of a train message's configuration: this client is to test the weights it was sent on its training examples."""

INITIAL_LOSS = "initial-loss"
"""The metric that says what came of it: the mean loss over a client's training examples, before it trains."""


def to_all(
    grid: Grid, message_type: str, server_round: int, arrays: ArrayRecord, config: ConfigRecord
) -> list[Message]:
    """The same content to every node of `grid`; it is one object, so a runtime can serialise it once."""
    config["server-round"] = server_round
    content = RecordDict({"arrays": arrays, "config": config})
    return [
        Message(content, dst_node_id=node_id, message_type=message_type, group_id=str(server_round))
        for node_id in grid.get_node_ids()
    ]


def contents(replies: Iterable[Message]) -> Iterable[RecordDict]:
    """The contents of the replies that are no errors."""
    return (reply.content for reply in replies if not reply.has_error())


def num_examples(content: RecordDict) -> int:
    """A client's number of examples."""
    return int(metrics_of(content)[NUM_EXAMPLES])


def arrays_of(content: RecordDict) -> ArrayRecord:
    """The one ArrayRecord of a train reply."""
    return next(iter(of_kind(content, ArrayRecord).values()))


def metrics_of(content: RecordDict) -> MetricRecord:
    """The one MetricRecord of a reply."""
    return next(iter(of_kind(content, MetricRecord).values()))


def mean_metrics(tables: Sequence[MetricRecord]) -> MetricRecord | None:
    """Example-weighted mean of every metric that all clients' metric records have; None without a client."""
    if not tables:
        return None
    weights = [float(table[NUM_EXAMPLES]) for table in tables]
    names = [name for name in tables[0] if name != NUM_EXAMPLES and all(name in table for table in tables)]
    return MetricRecord(
        {name: sum(w * t[name] for w, t in zip(weights, tables, strict=True)) / sum(weights) for name in names}
    )
