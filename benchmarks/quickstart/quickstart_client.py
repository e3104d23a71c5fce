"""What the client of Flower's Keras quickstart does for each message: clear, build, compile, set, fit, get."""

import functools

import keras
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from benchmarks.workloads import WORK
from fedkeras import data, models

app = ClientApp()


@functools.lru_cache(maxsize=256)
def _examples(work: str, cid: int) -> data.Examples:
    return data.load_client(WORK[work], cid).train


@app.train()
def train(message: Message, context: Context) -> Message:
    """One local epoch."""
    config = WORK[context.run_config["work"]]
    keras.backend.clear_session()
    source = data.open_source(config)
    model = models.build(config.model, input_shape=source.input_shape, num_classes=len(source.classes))
    model.compile(keras.optimizers.SGD(config.learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.set_weights(message.content["arrays"].to_numpy_ndarrays())
    part = _examples(context.run_config["work"], int(context.node_config["partition-id"]))
    history = model.fit(part.x, part.y, epochs=1, batch_size=config.batch_size, verbose=0).history
    metrics = MetricRecord({"num-examples": len(part), "loss": history["loss"][-1]})
    return Message(RecordDict({"arrays": ArrayRecord(model.get_weights()), "metrics": metrics}), reply_to=message)
