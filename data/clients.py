"""What a process loads: one client's own examples, the central test set, or the counts of all clients."""

import logging
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fedkeras.config import Config
from fedkeras.data.catalogue import open_source
from fedkeras.data.hold_out import hold_out
from fedkeras.data.normalise import Normaliser, fit, fit_range
from fedkeras.data.partition import Partition, partition
from fedkeras.data.source import ClientExamples, Examples, Source
from fedkeras.data.statistics import statistics_of
from fedkeras.errors import UserError

log = logging.getLogger("fedkeras.data")

CHUNK = 2048  # examples held at a time while statistics are taken


@dataclass(frozen=True)
class Description:
    """Counts of all clients' labels, without the examples. counts: (clients, classes), training and test together."""

    source: Source
    partition: Partition
    counts: np.ndarray
    train_sizes: np.ndarray
    test_sizes: np.ndarray
    central_test_size: int


def load_client(config: Config, cid: int) -> ClientExamples:
    """Client `cid`'s own part, split in training and test and normalised; reads no other client's where it can.

    Raises UserError for a cid outside 0..num_partitions-1.
    """
    if not 0 <= cid < config.num_partitions:
        last = config.num_partitions - 1
        raise UserError(f"--cid is {cid}; with --num-partitions {config.num_partitions} it must be 0 to {last}")
    source = open_source(config)
    _say_what_is_left_out(config)
    train, test = hold_out(source, _partition(config).parts[cid], config, cid)
    return ClientExamples(_normalised(source.examples(train), config), _normalised(source.examples(test), config))


def load_test(config: Config) -> Examples:
    """The central test set, normalised with training statistics."""
    return _normalised(open_source(config).test(), config)


def describe(config: Config) -> Description:
    """How many examples of each label each client holds."""
    source, division = open_source(config), _partition(config)
    counts = np.stack([np.bincount(source.labels[part], minlength=len(source.classes)) for part in division.parts])
    sides = [hold_out(source, part, config, cid) for cid, part in enumerate(division.parts)]
    train_sizes, test_sizes = (np.array([len(side[i]) for side in sides]) for i in (0, 1))
    return Description(source, division, counts, train_sizes, test_sizes, len(source.test_labels()))


@lru_cache(maxsize=1)
def _partition(config: Config) -> Partition:
    return partition(open_source(config), config)


@lru_cache(maxsize=1)
def _say_what_is_left_out(config: Config) -> None:
    """A warning, once a process: a run on a part of the examples must not be taken for one on all."""
    if left_out := _partition(config).left_out:
        log.warning(
            "--partitioner %s leaves out %d of %d training examples",
            config.partitioner,
            left_out,
            len(open_source(config).labels),
        )


@lru_cache(maxsize=1)
def _normaliser(config: Config) -> Normaliser:
    source = open_source(config)
    name = source.default_normaliser if config.normaliser == "default" else config.normaliser
    if name == "none":
        return fit(name, None)
    per_feature = len(source.input_shape) < 3
    if source.known_range is not None and name in ("scale", "minmax"):
        low, high = map(np.float64, source.known_range)
        return fit_range(name, low, high)
    # Of all clients' training parts. Where data must not be pooled, each client sends its count, sum and sum of squares
    # (or its extremes), and the server merges them (server-led training).
    parts = _partition(config).parts
    indices = np.sort(np.concatenate([hold_out(source, part, config, cid)[0] for cid, part in enumerate(parts)]))
    chunks = (source.examples(indices[i : i + CHUNK]).x for i in range(0, len(indices), CHUNK))
    return fit(name, statistics_of(chunks, per_feature))


def _normalised(examples: Examples, config: Config) -> Examples:
    return Examples(_normaliser(config).apply(examples.x), examples.y)
