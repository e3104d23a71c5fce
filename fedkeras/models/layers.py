"""Which layer each of a model's weights belongs to."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import keras


class WeightLayer(NamedTuple):
    """The layer of a weight: the index in `model.layers` of the outermost one, the names on the way, and its class.

    `path` is the name as in `model.summary()`, for a layer of a nested model "block/conv". `kind` is "Dense",
    "BatchNormalization", ... of the innermost.
    """

    index: int
    path: str
    kind: str


def layers_of_weights(model: "keras.Model") -> list[WeightLayer]:
    """One for each of `model.weights`, in their order; a weight that two layers share is the first one's.

    A weight of the model itself, or of a subclassed model's parts that are no layers, has index -1 and the path "".
    """
    found: dict[int, WeightLayer] = {}
    for index, layer in enumerate(model.layers):
        for path, inner in _leaves(layer, layer.name):
            for weight in inner.weights:
                found.setdefault(id(weight), WeightLayer(index, path, type(inner).__name__))
    nobodys = WeightLayer(-1, "", type(model).__name__)
    return [found.get(id(weight), nobodys) for weight in model.weights]


def _leaves(layer: "keras.Layer", path: str) -> Iterator[tuple[str, "keras.Layer"]]:
    """The layers within, the innermost first: what a wrapper or a nested model holds besides is its own."""
    for inner in layer._layers:  # what `_flatten_layers` walks; a model's `layers` leaves out those of its layers
        yield from _leaves(inner, f"{path}/{inner.name}")
    yield path, layer
