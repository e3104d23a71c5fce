"""From a configuration to a model that is ready to learn, and to the server's own evaluation of it.

This is where data, models and learning meet. TensorFlow is imported when something is made, not before.
"""

import io
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import numpy as np

from fedkeras import data, models
from fedkeras.atomic import replace_file
from fedkeras.config import Config, Value, options
from fedkeras.data.normalise import Normaliser
from fedkeras.errors import UserError
from fedkeras.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    import keras

    from fedkeras.learning import Body, HeadAndTail, Learner, TrainingResult
    from fedkeras.learning.losses import ChosenLoss, Targets
    from fedkeras.models.cutting import Parts

log = logging.getLogger("fedkeras")

chosen_log = logging.getLogger("fedkeras.chosen")
"""What a client decided by itself; `client.py` shows it on its terminal."""

KEPT_CLIENTS = 256
"""Clients whose examples a process keeps between rounds, if it serves so many."""


def model_name(config: Config) -> str:
    """The configured model, or the data set's default. Raises UserError if that has none."""
    name = config.model or models.DEFAULT_MODELS.get(data.kind_of(config.dataset, config.data_dir), "")
    if not name:
        data.open_source(config)  # of a data set that is not there, that is what is wrong
        raise UserError(f"--dataset {config.dataset} has no default model; name one with --model")
    return name


def build_model(config: Config) -> "keras.Model":
    """The configured Keras model with its initial weights. Raises UserError."""
    import_tensorflow()
    if not config.uses_catalogue:
        from fedkeras.models.precision import with_precision

        return with_precision(models.load(config.model, config.trust_code), config.precision)
    source = data.open_source(config)
    return models.build(
        model_name(config),
        input_shape=source.input_shape,
        num_classes=source.outputs,
        precision=config.precision,
        seed=config.seed,
        trust_code=config.trust_code,
    )


def make_learner(config: Config, threads: int) -> "Learner":
    """A learner of the configured model, on `threads` TensorFlow threads. Raises UserError."""
    import_tensorflow()
    from fedkeras.learning import limit_threads

    limit_threads(threads)
    return learner_of(config, build_model(config))


def learner_of(config: Config, model: "keras.Model") -> "Learner":
    """The learner of a model that has been built."""
    from fedkeras.learning import Learner

    return Learner(model, **_optimizer(config), loss=config.loss, learns=_learns(config, model))


def say_loss(chosen: "ChosenLoss") -> None:
    """What was decided about the loss, on a client's terminal: perhaps only the client can build the model."""
    if chosen.said:
        chosen_log.info("loss: %s", chosen.said)


def make_head_and_tail(config: Config, threads: int) -> "HeadAndTail":
    """The client's half in split learning, on `threads` TensorFlow threads. Raises UserError."""
    import_tensorflow()
    from fedkeras.learning import HeadAndTail, limit_threads

    limit_threads(threads)
    protection = {"noise": config.split_noise, "nopeek": config.split_nopeek}
    parts = _parts(config)
    learns = _learns(config, parts.whole)
    return HeadAndTail(parts, **_optimizer(config), loss=config.loss, learns=learns, **protection)


def make_body(config: Config, threads: int) -> "Body":
    """The server's half in split learning, on `threads` TensorFlow threads. Raises UserError."""
    import_tensorflow()
    from fedkeras.learning import Body, limit_threads

    limit_threads(threads)
    return Body(_parts(config), **_optimizer(config))


def _parts(config: Config) -> "Parts":
    points = models.cut_points(model_name(config), config.split_at)
    return models.cut(build_model(config), *points)


def _learns(config: Config, model: "keras.Model") -> "Targets":
    """What a model of a data set's is to learn: classes, unless its output has the shape of its input.

    Where it has, and there are as many classes as numbers in it, the loss decides, when there are examples.
    """
    from fedkeras.models.output import output_of

    if not config.uses_catalogue:
        return ""
    source, gives = data.open_source(config), output_of(model).shape
    if source.targets is not None:
        return "numbers"
    if gives != tuple(source.input_shape) or gives == (1,):
        return "classes"
    return "" if gives == (len(source.classes),) else "itself"


class OptimizerOptions(TypedDict):
    """What a Learner and the parts of split learning take."""

    optimizer: str
    learning_rate: float
    optimizer_args: dict[str, Value]


def _optimizer(config: Config) -> OptimizerOptions:
    return {
        "optimizer": "sgd" if config.optimizer == "default" else config.optimizer,
        "learning_rate": config.learning_rate,
        "optimizer_args": options(config.optimizer_args, "optimizer-args"),
    }


class WeightNames(NamedTuple):
    """What a model's weights are called, all and those that are trained, in the model's order."""

    names: tuple[str, ...]
    trainable: tuple[str, ...]


