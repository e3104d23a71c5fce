"""One resident model that is trained on and tested with one client's arrays after another's."""

import dataclasses
import inspect
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from fedkeras import models
from fedkeras.config import Value
from fedkeras.errors import UserError
from fedkeras.learning import keras_loop, losses, optimizers, targets
from fedkeras.learning.graphs import Graph, evaluation_graph, training_graph
from fedkeras.learning.losses import ChosenLoss, Loss, Targets, is_sparse, name_of
from fedkeras.learning.objectives import Objective, only_output
from fedkeras.learning.optimizers import LearningRate
from fedkeras.learning.poisson import Batches
from fedkeras.learning.results import TrainingResult
from fedkeras.learning.sample_weights import place_weights
from fedkeras.learning.step_limit import StepLimit
from fedkeras.learning.targets import MetricName
from fedkeras.models.compile_config import compiled_with
from fedkeras.models.file_info import Shape, as_input
from fedkeras.models.output import SOFTMAX, output_of
from fedkeras.models.requirements import require_trainable
from fedkeras.shapes import same_order

log = logging.getLogger(__name__)

Array = np.ndarray | tf.Tensor

TARGETS = ("XY", "XX")
"""What is learned from what (`place_for_target`): the targets from the examples, or the examples from themselves."""


class Learner:
    """A Keras model, its optimizer and loss, and their graphs, compiled once for all clients a process serves.

    `model` has one input and one output. `optimizer` is a name of Keras', with `learning_rate` (a number or a schedule)
    and `optimizer_args`, or an optimizer whose configuration is taken. `loss` is a name or an object; unset, it is the
    model's own, or what suits its last layer and what it `learns` (`losses.choose`); `chosen` is the loss and what was
    decided about it. `metrics` are names, objects or functions, beside accuracy and the model's own. The model's own
    loss is multiplied by the weight it was compiled with (`loss_weights`). The model is compiled with all of these.
    Raises UserError for a name or option Keras does not know, and for a loss that does not suit the model.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        optimizer: str | keras.optimizers.Optimizer = "sgd",
        learning_rate: LearningRate = 0.1,
        optimizer_args: Mapping[str, Value] | None = None,
        loss: Loss = "",
        metrics: Sequence[MetricName] = (),
        learns: Targets = "",
    ) -> None:
        require_trainable(model)
        self.model = model
        compiled = compiled_with(model)
        self._output, self._learns = output_of(model), learns
        self.chosen = self._choose(loss)
        self.loss = self.chosen.loss
        others = (*metrics, *compiled.metrics)
        self._metrics = targets.choose_metrics(self.loss, self._output, others, learns, self.takes)
        self._seeds = models.random_states(model)
        self._optimizer = optimizers.make(optimizer, learning_rate, optimizer_args)
        own_step = keras_loop.has_own(model, "train_step")
        model.compile(
            optimizer=self._optimizer, loss=self.loss, loss_weights=None if loss else compiled.loss_weight,
            metrics=self._metrics, run_eagerly=own_step and compiled.run_eagerly, jit_compile=False,
        )  # fmt: skip
        self._optimizer = model.optimizer  # which Keras may have put into one that scales losses
        self._fresh = optimizers.build_fresh(self._optimizer, model.trainable_variables)
        self._looks_up = targets.looked_up_by(model)
        self._graphs: dict[Hashable, Graph] = {}
        self._objective, self._steps, self._start = None, 0, ()  # of the training whose epochs are single ones
        if compiled.run_eagerly and not own_step:
            log.warning("the model was compiled with run_eagerly=True; here it trains as a graph")
        if own_step:
            log.warning("%s has its own train_step: it trains by model.fit, which is slower", type(model).__name__)
        if not model.trainable_variables:
            log.warning("the model has no trainable weights: a training changes statistics at most")

    @property
    def takes(self) -> Shape | None:
        """The shape of an example as the model takes it; None for a subclassed model, which does not say."""
        return tuple(self.model.inputs[0].shape)[1:] or None if getattr(self.model, "inputs", None) else None

    def place(
        self, x: np.ndarray, y: np.ndarray | None = None, from_itself: bool = True
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Check a client's arrays and move them to the device, once; `train` and `evaluate` take the result.

        x is (examples, *input shape); y is labels (examples,), or targets of the output's shape, or None for an
        autoencoder; `from_itself` as in `targets.prepare`. Raises ValueError for what does not fit.
        """
        inputs = getattr(self.model, "inputs", None)  # a subclassed model has none
        x = targets.check_examples(x, inputs[0] if inputs else None, self._looks_up)
        from_itself = from_itself and self._output.kind != SOFTMAX and self._learns in ("", "itself")
        output = self.model.outputs[0] if inputs else only_output(self.model(x[:1], training=False))
        y = targets.prepare(x, y, tuple(output.shape)[1:], self.loss, from_itself)
        losses.check_targets(self.chosen, y)
        return tf.constant(x), tf.constant(y)

    def train(
        self,
        x: Array,
        y: Array,
        *,
        epochs: int,
        batch_size: int,
        rng: np.random.Generator,
        objective: Objective | None = None,
        on_epoch: Callable[[int, TrainingResult], None] | None = None,
        sample_weight: Array | None = None,
        limit: StepLimit | None = None,
    ) -> TrainingResult:
        """Train the model from its present weights, with a fresh optimizer, and return the last epoch's means.

        x and y are from `place`, or arrays that are placed first. `sample_weight` (examples,) is what each example's
        loss is multiplied by, as in `fit(sample_weight=...)`: the loss is the weighted one, metrics are not. Orders and
        Dropout's masks are drawn from `rng`. With an `objective` the loss returned is still the loss alone, to compare
        with others. `on_epoch` is called after each epoch with its number, from 1, and its means; the weights are the
        same to the bit with and without it. With a `limit` it ends in the middle of an epoch, if need be: the means are
        of what that epoch has used, and `on_epoch` is not called. Raises ValueError for data that does not fit, for an
        objective with a model that has its own train_step, and for one that plans its batches with a limit.
        """
        if epochs < 1 or batch_size < 1:
            raise ValueError(f"epochs={epochs} and batch_size={batch_size} start at 1")
        x, y = self._placed(x, y)
        if limit is not None:
            return self._train_within(x, y, epochs, batch_size, rng, objective, sample_weight, limit)
        if on_epoch is not None or self._has_own_step(objective):
            shown = on_epoch or (lambda *_: None)
            return self._train_by_epoch(x, y, epochs, batch_size, rng, objective, shown, sample_weight)
        examples = int(x.shape[0])
        batches, begun = self._begun(objective, rng, examples, batch_size, epochs)
        seed_values, orders = draw(rng, len(self._seeds), examples, epochs)
        if batches is not None:
            orders, batch_size = batches
        weighted = place_weights(sample_weight, examples)
        graph = self._training_graph(x, y, objective, begun, bool(weighted), whole=True, planned=batches is not None)
        more = weighted if objective is None else (*weighted, tf.constant(0), *begun)
        loss, values = graph(x, y, *map(tf.constant, (orders, np.int32(batch_size), seed_values)), *more)
        return self._outcome(examples, loss, self._named(values), objective)

    def begin_training(self, rng: np.random.Generator, objective: Objective | None = None) -> None:
        """Begin a training of single epochs (`train_epoch`): a fresh optimizer, random states drawn from `rng`.

        With the orders drawn next from the same `rng`, `rng.permutation(examples)` for each epoch, the epochs together
        do what `train` does, to the bit. Raises ValueError as `train` does, and for an objective that plans batches.
        """
        self._has_own_step(objective)
        self._begin(rng, objective, self._begun(objective, rng)[1])

    def _begin(self, rng: np.random.Generator, objective: Objective | None, begun: Sequence[tf.Tensor]) -> None:
        self._objective, self._steps, self._start = objective, 0, begun
        optimizers.make_fresh(self._fresh)
        values, _ = draw(rng, len(self._seeds), 0, 1)
        for seed, value in zip(self._seeds, values, strict=True):
            seed.assign(value)

    def train_epoch(
        self, x: tf.Tensor, y: tf.Tensor, order: np.ndarray, batch_size: int, sample_weight: Array | None = None
    ) -> TrainingResult:
        """One more epoch over the rows `order` of x and y, which are from `place`; other rows are not looked at.

        `sample_weight` (examples,) as in `train`, of all rows.
        """
        return self._train_epoch(x, y, order, batch_size, sample_weight, len(order))

    def _train_epoch(
        self,
        x: tf.Tensor,
        y: tf.Tensor,
        order: np.ndarray,
        batch_size: int,
        sample_weight: Array | None,
        examples: int,
        planned: bool = False,
    ) -> TrainingResult:
        weighted = place_weights(sample_weight, int(x.shape[0]))
        if self._has_own_step(None):
            return self._outcome(examples, *keras_loop.fit(self.model, x, y, [order], batch_size, *weighted))
        graph = self._training_graph(x, y, self._objective, self._start, bool(weighted), whole=False, planned=planned)
        more = weighted if self._objective is None else (*weighted, tf.constant(self._steps), *self._start)
        arguments = order[None].astype(np.int32), np.int32(batch_size), np.zeros((0, 2), np.uint32)
        loss, values = graph(x, y, *map(tf.constant, arguments), *more)
        self._steps += -(-len(order) // batch_size)
        return self._outcome(examples, loss, self._named(values), self._objective)

    def end_training(self) -> None:
        """The epochs are over: averages that the optimizer kept of the weights take their place."""
        self._optimizer.finalize_variable_values(self.model.trainable_variables)

    def _train_by_epoch(
        self,
        x: tf.Tensor,
        y: tf.Tensor,
        epochs: int,
        batch_size: int,
        rng: np.random.Generator,
        objective: Objective | None,
        on_epoch: Callable[[int, TrainingResult], None],
        sample_weight: Array | None,
    ) -> TrainingResult:
        examples = int(x.shape[0])
        self._has_own_step(objective)
        batches, begun = self._begun(objective, rng, examples, batch_size, epochs)
        self._begin(rng, objective, begun)
        for epoch in range(epochs):
            order, size = (
                (rng.permutation(examples), batch_size) if batches is None else (batches[0][epoch], batches[1])
            )
            result = self._train_epoch(x, y, order, size, sample_weight, examples, batches is not None)
            on_epoch(epoch + 1, result)
        self.end_training()
        return result

    def _train_within(
        self,
        x: tf.Tensor,
        y: tf.Tensor,
        epochs: int,
        batch_size: int,
        rng: np.random.Generator,
        objective: Objective | None,
        sample_weight: Array | None,
        limit: StepLimit,
    ) -> TrainingResult:
        """As far as the limit allows, with the bits of a training without one until there."""
        examples = int(x.shape[0])
        own_step = self._has_own_step(objective)
        batches, begun = self._begun(objective, rng, examples, batch_size, epochs)
        if batches is not None:
            raise ValueError(f"the objective {type(objective).__name__} plans its batches: it cannot end before them")
        self._begin(rng, objective, begun)
        orders = np.stack([rng.permutation(examples) for _ in range(epochs)]).astype(np.int32)
        weighted = place_weights(sample_weight, examples)
        a_epoch, done, loss = -(-examples // batch_size), 0, 0.0
        for end in limit.spans(epochs * a_epoch):
            if own_step:
                loss, metrics = keras_loop.fit_span(self.model, x, y, orders, batch_size, (done, end), *weighted)
            else:
                loss, metrics = self._span(x, y, orders, batch_size, weighted, (done, end, loss))
            done = end
        self.end_training()
        used = min(examples, ((done - 1) % a_epoch + 1) * batch_size)
        outcome = self._outcome(examples, loss if own_step else loss / used, metrics, objective)
        return dataclasses.replace(outcome, steps=done)

    def _span(
        self,
        x: tf.Tensor,
        y: tf.Tensor,
        orders: np.ndarray,
        batch_size: int,
        weighted: Sequence[tf.Tensor],
        where: tuple[int, int, float],
    ) -> tuple[float, dict[str, float]]:
        """From `where`'s first step to its second; its third is the sum of the epoch's losses before, which goes on."""
        objective, begun = self._objective, self._start
        graph = self._training_graph(x, y, objective, begun, bool(weighted), whole=False, planned=False, spans=True)
        more = weighted if objective is None else (*weighted, tf.constant(0), *begun)
        begin, end, so_far = where
        numbers = np.int32(begin), np.int32(end), np.float64(so_far)
        arguments = orders, np.int32(batch_size), np.zeros((0, 2), np.uint32), *numbers
        loss, values = graph(x, y, *map(tf.constant, arguments), *more)
        return float(loss), self._named(values)

    def evaluate(self, x: Array, y: Array, *, batch_size: int = 256) -> TrainingResult:
        """Return the loss and metrics of the present weights on x and y (from `place`, or arrays)."""
        x, y = self._placed(x, y)
        if keras_loop.has_own(self.model, "test_step"):
            return self._outcome(int(x.shape[0]), *keras_loop.evaluate(self.model, x, y, batch_size))
        key = ("evaluate", *_kinds(x, y))
        if key not in self._graphs:
            self._graphs[key] = evaluation_graph(self.model, self._metrics, x, y)
        loss, values = self._graphs[key](x, y, tf.constant(batch_size))
        return self._outcome(int(x.shape[0]), loss, self._named(values))

    def get_weights(self) -> dict[str, np.ndarray]:
        """Copies of the model's weights under stable names (`fedkeras.models.get_weights`)."""
        return models.get_weights(self.model)

    def set_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Set the model's weights. Raises ValueError for a missing, unknown or misshapen one."""
        models.set_weights(self.model, weights)

    def _choose(self, loss: Loss) -> ChosenLoss:
        own = self.model.loss if self.model.compiled else None
        if any(keras_loop.has_own(self.model, method) for method in ("train_step", "compute_loss")):
            return ChosenLoss((losses.named(loss) if isinstance(loss, str) else loss) if loss else own or losses.SPARSE)
        return losses.choose(loss, own, self._output, self._learns)

    def _training_graph(
        self,
        x: tf.Tensor,
        y: tf.Tensor,
        objective: Objective | None,
        begun: Sequence[tf.Tensor],
        weighted: bool,
        whole: bool,
        planned: bool,
        spans: bool = False,
    ) -> Graph:
        """The graph of a whole training, of one epoch of it, or of `spans` of steps; traced the first time."""
        own = () if objective is None else (objective.graph_key(), *((tensor.shape, tensor.dtype) for tensor in begun))
        key = ("span" if spans else "train" if whole else "epoch", own, weighted, planned, *_kinds(x, y))
        if key not in self._graphs:
            if objective is not None:
                objective.check(self.model)
            if weighted and objective is not None:
                _require_weights(objective)
            fresh, seeds = (self._fresh, self._seeds) if whole else ([], [])
            kind = {"objective": objective, "begun": begun, "last": whole, "weighted": weighted, "planned": planned}
            kind["spans"] = spans
            self._graphs[key] = training_graph(self.model, self._metrics, fresh, seeds, x, y, **kind)
        return self._graphs[key]

    def _begun(
        self,
        objective: Objective | None,
        rng: np.random.Generator,
        examples: int = 0,
        batch_size: int = 0,
        epochs: int = 0,
    ) -> tuple[Batches | None, Sequence[tf.Tensor]]:
        """What an objective plans, unless there are no examples to plan for, and begins with.

        It has random numbers of its own, so that the orders do not depend on it.
        """
        if objective is None:
            return None, ()
        own = rng.spawn(1)[0]
        batches = objective.plan(examples, batch_size, epochs, own) if examples else None
        return batches, objective.begin(self.model.trainable_variables, own)

    def _has_own_step(self, objective: Objective | None) -> bool:
        """Whether the model has its own train_step. Raises ValueError if it has, and there is an objective."""
        own = keras_loop.has_own(self.model, "train_step")
        if own and objective is not None:
            name = type(objective).__name__
            raise ValueError(f"the objective {name} cannot reach into {type(self.model).__name__}'s own train_step")
        return own

    def _placed(self, x: Array, y: Array) -> tuple[tf.Tensor, tf.Tensor]:
        return (x, y) if tf.is_tensor(x) and tf.is_tensor(y) else self.place(x, y)

    def _named(self, values: list[tf.Tensor]) -> dict[str, float]:
        """By name; a metric of several numbers, as a confusion matrix, stands in no column."""
        pairs = zip(self._metrics, values, strict=True)
        return {metric.name: float(value) for metric, value in pairs if not np.ndim(value)}

    def _outcome(
        self,
        examples: int,
        loss: float | tf.Tensor,
        metrics: dict[str, float],
        objective: Objective | None = None,
    ) -> TrainingResult:
        others = {name: float(value) for name, value in metrics.items() if name != "accuracy"}
        others |= {} if objective is None else objective.figures()
        return TrainingResult(examples, float(loss), metrics.get("accuracy"), others)


def draw(rng: np.random.Generator, seeds: int, examples: int, epochs: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw one training's random states (seeds, 2) and orders (epochs, examples), as `Learner.train` does."""
    seed_values = np.zeros((seeds, 2), np.uint32)
    seed_values[:, 0] = rng.integers(1, 2**31, seeds)
    return seed_values, np.stack([rng.permutation(examples) for _ in range(epochs)]).astype(np.int32)


def _require_weights(objective: Objective) -> None:
    """Raise UserError for an objective whose `gradients` takes no `sample_weight`."""
    taken = inspect.signature(objective.gradients).parameters
    if "sample_weight" not in taken and all(each.kind is not each.VAR_KEYWORD for each in taken.values()):
        raise UserError(
            f"the examples have weights, and the objective {type(objective).__name__} takes none: give its `gradients` "
            "the argument `sample_weight`, or train without weights"
        )


def _kinds(x: tf.Tensor, y: tf.Tensor) -> tuple[Hashable, ...]:
    """What of its data a graph depends on: everything but the number of examples."""
    return tuple(x.shape[1:]), x.dtype, tuple(y.shape[1:]), y.dtype


def place_for_target(learner: Learner, x: np.ndarray, y: np.ndarray | None, target: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Check examples and targets against the model and move them to the device, as `learner.place` does.

    Rows of as many numbers as the model takes are put into its shape: 784 columns may be an image of 28 x 28. XX: y is
    not looked at, and the model's output has the size of its input, in the same shape or flat. XY: whole
    numbers are classes where the loss or the number of outputs says so, and amounts for a model with one output. Raises
    UserError with what does not fit.
    """
    if target not in TARGETS:
        raise UserError(f"--target is '{target}'; allowed are: {', '.join(TARGETS)}")
    x, output = as_input(learner.takes, x), tuple(learner.model.outputs[0].shape)[1:]
    if target == "XX":
        if is_sparse(learner.loss):
            raise UserError("--target XX compares numbers, not classes: give a --loss such as mean_squared_error")
        if None not in output and not same_order(output, x.shape[1:]):
            raise UserError(f"--target XX: the model gives back {output}, and an example is {tuple(x.shape[1:])}")
        y = x.reshape(len(x), *(x.shape[1:] if None in output else output))
        y = y.astype(np.float32, copy=False)
    elif y is None:
        raise UserError("--target XY needs targets, and there are none; an autoencoder is trained with --target XX")
    elif (
        y.ndim == 1
        and output == (1,)
        and not is_sparse(learner.loss)
        and not (name_of(learner.loss).startswith("binary") and y.dtype.kind in "biu")
    ):
        y = y.astype(np.float32)[:, None]  # amounts: whole numbers would be taken for classes
    try:
        return learner.place(x, y, from_itself=target == "XX")
    except ValueError as error:
        raise UserError(f"the data do not fit the model: {error}") from error
