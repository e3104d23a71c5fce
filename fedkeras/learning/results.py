"""What training or evaluation on one client's examples came to."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TrainingResult:
    """Means over examples, each example counted once.

    `loss` includes the model's own regularisation terms, and no term of an objective's. It may be NaN: the caller
    decides what that means. `accuracy` is None where it has no meaning, as for an autoencoder. `metrics` holds any
    others by name. `steps` is how many a training did that had a limit.
    """

    num_examples: int
    loss: float
    accuracy: float | None
    metrics: dict[str, float] = field(default_factory=dict)
    steps: int | None = None
