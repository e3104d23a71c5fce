"""What a model file's model was compiled with: loss, optimizer and metrics, as JSON and as objects of Keras 3.

Keras' own loader cannot be used for it: files written by Keras 2 name things that Keras 3 no longer knows (`lr`,
`decay`, `reduction: auto`, MeanMetricWrapper). They are translated here. An object with code of its own is made only
where that code is trusted.
"""

import functools
import inspect
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import keras

from fedkeras.errors import UserError
from fedkeras.models.file_info import Json, first_line, read_config
from fedkeras.models.trusted_code import code_in, foreign, is_keras

Serialised = str | dict[str, Json]
"""A name, or {"class_name": ..., "config": {...}}."""

ACCURACY = ("accuracy", "acc")

Metric = str | keras.metrics.Metric | Callable
"""By name, an object, or a function of (targets, outputs)."""

log = logging.getLogger("fedkeras")


@dataclass(frozen=True)
class TrainingConfig:
    """A loss, an optimizer and metrics, each a name or {"class_name": ..., "config": {...}}; None, () for unset.

    Metrics leave out accuracy, which a Learner chooses by the loss; `accuracy` says whether it was among them. Weighted
    metrics are among them. `loss_weight` is what the loss is multiplied by.
    """

    loss: Serialised | None = None
    optimizer: Serialised | None = None
    metrics: tuple[Serialised, ...] = ()
    accuracy: bool = False
    loss_weight: float | None = None
    run_eagerly: bool = False

    def to_dict(self) -> dict[str, Json]:
        """As JSON can hold it; TrainingConfig(**table) is the way back."""
        return asdict(self)


def training_config(path: str | Path) -> TrainingConfig:
    """What the file's model was compiled with; all unset if it was not. Nothing is run. Raises UserError."""
    training = read_config(path).training or {}
    optimizer = _named_as_today(training.get("optimizer") or training.get("optimizer_config"))
    compiled = [*_flat(training.get("metrics")), *_flat(training.get("weighted_metrics"))]
    metrics = [_function_name(metric) for metric in compiled]
    return TrainingConfig(
        loss=_only(training.get("loss"), path),
        optimizer=optimizer,
        metrics=tuple(metric for metric in metrics if metric not in (None, "loss") and _name(metric) not in ACCURACY),
        accuracy=any(_name(metric) in ACCURACY for metric in metrics),
        loss_weight=_single(training.get("loss_weights")),
        run_eagerly=bool(training.get("run_eagerly")),
    )


class Compiled(NamedTuple):
    """What a model in memory was compiled with, as it was given; unset if it was not.

    `metrics` leave out accuracy, which a Learner chooses by the loss. `optimizer` is its class's name.
    """

    loss: str | keras.losses.Loss | Callable | None = None
    loss_weight: float | None = None
    metrics: tuple[Metric, ...] = ()
    optimizer: str = ""
    run_eagerly: bool = False

    def onto(self, model: keras.Model) -> None:
        """Compile another model so, without an optimizer; not at all where there is nothing."""
        if self.loss is not None or self.metrics:
            weights = None if self.loss is None else self.loss_weight
            metrics = list(self.metrics) or None
            model.compile(optimizer=None, loss=self.loss, loss_weights=weights, metrics=metrics,
                          run_eagerly=self.run_eagerly, jit_compile=False)  # fmt: skip


def compiled_with(model: keras.Model) -> Compiled:
    """What `model`, of one output, was compiled with. Keras has no public way to what it was given."""
    if not model.compiled:
        return Compiled()
    given = defaultdict(type(None), model._compile_config.config)  # saving as .h5 takes the optimizer out of it
    metrics = [*_flat_values(given["metrics"]), *_flat_values(given["weighted_metrics"])]
    optimizer = getattr(given["optimizer"], "inner_optimizer", given["optimizer"])
    return Compiled(
        model.loss,
        _single(given["loss_weights"]),
        tuple(metric for metric in metrics if _given_name(metric) not in ACCURACY),
        "" if optimizer is None else type(optimizer).__name__,
        bool(given["run_eagerly"]),
    )


