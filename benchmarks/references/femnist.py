"""FEMNIST with its writers as clients: 207 writers of LEAF's sample, ten a round.

Not like for like: the published figures are of some 3,400 writers (EMNIST's federated split, or all of LEAF's), of
which LEAF's sampler gives a twentieth. A model of fewer writers meets fewer hands, and each of ours is asked 16 times
as often. Both are shown so that nobody takes one for the other.

S. J. Reddi et al., "Adaptive Federated Optimization", ICLR 2021, arXiv:2003.00295: the same CNN, ten clients a round,
one epoch, batch 20, 1500 rounds. S. Caldas et al., "LEAF", arXiv:1812.01097.
"""

from collections.abc import Sequence

from benchmarks.references.experiment import Curve, Figures, Reference, Setting, accuracy_figures, percent
from benchmarks.workloads import DATA
from fedkeras.config import Config

WRITERS, A_ROUND = 207, 10


def settings() -> list[Setting]:
    """FedAvg, as the papers' plain rows."""
    base = {
        "dataset": "femnist",
        "data_dir": str(DATA / "femnist" / "leaf"),
        "model": "femnist_cnn",
        "partitioner": "natural",
        "num_partitions": WRITERS,
        "fraction_train": A_ROUND / WRITERS,
        "fraction_evaluate": 0.0,
        "test_fraction": 0.0,
        "batch_size": 20,
        "learning_rate": 0.1,
    }
    published = "84.9 (3,400 writers, 1500 rounds, mean of the last 100)"
    return [Setting("fedavg", Config(**base), published, 500)]


def figures_of(setting: Setting, curves: Sequence[Curve]) -> Figures:
    """Accuracy as everywhere; Reddi et al. take the mean of the last 100 rounds, so that stands beside it."""
    figures = accuracy_figures(setting, curves)
    hundred = [curve.over_last("accuracy", 100) for curve in curves]
    last = f"{figures.last} (mean of the last 100 rounds: {percent(hundred)})"
    return Figures(figures.best, last, {**figures.numbers, "mean_of_last_hundred": hundred})


def reference() -> Reference:
    """Three seeds."""
    return Reference(
        title="FEMNIST, writers as clients: no like-for-like of the published tables",
        source="Reddi et al., arXiv:2003.00295, EMNIST character recognition, FedAvg; the figure also stands as the "
        "reference value in FedML's benchmark table (FedML-AI/FedML-Doc, simulation/benchmark)",
        differs=(
            "207 writers of LEAF's sample and not 3,400: figures of another data set, which say little of each other",
            "tested on all 207 writers' test parts; ink is 1 and paper 0, as in MNIST; each image of a writer once",
            "no figure of LEAF's own paper stands here: none has been held against its text",
        ),
        settings=settings(),
        seeds=(42, 43, 44),
        minutes="about an hour a seed on one core",
        figures_of=figures_of,
        data=DATA / "femnist" / "leaf",
        quick_rounds=2,
    )
