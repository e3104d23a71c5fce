"""The ServerApp: Flower's FedAvg, tested on the server's images after each round."""

import json
from collections.abc import Iterator
from pathlib import Path

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from sklearn_app import task

app = ServerApp()


@app.lifespan()
def lifespan(context: Context) -> Iterator[None]:
    """Around the whole run."""
    print("sklearn_app begins", flush=True)
    yield
    print("sklearn_app ends", flush=True)


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train, and write a report of what came out where the run's configuration says."""
    nodes = int(context.run_config["min-nodes"])
    strategy = FedAvg(min_available_nodes=nodes, min_train_nodes=nodes, min_evaluate_nodes=nodes)
    x, y = task.load_test()

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        loss, accuracy = task.evaluate(arrays.to_numpy_ndarrays(), x, y)
        return MetricRecord({"loss": loss, "accuracy": accuracy})

    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(task.initial_weights()),
        num_rounds=int(context.run_config["num-server-rounds"]),
        evaluate_fn=evaluate,
    )
    report = {
        "run-config": dict(context.run_config),
        "server": {number: dict(metrics) for number, metrics in result.evaluate_metrics_serverapp.items()},
        "clients": {number: dict(metrics) for number, metrics in result.evaluate_metrics_clientapp.items()},
        "training": {number: dict(metrics) for number, metrics in result.train_metrics_clientapp.items()},
        "weights": [array.tolist() for array in result.arrays.to_numpy_ndarrays()],
    }
    if context.run_config["report"]:
        Path(str(context.run_config["report"])).write_text(json.dumps(report))
