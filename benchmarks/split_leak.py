"""What the server of split learning can make of the activations it sees, and what noise and NoPeek cost and save.

    python -m benchmarks.split_leak [--dataset digits] [--split-at A,B] [--epochs 20] [--noise ...] [--nopeek ...]

One client, one process, the whole training set. For each setting: accuracy on the central test set (with the noise, as
a run has it); the distance correlation of 256 training examples with their activations; and how well the simplest
attack does: a server with the head's weights, which it has at the end of a round, and with examples of its own (here
the central test set) fits a linear decoder from activations to inputs by ridge regression and applies it to what the
client sends. `explained` is the share of the inputs' variance that it gets back on 1,000 training examples: 1 is
everything, 0 is the mean image. A better attack gets more. Prints a table and a line of JSON.
"""

import argparse
import json
import logging

import numpy as np
from sklearn.linear_model import RidgeCV

from benchmarks.case import DATA, Case
from fedkeras import data, factory
from fedkeras.config import Config
from fedkeras.randomness import generator
from fedkeras.tensorflow_import import import_tensorflow

QUICK = [Case("--epochs 5 --noise 1 --nopeek 1", 10, times=3)]  # the noise is of no seed
SAMPLE = 1000
"""Training examples that are attacked."""
OWN = 2000
"""Examples of its own that the server has, at most."""


def main() -> None:
    """Train, attack and print, a line a setting."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="digits", choices=("digits", "mnist"))
    parser.add_argument("--split-at", default="")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--noise", default="0.3,1,3")
    parser.add_argument("--nopeek", default="0.1,0.3,1")
    options = parser.parse_args()
    settings = [("plain", 0.0), *numbers("noise", options.noise), *numbers("nopeek", options.nopeek)]
    folder = "" if options.dataset == "digits" else str(DATA / options.dataset)
    base = {"dataset": options.dataset, "data_dir": folder, "num_partitions": 1, "split": "sequential"}
    base |= {"batch_size": options.batch_size, "learning_rate": options.learning_rate, "split_at": options.split_at}
    print(f"{'':<14}{'accuracy':>10}{'correlation':>13}{'explained':>11}")
    table = {}
    for name, value in settings:
        config = Config(**base, **({} if name == "plain" else {f"split_{name}": value}))
        label = name if name == "plain" else f"{name} {value:g}"
        table[label] = figures = measure(config, options.epochs)
        print(
            f"{label:<14}{figures['accuracy']:>10.4f}{figures['correlation']:>13.3f}{figures['explained']:>11.3f}",
            flush=True,
        )
    print(json.dumps({**vars(options), "table": table}))


def numbers(name: str, text: str) -> list[tuple[str, float]]:
    """Such as [("noise", 0.3), ("noise", 1.0)]."""
    return [(name, float(word)) for word in text.split(",") if word]


def measure(config: Config, epochs: int) -> dict[str, float]:
    """Train the three parts and attack what the first one sends."""
    import_tensorflow()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of graphs made again: each setting has its own
    from fedkeras.learning.nopeek import distance_correlation

    ends, middle = factory.make_head_and_tail(config, 2), factory.make_body(config, 2)
    client, test = data.load_client(config, 0).train, data.load_test(config)
    x, y = ends.place(client.x, client.y)
    ends.start(ends.get_weights())
    middle.start(middle.get_weights())
    rng = generator(config.seed, "benchmark", 0, 0)
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for first in range(0, len(x), config.batch_size):
            train_batch(
                ends, middle, x[order[first : first + config.batch_size]], y[order[first : first + config.batch_size]]
            )
    ends.outcome()
    for first in range(0, len(test.x), 500):
        batch = ends.place(test.x[first : first + 500], test.y[first : first + 500])
        activations, _ = ends.forward_eval(batch[0])
        output, _ = middle.forward_eval(activations)
        ends.finish_eval(output, batch[1])
    sent = ends.forward_eval(x[:SAMPLE])[0]
    # The server computes activations of its own examples itself, and clean ones where that serves it.
    own = ends.place(test.x[:OWN], test.y[:OWN])[0]
    clean = np.asarray(ends.parts.models["head"](own, training=False))
    return {
        "accuracy": ends.outcome().accuracy,
        "correlation": float(distance_correlation(x[:256], sent[:256])),
        "explained": max(
            explained(clean, own, sent, x[:SAMPLE]), explained(ends.forward_eval(own)[0], own, sent, x[:SAMPLE])
        ),
    }


def train_batch(ends: object, middle: object, x: np.ndarray, y: np.ndarray) -> None:
    """One step of all three parts."""
    activations, penalty = ends.forward(x, key=0)
    output, more = middle.forward(activations, key=0)
    gradient, _ = ends.loss_and_gradient(output, y, penalty=penalty + more)
    ends.backward(middle.backward(gradient, 0), 0)


def explained(known: np.ndarray, inputs: np.ndarray, sent: np.ndarray, secret: np.ndarray) -> float:
    """The share of the variance of `secret` that a linear decoder, fitted on known -> inputs, explains from `sent`."""
    known, inputs, sent, secret = (
        array.reshape(len(array), -1).astype(np.float64) for array in (known, inputs, sent, secret)
    )
    decoder = RidgeCV(alphas=np.logspace(-2, 4, 7)).fit(known, inputs)
    error = np.square(secret - decoder.predict(sent)).sum()
    return float(1 - error / np.square(secret - inputs.mean(axis=0)).sum())


if __name__ == "__main__":
    main()
