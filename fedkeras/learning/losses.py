"""Which loss suits what a model gives and what it is to learn: chosen where nobody names one, checked where one does.

Keras computes what it is told to, and a cross-entropy that takes logits for probabilities ends with a model that has
learned nothing, and no error. So the last layer (`models.output`) and the targets decide; a loss that a flag or the
model names is corrected where only one meaning is left; what cannot be told is refused with the flag that tells it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from fedkeras.errors import UserError
from fedkeras.models.output import LINEAR, OTHER, SIGMOID, SOFTMAX, UNKNOWN, Output
from fedkeras.named_code import parse_spec

Loss = str | keras.losses.Loss | Callable[..., tf.Tensor]
"""A Keras loss by name, an object or a function; "" is unset."""

Targets = Literal["", "classes", "integers", "numbers", "itself"]
"""What is learned: numbers of classes; whole numbers that may be classes or amounts; numbers (a row of 0 and 1, too);
the examples themselves. Unset: not known before the data are there."""

SPARSE, BINARY, SQUARED = "sparse_categorical_crossentropy", "binary_crossentropy", "mean_squared_error"
LOGITS = ":from_logits=true"

CATEGORICAL = ("sparsecategoricalcrossentropy", "categoricalcrossentropy", "categoricalfocalcrossentropy")
"""These compare a probability with each other; so they need two of them."""

TAKES_LOGITS = (*CATEGORICAL, "binarycrossentropy", "binaryfocalcrossentropy")
OF_PROBABILITIES = ("kldivergence", "categoricalgeneralizedcrossentropy")
"""Losses that cut outputs off at 0 and 1; the first can be told that they are logits."""

FROM_0_TO_1 = ("categoricalcrossentropy", "categoricalfocalcrossentropy", "binarycrossentropy",
               "binaryfocalcrossentropy", "kldivergence")  # fmt: skip
NOT_BELOW_0 = ("poisson", "meansquaredlogarithmicerror")
SIGNS = ("hinge", "squaredhinge")
"""What targets these take."""


@dataclass(frozen=True)
class ChosenLoss:
    """A loss, and in words what was decided about it; empty where somebody named it and it is used as it stands.

    `named` is False where nobody named one.
    """

    loss: Loss
    said: str = ""
    named: bool = True


def choose(given: Loss, own: Loss | None, output: Output, targets: Targets = "") -> ChosenLoss:
    """The loss `given` by a flag, else the model's `own`, else the one for such outputs and targets.

    Raises UserError for a name that Keras does not know, and where none is named or the one named does not suit.
    """
    if output.kind == SOFTMAX and output.units == 1:
        raise UserError("the model ends in a softmax over a single number, which is always 1: end it in a sigmoid, or "
                        "in one number a class")  # fmt: skip
    loss = (named(given) if isinstance(given, str) else given) if given else own
    if loss is None:
        return _by_itself(output, targets)
    if name_of(loss) in ("crossentropy", "ce"):  # Keras' own abbreviation, by the same rule as Keras'
        numbers = targets in ("numbers", "itself")
        loss = BINARY if output.units == 1 else "categorical_crossentropy" if numbers else SPARSE
    return _suited(loss, output, targets)


def named(text: str) -> Loss:
    """The loss that `text` names, as in "mse" or "huber:delta=0.5"; a name alone stays one. Raises UserError."""
    spec = parse_spec(text, "loss")
    if not spec.options and spec.name in ("crossentropy", "ce"):
        return spec.name
    try:
        found = keras.losses.get(spec.name)
    except ValueError as error:
        raise UserError(f"--loss is '{text}', which is not a loss of Keras, such as {SPARSE}") from error
    if not spec.options:
        return spec.name
    try:
        return _class_of(name_of(found))(**spec.options)
    except (TypeError, ValueError) as error:
        raise UserError(f"--loss {spec.name} does not take these options: {' '.join(str(error).split())}") from error


def name_of(loss: Loss | None) -> str:
    """Its name without capitals and underscores: an object, a function, a name and an abbreviation of it have one."""
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError:
            return loss.replace("_", "").lower()
    name = getattr(loss, "__name__", type(loss).__name__)
    return name.replace("_", "").lower()


def is_sparse(loss: Loss) -> bool:
    """True if `loss` compares with class numbers and not with vectors."""
    return name_of(loss).startswith("sparse")


def is_keras_own(loss: Loss) -> bool:
    """Whether what the loss computes is known here; anybody's own function or class is trusted."""
    if isinstance(loss, str):
        return True
    return any(loss is known or type(loss) is known for known in vars(keras.losses).values())


def shown(loss: Loss) -> str:
    """In words, as `--loss` takes it where it can."""
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    return name + (" of logits" if getattr(loss, "from_logits", False) else "")


def threshold(loss: Loss | None, output: Output) -> float | None:
    """Above which single output a model says class 1: a half, or 0 where outputs are logits or margins.

    None where it cannot be told: a loss of somebody's own, on outputs that may be any numbers.
    """
    if output.kind in (SIGMOID, SOFTMAX):
        return 0.5
    if getattr(loss, "from_logits", False) or "hinge" in name_of(loss):
        return 0.0
    return 0.5 if output.kind != LINEAR or loss is None or is_keras_own(loss) else None


