"""What a round of split learning is expected to move: batches at both cuts, both ways, and the clients' weights."""

import math
from typing import TYPE_CHECKING

from fedkeras import factory, models
from fedkeras.config import Config
from fedkeras.workflows.traffic import Sizes, Traffic, cohorts, weight_bytes

if TYPE_CHECKING:
    from fedkeras.models.cutting import Parts

ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
"""By the value of --split-dtype."""


def cut_points(config: Config) -> tuple[str, str]:
    """The last layer of the head and that of the body. Raises UserError for a model that has none and no --split-at."""
    return models.cut_points(factory.model_name(config), config.split_at)


def example_sizes(parts: "Parts") -> tuple[int, int] | None:
    """Numbers that an example is at the first cut and at the second; None where a dimension is not fixed."""
    shapes = [tuple(parts.models[part].inputs[0].shape)[1:] for part in ("body", "tail")]
    return None if any(None in shape for shape in shapes) else (math.prod(shapes[0]), math.prod(shapes[1]))


def traffic_of(config: Config, parts: "Parts", sizes: Sizes) -> Traffic | None:
    """A round of these clients, or of as large a share of them as it asks; None where an example's size is not fixed.

    In training an example goes up as the head's activations and the gradient of the tail's input, and comes down as
    the body's output and the gradient of its input; in evaluation once each way. Each client is sent the weights of
    head and tail for both, and sends them back when it has trained.
    """
    numbers = example_sizes(parts)
    if numbers is None:
        return None
    item, own = (
        ITEM_BYTES[config.split_dtype],
        sum(weight_bytes(parts.models[part].weights) for part in ("head", "tail")),
    )
    train, evaluate = cohorts(config)
    trained = sum(size for size, _ in sizes) * train / len(sizes) * config.local_epochs
    tested = sum(size for _, size in sizes) * evaluate / len(sizes)
    both = sum(numbers) * trained
    up = item * (both + numbers[0] * tested) + own * train
    down = item * (both + numbers[1] * tested) + own * (train + evaluate)
    return Traffic(round(down), round(up))
