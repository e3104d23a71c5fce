"""One client's model and examples, kept in its process from message to message: what it trains, and on what."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedkeras import data, factory
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.requests import ClientContext
from fedkeras.mods.chain import make_mods
from fedkeras.named_code import Permission
from fedkeras.provisioning import client_data
from fedkeras.provisioning.client import provisioned_clients
from fedkeras.provisioning.client_data import ProvisionedClient
from fedkeras.provisioning.described_clients import shared
from fedkeras.provisioning.preprocessing import Preprocessing, own_normaliser_of

if TYPE_CHECKING:
    import tensorflow as tf

    from fedkeras.learning import Learner
    from fedkeras.learning.losses import Targets


@dataclass(frozen=True)
class LocalModel:
    """The learner, and the weights it began with."""

    learner: "Learner"
    initial: Mapping[str, np.ndarray]


class LocalTrainer:
    """What the client of a message trains. Raises UserError for what is not there.

    A process has one model, with its compiled graphs, for all the clients that it serves.
    """

    def __init__(self, client: ClientContext) -> None:
        self.config, self.cid = client.config, client.cid
        # What the server has handed out; nothing where clients bring model and data themselves.
        self.provisioned = provisioned_clients.get(client.context, client.cid) if self.config.data_source else None
        all_share = shared(client)
        self._class_weights = all_share and all_share.class_weights
        # Where the format decides how examples are scaled, what is in a message changes nothing about them.
        self._shared = all_share if all_share and all_share.normaliser.name != "none" else None
        self._trusts_code, self._permission = client.trusts_code, client.permission

    def prepare(self) -> None:
        """Load data and model before any message has come: as far as that can be done without what the clients share.

        Raises UserError.
        """
        if not self.config.deals:
            for name, text in data.open_source(self.config).chosen.items():
                factory.chosen_log.info("%s: %s", name, text)
        if data.learns_scaling(self.config):
            _ = self.model, data.client_statistics(self.config, self.cid)
        else:
            self.training_examples()

    @property
    def model(self) -> LocalModel:
        """The configured model, or the one the server handed out."""
        if self.provisioned is None:
            return _model(self.config)
        return _model_of(self.config, self.provisioned, self._trusts_code)

    def sample_weights(self) -> "tf.Tensor | None":
        """What each training example's loss is multiplied by; None: by nothing. Raises UserError."""
        client = self.provisioned
        by_class = client.preprocessing.class_weights if client and client.preprocessing else self._class_weights
        own = self._trusts_code, self._permission
        return _sample_weights(self.config, self.cid, client, self._shared, *own, by_class)

    def training_examples(self, fold: int = 0) -> "tuple[tf.Tensor, tf.Tensor]":
        """(x, y) on the device; of a fold that scales them its own way, not kept."""
        client = self.provisioned
        if fold and client and client.preprocessing and client.preprocessing.folds:
            return client_data.training_examples(self.config, client, self.model.learner, fold)
        return _training_examples(self.config, self.cid, client, self._shared, self._trusts_code, self._permission)

    def test_examples(self) -> "tuple[tf.Tensor, tf.Tensor]":
        """(x, y) that it held out, on the device."""
        return _test_examples(self.config, self.cid, self.provisioned, self._shared, self._trusts_code)


def _model_of(config: Config, client: ProvisionedClient, trust_code: bool) -> LocalModel:
    return _model(config, client.model, trust_code, client_data.learns(config, client.preprocessing))


@functools.lru_cache(maxsize=1)
def _model(config: Config, file: Path | None = None, trust_code: bool = False, learns: "Targets" = "") -> LocalModel:
    if file is None:
        learner = factory.make_learner(config, config.threads_per_client)
    else:
        learner = client_data.make_learner(config, file, trust_code, learns)
    factory.say_loss(learner.chosen)
    return LocalModel(learner, learner.get_weights())


@functools.lru_cache(maxsize=8)
def _examples(config: Config, cid: int, all_share: Preprocessing | None) -> data.ClientExamples:
    """A client's part as arrays; kept for a short while, since the device has its own copy."""
    return data.load_client(config, cid, own_normaliser_of(config, all_share))


@functools.lru_cache(maxsize=factory.KEPT_CLIENTS)
def _training_examples(
    config: Config,
    cid: int,
    client: ProvisionedClient | None,
    all_share: Preprocessing | None,
    trust_code: bool,
    permission: Permission,
) -> "tuple[tf.Tensor, tf.Tensor]":
    if client is not None:
        return client_data.training_examples(config, client, _model_of(config, client, trust_code).learner)
    mods = make_mods(config.mods, permission)
    examples = mods.training_examples(_examples(config, cid, all_share).train, config, cid)
    return _model(config).learner.place(examples.x, examples.y)


@functools.lru_cache(maxsize=factory.KEPT_CLIENTS)
def _sample_weights(
    config: Config,
    cid: int,
    client: ProvisionedClient | None,
    all_share: Preprocessing | None,
    trust_code: bool,
    permission: Permission,
    class_weights: tuple[float, ...] | None,
) -> "tf.Tensor | None":
    from fedkeras.learning.sample_weights import combined, place_weights

    _, y = _training_examples(config, cid, client, all_share, trust_code, permission)
    own = data.sample_weights_of(config, cid) if config.uses_catalogue else client.sample_weights(config)
    found = combined(y, own, class_weights)
    return None if found is None else place_weights(found, len(found))[0]


@functools.lru_cache(maxsize=factory.KEPT_CLIENTS)
def _test_examples(
    config: Config, cid: int, client: ProvisionedClient | None, all_share: Preprocessing | None, trust_code: bool
) -> "tuple[tf.Tensor, tf.Tensor]":
    if client is not None:
        return client_data.test_examples(config, client, _model_of(config, client, trust_code).learner)
    examples = _examples(config, cid, all_share).test
    if not len(examples.x):
        raise UserError(f"client {cid} holds out no examples; raise --test-fraction, or --fraction-evaluate 0")
    return _model(config).learner.place(examples.x, examples.y)
