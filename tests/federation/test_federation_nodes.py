"""Waiting for clients: who is missing is said, nobody waits for ever, and Flower's nodes are asked who they are."""

import inspect
import re
import time

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from toy_federation import Silent, ToyClients, configure, content, flowers_own, raw_array

from fedkeras.errors import RunFailed
from fedkeras.federation import client_manager
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.grids import CohortGrid, federation_grid
from fedkeras.federation.initial_weights import initial_arrays
from fedkeras.federation.records import views
from fedkeras.flower.identity import node_id_of
from fedkeras.provisioning.client_manager import ProvisionedClientManager
from fedkeras.reports.progress_table import ProgressTable
from fedkeras.runtime.in_process import InProcessGrid
from fedkeras.workflows.base import Clients


class Joining(InProcessGrid):
    """An InProcessGrid to which clients come and from which they go: one set of cids a look, the last for ever."""

    def __init__(self, *looks):
        super().__init__(ToyClients(), 100, {})
        self.looks = list(looks)

    def cids(self):
        now = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return {node_id_of(cid): cid for cid in sorted(now, reverse=True)}


@pytest.mark.parametrize("kind", [ClientManager, ProvisionedClientManager])
@pytest.mark.parametrize("method", ["wait", "offer_again"])
def test_a_run_is_given_clients_with_what_their_type_promises(kind, method):
    promised, own = (inspect.signature(getattr(one, method)) for one in (Clients, kind))
    assert own == promised


def test_a_way_to_train_may_show_what_any_clients_do():
    clients = ClientManager(Joining({0, 1, 2}), configure())
    assert set(Clients.__annotations__) == {"progress"} and isinstance(clients.progress, ProgressTable)
    assert list(clients.wait(wanted=[1])) == [0, 1, 2]


def test_all_clients_are_waited_for_and_given_in_the_order_of_cid():
    found = ClientManager(Joining({2}, {2, 0}, {2, 0, 1}), configure()).wait()
    assert list(found.items()) == [(0, node_id_of(0)), (1, node_id_of(1)), (2, node_id_of(2))]


def test_afterwards_the_run_goes_on_with_whoever_is_left():
    known = ClientManager(Joining({0, 1, 2}, {1}), configure())
    assert list(known.wait()) == [0, 1, 2]
    assert list(known.wait()) == [1]


def test_with_min_available_nodes_so_many_are_needed_each_time():
    known = ClientManager(Joining({0}, {0, 2}, {0}), configure(min_available_nodes=2, node_timeout=0.1))
    assert list(known.wait()) == [0, 2]
    with pytest.raises(RunFailed, match="1 of 2 clients are connected"):
        known.wait()


def test_the_time_out_names_who_is_missing_and_the_flag():
    started = time.monotonic()
    with pytest.raises(RunFailed) as failed:
        ClientManager(Joining({1}), configure(num_partitions=4, node_timeout=0.2)).wait()
    assert 0.2 <= time.monotonic() - started < 3
    said = r"1 of 4 clients are connected \(missing: cid 0, 2, 3\) after [0-3] s \(--node-timeout\)"
    assert re.fullmatch(said, str(failed.value))


def test_a_long_list_of_missing_clients_is_cut():
    with pytest.raises(RunFailed, match=r"missing: cid 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\.\)"):
        ClientManager(Joining({19}), configure(num_partitions=20, node_timeout=0.01)).wait()


def test_who_is_waited_for_is_said_meanwhile(monkeypatch, caplog):
    monkeypatch.setattr(client_manager, "REPORT_SECONDS", 0.02)
    looks = [{0}] * 4 + [{0, 1, 2}]
    ClientManager(Joining(*looks), configure()).wait()
    lines = [entry.getMessage() for entry in caplog.records]
    assert lines
    assert lines[0].startswith("waiting for clients: 1 of 3 clients are connected (missing: cid 1, 2); giving up in ")


def test_nobody_is_waited_for_in_silence():
    """A line every ten seconds."""
    assert client_manager.REPORT_SECONDS <= 10


def test_cids_beyond_the_number_of_partitions_take_no_part():
    assert list(ClientManager(Joining({0, 1, 2, 7}), configure()).wait()) == [0, 1, 2]


def test_flowers_nodes_are_asked_once_which_partition_they_have():
    """The order of node ids says nothing: here it is the reverse of the partitions'."""
    clients = ToyClients(partition_of=lambda cid: 2 - cid)
    known = ClientManager(flowers_own(InProcessGrid(clients, 3, {})), configure())
    expected = {0: node_id_of(2), 1: node_id_of(1), 2: node_id_of(0)}
    assert known.wait() == expected
    assert list(known.wait()) == [0, 1, 2]
    assert sorted(clients.log) == [("query.identify", cid, 0) for cid in range(3)]


