"""What a model must be to be trained here: one input, one output, and no state that goes from batch to batch.

Of a model file it is found out by its configuration alone, before anything is handed out or built.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from fedkeras.errors import UserError
from fedkeras.models.file_info import Json, names_of_ends, read_config

if TYPE_CHECKING:
    import keras


def require_trainable(model: "keras.Model") -> None:
    """Raise UserError, naming what stands in the way, for a model that is not trained here."""
    if getattr(model, "inputs", None):  # a subclassed model does not say
        ends = [[tensor._keras_history.operation.name for tensor in part] for part in (model.inputs, model.outputs)]
        _require_one_of_each(*ends)
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False):
            raise UserError(_stateful(layer.name))
    if model.built and not model.weights:
        raise UserError("the model has no weights, so there is nothing to train")


def require_trainable_file(path: str | Path) -> None:
    """The same of a model file, as far as its configuration says it. Raises UserError, also for one that is none."""
    model = read_config(path).model
    config = model.get("config")
    if isinstance(config, dict):
        _require_one_of_each(names_of_ends(config.get("input_layers")), names_of_ends(config.get("output_layers")))
    todo: list[Json] = [config]
    while todo:  # not by recursion: whoever made the file decides how deep it is
        part = todo.pop()
        if isinstance(part, dict):
            if part.get("stateful") is True:
                raise UserError(_stateful(str(part.get("name", ""))))
            todo += part.values()
        elif isinstance(part, list):
            todo += part


def _require_one_of_each(inputs: list[str], outputs: list[str]) -> None:
    if len(inputs) > 1:
        raise UserError(
            f"the model has {len(inputs)} inputs ({', '.join(inputs)}), and an example is one array here: give the "
            "model one input of all numbers, and take it apart in the model"
        )
    if len(outputs) > 1:
        raise UserError(
            f"the model has {len(outputs)} outputs ({', '.join(outputs)}), and an example has one target here: keep "
            "one of them, as keras.Model(model.inputs, model.outputs[0]) does, or concatenate them"
        )


def _stateful(name: str) -> str:
    return (
        f"the model's layer '{name}' is stateful: it goes on from batch to batch in the order of rows, and rows are "
        "shuffled here; make it with stateful=False, and the model's input with shape= and not batch_shape="
    )
