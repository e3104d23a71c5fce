"""The ClientApp: trains on its partition, and counts in its state how often it has."""

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable

from sklearn_app import task


def counting_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """A mod around each message: counts them, whatever they ask for."""
    context.state["messages"] = ConfigRecord({"seen": context.state.get("messages", {"seen": 0})["seen"] + 1})
    return call_next(message, context)


app = ClientApp(mods=[counting_mod])


def load(context: Context) -> tuple:
    """This node's images and labels."""
    return task.load_partition(int(context.node_config["partition-id"]), int(context.node_config["num-partitions"]))


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the global weights for a few iterations."""
    x, y = load(context)
    times = context.state.get("training", {"times": 0})["times"] + 1
    context.state["training"] = ConfigRecord({"times": times})
    weights = message.content["arrays"].to_numpy_ndarrays()
    epochs, penalty = int(context.run_config["solver.local-epochs"]), float(context.run_config["solver.penalty"])
    trained = task.train(weights, x, y, epochs, penalty)
    metrics = {"num-examples": len(y), "times-trained": times, "messages": context.state["messages"]["seen"]}
    content = RecordDict({"arrays": ArrayRecord(trained), "metrics": MetricRecord(metrics)})
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Loss and accuracy of the global weights on this node's images."""
    x, y = load(context)
    loss, accuracy = task.evaluate(message.content["arrays"].to_numpy_ndarrays(), x, y)
    metrics = MetricRecord({"num-examples": len(y), "loss": loss, "accuracy": accuracy})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)
