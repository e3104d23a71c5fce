"""What a client minimises, and how its gradients are had: the model's loss, unless an `Objective` says otherwise.

An objective is one small class. A term beside the loss is the method `term`; gradients that are had in quite another
way (clipped for each example, say) are the method `gradients`. Both are traced into the compiled loop over the batches,
so they are written in TensorFlow and cost nothing else. Options are the constructor's, numbers or text, for they come
by wire as `name:option=value` (`objective_of`).
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from fedkeras.config import Value
from fedkeras.errors import UserError
from fedkeras.learning.poisson import Batches
from fedkeras.named_code import Permission, make, parse_spec

BUILT_IN = {
    "anchored": "fedkeras.learning.anchored:Anchored",
    "dp-sgd": "fedkeras.learning.dp_sgd:DpSgd",
    "gradient-correction": "fedkeras.learning.gradient_correction:GradientCorrection",
    "only": "fedkeras.learning.trained_part:TrainedPart",
    "proximal": "fedkeras.learning.objectives:Proximal",
}
"""Name -> `package.module:Class`."""

SPEC, PROXIMAL_MU = "objective", "proximal-mu"
"""Keys of a train message's configuration: an objective as `name:option=value`; and, which Flower's own FedProx sends,
the weight of the proximal term."""

Gradient = tf.Tensor | tf.IndexedSlices | None
"""Of one weight; None where the loss does not depend on it."""


class Gradients(NamedTuple):
    """What an objective makes of a batch: a gradient for each trainable weight, and what is reported of the batch.

    `loss` is a scalar, a mean over the batch's examples; `predicted`, for the metrics, is the model's output.
    """

    of_weights: list[Gradient]
    loss: tf.Tensor
    predicted: tf.Tensor


class Objective:
    """What a client minimises; this one: the model's own loss, with its regularisation terms. To be derived from."""

    def graph_key(self) -> Hashable:
        """What of this objective a compiled graph depends on: two with equal keys share one.

        That is the class and all attributes, which must be hashable. A number that changes from round to round (a noise
        level, say) had better be returned by `begin` and left out here, for every new key traces a new graph.
        """
        return type(self), tuple(sorted(vars(self).items()))

    def beside(self, proximal: "Proximal") -> "Objective":
        """This objective with FedProx's term beside it, which the strategy names. Raises UserError: it takes none."""
        raise UserError(
            f"a client has one objective at a time, and the server names two: {type(self).__name__} and "
            f"proximal:mu={proximal.mu}"
        )

    def take(self, arrays: Sequence[np.ndarray]) -> None:
        """What the train message brings for it, an array for each trainable weight, in their order; before `begin`.

        Raises UserError: it takes nothing.
        """
        raise UserError(f"the objective {type(self).__name__} takes no arrays, and the message has some")

    def check(self, model: keras.Model) -> None:
        """Raise UserError, in one line, for a model that cannot be trained so. Called before a graph is traced."""

    def plan(self, examples: int, batch_size: int, epochs: int, rng: np.random.Generator) -> Batches | None:
        """The batches of a training, of so many examples; None: each epoch is a permutation, cut into batches.

        Called before `begin`, with the same `rng`. An empty batch must have gradients, and a finite loss, too.
        """
        return None

    def figures(self) -> Mapping[str, float]:
        """What is reported of a training beside its loss and metrics, by name. Called after it."""
        return {}

    def begin(self, weights: Sequence[keras.Variable], rng: np.random.Generator) -> Sequence[tf.Tensor]:
        """Called before a training with the trainable weights as they stand; the tensors it returns go into the graph.

        The two other methods get them as `begun`, the same in every step. `rng` is this training's own, from the run's
        seed; what is drawn from it changes no order of examples and no mask of a Dropout.
        """
        return ()

    def term(
        self,
        model: keras.Model,
        x: tf.Tensor,
        y: tf.Tensor,
        predicted: tf.Tensor,
        weights: Sequence[keras.Variable],
        begun: Sequence[tf.Tensor],
    ) -> tf.Tensor | None:
        """A scalar that is minimised beside the loss of a batch and not reported with it; None: there is none.

        `predicted` is the model's output for x; the other arguments are those of `gradients`.
        """
        return None

    def gradients(
        self,
        model: keras.Model,
        x: tf.Tensor,
        y: tf.Tensor,
        weights: Sequence[keras.Variable],
        begun: Sequence[tf.Tensor],
        step: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
    ) -> Gradients:
        """The gradients of a batch x, y (examples, ...), with respect to `weights`, the model's trainable ones.

        `step` counts the batches since `begin`, from 0 (a scalar, int32), and goes on from epoch to epoch. This method
        is traced, and not called for each batch: what it draws must be drawn by TensorFlow. Its gradients are those
        the optimizer is to have, whether or not that one scales losses. `sample_weight` (examples,) is what each
        example's loss is multiplied by; it is passed only where examples have weights, so that an objective that does
        not take it is refused there and not ignored.
        """
        with tf.GradientTape() as tape:
            loss, predicted = batch_loss(model, x, y, sample_weight)
            term = self.term(model, x, y, predicted, weights, begun)
            minimised = loss if term is None else loss + tf.cast(term, loss.dtype)
            # Where the optimizer scales losses, numbers of 16 bits need it on the way: scaled here, and back at once.
            scaled, scale = model.optimizer.scale_loss(minimised), model.optimizer.scale_loss(one := tf.constant(1.0))
        found = tape.gradient(scaled, list(weights))
        if scale is not one:
            found = [None if gradient is None else tf.convert_to_tensor(gradient) / scale for gradient in found]
        return Gradients(found, loss, predicted)


