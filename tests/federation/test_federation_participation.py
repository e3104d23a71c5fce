"""A client that had no part in a run hears of it, and of the reason; one that nobody asked hears that."""

from types import SimpleNamespace

import pytest
from toy_federation import clients_of, federate, floats

from fedkeras import strategies
from fedkeras.federation.grids import federation_grid
from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.runtime.in_process import InProcessGrid
from fedkeras.runtime.own_grid import Ending
from fedkeras.workflows.participation import NOT_ASKED, SUSPENDED, Participation

START = floats(w=[0, 10])


def endings_after(clients, num_partitions=3, **fields) -> dict[int, Ending]:
    part = Participation(federation_grid(InProcessGrid(clients, num_partitions, {})), num_partitions)
    federate(strategies.load("fedavg"), clients, START, callbacks=[part], num_partitions=num_partitions, **fields)
    return part.endings()


def test_who_failed_every_time_and_who_failed_once():
    failing = clients_of(lambda cid, number: cid == 2 or (cid == 1 and number == 1))
    ending = endings_after(failing, num_server_rounds=5)[2]
    assert ending.failed and ending.reason.startswith("no good answer in 3 attempts, the last: RuntimeError: broken 2")
    assert set(endings_after(failing, num_server_rounds=5)) == {2}  # client 1 trained later


def test_who_cannot_evaluate_took_part():
    assert endings_after(clients_of(evaluate_fails=lambda cid, number: cid == 0), num_server_rounds=2) == {}


def test_who_is_in_no_cohort_was_not_asked():
    endings = endings_after(clients_of(), 5, num_server_rounds=1, fraction_train=0.4, fraction_evaluate=0.0)
    assert len(endings) == 3 and set(endings.values()) == {Ending(False, NOT_ASKED)}


def test_who_was_suspended_before_the_run_was_resumed():
    part = Participation(SimpleNamespace(), 2)
    part.on_phase_begin(7, "train", [0], [1])
    part.on_client_result(0, {"phase": "train"})
    assert part.endings() == {1: Ending(True, SUSPENDED)}


def test_a_client_that_could_not_be_provisioned_failed():
    part = Participation(SimpleNamespace(), 2)
    part.on_client_failure(1, "its rows have 5 numbers")
    part.on_phase_begin(1, "train", [0], [])
    part.on_client_result(0, {"phase": "train"})
    assert part.endings() == {1: Ending(True, "no good answer in 1 attempt, the last: its rows have 5 numbers")}


def test_a_workflow_that_tells_nothing_is_not_judged():
    assert Participation(SimpleNamespace(), 2).endings() == {}


@pytest.mark.parametrize(
    ("cids", "finished", "reason"),
    [
        ((0,), True, ""),
        ((1,), False, "it is finished, without client 1 (no)"),
        ((2,), True, "not asked"),
        ((0, 2), True, ""),  # a process that did some work
        ((0, 1, 2), False, "it is finished, without client 1 (no)"),
    ],
)
def test_the_last_word_to_a_process(cids, finished, reason):
    grid = GrpcGrid("127.0.0.1", 0, 3, {})
    grid._goodbye.finished = True
    grid.set_endings({1: Ending(True, "no"), 2: Ending(False, "not asked")})
    goodbye = grid._goodbye_to(cids)
    assert goodbye.over and (goodbye.finished, goodbye.reason if reason else "") == (finished, reason)
