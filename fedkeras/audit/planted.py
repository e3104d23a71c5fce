"""The clients' own training examples with canaries planted among them, as a data set that client.py reads.

A canary is a random pattern, stronger than the examples are on average, under a class that is drawn: nothing else in
the data speaks for it, so that a model that knows it has it from this one example. Those of one client are orthogonal,
as many as there is room for, so that one hardly speaks for another.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fedkeras import data, factory
from fedkeras.config import DATA, Config, fields_of
from fedkeras.data.source import ArraySource
from fedkeras.errors import UserError

FILE = "planted.npz"
DATASET = "fedkeras.audit.planted:planted"
STRENGTH = 2.0
"""Of a canary's numbers, in root mean squares of the examples': its gradient is to reach the clipping bound."""


def planted(config: Config) -> ArraySource:
    """The data set in the folder --data-dir; each client's examples are a group."""
    with np.load(Path(config.data_dir) / FILE, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    train = arrays["x"], arrays["y"]
    return ArraySource(
        "planted", train, train, arrays["classes"].tolist(), groups=arrays["owner"], provenance="made by fedkeras audit"
    )


@dataclass(frozen=True)
class Planted:
    """Canaries x (m, ...) and y (m,), whose client each is, and which of them were included; all clients' own examples.

    `config` is the run's with this data set, in which client ids may be others: `examples` and `owner` go by them.
    """

    config: Config
    x: np.ndarray
    y: np.ndarray
    owner: np.ndarray
    included: np.ndarray
    examples: Mapping[int, data.Examples]
    """Of each client, without the canaries."""


def plant(
    config: Config,
    examples: Mapping[int, data.ClientExamples],
    included: np.ndarray,
    rng: np.random.Generator,
    folder: Path,
) -> Planted:
    """Deal a canary for each coin in `included` to the clients in turn, and write the data set. Raises UserError."""
    source = data.open_source(config)
    own, count = {cid: each.train for cid, each in examples.items()}, len(included)
    x, y = (np.concatenate([getattr(each, name) for each in own.values()]) for name in "xy")
    strength = STRENGTH * max(float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))), 1e-3)
    cids = np.arange(count) % len(own)
    canaries = np.empty((count, int(np.prod(x.shape[1:]))))
    for cid in range(len(own)):
        canaries[cids == cid] = patterns(int((cids == cid).sum()), canaries.shape[1], rng)
    canaries = (canaries * strength).astype(x.dtype).reshape(count, *x.shape[1:])
    classes = rng.integers(0, len(source.classes), count).astype(y.dtype)
    owner = np.concatenate([np.repeat(list(own), [len(each) for each in own.values()]), cids[included]])
    folder.mkdir(parents=True, exist_ok=True)
    try:
        np.savez(
            folder / FILE,
            x=np.concatenate([x, canaries[included]]),
            y=np.concatenate([y, classes[included]]),
            owner=owner,
            classes=np.array(source.classes),
        )
    except OSError as error:
        raise UserError(f"cannot write {folder / FILE}: {error.strerror or error}") from error
    there = replace(
        config.with_defaults(fields_of(group=DATA)), dataset=DATASET, data_dir=str(folder), partitioner="natural",
        num_partitions=config.num_partitions, normaliser="none", test_fraction=0.0, fraction_evaluate=0.0,
        model=factory.model_name(config),
    )  # fmt: skip
    # Whole groups are dealt in an order of the seed's: by whose rows a client has it is known which it is
    group_of = {cid: int(owner[data.own_rows(there, cid)[0][0]]) for cid in range(config.num_partitions)}
    cid_of = {group: cid for cid, group in group_of.items()}
    renamed = np.array([cid_of[int(cid)] for cid in cids])
    return Planted(there, canaries, classes, renamed, included, {cid: own[group] for cid, group in group_of.items()})


def patterns(count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Random patterns of mean square 1, (count, size), the first `size` of them orthogonal, the next among them too."""
    frames = [
        np.linalg.qr(rng.standard_normal((size, min(size, count - first))))[0].T for first in range(0, count, size)
    ]
    return np.concatenate([np.zeros((0, size)), *frames]) * np.sqrt(size)
