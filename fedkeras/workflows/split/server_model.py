"""The server's half of split learning as the round loop takes it (`BodyServer`): the body by messages."""

from collections.abc import Mapping

import numpy as np
from flwr.app import RecordDict

from fedkeras import factory, models
from fedkeras.config import Config, fields_of
from fedkeras.errors import RunFailed, UserError
from fedkeras.randomness import generator
from fedkeras.workflows.split import protocol


def check_flags(config: Config) -> None:
    """Raise UserError for flags that do not go together, or would be ignored."""
    default = Config()
    if config.split == "off":
        config.refuse(fields_of(workflow="split"), "means nothing without --split sequential, splitfed or shared")
        return
    if config.strategy != default.strategy or config.strategy_args:
        raise UserError(
            f"--split {config.split} takes no other strategy: its mode says how the parts are averaged; leave out "
            f"--strategy{'' if config.strategy != default.strategy else '-args'}"
        )
    if config.split == "sequential" and config.in_flight > 1:
        raise UserError("--in-flight is for --split splitfed or shared: in turns there is one batch at once")
    models.cut_points(factory.model_name(config), config.split_at)


class SplitServer:
    """M2 with its optimizer, the clients' random states in it, and their replicas.

    Builds the model and imports TensorFlow, on `threads` threads (they decide the bits). Raises UserError for a model
    that cannot be cut and an optimizer that cannot be split.
    """

    def __init__(self, config: Config, threads: int) -> None:
        check_flags(config)
        self._middle = factory.make_middle(config, threads)
        self._config, self._dtype = config, config.split_dtype
        self._parts = self._middle.parts
        self.names = frozenset(self._parts.names["body"])
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
            self._middle.start({name: weights[name] for name in self.names})
        except ValueError as error:
            raise RunFailed(f"the clients train another model than is configured here: {error}") from error

    def begin(self, cid: int, server_round: int, replica: bool) -> None:
        """A client begins: M2's random states are drawn as the client draws those of M1 and M3, and as Learner does."""
        from fedkeras.learning.learner import draw

        seeds, _ = draw(generator(self._config.seed, "train", server_round, cid), self._num_seeds, 0, 1)
        self._seeds[cid] = models.split_seeds(self._parts, seeds)["body"]
        if replica:
            self._replicas.add(cid)

    def forward(self, cid: int, batch: int, content: RecordDict, examples: int) -> tuple[RecordDict, float]:
        """M2 on a client's activations. Raises ValueError for what does not fit."""
        activations = self._activations(content, batch, examples)
        self._use(cid)
        output, penalty = self._middle.forward(activations, self._seeds[cid], (cid, batch))
        self._seeds[cid] = self._middle.seeds()
        return protocol.pack({batch: output}, self._dtype), penalty

    def backward(self, cid: int, batch: int, content: RecordDict) -> RecordDict:
        """The gradient of M2's input; `update` is to follow. Raises ValueError for what does not fit."""
        gradient = protocol.unpack(content, batch, self._dtype)
        self._use(cid)
        of_input = self._middle.gradient(gradient, (cid, batch))
        try:
            return protocol.pack({batch: of_input}, self._dtype)
        except ValueError:
            self.update()
            raise

    def update(self) -> None:
        """Update M2 by the batch that was last taken backward."""
        self._middle.update()

    def test(self, batch: int, content: RecordDict, examples: int) -> tuple[RecordDict, float]:
        """M2 in prediction. Raises ValueError for what does not fit."""
        output, penalty = self._middle.forward_eval(self._activations(content, batch, examples))
        return protocol.pack({batch: output}, self._dtype), penalty

    def weights(self, replica: int | None = None) -> dict[str, np.ndarray]:
        """M2's weights at the end of a round, or a replica's."""
        if replica is not None:
            self._middle.use(replica)
        self._middle.finalize()
        return self._middle.get_weights()

    def state(self) -> dict[str, np.ndarray]:
        """M2 and its optimizer."""
        return self._middle.get_state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Put a state back."""
        self._middle.set_state(state)

    def _use(self, cid: int) -> None:
        if cid in self._replicas:
            self._middle.use(cid)

    def _activations(self, content: RecordDict, batch: int, examples: int) -> np.ndarray:
        activations = protocol.unpack(content, batch, self._dtype)
        if activations.shape[:1] != (examples,):
            raise ValueError(f"batch {batch} has shape {list(activations.shape)}, for {examples} examples")
        return activations
