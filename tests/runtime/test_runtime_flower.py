"""Flower's own strategy loop runs on our grids as on Flower's."""

import numpy as np
import pytest
import toy_client
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import FedAvg
from processes import Starter

from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.runtime.local import LocalGrid
from fedkeras.runtime.own_grid import OwnGrid

CLIENTS, ROUNDS = 3, 3


def check(grid: OwnGrid) -> None:
    """By hand: client c of c + 1 examples adds c + 1, so a round adds (1*1 + 2*2 + 3*3) / 6 = 14/6."""
    start = ArrayRecord({"w": Array(np.zeros(4, np.float32)), "v": Array(np.ones((2, 2), np.float32))})
    strategy = FedAvg(min_train_nodes=CLIENTS, min_evaluate_nodes=CLIENTS, min_available_nodes=CLIENTS)
    result = strategy.start(grid, start, num_rounds=ROUNDS, timeout=60)
    added = ROUNDS * 14 / 6
    assert result.arrays["w"].numpy() == pytest.approx(np.full(4, added))
    assert result.arrays["v"].numpy() == pytest.approx(np.full((2, 2), 1 + added))
    assert set(result.evaluate_metrics_clientapp) == {1, 2, 3}
    assert result.evaluate_metrics_clientapp[3]["loss"] == pytest.approx((added + 1 + added) / 2)


def test_flowers_fedavg_over_local_grid() -> None:
    check(LocalGrid(toy_client.app, CLIENTS, {}))


def test_flowers_fedavg_over_grpc(start: Starter) -> None:
    """The clients join after the strategy began to wait for them."""
    with GrpcGrid("127.0.0.1", 0, CLIENTS, {}) as grid:
        clients = [start.toy(grid.address, cids) for cids in ("0", "1,2")]
        check(grid)
    assert [client.ended() for client in clients] == [0, 0]
