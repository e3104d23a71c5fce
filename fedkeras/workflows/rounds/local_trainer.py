"""What a client process keeps from message to message: one model with its graphs, and its clients' examples."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Context

from fedkeras import data, factory
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.provisioning import client
from fedkeras.provisioning import client_data as handed_out
from fedkeras.provisioning.client_data import ProvisionedClient

if TYPE_CHECKING:
    from fedkeras.learning import Learner


@dataclass(frozen=True)
class LocalModel:
    """The learner, and the weights it began with."""

    learner: "Learner"
    initial: dict


class LocalTrainer:
    """Client `cid` in a run: what it trains, and on what. Raises UserError for what is not there."""

    def __init__(self, config: Config, cid: int, context: Context) -> None:
        self.config, self.cid = config, cid
        # What the server has given this client; nothing where clients bring model and data themselves.
        self.seat = client.provisioned_clients.get(context, cid) if config.data_source else None
        self._trusts_code = bool(context.node_config.get("trust-code", False))

    @property
    def model(self) -> LocalModel:
        """The configured model, or the one the server handed out."""
        if self.seat is None:
            return _model(self.config)
        return _model(self.config, self.seat.model, self._trusts_code)

    def to_train(self, fold: int = 0) -> tuple:
        """Its training examples (x, y) on the device; of a fold that scales them its own way, not kept."""
        if fold and self.seat and self.seat.preprocessing and self.seat.preprocessing.folds:
            return handed_out.training_examples(self.config, self.seat, self.model.learner, fold)
        return _to_train(self.config, self.cid, self.seat, self._trusts_code)

    def to_test(self) -> tuple:
        """The examples (x, y) that it held out, on the device."""
        return _to_test(self.config, self.cid, self.seat, self._trusts_code)


@functools.lru_cache(maxsize=1)
def _model(config: Config, file: Path | None = None, trust_code: bool = False) -> LocalModel:
    if file is None:
        learner = factory.make_learner(config, config.threads_per_client)
    else:
        learner = handed_out.make_learner(config, file, trust_code)
    return LocalModel(learner, learner.get_weights())


@functools.lru_cache(maxsize=8)
def _client(config: Config, cid: int) -> data.ClientExamples:
    """A client's part as arrays; kept for a short while, since the device has its own copy."""
    return data.load_client(config, cid)


@functools.lru_cache(maxsize=factory.KEPT_CLIENTS)
def _to_train(config: Config, cid: int, seat: ProvisionedClient | None, trust_code: bool) -> tuple:
    if seat is not None:
        return handed_out.training_examples(config, seat, _model(config, seat.model, trust_code).learner)
    examples = _client(config, cid).train
    return _model(config).learner.place(examples.x, examples.y)


@functools.lru_cache(maxsize=factory.KEPT_CLIENTS)
def _to_test(config: Config, cid: int, seat: ProvisionedClient | None, trust_code: bool) -> tuple:
    if seat is not None:
        return handed_out.test_examples(config, seat, _model(config, seat.model, trust_code).learner)
    examples = _client(config, cid).test
    if not len(examples.x):
        raise UserError(f"client {cid} holds out no examples; raise --test-fraction, or --fraction-evaluate 0")
    return _model(config).learner.place(examples.x, examples.y)
