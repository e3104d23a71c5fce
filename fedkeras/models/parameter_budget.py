"""A bound on the parameters that a model may get while it is made from a file: a few words can say billions of them.

A layer's weights come into being by `add_weight`, before they are filled from the file. So they are counted there, and
a model with more of them than the file has numbers for is given up before their memory is taken.
"""

import contextlib
import functools
import math
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import keras

from fedkeras.errors import UserError

_left: ContextVar[list[int] | None] = ContextVar("parameters left", default=None)
_patching = threading.RLock()

SPARE = 10_000
"""Numbers that a model may have beside those of its file."""


@contextlib.contextmanager
def parameter_budget(numbers: int) -> Iterator[None]:
    """Models that are made meanwhile, in this thread, get weights of at most twice `numbers` in all.

    Twice, since a layer may be made again in the course of it. Raises UserError for one more.
    """
    with _patching:
        before = keras.layers.Layer.add_weight
        keras.layers.Layer.add_weight = _counted(before)
        token = _left.set([2 * numbers + SPARE])
        try:
            yield
        finally:
            _left.reset(token)
            keras.layers.Layer.add_weight = before


def _counted(add_weight: Callable[..., keras.Variable]) -> Callable[..., keras.Variable]:
    @functools.wraps(add_weight)
    def counted(
        self: keras.layers.Layer, shape: tuple[int, ...] | None = None, *args: object, **kwargs: object
    ) -> keras.Variable:
        left = _left.get()
        if left is not None:
            sizes = [shape] if isinstance(shape, int) else list(shape or ())
            left[0] -= math.prod(int(size) for size in sizes if size is not None)
            if left[0] < 0:
                raise UserError("its layers would have more weights than the file holds numbers")
        return add_weight(self, shape, *args, **kwargs)

    return counted
