"""FedAdagrad, FedAdam and FedYogi: adaptive optimizers on the server.

Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan: Adaptive Federated Optimization, ICLR 2021,
https://arxiv.org/abs/2003.00295, algorithm 2.

The mean change of a round, each client counted by its number of examples, is the direction of a step; arrays that are
not trainable are no matter of an optimizer's and never come here:

    Delta_t  =  sum_k n_k (w_k - x_t) / sum_k n_k
    m_t      =  beta_1 m_{t-1} + (1 - beta_1) Delta_t                                  m_{-1} = 0
    v_t      =  v_{t-1} + Delta_t^2                                       (Adagrad)     v_{-1} = tau^2
                beta_2 v_{t-1} + (1 - beta_2) Delta_t^2                   (Adam)
                v_{t-1} - (1 - beta_2) Delta_t^2 sign(v_{t-1} - Delta_t^2)  (Yogi)
    x_{t+1}  =  x_t + eta m_t / (sqrt(v_t) + tau)

As in the paper there is no correction of the moments' bias; all of it is computed in float64. beta_1 0.9 (Adagrad: 0),
beta_2 0.99 and tau 0.001 are the paper's values. eta has no default there, for it is tuned for each task: 0.03 fits
digits (docs/strategies.md has the figures).
"""

from collections.abc import Iterable

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid

from fedkeras.federation.aggregation import as_dtype
from fedkeras.federation.base_strategy import BaseStrategy, mean_of
from fedkeras.federation.records import record, views


class FedOpt(BaseStrategy):
    """What the three have in common. `eta` is the server's learning rate, `tau` the degree of adaptivity."""

    moves_global_model = True

    def __init__(self, eta: float, tau: float, beta_1: float, beta_2: float) -> None:
        for name, value in (("eta", eta), ("tau", tau)):
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} must be above 0, not {value}")
        for name, value in (("beta_1", beta_1), ("beta_2", beta_2)):
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, not {value}")
        self.eta, self.tau, self.beta_1, self.beta_2 = float(eta), float(tau), float(beta_1), float(beta_2)
        self.m: dict[str, np.ndarray] = {}
        self.v: dict[str, np.ndarray] = {}
        self.x: dict[str, np.ndarray] = {}

    def second_moment(self, v: np.ndarray, delta: np.ndarray) -> np.ndarray:
        """v_t from v_{t-1} and Delta_t: the one line in which the three differ."""
        raise NotImplementedError

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The global arrays to every client; x_t is kept until they answer."""
        self.x = views(arrays)
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """One step from x_t along the replies' mean change; (None, None) without a reply."""
        mean, metrics = mean_of(replies)
        if not mean:
            return None, None
        moved = {name: self._step(name, x, mean[name]) for name, x in self.x.items()}
        self.x = {}  # the next round brings its own, and a checkpoint need not hold it
        return record(moved), metrics

    def _step(self, name: str, x: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """x_{t+1} of one array, in its own dtype."""
        delta = mean - x.astype(np.float64)
        m = self.beta_1 * self.m.get(name, 0.0) + (1 - self.beta_1) * delta
        v = self.second_moment(self.v.get(name, np.full(x.shape, self.tau**2)), delta)
        self.m[name], self.v[name] = m, v
        return as_dtype(x + self.eta * m / (np.sqrt(v) + self.tau), x.dtype)


class FedAdagrad(FedOpt):
    """Steps that get shorter where there was much change. Options: eta, tau, beta_1."""

    def __init__(self, eta: float = 0.03, tau: float = 1e-3, beta_1: float = 0.0) -> None:
        super().__init__(eta, tau, beta_1, beta_2=0.0)

    def second_moment(self, v: np.ndarray, delta: np.ndarray) -> np.ndarray:
        return v + delta**2


class FedAdam(FedOpt):
    """Steps of about eta in each weight, as in Adam. Options: eta, tau, beta_1, beta_2."""

    def __init__(self, eta: float = 0.03, tau: float = 1e-3, beta_1: float = 0.9, beta_2: float = 0.99) -> None:
        super().__init__(eta, tau, beta_1, beta_2)

    def second_moment(self, v: np.ndarray, delta: np.ndarray) -> np.ndarray:
        return self.beta_2 * v + (1 - self.beta_2) * delta**2


class FedYogi(FedOpt):
    """Adam whose second moment falls no faster than it rises. Options: eta, tau, beta_1, beta_2."""

    def __init__(self, eta: float = 0.03, tau: float = 1e-3, beta_1: float = 0.9, beta_2: float = 0.99) -> None:
        super().__init__(eta, tau, beta_1, beta_2)

    def second_moment(self, v: np.ndarray, delta: np.ndarray) -> np.ndarray:
        return v - (1 - self.beta_2) * delta**2 * np.sign(v - delta**2)
