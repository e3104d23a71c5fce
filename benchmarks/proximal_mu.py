"""What FedProx's mu does to the accuracy: `python -m benchmarks.proximal_mu --dataset digits`.

The same clients, orders and initial weights for each mu, so that only the proximal term differs; mu 0 is FedAvg. Ten
clients, all of whom train in each round. Prints a line for each way to divide the data: the mean over seeds of the
central accuracy after the last round. The last line is the same as JSON, with
each seed's accuracy.
"""

import argparse
import json

import numpy as np

from benchmarks.case import Case
from fedkeras import data, factory
from fedkeras.config import Config
from fedkeras.federation.aggregation import Mean
from fedkeras.randomness import generator
from fedkeras.tensorflow_import import import_tensorflow

QUICK = [Case("--rounds 2 --seeds 3 --mus 0,0.1 --divisions iid", 12)]
DIVISIONS = {
    "iid": {},
    "dirichlet 0.1": {"partitioner": "dirichlet", "alpha": 0.1},
    "shards 2": {"partitioner": "shards"},
}


def accuracies(config: Config, mus: list[float], examples: int) -> list[float]:
    """The central accuracy after the last round, for each mu; `examples` a client at most (0: all)."""
    from fedkeras.learning import Proximal

    learner = factory.make_learner(config, config.threads_per_client)
    initial, test = learner.get_weights(), data.load_test(config)
    tested, clients = learner.place(test.x, test.y), []
    for cid in range(config.num_partitions):
        own = data.load_client(config, cid).train
        rows = generator(config.seed, "rows", cid).permutation(len(own))[: examples or len(own)]
        clients.append(learner.place(own.x[rows], own.y[rows]))
    found = []
    for mu in mus:
        weights = initial
        for server_round in range(1, config.num_server_rounds + 1):
            mean = Mean()
            for cid, placed in enumerate(clients):
                learner.set_weights(weights)
                learner.train(
                    *placed, epochs=config.local_epochs, batch_size=config.batch_size, objective=Proximal(mu),
                    rng=generator(config.seed, "train", server_round, cid),
                )  # fmt: skip
                mean.add(learner.get_weights(), int(placed[0].shape[0]))
            weights = mean.result()
        learner.set_weights(weights)
        found.append(learner.evaluate(*tested).accuracy)
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--model", default="")
    parser.add_argument("--data-dir", default="")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--local-epochs", type=int, default=5)
    parser.add_argument("--examples", type=int, default=0, help="of a client, at most; 0: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--divisions", default=",".join(DIVISIONS), help="of the data, comma-separated")
    parser.add_argument("--mus", default="0,0.001,0.01,0.1,1")
    flags = parser.parse_args()
    import_tensorflow()
    mus = [float(mu) for mu in flags.mus.split(",")]
    table = {}
    print(f"{'mu':<16}" + "".join(f"{mu:>8g}" for mu in mus))
    for name, division in ((name, DIVISIONS[name]) for name in flags.divisions.split(",")):
        rows = [
            accuracies(
                Config(
                    dataset=flags.dataset, model=flags.model, data_dir=flags.data_dir, num_partitions=10, seed=seed,
                    num_server_rounds=flags.rounds, local_epochs=flags.local_epochs, **division,
                ),
                mus,
                flags.examples,
            )
            for seed in range(1, flags.seeds + 1)
        ]  # fmt: skip
        table[name] = [
            {"mu": mu, "accuracies": list(each)} for mu, each in zip(mus, zip(*rows, strict=True), strict=True)
        ]
        print(f"{name:<16}" + "".join(f"{100 * mean:>8.1f}" for mean in np.mean(rows, axis=0)), flush=True)
    print(json.dumps(table, default=float))


if __name__ == "__main__":
    main()
