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
    what = Path(config.dataset).name if data.is_file(config.dataset, config.data_dir) else config.dataset
    return f"{what}-{how}"


def has_test_set(config: Config, provision: Provision | None) -> bool:
    """True if there is a central test set for rounds: a data set's, or X_test and Y_test."""
    return provision is None or config.data_source == "keras" or provision.test is not None


def dealt(config: Config, provision: Provision) -> dict[str, dict[int, int]]:
    """How many rows each client trains and tests on, {phase: {cid: rows}}, of those that it is handed."""
    held_out = {cid: num_held_out(config, len(shard)) for cid, shard in provision.shards.items()}
    train = {cid: len(shard) - held_out[cid] for cid, shard in provision.shards.items()}
    return {MessageType.TRAIN: train, MessageType.EVALUATE: held_out}


def check_rows(config: Config, provision: Provision, description: data.Description | None) -> None:
    """Raise UserError where examples that this process knows of do not fit the model, or are too few for the folds."""
    rows = {cid: len(shard) for cid, shard in provision.shards.items()}
    if description is not None:
        rows = dict(enumerate(description.train_sizes.tolist()))
        try:
            provision.model.check_takes(description.source.input_shape)
        except UserError as error:
            raise UserError(f"--model {config.model}: {error}") from None
    if config.method == "kfold" and rows:
        cid = min(rows, key=rows.get)
        if rows[cid] < config.folds:
            raise UserError(f"--folds is {config.folds}, and client {cid} trains on {rows[cid]} examples: take fewer")


def table_evaluation(
    config: Config, provision: Provision | None, folder: RunFolder, threads: int
) -> CentralEvaluation | None:
    """What tests on the server's tables; None where there are none."""
    if provision is None or provision.test is None:
        return None
    return TableEvaluation(config, provision.test, folder, threads, provision.test_columns)


def note_loss(
    config: Config,
    provision: Provision | None,
    central: CentralEvaluation,
    choices: Choices,
    threads: int,
    knows_source: bool = False,
) -> LossCheck | None:
    """Say which loss was chosen, if no flag and no model did, or refuse the one that does not suit. Raises UserError.

    `knows_source`: this process can open the data set, so that a model that it cannot build is a mistake. Returns the
    check of a model that is handed out, which goes on when its clients say what they have.
    """
    if provision is not None:
        check = LossCheck(config, provision, choices, threads)
        check.at_the_start()
        return check
    if not config.collect_only:
        for name, text in central.choices(knows_source).items():
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
    told["knows_source"] = knows_source and config.deals
    if provision is None:
        return DescribedClientManager(grid, config, folder, callbacks, **told)
    agreed = {} if check is None else {"agreed": check.when_agreed}
    clients = ProvisionedClientManager(grid, config, provision, folder, ProgressTable(), callbacks, **agreed, **told)
    callbacks.insert(OfferAgain(clients))
    return clients
