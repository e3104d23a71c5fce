"""What a client's steps add up to: how often its gradients count in the change of its weights.

J. Wang, Q. Liu, H. Liang, G. Joshi, H. V. Poor, "Tackling the Objective Inconsistency Problem in Heterogeneous
Federated Optimization", NeurIPS 2020, arXiv:2007.07481, section 4 and appendix. A client that takes tau steps of SGD
with learning rate eta, from x to y, has moved by a weighted sum of its gradients:

    x - y  =  eta sum_k a_k g_k          |a|  =  sum_k a_k

Without momentum every a_k is 1, and |a| is tau. With momentum rho (a heavy ball that starts at rest in each round) a
gradient goes on in all later steps, and

    |a|  =  (tau - rho (1 - rho^tau) / (1 - rho)) / (1 - rho)

With FedProx's term of weight mu, which pulls back to x, |a| = (1 - (1 - eta mu)^tau) / (eta mu).
"""

from fedkeras.config import Config, options
from fedkeras.errors import UserError


def accumulated_steps(steps: int, momentum: float = 0.0, pull: float = 0.0) -> float:
    """|a| of so many steps, 1 at least; `momentum` is rho, `pull` is eta mu. Both together have no closed form here.

    Raises ValueError for that.
    """
    if momentum and pull:
        raise ValueError("momentum and a proximal term together")
    if momentum:
        return (steps - momentum * (1 - momentum**steps) / (1 - momentum)) / (1 - momentum)
    return (1 - (1 - pull) ** steps) / pull if pull else float(steps)


def momentum_of(config: Config, strategy: str) -> float:
    """The momentum of the clients' SGD, 0 for none. Raises UserError for optimizers whose steps are no such sum.

    `strategy` is named in what is raised.
    """
    own = options(config.optimizer_args, "optimizer-args")
    kind = "sgd" if config.optimizer == "default" else config.optimizer.lower()
    if kind != "sgd" or (config.optimizer == "default" and not config.uses_catalogue):
        given = "the model file's own" if kind == "sgd" else config.optimizer
        raise UserError(
            f"--strategy {strategy} is for --optimizer sgd, with or without momentum, and not for {given}: it counts "
            "on a step being the learning rate times a gradient"
        )
    if others := [name for name, value in own.items() if value and name != "momentum"]:
        raise UserError(
            f"--strategy {strategy} is for SGD with no other option than momentum; leave out {others[0]} of "
            "--optimizer-args"
        )
    momentum = own.get("momentum", 0.0)
    if isinstance(momentum, bool) or not isinstance(momentum, int | float) or not 0 <= momentum < 1:
        raise UserError(f"--optimizer-args momentum must be at least 0 and below 1, not {momentum}")
    return float(momentum)
