"""A strategy that fails, by name in --arms."""

from fedkeras.strategies.fedavg import FedAvg


class Broken(FedAvg):
    """Ends the run in its first round."""

    def configure_train(self, *_: object) -> list:
        from fedkeras.errors import RunFailed

        raise RunFailed("this strategy is broken")
