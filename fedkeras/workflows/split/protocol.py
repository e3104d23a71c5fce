"""Batches of activations and gradients as the records of a message, in the number format of the run, and back.

Both ends know the format (`--split-dtype`), so what came in another is refused like anything else that does not fit.
"""

from collections.abc import Mapping

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from fedkeras.federation.records import record, view
from fedkeras.learning.quantisation import Packed, from_wire, to_wire

BATCHES, SCALES = "batches", "scales"


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