def check_targets(chosen: ChosenLoss, targets: np.ndarray) -> None:
    """Raise ValueError for targets, in the form that the loss takes, of which Keras would compute nonsense."""
    if not is_keras_own(chosen.loss) or not targets.size:
        return
    name, low, high = name_of(chosen.loss), targets.min(), targets.max()
    lie = f"and the targets lie in {low:g} to {high:g}"
    if name in FROM_0_TO_1 and not (low >= 0 and high <= 1 + 1e-6):
        raise ValueError(f"{shown(chosen.loss)} compares with numbers from 0 to 1, {lie}; --loss {SQUARED} takes any")
    if name in FROM_0_TO_1[:2] and not np.allclose(targets.sum(axis=-1), 1, atol=1e-3):
        raise ValueError(
            f"{shown(chosen.loss)} compares with one class a row, and the targets have rows that do not sum to 1; for "
            f"several classes at once end the model in a sigmoid, and --loss {BINARY}"
        )
    if name in NOT_BELOW_0 and not low >= 0:
        raise ValueError(f"{shown(chosen.loss)} compares with numbers from 0 on, {lie}; --loss {SQUARED} takes any")
    if name in SIGNS and not np.isin(targets, (-1, 0, 1)).all():
        raise ValueError(f"{shown(chosen.loss)} compares with -1 and 1 (or 0 and 1), {lie}")
    if not chosen.named and name == "meansquarederror" and high == 1 and np.isin(targets, (0, 1)).all():
        raise ValueError(
            f"the targets are 0 and 1, and the model has no activation at its end: --loss {BINARY}{LOGITS} takes them "
            f"for classes, --loss {SQUARED} for amounts"
        )


def _by_itself(output: Output, targets: Targets) -> ChosenLoss:
    """What suits, where nobody says."""
    why = f", for the model ends in {output.maker}"
    if targets == "itself":
        return ChosenLoss(SQUARED, f"{SQUARED}, for the model learns its own input", named=False)
    if output.kind == SIGMOID:
        return ChosenLoss(BINARY, BINARY + why, named=False)
    if targets == "numbers" and output.kind in (LINEAR, OTHER):
        return ChosenLoss(SQUARED, f"{SQUARED}, for the targets are numbers{why}", named=False)
    if output.kind == SOFTMAX:
        loss = "categorical_crossentropy" if targets == "numbers" else SPARSE
        return ChosenLoss(loss, loss + why, named=False)
    if output.kind == LINEAR and output.units == 1:
        if targets != "classes":
            raise UserError(
                f"nothing says what the model's single output is: --loss {BINARY}{LOGITS} takes the targets for two "
                f"classes, --loss {SQUARED} for amounts"
            )
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        return ChosenLoss(loss, f"{BINARY} of logits{why}", named=False)
    if output.kind == LINEAR:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return ChosenLoss(loss, f"{SPARSE} of logits{why}", named=False)
    what = "what its outputs are" if output.kind == UNKNOWN else "that its outputs are probabilities, or logits"
    entropy = BINARY if output.units == 1 else SPARSE
    raise UserError(
        f"the model ends in {output.maker}, and nothing says {what}: name the loss, such as --loss {entropy} for "
        f"probabilities, --loss {entropy}{LOGITS} for logits, --loss {SQUARED} for amounts"
    )


def _suited(loss: Loss, output: Output, targets: Targets) -> ChosenLoss:
    """A loss that was named, as the outputs need it."""
    name, ends = name_of(loss), f"the model ends in {output.maker}"
    if not is_keras_own(loss):
        form = "class numbers" if is_sparse(loss) else "0 and 1" if output.units == 1 else "one-hot vectors"
        return ChosenLoss(loss, f"{shown(loss)}, which is given {form}" if targets in ("classes", "integers") else "")
    if name in (*CATEGORICAL, *OF_PROBABILITIES) and output.units == 1:
        raise UserError(f"the model has one output, and {shown(loss)} compares several: --loss {BINARY}"
                        f"{'' if output.kind == SIGMOID else LOGITS}")  # fmt: skip
    logits = getattr(loss, "from_logits", False)
    if name in TAKES_LOGITS and logits and output.kind in (SOFTMAX, SIGMOID):
        changed = _with_logits(loss, False)
        return ChosenLoss(changed, f"{shown(changed)} of probabilities, and not of logits as it says, for {ends}")
    if name in TAKES_LOGITS and not logits and output.kind == LINEAR:
        changed = _with_logits(loss, True)
        return ChosenLoss(changed, f"{shown(changed)}, and not of probabilities as it says, for {ends}")
    if (name in TAKES_LOGITS and not logits and output.kind == OTHER) or (
        name in OF_PROBABILITIES and output.kind in (LINEAR, OTHER)
    ):
        taken = name if name in TAKES_LOGITS else "categoricalcrossentropy"
        raise UserError(
            f"{shown(loss)} compares probabilities, and {ends}, whose outputs are none: end it in a softmax or a "
            f"sigmoid, or --loss {_spelled(taken)}{LOGITS}"
        )
    return ChosenLoss(loss)


def _with_logits(loss: Loss, logits: bool) -> Loss:
    if isinstance(loss, keras.losses.Loss):
        return type(loss).from_config({**loss.get_config(), "from_logits": logits})
    return _class_of(name_of(loss))(from_logits=logits)


def _class_of(name: str) -> type[keras.losses.Loss]:
    kinds = [kind for kind in vars(keras.losses).values() if isinstance(kind, type)]
    return next(kind for kind in kinds if kind.__name__.lower() == name)


def _spelled(name: str) -> str:
    """`categorical_crossentropy` for categoricalcrossentropy."""
    functions = [key for key in vars(keras.losses) if key.islower()]
    return next(key for key in functions if key.replace("_", "") == name)