def test_a_negative_partition_takes_no_part():
    clients = ToyClients(partition_of=lambda cid: cid - 1)
    with pytest.raises(RunFailed, match=r"2 of 3 clients are connected \(missing: cid 2\)"):
        ClientManager(flowers_own(InProcessGrid(clients, 3, {})), configure(node_timeout=0.1)).wait()


def test_a_node_that_cannot_say_its_partition_ends_the_run_with_its_reason():
    """It answers so when it runs other code than the server."""
    clients = ToyClients(partition_of=lambda cid: {}[cid])
    with pytest.raises(RunFailed, match="a node does not say which partition it has: KeyError: 0"):
        ClientManager(flowers_own(InProcessGrid(clients, 3, {})), configure()).wait()


def test_a_node_that_does_not_say_its_partition_is_not_waited_for_beyond_the_node_timeout():
    grid = flowers_own(Silent(ToyClients(), 3, silent=[1]))
    started = time.monotonic()
    with pytest.raises(RunFailed, match=r"2 of 3 clients are connected \(missing: cid 1\)"):
        ClientManager(grid, configure(node_timeout=0.3)).wait()
    assert time.monotonic() - started < 5


def test_a_simulation_with_too_few_nodes_says_how_to_start_more(monkeypatch):
    """Its number of nodes is fixed: there is no use in waiting for the node-timeout."""

    class InMemoryGrid(Joining):
        """Named as Flower's."""

    monkeypatch.setattr(client_manager, "SIMULATION_SECONDS", 0.1)
    with pytest.raises(RunFailed, match='start it with --federation-config "num-supernodes=3"'):
        ClientManager(InMemoryGrid({0, 1}), configure(node_timeout=300.0)).wait()


class Polled(CohortGrid):
    """One of Flower's grids, which notes when it was asked for replies; there never are any."""

    def __init__(self):
        super().__init__(InProcessGrid(ToyClients(), 1, {}), [])
        self.asked = []

    def pull_messages(self, message_ids):
        self.asked.append(time.monotonic())
        return []


class InMemoryGrid(Polled):
    """Named as Flower's of a simulation."""


@pytest.mark.parametrize(
    ("kind", "pauses", "least"), [(Polled, [0.1, 0.15, 0.225, 0.25], 2), (InMemoryGrid, [0.02], 10)]
)
def test_a_superlink_is_asked_less_often_than_a_simulation(kind, pauses, least):
    """A question costs a SuperLink a request and a look into its database, and its nodes come every 3 s."""
    grid = kind()
    started = time.monotonic()
    assert federation_grid(grid).wait_for_replies(["some"], 1.0) == []
    assert time.monotonic() - started >= 1.0
    found = np.diff(grid.asked[:-1])  # the last one ends when the time is over
    assert len(found) >= least
    assert (found >= [*pauses[: len(found)], *pauses[-1:] * (len(found) - len(pauses))]).all()


# The first global weights


def start_with(give, **fields):
    config = configure(**fields)
    grid = InProcessGrid(ToyClients(lambda cid, *_: give(cid)), config.num_partitions, {})
    return initial_arrays(grid, config, ClientManager(grid, config))


def good(cid):
    return content({"w": np.array([cid], np.float32)})


def test_initial_weights_are_those_of_the_lowest_cid():
    assert views(start_with(good))["w"].tolist() == [0.0]


def raises(cid):
    raise RuntimeError("cannot build the model")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (raises, "RuntimeError: cannot build the model"),
        (lambda cid: content({"w": np.array([np.nan])}), "'w' has numbers that are not finite"),
        (lambda cid: content(ArrayRecord()), "sent no arrays"),
        (lambda cid: content(None), "sent no arrays"),
        (lambda cid: content(ArrayRecord({"w": raw_array("float32", (1,), b"")})), "'w' cannot be read"),
    ],
)
def test_a_client_that_cannot_give_them_is_passed_over_and_named(bad, reason, caplog):
    caplog.set_level("INFO", "fedkeras")
    assert views(start_with(lambda cid: bad(cid) if cid < 2 else good(cid)))["w"].tolist() == [2.0]
    lines = [entry.getMessage() for entry in caplog.records]
    assert [line.startswith(f"no initial weights: client {cid}: {reason}") for cid, line in enumerate(lines)] == [
        True
    ] * 2
    with pytest.raises(RunFailed, match="no client can give the initial weights; client 0: ") as failed:
        start_with(bad)
    assert reason in str(failed.value)


def test_toy_arrays_are_flowers():
    assert isinstance(good(0)["arrays"]["w"], Array)
