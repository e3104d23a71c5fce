"""What a way to train is: a `Workflow`, which is given a `RunContext` and does the run.

A workflow is a folder beside this file with the same rooms: `server` (the Workflow), `client` (what a client answers)
and, where they say more than Flower's train and evaluate, `protocol` (what that is). What others must know of a way to
train they ask the workflow, so that nobody asks the configuration which one it is.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from flwr.app import ArrayRecord, Message
from flwr.serverapp.strategy import Strategy

from fedkeras.callbacks import Callbacks
from fedkeras.config import Config
from fedkeras.factory import CentralEvaluation
from fedkeras.federation import strategy_adapter
from fedkeras.federation.client_weights import ClientWeights
from fedkeras.federation.grids import FederationGrid
from fedkeras.federation.metric_names import MetricNames
from fedkeras.federation.requests import ClientContext, Handler
from fedkeras.federation.round_result import RoundResult
from fedkeras.federation.sampling import FailureTracker
from fedkeras.federation.strategy_state import Stateful
from fedkeras.federation.trainable import Trainable
from fedkeras.mods.chain import ModChain
from fedkeras.named_code import EVERYTHING, Permission, find_class
from fedkeras.reports import Checkpoint, Choices, ReportSection, RunFolder
from fedkeras.reports.progress_table import ProgressTable
from fedkeras.reports.server_view import UNSAID, UPDATE, Seen, Sight, server_view
from fedkeras.workflows.beside_training import seen_beside_training
from fedkeras.workflows.early_stopping import EarlyStopping
from fedkeras.workflows.traffic import Sizes, Traffic

if TYPE_CHECKING:
    import keras

Summary = dict[str, object]
"""What summary.json holds."""

EvaluateFn = Callable[[int, ArrayRecord], Mapping[str, float] | None]
"""(round, global arrays) -> metrics of the central test set; Flower's name for it."""


class Clients(Protocol):
    """Who is connected: federation.client_manager, or provisioning's, whose clients are given what they lack first."""

    progress: ProgressTable
    """What each client does now; shown while it is used as a context manager."""

    def wait(self, wanted: Collection[int] = ()) -> dict[int, int]:
        """{cid: node id} of the clients that can take part, ascending in cid, when enough are connected.

        Who is connected and busy is not waited for, unless it is among `wanted`. Raises RunFailed.
        """

    def offer_again(self, failed: Collection[int]) -> None:
        """These clients failed: what they may lack is offered again before they take part."""


@dataclass(frozen=True)
class RunContext:
    """Everything that belongs to one run on the server."""

    config: Config
    grid: FederationGrid
    clients: Clients
    folder: RunFolder
    strategy: Strategy
    """The configured one, with the mods around it."""
    mods: ModChain
    central: CentralEvaluation
    """Tests a model on the server, and saves it."""
    evaluate_fn: EvaluateFn | None
    """The central evaluation of a round; None: there is no test set, or none is wanted."""
    callbacks: Callbacks
    failures: FailureTracker
    """Who has failed in a row."""
    client_weights: ClientWeights
    """What each client counts for."""
    metric_names: MetricNames
    """Which of the clients' own metrics are kept."""
    choices: Choices
    """What the run decides by itself is noted here."""
    start: Checkpoint | None
    """Where a resumed run goes on; None: at its beginning."""
    finish: Callable[..., Summary]
    """`finish(status="finished", **more)` writes summary.json with `more` in it, tells the callbacks and returns it."""
    early_stopping: EarlyStopping | None = None
    """The callback of --stop-after, if that is wanted."""
    trainable: Trainable | None = None
    """The names of the arrays that are trained, in the arrays' order; None: it is not known yet."""

    def knowing(self, trainable: Trainable, names: Collection[str] | None = None) -> "RunContext":
        """The run when it is known which arrays are trained, of all these; strategy and mods are told.

        Raises UserError for a model that a mod cannot be combined with.
        """
        strategy_adapter.tell(self.strategy, trainable)
        self.mods.tell(trainable if names is None else names, trainable)
        return dataclasses.replace(self, trainable=trainable)


