"""Which arrays of a model stay with the client: those of the layers that `keep=` names.

keep=classifier      the last layer with weights, which must be a dense layer or a convolution
keep=bn              all BatchNormalization layers: scale, offset and statistics
keep=LAYER/LAYER     layers by the name in model.summary(), or by their index in model.layers; -1 is the last. All
                     layers of a nested model go by its name
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from fedkeras.errors import UserError

CLASSIFIER, BATCH_NORM = "classifier", "bn"
CLASSIFIERS = ("Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D")


class LayerArray(NamedTuple):
    """An array of a model: its name, and of its layer the index in `model.layers`, the name and the class."""

    name: str
    index: int
    layer: str
    kind: str


def kept_names(keep: str, arrays: Sequence[LayerArray], trainable: Collection[str]) -> list[str]:
    """The names of the arrays that stay, in the model's order.

    Raises UserError for a layer that there is not, and where nothing would be left to train together.
    """
    chosen: set[str] = set()
    for word in keep.split("/"):
        found = _named(word.strip(), arrays)
        chosen |= {array.name for array in found}
    if not any(name in trainable and name not in chosen for name in (array.name for array in arrays)):
        raise UserError(f"--mods local-layers:keep={keep} keeps all that is trained: nothing is left to train together")
    return [array.name for array in arrays if array.name in chosen]


def words_of(kept: Collection[str], arrays: Sequence[LayerArray]) -> str:
    """The layers of these arrays as a person reads them: "dense_1 (Dense)"."""
    layers = {array.layer: array.kind for array in arrays if array.name in kept}
    return ", ".join(f"{layer} ({kind})" for layer, kind in layers.items())


def _named(word: str, arrays: Sequence[LayerArray]) -> list[LayerArray]:
    if word == CLASSIFIER:
        return _classifier(arrays)
    if word == BATCH_NORM:
        found = [array for array in arrays if array.kind == "BatchNormalization"]
        if not found:
            raise UserError("--mods local-layers:keep=bn: the model has no BatchNormalization layer")
        return found
    count = 1 + max((array.index for array in arrays), default=-1)
    if word.lstrip("-").isdigit():
        index = int(word) + (count if int(word) < 0 else 0)
        found = [array for array in arrays if array.index == index >= 0]
    else:
        found = [array for array in arrays if array.layer == word or array.layer.startswith(f"{word}/")]
    if not found:
        layers = dict.fromkeys(f"{array.layer} ({array.index})" for array in arrays if array.layer)
        raise UserError(
            f"--mods local-layers:keep={word}: the model has no layer with weights of that name or index; it has "
            f"{', '.join(layers)}"
        )
    return found


def _classifier(arrays: Sequence[LayerArray]) -> list[LayerArray]:
    last = next((array for array in reversed(arrays) if array.layer), None)
    if last is None or last.kind not in CLASSIFIERS:
        what = "none that can be told" if last is None else f"{last.layer}, a {last.kind}"
        raise UserError(
            f"--mods local-layers:keep=classifier: the last layer with weights is {what}, and no dense layer: "
            "name the layers that stay (keep=LAYER/LAYER)"
        )
    return [array for array in arrays if array.layer == last.layer]
