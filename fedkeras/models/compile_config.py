"""What a model file's model was compiled with: loss, optimizer and metrics, as JSON and as objects of Keras 3.

Keras' own loader cannot be used for it: files written by Keras 2 name things that Keras 3 no longer knows (`lr`,
`decay`, `reduction: auto`, MeanMetricWrapper). They are translated here. An object with code of its own is made only
where that code is trusted.
"""

import inspect
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import keras

from fedkeras.errors import UserError
from fedkeras.models.file_info import Json, first_line, read_config
from fedkeras.models.trusted_code import code_in, foreign, is_keras

Serialised = str | dict[str, Json]
"""A name, or {"class_name": ..., "config": {...}}."""

ACCURACY = ("accuracy", "acc")


@dataclass(frozen=True)
class TrainingConfig:
    """A loss, an optimizer and metrics, each a name or {"class_name": ..., "config": {...}}; None, () for unset.

    Metrics leave out accuracy, which a Learner chooses by the loss; `accuracy` says whether it was among them.
    """

    loss: Serialised | None = None
    optimizer: Serialised | None = None
    metrics: tuple[Serialised, ...] = ()
    accuracy: bool = False

    def to_dict(self) -> dict[str, Json]:
        """As JSON can hold it; TrainingConfig(**table) is the way back."""
        return asdict(self)


def training_config(path: str | Path) -> TrainingConfig:
    """What the file's model was compiled with; all unset if it was not. Nothing is run. Raises UserError."""
    training = read_config(path).training or {}
    optimizer = training.get("optimizer") or training.get("optimizer_config")
    metrics = [_function_name(metric) for metric in _flat(training.get("metrics"))]
    return TrainingConfig(
        loss=_only(training.get("loss"), path),
        optimizer=optimizer,
        metrics=tuple(metric for metric in metrics if metric not in (None, "loss") and _name(metric) not in ACCURACY),
        accuracy=any(_name(metric) in ACCURACY for metric in metrics),
    )


def needs_code(path: str | Path) -> str:
    """What the file's model, its loss or its optimizer needs beside Keras, in some words; empty if nothing."""
    training = training_config(path)
    found = [*code_in(path), *foreign(training.loss), *foreign(training.optimizer)]
    return found[0] if found else ""


def make_loss(loss: Serialised | None, trust_code: bool = False) -> str | keras.losses.Loss | None:
    """A name, or an object of Keras'; None if there is none. Raises UserError."""
    if loss is None or isinstance(loss, str):
        return loss
    if loss["class_name"] == "function" and not foreign(loss):
        return loss["config"]
    return _make(loss, keras.losses, "loss", trust_code)


def make_optimizer(optimizer: Serialised | None, trust_code: bool = False) -> keras.optimizers.Optimizer | None:
    """A new optimizer with the settings of the one described; None if there is none. Raises UserError."""
    if optimizer is None:
        return None
    if isinstance(optimizer, str):
        optimizer = {"class_name": optimizer, "config": {}}
    config = dict(optimizer.get("config") or {})
    rate = config.pop("lr", None)
    rate = config.get("learning_rate", rate)
    if isinstance(rate, dict):
        rate = _make(rate, keras.optimizers.schedules, "learning rate", trust_code)
    elif config.get("decay") and rate is not None:  # Keras 2: lr / (1 + decay * step)
        rate = keras.optimizers.schedules.InverseTimeDecay(rate, 1, config["decay"])
    if rate is not None:
        config["learning_rate"] = rate
    return _make({**optimizer, "config": config}, keras.optimizers, "optimizer", trust_code)


def make_metrics(metrics: tuple[Serialised, ...], trust_code: bool = False) -> tuple[str | keras.metrics.Metric, ...]:
    """Names, and objects of Keras'. Raises UserError."""
    return tuple(
        metric if isinstance(metric, str) else _make(metric, keras.metrics, "metric", trust_code) for metric in metrics
    )


def _make(description: dict[str, Json], space: ModuleType, what: str, trust_code: bool) -> Any:  # noqa: ANN401 - of Keras' many
    """An object of a namespace of Keras' from its description, without the options that its class has no more."""
    name, config = description["class_name"], description.get("config")
    kind = next((value for key, value in vars(space).items() if key.lower() == name.lower()), None)
    known = inspect.isclass(kind) and is_keras(description.get("module")) and isinstance(config, dict | None)
    if code := foreign(config if known else description):
        if not trust_code:
            raise UserError(
                f"the model file's {what} needs {code[0]}; trust it with --trust-code, or name another with a flag"
            )
        known = False
    try:
        if known:
            return kind(**_known_options(kind, config or {}))
        return keras.saving.deserialize_keras_object(description, safe_mode=not trust_code)
    except (ValueError, TypeError, ImportError, AttributeError, KeyError) as error:
        raise UserError(f"the model file's {what} '{name}' cannot be made: {first_line(error)}") from error


def _known_options(kind: type, config: dict[str, Json]) -> dict[str, Json]:
    known: set[str] = set()
    for base in kind.__mro__[:-1]:
        known |= set(inspect.signature(base.__init__).parameters)
        if not any(p.kind is p.VAR_KEYWORD for p in inspect.signature(base.__init__).parameters.values()):
            break
    options = {key: value for key, value in config.items() if key in known and key != "dtype"}
    if options.get("reduction") == "auto":
        options["reduction"] = "sum_over_batch_size"
    return options


def _only(loss: Json, path: str | Path) -> Serialised | None:
    """The loss of a model with one output, which old files keep in a list or under the output's name."""
    while isinstance(loss, list | dict) and not (isinstance(loss, dict) and "class_name" in loss):
        values = list(loss.values() if isinstance(loss, dict) else loss)
        if len(values) != 1:
            raise UserError(f"{path} was compiled with {len(values)} losses; only models with one output are supported")
        loss = values[0]
    return loss


def _flat(metrics: Json) -> list[Serialised]:
    if isinstance(metrics, dict) and "class_name" not in metrics:
        metrics = list(metrics.values())
    if isinstance(metrics, list):
        return [inner for metric in metrics for inner in _flat(metric)]
    return [] if metrics is None else [metrics]


def _function_name(metric: Serialised) -> Serialised:
    """A metric that wraps a function, or is one, by the function's name; accuracy by that name, whatever its kind."""
    if isinstance(metric, str):
        return metric
    config = metric.get("config")
    if metric.get("class_name") == "function":
        return config if config and not foreign(metric) else metric
    if isinstance(config, dict) and config.get("name") in ACCURACY:
        return config["name"]
    if metric.get("class_name") == "MeanMetricWrapper" and isinstance(config, dict):
        function = config.get("fn")
        return _function_name(function) if isinstance(function, dict) else function
    return metric


def _name(metric: Serialised) -> str:
    return metric if isinstance(metric, str) else str(metric.get("class_name"))
