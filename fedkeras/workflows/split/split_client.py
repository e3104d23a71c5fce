"""What a client process of split learning keeps from message to message: head and tail, examples, batches."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedkeras import data, factory, models
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.provisioning.preprocessing import Preprocessing, own_normaliser_of
from fedkeras.randomness import generator
from fedkeras.workflows.split.client_state import ClientStates


class SplitClient:
    """The client's half with its graphs, the weights the whole model began with, and the clients' turns."""

    def __init__(self, config: Config) -> None:
        self.head_and_tail = factory.make_head_and_tail(config, config.threads_per_client)
        factory.say_loss(self.head_and_tail.chosen)
        self.initial = models.get_weights(self.head_and_tail.parts.whole)
        self.trainable = models.trainable_names(self.head_and_tail.parts.whole)
        self.num_seeds = len(models.random_states(self.head_and_tail.parts.whole))
        self.states = ClientStates(self.head_and_tail)


@functools.lru_cache(maxsize=1)
def split_client(config: Config) -> SplitClient:
    """This process's model, cut. Raises UserError."""
    return SplitClient(config)


Placed = tuple[np.ndarray, np.ndarray]
"""x and y, checked against the model."""


@functools.lru_cache(maxsize=factory.KEPT_CLIENTS)
def examples(config: Config, cid: int, all_share: Preprocessing | None = None) -> tuple[Placed, Placed | None]:
    """A client's examples to train on, and those held out, if any; scaled by what the server says that `all_share`."""
    client = data.load_client(config, cid, own_normaliser_of(config, all_share))
    place = split_client(config).head_and_tail.place
    held_out = place(client.test.x, client.test.y) if len(client.test.x) else None
    return place(client.train.x, client.train.y), held_out


@functools.lru_cache(maxsize=factory.KEPT_CLIENTS)
def weights(config: Config, cid: int, all_share: Preprocessing | None = None) -> np.ndarray | None:
    """What each training example's loss is multiplied by; None: by nothing. Raises UserError."""
    from fedkeras.learning.sample_weights import combined

    (_, y), _ = examples(config, cid, all_share)
    return combined(y, data.sample_weights_of(config, cid), all_share and all_share.class_weights)


def held_out(config: Config, cid: int, all_share: Preprocessing | None = None) -> Placed:
    """A client's own test set. Raises UserError if it has none."""
    if not (found := examples(config, cid, all_share)[1]):
        raise UserError(f"client {cid} holds out no examples; raise --test-fraction, or --fraction-evaluate 0")
    return found


@dataclass(frozen=True)
class BatchPlan:
    """A client's round: the random states of head and tail, and the numbers of the examples of every batch."""

    seeds: Mapping[str, np.ndarray]
    batches: list[np.ndarray]
    per_epoch: int

    def opens_epoch(self, batch: int) -> bool:
        """True for the first batch of an epoch that is not the first."""
        return batch > 0 and batch % self.per_epoch == 0


@functools.lru_cache(maxsize=factory.KEPT_CLIENTS)
def plan(config: Config, cid: int, server_round: int) -> BatchPlan:
    """Drawn as `Learner.train` draws for the same client and round."""
    from fedkeras.learning.learner import draw

    own, count = split_client(config), len(data.own_rows(config, cid)[0])
    rng = generator(config.seed, "train", server_round, cid)
    values, orders = draw(rng, own.num_seeds, count, config.local_epochs)
    size = config.batch_size
    batches = [order[first : first + size] for order in orders for first in range(0, count, size)]
    return BatchPlan(models.split_seeds(own.head_and_tail.parts, values), batches, len(batches) // config.local_epochs)
