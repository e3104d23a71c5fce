"""FedProx.

Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith: Federated Optimization in Heterogeneous Networks, MLSys 2020,
https://arxiv.org/abs/1812.06127, algorithm 2.

On the server it is FedAvg. What differs is what a client minimises: its loss plus mu/2 * ||w - w_global||^2 over the
trainable weights, so each gradient gets mu * (w - w_global). That is an objective (`fedkeras.learning.objectives`,
Proximal), which the server names in its train messages; mu = 0 is FedAvg.
"""

from collections.abc import Iterable

from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid

from fedkeras.strategies.fedavg import FedAvg


class FedProx(FedAvg):
    """FedAvg whose clients are held near the global weights by a proximal term of weight `proximal_mu`."""

    def __init__(self, proximal_mu: float = 0.01) -> None:
        if not 0 <= proximal_mu < float("inf"):
            raise ValueError(f"proximal_mu must be 0 or more, not {proximal_mu}")
        self.proximal_mu = float(proximal_mu)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """FedAvg's messages, with the objective's name and its mu."""
        if self.proximal_mu:
            config["objective"] = f"proximal:mu={self.proximal_mu!r}"
        return super().configure_train(server_round, arrays, config, grid)
