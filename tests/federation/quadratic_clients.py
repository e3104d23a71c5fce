"""Clients whose loss is a parabola, h/2 (w - t)^2: whole rounds of SGD by numpy, that anyone can follow by hand."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from bare_runs import run_of
from flwr.app import ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict

from fedkeras.callbacks import Callbacks
from fedkeras.config import Config
from fedkeras.federation import registry
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.grids import federation_grid
from fedkeras.federation.messages import LOCAL_EPOCHS, OBJECTIVE_ARRAYS
from fedkeras.federation.records import record, views
from fedkeras.federation.round_result import RoundResult
from fedkeras.federation.strategy_state import StrategyState
from fedkeras.flower.identity import cid_of
from fedkeras.mods.chain import ModChain, make_mods
from fedkeras.runtime.in_process import InProcessGrid
from fedkeras.workflows.rounds.server import RoundsWorkflow

RATE = 0.1


@dataclass
class Parabola:
    """A client: curvature, optimum, steps in a round, examples."""

    h: float
    t: float
    steps: int
    examples: int = 1


@dataclass
class Federation:
    """Rounds of these clients from w = 0; a statistic `moving_mean` becomes each client's number of steps."""

    clients: Sequence[Parabola]
    strategy: str
    settings: dict = field(default_factory=dict)
    change: Callable[[int, int, RecordDict], None] = lambda cid, server_round, content: None
    """Changes an answer before it is sent: (cid, round, content)."""

    def __post_init__(self) -> None:
        own = {
            "num_partitions": len(self.clients),
            "learning_rate": RATE,
            "fraction_evaluate": 0.0,
            "seed": 1,
            "batch_size": 10**6,
        }
        config = Config(**{**own, "strategy": self.strategy, **self.settings})
        self.config = registry.with_mods(config)
        self.mods: ModChain = make_mods(self.config.mods)
        self.mods.check(self.config)
        self.page = registry.for_run(self.config)
        self.whole = self.mods.strategy(self.page)
        self._configure, self.page.configure_train = self.page.configure_train, self._with_epochs
        self.state = StrategyState(self.whole, self.mods.mods)
        self.results: list[RoundResult] = []
        self.sent: list[Message] = []
        self.said: list[Message] = []

    def run(self, rounds: int, first: int = 1, w: float | Sequence[float] = 0.0) -> np.ndarray:
        """w after the rounds `first` to `rounds`."""
        config = Config.from_run_config(self.config.to_run_config() | {"num-server-rounds": rounds})
        grid = federation_grid(InProcessGrid(self.answer, len(self.clients), config.to_run_config(), {"allow": "*"}))
        parts = {"clients": ClientManager(grid, config, Callbacks([])), "mods": self.mods}
        start = {"w": np.atleast_1d(np.float32(w)), "moving_mean": np.zeros(1, "f")}
        run = run_of(grid, config, self.page, [*self.mods.callbacks(), self.results.append], **parts)
        run = run.knowing(("w",), tuple(start))
        run.callbacks.on_run_begin(run)
        found = views(RoundsWorkflow().train(run, record(start), first))
        self.statistic = found["moving_mean"]
        return found["w"]

    def _with_epochs(self, *asked: object) -> Iterator[Message]:
        """Each client is asked for as many epochs as it is to do steps, of one batch each."""
        for message in self._configure(*asked):
            steps = self.clients[cid_of(message.metadata.dst_node_id)].steps
            config = ConfigRecord({**message.content["config"], LOCAL_EPOCHS: steps})
            yield Message(RecordDict({**message.content, "config": config}), metadata=message.metadata)

    def answer(self, message: Message, context: Context) -> Message:
        """A client's, with its mods."""
        self.sent.append(message)
        reply = make_mods(self.config.mods).answer(message, context, self.train)
        if message.metadata.message_type == MessageType.TRAIN:
            cid = int(context.node_config["partition-id"])
            self.change(cid, int(message.content["config"]["server-round"]), reply.content)
            self.said.append(reply)
        return reply

    def train(self, message: Message, context: Context) -> Message:
        """Steps of SGD along the gradient, and its correction if there is one; and of momentum 0.9 if that is set."""
        client, config = self.clients[int(context.node_config["partition-id"])], message.content["config"]
        w = views(message.content["arrays"])["w"].astype(float)
        pull = float(str(config.get("objective", "")).partition("mu=")[2] or 0)
        correction = 0.0
        if config.get("objective") == "gradient-correction":
            correction = views(message.content[OBJECTIVE_ARRAYS])["w"]
        rho, velocity, begun = 0.9 if "momentum" in self.config.optimizer_args else 0.0, 0.0, w
        for _ in range(client.steps):
            velocity = rho * velocity + client.h * (w - client.t) + correction + pull * (w - begun)
            w = w - RATE * velocity
        arrays = record({"w": w.astype("f"), "moving_mean": np.full(1, client.steps, "f")})
        metrics = MetricRecord({"num-examples": client.examples, "loss": 0.0})
        if "most-steps" in config:
            metrics["local-steps"] = client.steps
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)
