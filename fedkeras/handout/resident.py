"""The handed-out model as a Learner, and a client's examples on the device: what its training messages are about."""

import math
from pathlib import Path

import numpy as np

import data
from fedkeras import models
from fedkeras.config import Config, options
from fedkeras.errors import UserError
from fedkeras.handout.seat import Seat
from fedkeras.quietly import import_tensorflow

ITS_OWN = ("default", "compiled")
"""Values of --optimizer that leave the choice to the model file; the second insists on it."""


def make_learner(config: Config, path: Path, trust_code: bool) -> object:
    """A `fedkeras.learning.Learner`. Loss, optimizer and metrics are the file's, unless flags say otherwise.

    A learning rate other than the flag's default counts as said. Raises UserError.
    """
    import_tensorflow()
    from fedkeras.learning import Learner, limit_threads
    from fedkeras.models.precision import with_precision
    from fedkeras.models.training_config import make_metrics, make_optimizer, training_config

    limit_threads(config.threads_per_client)
    own = training_config(path)
    loss = config.loss or ("mean_squared_error" if config.target == "XX" and own.loss is None else "")
    optimizer = config.optimizer
    if optimizer in ITS_OWN:
        made = make_optimizer(own.optimizer, trust_code)
        if made is None and optimizer == "compiled":
            raise UserError("--optimizer compiled: the model file was not compiled with one; name an optimizer")
        if made is not None and config.learning_rate != Config().learning_rate:
            made.learning_rate = config.learning_rate
        optimizer = "sgd" if made is None else made
    return Learner(
        with_precision(models.load(path, trust_code, own_loss=not config.loss), config.precision),
        optimizer=optimizer,
        learning_rate=config.learning_rate,
        optimizer_args=options(config.optimizer_args, "optimizer-args"),
        loss=loss,
        metrics=make_metrics(own.metrics, trust_code),
    )


def training_examples(config: Config, seat: Seat, learner: object, fold: int = 0) -> tuple:
    """(x, y) of the rows that are trained on, on the device; scaled as k-fold's fold `fold` does. Raises UserError."""
    if config.data_source == "keras":
        examples = data.load_client(config, seat.cid).train
        return place(config, learner, examples.x, examples.y)
    return place(config, learner, *seat.examples(config, seat.sides(config)[0], fold))


def test_examples(config: Config, seat: Seat, learner: object) -> tuple:
    """(x, y) of the rows that are held out, on the device. Raises UserError."""
    if config.data_source == "keras":
        examples = data.load_client(config, seat.cid).test
        x, y = examples.x, examples.y
    else:
        x, y = seat.examples(config, seat.sides(config)[1])
    if not len(x):
        raise UserError(f"client {seat.cid} holds out no examples; raise --test-fraction, or --fraction-evaluate 0")
    return place(config, learner, x, y)


def place(config: Config, learner: object, x: np.ndarray, y: np.ndarray | None) -> tuple:
    """(x, y) on the device, in the shape that the model takes. Raises UserError for what does not fit it."""
    from fedkeras.learning.xy import place as placed

    takes = tuple(getattr(learner.model, "input_shape", ()) or ())[1:]
    if takes and None not in takes and takes != x.shape[1:] and math.prod(takes) == math.prod(x.shape[1:]):
        x = x.reshape(len(x), *takes)
    return placed(learner, x, y, config.target)
