"""What a client says of its local steps, held against what it was to do.

FedNova and SCAFFOLD divide a client's change by its steps, and simulated clocks make seconds of them: who says fewer
than it did would count for more. They need not be believed where nothing ends a training early: they are epochs times
batches of the client's examples, which the server knows, or as many as it allowed, if these are fewer. A limit in
seconds leaves open how many of them a client has done; more than these are none.
"""

from flwr.app import ConfigRecord, Message

from fedkeras.config import Config
from fedkeras.federation.messages import LOCAL_EPOCHS, LOCAL_STEPS, MOST_SECONDS, MOST_STEPS, metrics_of
from fedkeras.federation.records import of_kind


def fault_of_steps(reply: Message, sent: Message, config: Config, examples: int) -> str | None:
    """What is wrong with the steps that a checked train reply says it did, in one line, or None.

    `sent` is what the client was asked; `examples` are its own, as they are known.
    """
    asked = next(iter(of_kind(sent.content, ConfigRecord).values()), {})
    if MOST_STEPS not in asked and MOST_SECONDS not in asked:
        return None
    steps = metrics_of(reply.content).get(LOCAL_STEPS)
    if type(steps) is not int or steps < 1:
        return f"says that it did {steps!r} steps"
    epochs = int(asked.get(LOCAL_EPOCHS, config.local_epochs))
    whole = epochs * -(-examples // config.batch_size)
    most = min(whole, int(asked.get(MOST_STEPS, 0)) or whole)
    if steps > most:
        return f"says that it did {steps} steps, and was to do {most} at most"
    if steps < most and MOST_SECONDS not in asked:
        return f"says that it did {steps} steps, and was to do {most} ({examples} examples, --local-epochs {epochs})"
    return None


def warnings_of(config: Config, strategy: str) -> list[str]:
    """A sentence for a run whose strategy divides by steps that nobody but a client knows."""
    if not config.round_deadline or config.late != "partial" or config.clients:
        return []
    return [
        f"--strategy {strategy} divides by how many steps a client says it did until the deadline: one that says fewer "
        "than it did counts for more, and nobody can tell; --late drop leaves no such choice"
    ]