class Proximal(Objective):
    """FedProx's: the loss plus `mu/2 * ||w - w_start||^2` over the trainable weights. The loss reported is the first.

    T. Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, arXiv:1812.06127. Each gradient gets
    `mu * (w - w_start)`. `mu` is an argument of the graph, so another one needs no new graph. Raises ValueError for a
    mu that is negative or not finite.
    """

    def __init__(self, mu: float = 0.01) -> None:
        if not 0 <= float(mu) < float("inf"):
            raise ValueError(f"mu={mu} must be 0 or more, and finite")
        self.mu = float(mu)

    def graph_key(self) -> Hashable:
        """The class alone."""
        return type(self)

    def begin(self, weights: Sequence[keras.Variable], rng: np.random.Generator) -> Sequence[tf.Tensor]:
        """Mu, and the weights that the others are to stay near."""
        return [tf.constant(self.mu, tf.float32), *(tf.identity(weight.value) for weight in weights)]

    def gradients(
        self,
        model: keras.Model,
        x: tf.Tensor,
        y: tf.Tensor,
        weights: Sequence[keras.Variable],
        begun: Sequence[tf.Tensor],
        step: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
    ) -> Gradients:
        """The loss's gradients, each with the term's written out: a tape would only find the same with more work."""
        of_loss = super().gradients(model, x, y, weights, begun, step, sample_weight)
        mu, *anchors = begun
        of_both = [
            None if gradient is None else tf.convert_to_tensor(gradient) + mu * (weight.value - anchor)
            for gradient, weight, anchor in zip(of_loss.of_weights, weights, anchors, strict=True)
        ]
        return of_loss._replace(of_weights=of_both)


def batch_loss(
    model: keras.Model, x: tf.Tensor, y: tf.Tensor, sample_weight: tf.Tensor | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """The loss of a batch in training (a scalar: the mean over examples, and regularisation), and the model's output.

    With `sample_weight` (examples,) each example's loss is multiplied by its weight, and the sum is still divided by
    the number of examples, as `fit(sample_weight=...)` does. Called within a tape, and once a step: layers such as
    Dropout and BatchNormalization change state by it.
    """
    predicted = model(x, training=True)
    return model.compute_loss(x, y, predicted, sample_weight, training=True), only_output(predicted)


def only_output(predicted: tf.Tensor | list[tf.Tensor] | dict[str, tf.Tensor]) -> tf.Tensor:
    """What a model with one output gives, which may call it by a name."""
    (output,) = keras.tree.flatten(predicted)
    return output


def objective_of(config: Mapping[str, Value], permission: Permission) -> Objective | None:
    """The objective that a train message's configuration names; None: the loss alone.

    It stands under the key `objective`, as in "proximal:mu=0.1", or, by Flower's convention, as a number under
    `proximal-mu`, where 0 is none. Raises UserError for a name or option that there is not, for a name that
    `permission` does not let the server choose, and for two objectives that do not go `beside` each other.
    """
    spec, mu = str(config.get(SPEC, "")), config.get(PROXIMAL_MU, 0.0)
    try:
        proximal = Proximal(mu) if mu else None
    except (TypeError, ValueError) as error:
        raise UserError(f"the server's {PROXIMAL_MU}: {error}") from error
    if not spec:
        return proximal
    found = make(parse_spec(spec, SPEC), Objective, BUILT_IN, "objectives", permission)
    if proximal is not None:
        return found.beside(proximal)
    return None if isinstance(found, Proximal) and not found.mu else found