class CentralEvaluation:
    """Tests global weights on the central test set. The model and the data are loaded when they are first needed.

    `threads`: of TensorFlow in this process; unset: one a core, since the clients wait meanwhile.
    """

    def __init__(self, config: Config, threads: int = 0) -> None:
        self._config, self._threads = config, threads or os.cpu_count() or 1
        self._learner: Learner | None = None
        self._test, self._labels = None, None
        self._examples: data.Examples | None = None
        self._normaliser: Normaliser | None = None

    def load(self) -> None:
        """Read the test set now, without TensorFlow: what is wrong with it is said before a client has trained."""
        self._examples = data.open_source(self._config).test()

    def set_normaliser(self, normaliser: Normaliser) -> None:
        """What the clients' examples are scaled by; unset: what the source's format says, else all training rows."""
        self._normaliser = normaliser

    def choices(self, knows_source: bool) -> Mapping[str, str]:
        """Build the model; what was decided about its loss and optimizer, in words. Raises UserError if none suits.

        A server without data cannot know the model's shape: its clients choose, and say so. Where this process can open
        the data set (`knows_source`), a model that cannot be built is refused here.
        """
        import_tensorflow()
        from fedkeras.learning import limit_threads
        from fedkeras.models.compile_config import compiled_with

        limit_threads(self._threads)
        try:
            model = build_model(self._config)
        except UserError as error:
            if knows_source:
                raise
            log.info("the clients choose the loss, since the model cannot be built on the server: %s", error)
            return {}
        compiled = compiled_with(model).optimizer
        learner = learner_of(self._config, model)
        if self._examples is not None:
            self._learner = learner
        found = {"loss": learner.chosen.said} if learner.chosen.said else {}
        if said := optimizer_said(self._config, compiled or ""):
            found["optimizer"] = said
        return found

    def __call__(self, server_round: int, weights: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Metrics as in a client's reply: num-examples, loss, accuracy, seconds."""
        self._prepare()
        started = time.perf_counter()
        self._learner.set_weights(weights)
        outcome = self._learner.evaluate(*self._test)
        return metrics_of(outcome, time.perf_counter() - started)

    def _prepare(self) -> None:
        self._make_learner()
        if self._test is None:
            raw = self._examples or data.open_source(self._config).test()
            test = data.scaled(raw, self._normaliser or data.pooled_normaliser(self._config))
            self._test, self._examples = self._learner.place(test.x, test.y), None
            self._labels = test.y

    def _make_learner(self) -> None:
        if self._learner is None:
            self._learner = make_learner(self._config, self._threads)

    def predictions(self, weights: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, Sequence[str]] | None:
        """Labels, predicted class numbers (both one an example) and class names; None for a model of another kind.

        None too where nothing was to be tested: neither `load` nor an evaluation came before. Of a run that was killed
        after its last round all that is left to do is this, without any evaluation.
        """
        if self._learner is None and self._examples is None:
            return None
        self._prepare()
        from fedkeras.learning.targets import predicted_classes

        self._learner.set_weights(weights)
        names = data.open_source(self._config).classes
        found = predicted_classes(self._learner.model, self._test[0], self._labels, len(names))
        return None if found is None else (self._labels, found, names)

    def test_examples(self) -> data.Examples:
        """The central test set as the model sees it, scaled."""
        raw = data.open_source(self._config).test()
        return data.scaled(raw, self._normaliser or data.pooled_normaliser(self._config))

    def predicted(self, examples: data.Examples, weights: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """The class numbers that these weights give examples as the model sees them; None of no classifier."""
        self._make_learner()
        from fedkeras.learning.targets import predicted_classes

        self._learner.set_weights(weights)
        classes = len(data.open_source(self._config).classes)
        x, _ = self._learner.place(examples.x, examples.y)
        return predicted_classes(self._learner.model, x, examples.y, classes)

    def weight_names(self) -> WeightNames | None:
        """What the configured model's weights are called; None where it cannot be built here."""
        try:
            model = self._model()
        except (UserError, ValueError) as error:
            log.info("the server's own model does not say which weights are trained: %s", error)
            return None
        return None if model is None else WeightNames(tuple(models.names(model)), tuple(models.trainable_names(model)))

    def _model(self) -> "keras.Model | None":
        """The model that tests, or that would. Raises UserError."""
        if self._learner is None and self._examples is None:  # nothing is tested
            import_tensorflow()
            from fedkeras.learning import limit_threads

            limit_threads(self._threads)
            return build_model(self._config)
        self._make_learner()
        return self._learner.model

    def save(self, weights: Mapping[str, np.ndarray], path: Path, partly: bool = False) -> None:
        """Write the model with these weights as a .keras file; `partly`: what they lack is as in the untrained model.

        A server without data cannot know the model's shape; it writes the weights as an .npz file beside `path`, which
        is called weights.npz, or of a part like `path`. Raises UserError if the disk refuses.
        """
        try:
            model = build_model(self._config) if self._learner is None else self._learner.model
            models.set_weights(model, {**models.get_weights(model), **weights} if partly else weights)
        except (UserError, ValueError) as error:  # no data here, or the clients train another model than is configured
            own = path.with_suffix(".npz") if partly else path.with_name("weights.npz")
            content = io.BytesIO()
            np.savez(content, **weights)
            replace_file(own, content.getbuffer())
            log.warning("the weights are in %s, since the model cannot be built on the server: %s", own, error)
            return
        models.save(model, path)


def optimizer_said(config: Config, compiled: str = "") -> str:
    """That it is not the optimizer with which the model was `compiled` (else: its file says it was); "" if nobody asks.

    Raises UserError for a model file that cannot be read.
    """
    own = compiled or _optimizer_of_file(config) if config.optimizer == "default" else ""
    rate = f"{config.learning_rate:g}"
    return f"sgd with learning rate {rate}, and not the {own} that the model was compiled with: --optimizer" * bool(own)


def _optimizer_of_file(config: Config) -> str:
    """The class of the optimizer that a model file was compiled with; "" for another model, or none."""
    from fedkeras.models.compile_config import training_config

    optimizer = training_config(config.model).optimizer if config.model.endswith((".keras", ".h5")) else None
    return optimizer if isinstance(optimizer, str) else str((optimizer or {}).get("class_name", ""))


def metrics_of(result: "TrainingResult", seconds: float) -> dict[str, float]:
    """A learner's result as the metrics of a reply, in Flower's spelling; no accuracy where the model has none."""
    values = {"num-examples": result.num_examples, "loss": result.loss, "seconds": seconds, **result.metrics}
    return values if result.accuracy is None else {**values, "accuracy": result.accuracy}
