"""During the rounds: who comes back is given what it lacks, and nobody waits for who is busy."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
from bare_runs import run_rounds
from flwr.app import Message, MetricRecord, RecordDict

from fedkeras import strategies
from fedkeras.config import Config
from fedkeras.data.statistics import statistics_of
from fedkeras.errors import UserError
from fedkeras.federation.records import record
from fedkeras.flower.identity import SERVER_NODE_ID, act_as, cid_of
from fedkeras.models.file_info import Shapes
from fedkeras.provisioning.agreement import DataDescription, answer_of
from fedkeras.provisioning.client_manager import OfferAgain, ProvisionedClientManager
from fedkeras.provisioning.model_file import ModelFile
from fedkeras.provisioning.protocol import reply
from fedkeras.provisioning.server import Provision
from fedkeras.reports.progress_table import ProgressTable
from fedkeras.runtime.in_process import InProcessGrid


class Clients:
    """Clients that can be killed: another process then takes their place, and has been given nothing."""

    def __init__(self, dies_in=()):
        self.dies_in, self.ready, self.trained, self.offered = set(dies_in), {}, [], []
        self.described = {}

    def __call__(self, message, context):
        kind, cid = message.metadata.message_type, int(context.node_config["partition-id"])
        return Message(self.answer(kind, cid, message.content), reply_to=message)

    def answer(self, kind, cid, content):
        config = content["config"]
        if kind == "query.offer":
            self.offered.append(cid)
            return reply(model=False, rows=False, shape=[], preprocessing=self.ready.get(cid, ""))
        if kind == "query.describe" and cid in self.described:
            return answer_of(self.described[cid])
        if kind == "query.describe":
            return reply(
                {}, rows=3, classes="", normaliser="none", counts=[], columns="{}", shape=[], one_hot=False, held_out=0
            )
        if kind == "query.set_preprocessing":
            self.ready[cid] = self.digest()
            return reply()
        if cid not in self.ready:
            raise UserError("this client has not been given the model yet (it joined a moment ago)")
        if kind == "train":
            self.trained.append((config["server-round"], cid))
            if (config["server-round"], cid) in self.dies_in:
                self.dies_in.remove((config["server-round"], cid))
                del self.ready[cid]
                raise UserError("is gone: lost its connection")
        arrays = {"arrays": content["arrays"]} if kind == "train" else {}
        return RecordDict({**arrays, "metrics": MetricRecord({"num-examples": 3, "loss": 1.0})})


class Busy(InProcessGrid):
    """A grid on which clients answer nothing until a given time."""

    patient = False

    def __init__(self, app, num_partitions):
        super().__init__(app, num_partitions, {})
        self.until = {}

    def wait_for_replies(self, message_ids, timeout):
        deadline = time.monotonic() + timeout
        while True:
            cids = {key: cid_of(message.metadata.dst_node_id) for key, message in self._waiting.items()}
            silent = {key for key, cid in cids.items() if self.until.get(cid, 0) > time.monotonic()}
            replies = super().wait_for_replies([key for key in message_ids if key not in silent], 0)
            if replies or time.monotonic() > deadline:
                return replies
            time.sleep(0.01)


@pytest.fixture
def provisioned(tmp_path):
    """Makes a grid of clients, its nodes and a function that runs the rounds and returns their outcomes."""
    act_as(SERVER_NODE_ID, 1)

    def make(clients, num_partitions=1, **flags):
        config = Config(data_source="server", num_partitions=num_partitions, **{"num_server_rounds": 3, **flags})
        grid = Busy(clients, num_partitions)
        provision = Provision(ModelFile(b"", ".keras", "d" * 64, Shapes(None, None)))
        nodes = ProvisionedClientManager(
            grid, config, provision, SimpleNamespace(path=tmp_path), ProgressTable(live=False)
        )
        clients.digest = lambda: nodes.preprocessing.digest

        def run(each=lambda outcome: None):
            outcomes, start = [], record({"w": np.zeros(3, "float32")})
            callbacks = [OfferAgain(nodes).on_round_end, outcomes.append, each]
            run_rounds(strategies.load("fedavg"), grid, nodes, start, config, callbacks=callbacks)
            return outcomes

        return grid, nodes, run

    return make


def test_who_was_started_again_in_a_round_that_needs_it_is_offered_the_model_before_the_next_attempt(provisioned):
    clients = Clients(dies_in={(2, 0)})
    _, _, run = provisioned(clients, fraction_evaluate=0.0)
    assert [outcome.answered for outcome in run()] == [1, 1, 1]
    assert clients.trained == [(1, 0), (2, 0), (2, 0), (3, 0)]


def test_a_busy_client_is_offered_the_model_once_and_holds_nobody_up_and_counts_as_connected(provisioned):
    clients = Clients()
    grid, _, run = provisioned(clients, 3, num_server_rounds=6, min_available_nodes=3, round_timeout=0.3)

    def after(outcome):
        if outcome.round == 1:
            grid.until[2] = time.monotonic() + 1000
        if outcome.round == 4:
            grid.until[2] = 0

    outcomes = run(after)
    assert [outcome.answered for outcome in outcomes] == [3, 2, 2, 2, 3, 3]
    assert [outcome.asked for outcome in outcomes] == [3, 3, 2, 2, 3, 3]
    assert clients.offered.count(2) == 2
    assert outcomes[3].timing["waiting"] < 0.4


def test_who_describes_its_data_falsely_is_refused_until_it_does_not(provisioned, caplog):
    """The others go on, and train with statistics that are theirs alone."""

    def described(scale):
        x = np.linspace(-scale, scale, 6)[:, None]
        return DataDescription(6, [statistics_of(x)], None, normaliser="zscore", held_out=0)

    clients = Clients()
    clients.described = {0: described(1), 1: described(2), 2: described(1e6)}
    _, nodes, run = provisioned(clients, 3, num_server_rounds=4, normaliser="zscore", client_weights="uniform",
                                fraction_evaluate=0.0)  # fmt: skip

    def after(outcome):
        if outcome.round == 2:
            clients.described[2] = described(1)

    assert [outcome.answered for outcome in run(after)] == [2, 2, 3, 3]
    assert nodes.preprocessing.normaliser.spread.max() < 2
    told = [line for line in caplog.messages if line.startswith("client 2 does not take part: describes values in")]
    assert len(told) == 1


def test_who_is_busy_is_waited_for_where_a_round_needs_it(provisioned):
    clients = Clients()
    grid, _, run = provisioned(clients, 2, min_results=2, max_retries=1, round_timeout=0.3, fraction_evaluate=0.0)
    grid_is_busy = {1: lambda: grid.until.update({1: time.monotonic() + 1.5})}
    outcomes = run(lambda outcome: grid_is_busy.get(outcome.round, lambda: None)())
    assert [outcome.answered for outcome in outcomes] == [2, 2, 2]


def test_clients_that_are_wanted_are_waited_for(provisioned):
    grid, nodes, _ = provisioned(Clients(), 2)
    assert list(nodes.wait()) == [0, 1]
    nodes.offer_again([1])
    grid.until[1] = time.monotonic() + 1.0
    assert list(nodes.wait()) == [0]
    assert list(nodes.wait([1])) == [0, 1]
