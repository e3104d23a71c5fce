"""Flower's own FedAvg and loop, held at the benchmark's gate before each round."""

from collections.abc import Iterable

from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from benchmarks.gate import Gate
from benchmarks.workloads import WORK
from fedkeras import data, models

app = ServerApp()


class Gated(FedAvg):
    """Flower's FedAvg, waiting at a gate."""

    def __init__(self, gate: str, fraction_train: float) -> None:
        super().__init__(fraction_train=fraction_train, fraction_evaluate=0.0, min_train_nodes=10)
        self._gate = Gate(gate)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Flower's messages, when the gate opens."""
        self._gate.wait(server_round)
        return super().configure_train(server_round, arrays, config, grid)


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds."""
    config = WORK[context.run_config["work"]]
    source = data.open_source(config)
    model = models.build(config.model, input_shape=source.input_shape, num_classes=len(source.classes))
    strategy = Gated(context.run_config["gate"], config.fraction_train)
    strategy.start(grid, ArrayRecord(model.get_weights()), num_rounds=int(context.run_config["rounds"]))