def needs_code(path: str | Path) -> str:
    """What the file's model, its loss or its optimizer needs beside Keras, in some words; empty if nothing."""
    training = training_config(path)
    found = [*code_in(path), *foreign(training.loss), *foreign(training.optimizer)]
    return found[0] if found else ""


def _named_as_today(optimizer: Json) -> Json:
    """An optimizer of Keras' own by its name, and not by those that TensorFlow 2.11 and later registered it under."""
    if not isinstance(optimizer, dict) or optimizer.get("module") is not None:
        return optimizer
    name, config = str(optimizer.get("class_name")).removeprefix("Custom>"), optimizer.get("config")
    if isinstance(config, dict) and "inner_optimizer" in config:
        name = "LossScaleOptimizer" if name == "LossScaleOptimizerV3" else name
        config = {**config, "inner_optimizer": _named_as_today(config["inner_optimizer"])}
    return {**optimizer, "class_name": name, "config": config}


def make_loss(loss: Serialised | None, trust_code: bool = False) -> str | keras.losses.Loss | None:
    """A name, or an object of Keras'; None if there is none. Raises UserError."""
    if loss is None or isinstance(loss, str):
        return loss
    if loss["class_name"] == "function" and not foreign(loss):
        return loss["config"]
    return _make(loss, keras.losses, "loss", trust_code)


def make_optimizer(
    optimizer: Serialised | None, trust_code: bool = False, learning_rate: float | None = None
) -> keras.optimizers.Optimizer | None:
    """A new optimizer with the settings of the one described; None if there is none. Raises UserError.

    `learning_rate` takes the place of its own, which may be a schedule.
    """
    if optimizer is None:
        return None
    if isinstance(optimizer, str):
        optimizer = {"class_name": optimizer, "config": {}}
    config = dict(optimizer.get("config") or {})
    if isinstance(inner := config.get("inner_optimizer"), dict) and not foreign(optimizer):  # LossScaleOptimizer
        made = make_optimizer(inner, trust_code, learning_rate)
        options = {key: config[key] for key in ("initial_scale", "dynamic_growth_steps") if key in config}
        return keras.optimizers.LossScaleOptimizer(made, **options)
    if learning_rate is not None:
        config = {key: value for key, value in config.items() if key not in ("lr", "decay")}
        config["learning_rate"] = learning_rate
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


def usable_metrics(metrics: tuple[Serialised, ...], trust_code: bool = False) -> list[str | keras.metrics.Metric]:
    """Those of a model file's metrics that can be made here; the others are left out with a warning."""
    found = []
    for metric in metrics:
        try:
            (made,) = make_metrics((metric,), trust_code)
            keras.metrics.get(made)
        except (UserError, ValueError) as error:
            own = foreign(metric) if isinstance(metric, dict) else []
            name = metric if isinstance(metric, str) else _name(metric.get("config") or metric)
            of_keras = isinstance(error, UserError)
            _say_left_out(name, f"it needs {own[0]}" if own else first_line(error) if of_keras else "it is not Keras'")
        else:
            found.append(made)
    return found


@functools.cache  # once a process, which may load the file several times
def _say_left_out(name: str, why: str) -> None:
    log.warning("the metric %s of the model file is left out of the run: %s", name, why)


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


def _single(weights: Json) -> float | None:
    """The weight of a model's only loss, which may stand in a list or under the output's name."""
    while isinstance(weights, list | tuple | dict) and len(weights) == 1:
        weights = next(iter(weights.values() if isinstance(weights, dict) else weights))
    return weights or None


def _flat_values(metrics: Metric | Sequence | Mapping | None) -> list[Metric]:
    """Metrics as they were given to `compile`, without the lists and tables they stand in."""
    if isinstance(metrics, dict):
        metrics = list(metrics.values())
    if isinstance(metrics, list | tuple):
        return [inner for metric in metrics for inner in _flat_values(metric)]
    return [] if metrics is None else [metrics]


def _given_name(metric: Metric) -> str:
    return metric if isinstance(metric, str) else str(getattr(metric, "name", ""))


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
