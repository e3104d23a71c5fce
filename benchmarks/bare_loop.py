"""The yardstick: federated averaging as a bare loop: a resident Keras model, an epoch in one graph, no Flower.

    python -m benchmarks.bare_loop A GATE PROCESSES THREADS

Averages in float32, checks nothing, sends nothing but (with more than one process) the weights through a pipe.
"""

import multiprocessing
import sys

import numpy as np

from benchmarks.gate import Gate
from benchmarks.workloads import WORK
from fedkeras import data, models
from fedkeras.federation.sampling import sample


class Worker:
    """A model and its graph; trains clients of one piece of work from given weights."""

    def __init__(self, name: str, threads: int) -> None:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        self.tf, self.config, self.clients = tf, WORK[name], {}
        source = data.open_source(self.config)
        self.model = models.build(
            self.config.model, input_shape=source.input_shape, num_classes=len(source.classes), seed=self.config.seed
        )
        loss_of = tf.keras.losses.SparseCategoricalCrossentropy()
        rate, batch = self.config.learning_rate, self.config.batch_size
        variables = self.model.trainable_variables

        @tf.function(reduce_retracing=True)
        def epoch(x: tf.Tensor, y: tf.Tensor, order: tf.Tensor) -> None:
            count = tf.shape(order)[0]
            for start in tf.range(0, count, batch):
                chosen = order[start : tf.minimum(start + batch, count)]
                with tf.GradientTape() as tape:
                    loss = loss_of(tf.gather(y, chosen), self.model(tf.gather(x, chosen), training=True))
                for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
                    variable.assign_sub(rate * gradient)

        self.epoch = epoch

    def train(self, weights: list[np.ndarray], cids: list[int]) -> tuple[list[np.ndarray], int]:
        """The sum of the clients' new weights, each times its number of examples, and that number's sum."""
        sums, total = [np.zeros_like(array) for array in weights], 0
        for cid in cids:
            if cid not in self.clients:
                part = data.load_client(self.config, cid).train
                self.clients[cid] = self.tf.constant(part.x), self.tf.constant(part.y)
            x, y = self.clients[cid]
            self.model.set_weights(weights)
            self.epoch(x, y, self.tf.constant(np.random.permutation(len(y)).astype(np.int32)))
            total += len(y)
            for held, array in zip(sums, self.model.get_weights(), strict=True):
                held += len(y) * array
        return sums, total


def serve(name: str, threads: int, pipe: object) -> None:
    """A second process: answers (weights, cids) with their sums until it gets None."""
    worker = Worker(name, threads)
    pipe.send(worker.model.get_weights())
    while (task := pipe.recv()) is not None:
        pipe.send(worker.train(*task))


def main(name: str, gate_folder: str, processes: int, threads: int) -> None:
    """Run the work's rounds, waiting at the gate before each."""
    gate, config, pipes = Gate(gate_folder), WORK[name], []
    context = multiprocessing.get_context("spawn")
    if processes == 1:
        worker = Worker(name, threads)
        weights = worker.model.get_weights()
    for _ in range(processes if processes > 1 else 0):
        ours, theirs = context.Pipe()
        context.Process(target=serve, args=(name, threads, theirs), daemon=True).start()
        pipes.append(ours)
    for pipe in pipes:
        weights = pipe.recv()
    everyone = range(config.num_partitions)
    for server_round in range(1, config.num_server_rounds + 1):
        gate.wait(server_round)
        cids = sample(everyone, config.num_partitions, config.fraction_train, config.seed, server_round, "train")
        if pipes:
            for number, pipe in enumerate(pipes):
                pipe.send((weights, cids[number :: len(pipes)]))
            parts = [pipe.recv() for pipe in pipes]
        else:
            parts = [worker.train(weights, cids)]
        total = sum(count for _, count in parts)
        weights = [sum(arrays) / np.float32(total) for arrays in zip(*(sums for sums, _ in parts), strict=True)]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
