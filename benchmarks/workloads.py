"""The pieces of work that the simulation benchmark times, A and B, and G with one to eight clients for a GPU.

A: FEMNIST (LEAF), 207 writers, CNN of "Adaptive Federated Optimization", 10 writers a round, one epoch, batch 20,
   SGD 0.03.   B: MNIST, MLP 784-200-10, 100 IID clients of 600, 10 a round, one epoch, batch 32, SGD 0.1.
G: images of noise, CNN of 1.2 M weights, clients of 2,000 that all take part, one epoch, batch 32, SGD 0.01.
No evaluation, no checkpoint in a timed round. Ink is 1 and paper 0 in both.
"""

from dataclasses import replace

import numpy as np

from benchmarks.case import DATA
from fedkeras import data
from fedkeras.config import Config

BASE = Config(
    num_server_rounds=1000,
    fraction_evaluate=0.0,
    central_evaluation=False,
    test_fraction=0.0,
    checkpoint_every=0,
    node_timeout=600.0,
    seed=1,
)
WORK = {
    "A": replace(
        BASE, dataset="femnist", data_dir=str(DATA / "femnist" / "leaf"), model="femnist_cnn", partitioner="natural",
        num_partitions=207, fraction_train=10 / 207, batch_size=20, learning_rate=0.03,
    ),
    "B": replace(
        BASE, dataset="mnist", data_dir=str(DATA / "mnist"), model="mlp", num_partitions=100, fraction_train=0.1,
        batch_size=32, learning_rate=0.1,
    ),
}  # fmt: skip

WORK |= {
    f"G{clients}": replace(
        BASE, dataset="benchmarks.workloads:noise", model="mnist_cnn", num_partitions=clients, batch_size=32,
        learning_rate=0.01,
    )
    for clients in (1, 2, 4, 8)
}  # fmt: skip
G_EXAMPLES = 2000


def noise(config: Config) -> data.Source:
    """A source for `--dataset benchmarks.workloads:noise`: so many images of noise for each client, in ten classes."""
    rng = np.random.default_rng(0)
    count = G_EXAMPLES * config.num_partitions
    x = rng.random((count, 28, 28, 1), np.float32)
    y = np.arange(count) % 10
    return data.ArraySource("noise", (x, y), (x[:100], y[:100]), [str(number) for number in range(10)])


def femnist_3333(config: Config) -> data.Source:
    """A source for `--dataset benchmarks.workloads:femnist_3333`: 3,333 FEMNIST images.

    With 3 clients each has 1,111, of which --test-fraction 0.1 holds out 111 and leaves 1,000 to train on.
    """
    whole = data.open_source(replace(config, dataset="femnist", data_dir=str(DATA / "femnist" / "leaf")))
    some, test = whole.examples(np.arange(3333)), whole.test()
    return data.ArraySource("femnist_3333", (some.x, some.y), (test.x, test.y), whole.classes)
