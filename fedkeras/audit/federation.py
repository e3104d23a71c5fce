"""A federation with canaries, in this process: the run's own rounds, strategy and mods, and nothing left behind.

What is attacked is what trains: the rounds workflow, its checks, the mods' halves on both sides, clients' own handlers.
"""

import contextlib
import io
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from flwr.app import Context, Message

from fedkeras import client, data, scaling
from fedkeras.callbacks import Callback
from fedkeras.config import Config
from fedkeras.federation import registry
from fedkeras.federation.initial_weights import initial_weights
from fedkeras.federation.records import views
from fedkeras.federation.round_result import RoundResult
from fedkeras.mods.chain import ModChain, make_mods
from fedkeras.named_code import EVERYTHING_NAMED
from fedkeras.runtime.client_app import App
from fedkeras.runtime.in_process import InProcessGrid
from fedkeras.workflows.base import workflow_of
from fedkeras.workflows.flag_checks import check_flags
from fedkeras.workflows.rounds.server import RoundsWorkflow
from fedkeras.workflows.run_setup import bare_run

Weights = Mapping[str, np.ndarray]


@dataclass
class Federation(Callback):
    """A run of `config` whose clients are answered for by `app`; those in `connected` take part.

    Clients are told `told`, the settings by which they find their data, where these are not the server's. `watch` is
    called after each round with its number, and the global weights before and after it.
    """

    config: Config
    app: App = client.app
    connected: Collection[int] | None = None
    told: Config | None = None
    watch: Callable[[int, Weights, Weights], None] = lambda server_round, before, after: None
    mods: ModChain = field(init=False)
    first: Weights = field(init=False, default_factory=dict)
    """The initial weights."""
    last: Weights = field(init=False, default_factory=dict)
    """Those that the newest round has released."""
    trainable: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        count = self.config.num_partitions if self.connected is None else len(self.connected)
        # Who is a canary and left out has not joined; tests on anybody's examples would only cost time
        self.config = replace(self.config, min_available_nodes=count, central_evaluation=False, checkpoint_every=0)
        workflow = workflow_of(self.config)
        check_flags(workflow, self.config)
        self.config = registry.with_mods(self.config)
        self.mods = make_mods(self.config.mods)

    def run(self) -> "Federation":
        """All rounds. Raises UserError and RunFailed as a run does."""
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        told = registry.with_mods(self.told or self.config)
        own = {"allow": EVERYTHING_NAMED, "trust-code": told.trust_code}
        own |= {"data-dir": told.data_dir} if told.data_dir else {}
        run_config = scaling.resolved_by_client(data.told(told)).for_clients()
        grid = InProcessGrid(self._answer, self.config.num_partitions, run_config, own, self.connected)
        with _silence():
            self.mods.choose(self.config)
            strategy = registry.for_run(self.config)
            run = bare_run(grid, self.config, strategy, mods=self.mods, callbacks=[*self.mods.callbacks(), self])
            arrays, claimed = initial_weights(run.grid, self.config, run.clients)
            self.trainable = tuple(arrays) if claimed is None else claimed
            self.first = self.last = views(arrays)
            RoundsWorkflow().train(run.knowing(self.trainable, arrays), arrays)
        return self

    def on_round_end(self, result: RoundResult) -> bool:
        """What everybody sees of the round."""
        before, self.last = self.last, views(result.arrays)
        self.watch(result.round, before, self.last)
        return False

    def _answer(self, message: Message, context: Context) -> Message:
        return self.app(message, context)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """A run's own lines are of a run that nobody has asked for."""
    log = logging.getLogger("fedkeras")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        log.setLevel(before)
