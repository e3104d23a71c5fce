"""The server's half of split learning as the round loop takes it (`BodyServer`): the body by messages."""

import math
from collections.abc import Mapping

import numpy as np
from flwr.app import RecordDict

from fedkeras import factory, models
from fedkeras.config import Config
from fedkeras.errors import RunFailed
from fedkeras.randomness import generator
from fedkeras.workflows.split import protocol
from fedkeras.workflows.split.report import CutModel, cut_model


class SplitServer:
    """The body with its optimizer, the clients' random states in it, and their replicas.

    Builds the model and imports TensorFlow, on `threads` threads (they decide the bits). Raises UserError for a model
    that cannot be cut and an optimizer that cannot be split.
    """

    def __init__(self, config: Config, threads: int) -> None:
        self._body = factory.make_body(config, threads)
        self._config, self._dtype = config, config.split_dtype
        self._parts = self._body.parts
        self.names = frozenset(self._parts.names["body"])
        shape = self._parts.models["body"].inputs[0].shape[1:]
        self.example_bytes = None if None in shape else 4 * math.prod(shape)
        self.cut: CutModel = cut_model(self._parts, config.split_dtype, config.batch_size)
        self._num_seeds = len(models.random_states(self._parts.whole))
        self._seeds: dict[int, np.ndarray] = {}
        self._replicas: set[int] = set()

    def start(self, weights: Mapping[str, np.ndarray]) -> None:
        """Begin a round or an evaluation with these weights of the whole model."""
        self._seeds.clear()
        self._replicas.clear()
        whole = set().union(*self._parts.names.values())
        if odd := whole ^ set(weights):
            raise RunFailed(f"the clients train another model than is configured here: '{min(odd)}' is in one alone")
        try:
            self._body.start({name: weights[name] for name in self.names})
        except ValueError as error:
            raise RunFailed(f"the clients train another model than is configured here: {error}") from error

    def begin(self, cid: int, server_round: int, replica: bool) -> None:
        """A client begins: the body's random states are drawn as the client draws the others, and as Learner does."""
        from fedkeras.learning.learner import draw

        seeds, _ = draw(generator(self._config.seed, "train", server_round, cid), self._num_seeds, 0, 1)
        self._seeds[cid] = models.split_seeds(self._parts, seeds)["body"]
        if replica:
            self._replicas.add(cid)

    def forward(self, cid: int, batch: int, content: RecordDict, examples: int) -> tuple[RecordDict, float]:
        """The body on a client's activations. Raises ValueError for what does not fit."""
        activations = self._activations(content, batch, examples)
        self._use(cid)
        output, penalty = self._body.forward(activations, self._seeds[cid], (cid, batch))
        self._seeds[cid] = self._body.seeds()
        return protocol.pack({batch: output}, self._dtype), penalty

    def backward(self, cid: int, batch: int, content: RecordDict) -> RecordDict:
        """The gradient of the body's input; `update` is to follow. Raises ValueError for what does not fit."""
        gradient = protocol.unpack(content, batch, self._dtype)
        self._use(cid)
        of_input = self._body.gradient(gradient, (cid, batch))
        try:
            return protocol.pack({batch: of_input}, self._dtype)
        except ValueError:
            self.update()
            raise

    def update(self) -> None:
        """Update the body by the batch that was last taken backward."""
        self._body.update()

    def test(self, batch: int, content: RecordDict, examples: int) -> tuple[RecordDict, float]:
        """The body in prediction. Raises ValueError for what does not fit."""
        output, penalty = self._body.forward_eval(self._activations(content, batch, examples))
        return protocol.pack({batch: output}, self._dtype), penalty

    def weights(self, replica: int | None = None) -> dict[str, np.ndarray]:
        """The body's weights at the end of a round, or a replica's."""
        if replica is not None:
            self._body.use(replica)
        self._body.finalize()
        return self._body.get_weights()

    def state(self) -> dict[str, np.ndarray]:
        """The body and its optimizer."""
        return self._body.get_state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Put a state back."""
        self._body.set_state(state)

    def _use(self, cid: int) -> None:
        if cid in self._replicas:
            self._body.use(cid)

    def _activations(self, content: RecordDict, batch: int, examples: int) -> np.ndarray:
        activations = protocol.unpack(content, batch, self._dtype)
        if activations.shape[:1] != (examples,):
            raise ValueError(f"batch {batch} has shape {list(activations.shape)}, for {examples} examples")
        return activations
