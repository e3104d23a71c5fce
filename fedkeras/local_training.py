"""Training on one client's examples, or on all clients' together, without federation: the one way in which it is done.

`compare` has its baselines from it, and `fedkeras train` trains one part alone, with the same figures to the bit.

What is learned from rows before training, the scaling and the classes' weights, is learned from the rows that are
trained on: of ALL all clients', of one client its own alone, unless the data say what they are scaled by. The model has
the initial weights of a federated run. Its optimizer goes on from round to round, as it does without federation, where
a federated client's starts afresh in each.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from fedkeras import data, factory, scaling
from fedkeras.cids import ALL
from fedkeras.config import Config
from fedkeras.data.labels import balanced_weights
from fedkeras.data.normalise import Normaliser
from fedkeras.randomness import generator
from fedkeras.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    import tensorflow as tf

    from fedkeras.learning import Learner, TrainingResult


@dataclass(frozen=True)
class LocalRound:
    """What `local_epochs` epochs came to, and the test on the central test set after them; None: there is none."""

    number: int
    trained: "TrainingResult"
    tested: "TrainingResult | None"
    training_seconds: float
    test_seconds: float


class LocalTraining:
    """The model, and the examples of `client` (a cid, or ALL) that it is trained and tested on.

    A process has one model, with its compiled graphs, for all trainings of one configuration. Raises UserError, and
    ValueError for examples that do not fit the model.
    """

    def __init__(self, config: Config, client: str) -> None:
        import_tensorflow()
        from fedkeras.learning.sample_weights import combined

        self.config = config = scaling.resolved_by_client(config)
        self.client = client
        self.cids = range(config.num_partitions) if client == ALL else [int(client)]
        self.learner, initial = _model(config)
        self.learner.set_weights(initial)
        self.normaliser, class_weights = _learned_from(config, client)
        self._test = _test(config, client if data.learns_scaling(config) else ALL)
        self._clients = [data.load_client(config, cid, self.normaliser) for cid in self.cids]
        self._examples = self.learner.place(
            *(np.concatenate([getattr(one.train, name) for one in self._clients]) for name in ("x", "y"))
        )
        own_weights = [data.sample_weights_of(config, cid) for cid in self.cids]
        own = None if own_weights[0] is None else np.concatenate(own_weights)
        self._weights = combined(self._examples[1], own, class_weights)

    @property
    def num_examples(self) -> int:
        """How many are trained on."""
        return int(self._examples[0].shape[0])

    def rounds(self) -> Iterator[LocalRound]:
        """Train, `num_server_rounds` times `local_epochs` epochs, with a test on the central test set after each."""
        config, rng = self.config, generator(self.config.seed, "compare", self.client)
        self.learner.begin_training(rng)
        for number in range(1, config.num_server_rounds + 1):
            started = time.perf_counter()
            for _ in range(config.local_epochs):
                order = rng.permutation(self.num_examples)
                trained = self.learner.train_epoch(*self._examples, order, config.batch_size, self._weights)
            if number == config.num_server_rounds:
                self.learner.end_training()
            between = time.perf_counter()
            tested = None if self._test is None else self.learner.evaluate(*self._test)
            yield LocalRound(number, trained, tested, between - started, time.perf_counter() - between)

    def held_out(self) -> "dict[int, TrainingResult]":
        """The model as it is now on what each client has held out of its own examples, {cid: result}."""
        return {
            cid: self.learner.evaluate(one.test.x, one.test.y)
            for cid, one in zip(self.cids, self._clients, strict=True)
            if len(one.test)
        }

    def predictions(self) -> tuple[np.ndarray, np.ndarray, Sequence[str]] | None:
        """Labels and predicted class numbers of the central test set, and the classes' names.

        None without a test set, and for a model that is no classifier of these classes.
        """
        if self._test is None:
            return None
        labels = data.open_source(self.config).test_labels()
        return self._predicted(self._test[0], labels)

    def held_out_predictions(self, cid: int) -> tuple[np.ndarray, np.ndarray, Sequence[str]] | None:
        """The same of what this client has held out."""
        test = self._clients[list(self.cids).index(cid)].test
        return self._predicted(self.learner.place(test.x, test.y)[0], test.y) if len(test) else None

    def _predicted(self, x: "tf.Tensor", labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, Sequence[str]] | None:
        from fedkeras.learning.targets import predicted_classes

        source = data.open_source(self.config)
        if source.targets is not None:
            return None
        found = predicted_classes(self.learner.model, x, labels, len(source.classes))
        return None if found is None else (labels, found, source.classes)


def _learned_from(config: Config, client: str) -> tuple[Normaliser, tuple[float, ...] | None]:
    """By what the examples are scaled, and what the classes weigh: by the rows that are trained on."""
    cids = range(config.num_partitions) if client == ALL else [int(client)]
    own = data.pooled_normaliser(config) if client == ALL else data.own_normaliser(config, int(client))
    weights = balanced_weights(data.label_counts(config, cids).tolist()) if config.class_weight == "balanced" else None
    return own, weights


@lru_cache(maxsize=1)
def _model(config: Config) -> "tuple[Learner, dict[str, np.ndarray]]":
    """The learner and its initial weights: of all trainings with one configuration."""
    learner = factory.make_learner(config, config.threads_per_client)
    return learner, learner.get_weights()


@lru_cache(maxsize=1)
def _test(config: Config, client: str) -> "tuple[tf.Tensor, tf.Tensor] | None":
    """The central test set on the device, scaled as this client's examples are, or as ALL are; None if it is empty."""
    test = data.load_test(config, _learned_from(config, client)[0])
    return _model(config)[0].place(test.x, test.y) if len(test) else None
