"""Flower's own strategy loop runs on our grids as on Flower's."""

import numpy as np
import pytest
import toy_client
from flwr import serverapp
from flwr.app import Array, ArrayRecord, Context, RecordDict
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.server import ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg as OldFedAvg
from flwr.serverapp.strategy import FedAvg
from processes import Starter

from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.runtime.in_process import InProcessGrid
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
    check(InProcessGrid(toy_client.app, CLIENTS, {}))


def test_flowers_fedavg_over_grpc(start: Starter) -> None:
    """The clients join after the strategy began to wait for them."""
    with GrpcGrid("127.0.0.1", 0, CLIENTS, {}) as grid:
        clients = [start.toy(grid.address, cids) for cids in ("0", "1,2")]
        check(grid)
    assert [client.ended() for client in clients] == [0, 0]


STRATEGIES = {
    "FedAvg": 14 / 3,  # by hand: two rounds of the weighted mean of +1, +2 and +3
    "FedProx": 14 / 3,
    "FedAvgM": 14 / 3,
    "FedMedian": 4.0,
    "FedTrimmedAvg": 4.0,
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_flowers_other_strategies(name: str) -> None:
    own = {"proximal_mu": 0.1} if name == "FedProx" else {}
    strategy = getattr(serverapp.strategy, name)(min_train_nodes=CLIENTS, min_available_nodes=CLIENTS, **own)
    start = ArrayRecord({"w": Array(np.zeros(4, np.float32))})
    result = strategy.start(InProcessGrid(toy_client.app, CLIENTS, {}), start, num_rounds=2)
    assert result.arrays["w"].numpy() == pytest.approx(np.full(4, STRATEGIES[name]))


class OldClient(NumPyClient):
    """A client of the interface before messages."""

    def get_parameters(self, config: dict) -> list[np.ndarray]:
        """Where it starts."""
        return [np.zeros(3)]

    def fit(self, parameters: list[np.ndarray], config: dict) -> tuple:
        """Add one."""
        return [array + 1 for array in parameters], 3, {}

    def evaluate(self, parameters: list[np.ndarray], config: dict) -> tuple:
        """The loss is the mean."""
        return float(parameters[0].mean()), 3, {}


def test_flowers_older_apps_too() -> None:
    """Flower runs a server_fn and a client_fn by its own messages, from threads of its own."""
    losses = []
    strategy = OldFedAvg(
        min_available_clients=CLIENTS,
        evaluate_fn=lambda server_round, weights, config: losses.append(weights[0].tolist()),
    )
    parts = ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=2))
    app = serverapp.ServerApp(server_fn=lambda context: parts)
    grid = InProcessGrid(ClientApp(client_fn=lambda context: OldClient().to_client()), CLIENTS, {})
    app(grid, Context(grid.run.run_id, 1, {}, RecordDict(), {}))
    assert losses == [[0.0] * 3, [1.0] * 3, [2.0] * 3]
