"""What is found out before a run has a folder, and before a client is given anything to do.

Flags, mods, strategy, model file, data, partition, model, loss and optimizer are checked here, in this order, for every
way to train: what is wrong with them ends the server within seconds, whoever has joined by then. `fedkeras check` does
this and no more.
"""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flwr.app import MessageType
from flwr.serverapp.strategy import Strategy

from fedkeras import data, factory, reports, scaling
from fedkeras.config import Config
from fedkeras.federation import registry, strategy_adapter
from fedkeras.federation.sampling import cohort_size
from fedkeras.federation.strategy_state import StrategyState
from fedkeras.models.file_info import SUFFIXES
from fedkeras.mods.chain import ModChain, make_mods
from fedkeras.provisioning import provisioned_run
from fedkeras.provisioning.loss_check import LossCheck
from fedkeras.provisioning.server import Provision, open_provision
from fedkeras.tensorflow_import import import_tensorflow
from fedkeras.workflows.base import Workflow
from fedkeras.workflows.flag_checks import check_flags

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Preparation:
    """All that a run is put together from, checked and loaded."""

    given: Config
    """As the flags have it."""
    config: Config
    """The same, with the scaling that the model asks for."""
    model: str
    """The model's name, or the data set's default."""
    threads: int
    """TensorFlow's in this process; 0: one a core."""
    mods: ModChain
    strategy: Strategy
    """The configured one, with the mods around it."""
    warnings: list[str]
    """What is odd about mods and strategy here."""
    state: StrategyState
    provision: Provision | None
    central: factory.CentralEvaluation
    tested: bool
    """There is a central test set, and it is wanted."""
    description: data.Description | None
    """How the data set is divided, where this process can open it and deals it out."""
    choices: reports.Choices
    loss_check: LossCheck | None

    @property
    def knows_source(self) -> bool:
        """Whether this process can open the data set."""
        return self.description is not None

    @property
    def trains(self) -> bool:
        """Whether clients train in this run at all."""
        return not self.config.collect_only

    def build_model(self) -> "keras.Model | None":
        """The configured model, built anew; None where it cannot be known here, or nothing is trained. UserError."""
        from_file = self.model.endswith(SUFFIXES)
        if not self.trains or (self.description is None and not from_file):
            return None
        if self.provision is None and self.description is not None:
            return factory.build_model(self.config)
        import_tensorflow()
        from fedkeras import models

        return models.load(self.model, self.config.trust_code)

    def dealt(self) -> dict[str, dict[int, int]]:
        """How many examples each client trains and tests on, {phase: {cid: examples}}, where this process deals them.

        Empty where clients have data of their own, or their own copy.
        """
        if self.provision is not None and self.provision.shards:
            return provisioned_run.dealt(self.config, self.provision)
        if self.description is None or self.config.collect_only or not self.config.deals:
            return {}
        sizes = {MessageType.TRAIN: self.description.train_sizes, MessageType.EVALUATE: self.description.test_sizes}
        return {phase: dict(enumerate(each.tolist())) for phase, each in sizes.items()}


def prepare(workflow: Workflow, config: Config, threads: int = 0) -> Preparation:
    """Check and load everything; nothing is written. `threads`: see `Preparation.threads`. Raises UserError."""
    check_flags(workflow, config)
    config = registry.with_mods(config)
    model = config.model if config.data_source or config.collect_only else factory.model_name(config)
    mods = make_mods(config.mods)
    choices = reports.Choices()
    threads = threads or workflow.server_threads(config)
    of_model = threads or os.cpu_count() or 1  # as CentralEvaluation has it
    given, config = config, scaling.resolved(config, threads=of_model)
    for name, text in mods.choose(config).items():
        choices.note(name, text)
    strategy = registry.for_run(config)
    if brought := getattr(strategy, "mods", ""):
        choices.note("strategy", f"{config.strategy} needs --mods {brought}, which is added")
    strategy = mods.strategy(strategy)
    asked = cohort_size(config.num_partitions, config.fraction_train)
    warnings = [*mods.warnings(asked), *strategy_adapter.check(strategy, asked)]
    provision = open_provision(config)
    for name, text in provision.notes.items() if provision else ():
        choices.note(name, text)
    central = factory.CentralEvaluation(config, threads)
    has_test_set = (
        workflow.evaluates_centrally and config.central_evaluation and provisioned_run.has_test_set(config, provision)
    )
    tested = has_test_set and mods.whole_model
    if tested:
        central.load()
    opened = config.uses_catalogue and (has_test_set or workflow.has_data or data.needs_no_files(config.dataset))
    description = data.describe(config) if opened and not config.collect_only else None
    if provision is not None:
        provisioned_run.check_rows(config, provision, description)
    if strategy_adapter.is_robust(strategy):
        choices.note("clients' figures", f"of all together their median, each counted once, as {config.strategy} does")
    _note_scaling(choices, scaling.scaling_of(given, True, of_model).reason, given, tested)
    if tested and config.uses_catalogue:
        for name, text in data.open_source(config).chosen.items():
            choices.note(name, text)
        if said := data.weights_said(config):
            choices.note("sample weights", said)
    workflow.prepare_server(config, threads)
    loss_check = provisioned_run.note_loss(config, provision, central, choices, threads, description is not None)
    return Preparation(
        given=given,
        config=config,
        model=model,
        threads=threads,
        mods=mods,
        strategy=strategy,
        warnings=warnings,
        state=StrategyState(strategy, [*mods.mods, *workflow.state]),
        provision=provision,
        central=central,
        tested=tested,
        description=description,
        choices=choices,
        loss_check=loss_check,
    )


def _note_scaling(choices: reports.Choices, reason: str, given: Config, opened: bool) -> None:
    """What the model (for this `reason`) or the data decided about scaling, where no flag did; `opened`: a data set."""
    if reason:
        choices.note("normaliser", reason)
    elif given.normaliser == "default" and not given.uses_catalogue:
        choices.note("normaliser", "none, since tables are scaled on request only (--normaliser)")
    elif given.normaliser == "default" and opened:
        choices.note("normaliser", f"{data.open_source(given).default_normaliser}, which suits {given.dataset}")
