"""What client and server of split learning say to each other.

    start     head's and tail's weights -> the number of examples, and the activations of the first batches
    loss      the body's output of a batch -> its gradient; the tail is updated
    backward  the gradient of a batch's activations -> the head is updated; the next activations, or weights and metrics
    test, score  the same for evaluation on the client's own test set, where nothing is updated

Batches of activations and gradients travel in the number format of the run (`--split-dtype`), which both ends know:
what comes in another is refused like anything else that does not fit.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MessageType, RecordDict

from fedkeras.federation.records import record, view
from fedkeras.learning.quantisation import Packed, from_wire, to_wire

START, LOSS, BACKWARD = (f"{MessageType.QUERY}.split_{name}" for name in ("start", "loss", "backward"))
TEST, SCORE = (f"{MessageType.QUERY}.split_{name}" for name in ("test", "score"))
"""Message types."""

WEIGHTS = "weights"
"""The record that holds weights, of head and tail; other arrays are batches."""

BATCHES, SCALES = "batches", "scales"
"""The records that hold batches by number, and what each was scaled by."""

EVALUATION_BATCH = 256
"""Examples in a message of evaluation; a server that knows it can tell how many a batch must have."""


def pack(batches: Mapping[int, np.ndarray], dtype: str) -> RecordDict:
    """Batches by number as a message's content. Raises ValueError for numbers that are not finite."""
    packed = {str(number): to_wire(batch, dtype) for number, batch in batches.items()}
    scales = ConfigRecord({number: batch.scale for number, batch in packed.items()})
    return RecordDict({BATCHES: record({number: batch.data for number, batch in packed.items()}), SCALES: scales})


def unpack(content: RecordDict, number: int, dtype: str) -> np.ndarray:
    """One batch as float32. Raises ValueError for whatever is not a batch of this number in this format."""
    batches, scales = content.get(BATCHES), content.get(SCALES)
    if not isinstance(batches, ArrayRecord) or not isinstance(scales, ConfigRecord) or str(number) not in batches:
        raise ValueError(f"sent nothing for batch {number}")
    scale = scales.get(str(number))
    if type(scale) is not float:
        raise ValueError(f"sent batch {number} without a scale")
    return from_wire(Packed(view(batches[str(number)]), dtype, scale))


def weights_without_body(arrays: Mapping[str, Array], body: Iterable[str]) -> ArrayRecord:
    """Of the whole model's weights those of head and tail: all but the body's names."""
    names = set(body)
    return ArrayRecord({name: array for name, array in arrays.items() if name not in names})