class Workflow:
    """A way to train. One object a run; on a client, one a process. Subclasses override what is theirs."""

    name: str
    evaluates_centrally = True
    """Whether global arrays are tested on the server after each round."""
    has_data = False
    """Whether the server opens the data set in any case, and so knows who holds how much of it."""
    sends_updates = False
    """Whether all that a client sends of its examples is an update of the global arrays, and figures."""
    fixed_counts = True
    """Whether a client trains and tests on all examples that it was dealt, so that it may say no other number."""
    is_timed = False
    """Whether what its clients do is counted in steps, so that --clients and deadlines mean something."""
    has_rounds = True
    """Whether there are rounds for a live table to count, and for --resume to go on with."""
    tests_again = False
    """Whether `evaluate` is there: a model of a finished run can be tested as it was after its round."""
    state: Sequence[Stateful] = ()
    """What the way to train must remember from round to round beside the global arrays; it goes into the checkpoint."""

    @classmethod
    def made_for(cls, config: Config, permission: Permission = EVERYTHING) -> "Workflow":
        """The workflow for this configuration; one that wraps another needs it to know which. Raises UserError."""
        return cls()

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """What a client answers, by message type: "train", "evaluate", "query.initial_weights"."""
        raise NotImplementedError

    def check(self, config: Config) -> None:
        """Raise UserError for flags that do not go together, or would be ignored. Neither data nor models are read."""

    def server_threads(self, config: Config) -> int:
        """TensorFlow's threads in the server's process; 0: one a core, since the clients wait while it tests."""
        return 0

    def prepare_server(self, config: Config, threads: int) -> None:
        """Make what the run needs before anything is written: what is wrong with it leaves no folder. UserError."""

    def prepare_client(self, client: ClientContext) -> None:
        """Load what a client needs when it has joined, before the first message asks for it. UserError."""

    def run_name(self, config: Config) -> str:
        """The last part of the run folder's name, unless --name says it."""
        return f"{config.dataset}-{self.name}"

    def keeps_client_state(self, config: Config) -> bool:
        """True if a client is half-way between two messages, so that each must have a process of its own."""
        return False

    def preview(self, config: Config) -> Sequence[str]:
        """What would be trained and what travels, a sentence each; nothing is loaded to find out."""
        return ()

    def traffic(self, config: Config, model: "keras.Model", sizes: Sizes | None) -> Traffic | None:
        """What a round moves, by the built `model` and how many examples each client has; None: it cannot be told."""
        return None

    def report_sections(self, folder: RunFolder) -> Sequence[ReportSection]:
        """What the report of a run says of this way to train beside the rest (`reports.section` makes one).

        Asked during the run too, so from what the folder holds until then; and by a process that has only the folder.
        """
        return ()

    def server_saw(self, config: Config) -> Sight:
        """What the server sees of clients' data in this way to train, before mods change it; for the report."""
        unsaid = Seen(f"what --mode {self.name} sends of the training", protection=UNSAID)
        return {UPDATE: unsaid} | seen_beside_training(config)

    def reply_limit(self, config: Config, message: Message) -> int | None:
        """How many bytes of arrays the reply to `message` may have; None: as many as --max-message-mb lets through."""
        return None

    def evaluate(self, run: RunContext, result: RoundResult) -> None:
        """Test `result.arrays` on the clients and on the server, as after a round; the lines go into its rows."""
        raise NotImplementedError

    def run(self, run: RunContext) -> Summary:
        """Do the run; return what `run.finish` returned. Raises RunFailed."""
        raise NotImplementedError


BUILT_IN: Mapping[str, str] = {
    "federated": "fedkeras.workflows.rounds.server:RoundsWorkflow",
    "split": "fedkeras.workflows.split.server:SplitWorkflow",
    "collect": "fedkeras.workflows.collect.server:CollectWorkflow",
    "collect-only": "fedkeras.workflows.collect.server:CollectOnlyWorkflow",
    "evaluate": "fedkeras.workflows.evaluate.server:EvaluateWorkflow",
    "fedbuff": "fedkeras.workflows.fedbuff.server:FedBuffWorkflow",
}
"""Name -> package.module:Class. Values of --mode, but for those that flags of their own choose:"""
CHOSEN_BY_FLAGS = {
    "split": "--split sequential, splitfed or shared",
    "collect-only": "--collect-only",
    "evaluate": "--evaluate RUN",
}


def workflow_name(config: Config) -> str:
    """A key of BUILT_IN, or a package.module:Class of the user's."""
    if config.evaluate:
        return "evaluate"
    return "collect-only" if config.collect_only else "split" if config.split != "off" else config.mode


def workflow_of(config: Config, permission: Permission = EVERYTHING) -> Workflow:
    """The way to train that the configuration names. Raises UserError; see named_code for a name that came by wire."""
    name = workflow_name(config)
    if name not in BUILT_IN:
        permission.require("workflows", name)
    return find_class(name, Workflow, BUILT_IN, "mode").made_for(config, permission)


def what_the_server_saw(config: Config, workflow: Workflow, mods: ModChain) -> ReportSection:
    """The report's section of that name."""
    return server_view(mods.server_saw(workflow.server_saw(config), config))
