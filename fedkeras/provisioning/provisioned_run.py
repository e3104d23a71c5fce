"""What a run takes from provisioning when it is put together; where nothing is handed out, what is there without it."""

import logging
from pathlib import Path

from flwr.app import MessageType

from fedkeras import data
from fedkeras.callbacks import Callbacks
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.factory import CentralEvaluation
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.client_weights import ClientWeights
from fedkeras.federation.grids import FederationGrid
from fedkeras.provisioning.central_evaluation import TableEvaluation
from fedkeras.provisioning.client_data import num_held_out
from fedkeras.provisioning.client_manager import OfferAgain, ProvisionedClientManager
from fedkeras.provisioning.described_clients import DescribedClientManager
from fedkeras.provisioning.loss_check import LossCheck
from fedkeras.provisioning.server import Provision
from fedkeras.reports import Choices, RunFolder
from fedkeras.reports.progress_table import ProgressTable

log = logging.getLogger("fedkeras")


def run_name(config: Config, how: str) -> str:
    """The last part of a run folder's name: the data set, or the model file that is handed out, and how it trains."""
    if config.data_source not in ("", "keras"):
        return f"{Path(config.model).stem}-{how}"
    what = Path(config.dataset).name if data.is_file(config.dataset) else config.dataset
    return f"{what}-{how}"


def has_test_set(config: Config, provision: Provision | None) -> bool:
    """True if there is a central test set for rounds: a data set's, or X_test and Y_test."""
    return provision is None or config.data_source == "keras" or provision.test is not None


def dealt(config: Config, provision: Provision | None, has_data: bool) -> dict[str, dict[int, int]]:
    """How many examples each client trains and tests on, {phase: {cid: examples}}, where this server has dealt them.

    `has_data`: it can open the data set of --dataset. Empty where clients have data of their own, or their own copy.
    """
    if provision is not None and provision.shards:
        held_out = {cid: num_held_out(config, len(shard)) for cid, shard in provision.shards.items()}
        train = {cid: len(shard) - held_out[cid] for cid, shard in provision.shards.items()}
        return {MessageType.TRAIN: train, MessageType.EVALUATE: held_out}
    if not has_data or config.collect_only:
        return {}
    try:
        found = data.describe(config)
    except UserError as error:
        log.info("how many examples each client has is not known before they say it: %s", error)
        return {}
    sizes = {MessageType.TRAIN: found.train_sizes, MessageType.EVALUATE: found.test_sizes}
    return {phase: dict(enumerate(each.tolist())) for phase, each in sizes.items()}


def table_evaluation(
    config: Config, provision: Provision | None, folder: RunFolder, threads: int
) -> CentralEvaluation | None:
    """What tests on the server's tables; None where there are none."""
    if provision is None or provision.test is None:
        return None
    return TableEvaluation(config, provision.test, folder, threads, provision.test_columns)


def note_loss(
    config: Config, provision: Provision | None, central: CentralEvaluation, choices: Choices, threads: int
) -> LossCheck | None:
    """Say which loss was chosen, if no flag and no model did, or refuse the one that does not suit. Raises UserError.

    The check of a model that is handed out, which goes on when its clients say what they have.
    """
    if provision is not None:
        check = LossCheck(config, provision, choices, threads)
        check.at_the_start()
        return check
    if not config.collect_only:
        for name, text in central.choices().items():
            choices.note(name, text)
    return None


def clients_of(
    grid: FederationGrid,
    config: Config,
    provision: Provision | None,
    folder: RunFolder,
    callbacks: Callbacks,
    choices: Choices,
    central: CentralEvaluation,
    check: LossCheck | None = None,
    client_weights: ClientWeights | None = None,
    knows_source: bool = False,
) -> ClientManager | ProvisionedClientManager:
    """Who is connected; clients that are handed something take part when they have it. Raises UserError.

    `central` is told what was learned from the clients' rows to scale by; `knows_source`: this server can open the data
    set.
    """
    if config.collect_only:
        return ClientManager(grid, config, callbacks)
    client_weights = client_weights or ClientWeights(config)
    told = {"choices": choices, "set_normaliser": central.set_normaliser, "client_weights": client_weights}
    told["knows_source"] = knows_source
    if provision is None:
        return DescribedClientManager(grid, config, folder, callbacks, **told)
    agreed = {} if check is None else {"agreed": check.when_agreed}
    clients = ProvisionedClientManager(grid, config, provision, folder, ProgressTable(), callbacks, **agreed, **told)
    callbacks.insert(OfferAgain(clients))
    return clients
