"""Whole rounds of secure aggregation without TensorFlow: clients are functions, and faults are put in by phase."""

import dataclasses
from collections import defaultdict

import numpy as np
from bare_runs import run_of
from toy_federation import ToyClients, content

from fedkeras.callbacks import Callbacks
from fedkeras.config import Config
from fedkeras.federation import registry
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.client_weights import ClientWeights
from fedkeras.federation.grids import federation_grid
from fedkeras.federation.records import record, views
from fedkeras.mods.chain import make_mods
from fedkeras.reports import RunFolder
from fedkeras.runtime.client_app import answer
from fedkeras.runtime.in_process import InProcessGrid
from fedkeras.workflows.rounds.server import RoundsWorkflow

MODS = "secure-aggregation:max-dropout=0.3,colluding=0.1,clip=4.0"
START = {"w": np.zeros((3, 2), np.float32), "s": np.full(2, 5, np.float32)}
"""`w` is trained, `s` a statistic."""
EXAMPLES = (10, 20, 30, 40, 50, 60)


def update_of(cid: int, server_round: int) -> dict[str, np.ndarray]:
    """A client's change of all arrays, within the clip range."""
    rng = np.random.default_rng([cid, server_round])
    return {name: rng.uniform(-1, 1, array.shape).astype(np.float32) for name, array in START.items()}


def train(cid: int, server_round: int, weights: dict, config: dict):
    """Adds its update; its figures are told by its number."""
    moved = {name: array + update_of(cid, server_round)[name] for name, array in weights.items()}
    return content(moved, EXAMPLES[cid], loss=float(cid) + 0.25, accuracy=cid / 10, seconds=1.0)


def evaluate(cid: int, server_round: int, weights: dict, config: dict):
    return content(None, cid + 1, loss=float(cid), accuracy=0.5)


def quantised_mean(cids, server_round: int, clip: float, most: int, clients: int) -> dict[str, np.ndarray]:
    """The sum by hand: round to the nearest of weight x value x levels / clip, added up in whole numbers."""
    levels = (2**31 - 1) // (clients * most)
    sums, weight = {name: np.zeros(array.shape, np.int64) for name, array in START.items()}, 0
    for cid in cids:
        own = min(EXAMPLES[cid], most)
        weight += own
        for name, value in update_of(cid, server_round).items():
            # what training adds and takes away again in float32
            value = (START[name] + value) - START[name].astype(np.float64)
            sums[name] += np.floor(value.astype(np.float32).astype(np.float64) * (own * levels / clip) + 0.5).astype(
                np.int64
            )
    return {name: total * (clip / levels / weight) for name, total in sums.items()}


class Federation:
    """A run of toy clients; `faults` are {(kind, cid): what to do in place of answering}.

    A fault is called with (message, context, answer) and gives a reply; `answer()` is the honest one.
    """

    def __init__(self, mods=MODS, clients=6, rounds=1, faults=None, folder=None, work=train, start=None, **fields):
        fields = {"seed": 5, "rest_after": 0, "fraction_evaluate": 0.0, **fields}
        self.config = Config(num_partitions=clients, num_server_rounds=rounds, mods=mods, **fields)
        self.faults = dict(faults or {})
        self.received = defaultdict(list)
        """What has reached the server, [(kind, cid, content)] by round."""
        self.contexts = {}
        self.toy = ToyClients(work, evaluate)
        self.results = []
        self.chain = make_mods(self.config.mods)
        self.mod = self.chain.mods[-1]
        self.start, self.folder = START if start is None else start, folder

    def app(self, message, context):
        cid, kind = context.node_config["partition-id"], message.metadata.message_type.rpartition("_")[2]
        self.contexts[cid] = context

        def honest():
            mods = make_mods(self.config.mods)
            return answer(lambda message, context: mods.answer(message, context, self.toy), message, context)

        fault = self.faults.get((kind, cid))
        reply = honest() if fault is None else fault(message, context, honest)
        self.received[message.content["config"]["server-round"]].append((kind, cid, reply))
        return reply

    def run(self, strategy="fedavg", dealt=True):
        """The final arrays."""
        grid = federation_grid(InProcessGrid(self.app, self.config.num_partitions, self.config.to_run_config()))
        self.chain.check(self.config)
        self.chain.choose(self.config)
        weights = ClientWeights(self.config, self.chain.fixed_counts)
        if dealt:
            weights.deal({"train": dict(enumerate(EXAMPLES[: self.config.num_partitions]))})
        own = {
            "clients": ClientManager(grid, self.config, Callbacks([])),
            "mods": self.chain,
            "client_weights": weights,
        }
        hooks = [*self.chain.callbacks(), self.results.append]
        context = run_of(grid, self.config, registry.load(strategy), hooks, **own).knowing(("w",), tuple(self.start))
        if self.folder:
            context = dataclasses.replace(context, folder=RunFolder(self.folder))
        for callback in self.chain.callbacks():
            callback.on_run_begin(context)
        return views(RoundsWorkflow().train(context, record(self.start)))

    def rows(self):
        return [row for result in self.results for row in result.rows]


def broken(message, context, honest):
    raise ConnectionError("was cut off")


def forgetful(message, context, honest):
    """Its process was started anew since the last message."""
    context.state.clear()
    return honest()
