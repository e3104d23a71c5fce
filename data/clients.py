"""What a process loads: one client's own examples, the central test set, or the counts of all clients."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fedkeras.config import Config
from fedkeras.data.catalogue import open_source
from fedkeras.data.hold_out import hold_out
from fedkeras.data.normalise import Normaliser
from fedkeras.data.partition import Partition, partition
from fedkeras.data.sample_weights import IGNORED, checked
from fedkeras.data.scaling import (
    fixed_normaliser,
    merged_normaliser,
    normaliser_name,
    scaled,
    statistics_of_rows,
)
from fedkeras.data.source import ClientExamples, Examples, Source
from fedkeras.data.statistics import Statistics
from fedkeras.errors import UserError

log = logging.getLogger("fedkeras.data")


@dataclass(frozen=True)
class Description:
    """Counts of all clients' labels, without the examples. counts: (clients, classes), training and test together."""

    source: Source
    partition: Partition
    counts: np.ndarray
    train_sizes: np.ndarray
    test_sizes: np.ndarray
    central_test_size: int


def load_client(config: Config, cid: int, normaliser: Normaliser | None = None) -> ClientExamples:
    """Client `cid`'s own part, split in training and test and normalised; reads no other client's where it can.

    It is scaled by `normaliser`; unset: by `pooled_normaliser`, for which all clients' files must be here. Raises
    UserError for a cid outside 0..num_partitions-1.
    """
    source, (train, test) = open_source(config), own_rows(config, cid)
    _say_what_is_left_out(config)
    normaliser = normaliser or pooled_normaliser(config)
    return ClientExamples(scaled(source.examples(train), normaliser), scaled(source.examples(test), normaliser))


def load_test(config: Config, normaliser: Normaliser | None = None) -> Examples:
    """The central test set, scaled as `load_client` scales: by what was learned from training rows."""
    return scaled(open_source(config).test(), normaliser or pooled_normaliser(config))


def own_rows(config: Config, cid: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers in the source of client `cid`'s training and test examples, sorted. Raises UserError for no cid."""
    if not 0 <= cid < config.num_partitions:
        last = config.num_partitions - 1
        raise UserError(f"--cid is {cid}; with --num-partitions {config.num_partitions} it must be 0 to {last}")
    part = _partition(config).parts[cid if config.deals else 0]
    return hold_out(open_source(config), part, config, cid)


@lru_cache(maxsize=256)
def client_statistics(config: Config, cid: int) -> Statistics:
    """Statistics of client `cid`'s training examples, which its normaliser is fitted on; of no other rows."""
    return statistics_of_rows(open_source(config), own_rows(config, cid)[0])


@lru_cache(maxsize=1)
def pooled_normaliser(config: Config) -> Normaliser:
    """The normaliser by all clients' training examples, for who has them all: the same that the server's merging gives.

    Where the source's format decides, no example is looked at. Nobody has them all where clients bring files of their
    own: RuntimeError.
    """
    source = open_source(config)
    if not config.deals and fixed_normaliser(source, config) is None:
        raise RuntimeError("nobody has all clients' files: what they are scaled by must come from them")
    parts = (client_statistics(config, cid) for cid in range(config.num_partitions))
    return fixed_normaliser(source, config) or merged_normaliser(normaliser_name(source, config), parts)


def own_normaliser(config: Config, cid: int) -> Normaliser:
    """The normaliser by client `cid`'s training examples alone: who trains by itself has no other."""
    source = open_source(config)
    own = fixed_normaliser(source, config)
    return own or merged_normaliser(normaliser_name(source, config), [client_statistics(config, cid)])


def sample_weights_of(config: Config, cid: int) -> np.ndarray | None:
    """What each of client `cid`'s training examples weighs, float64 (examples,), as `load_client` has them; None: 1.

    Raises UserError for --sample-weight where the data set has none, and for weights that are all 0.
    """
    weights = open_source(config).sample_weight
    if config.sample_weight == IGNORED:
        return None
    if weights is None:
        if config.sample_weight:
            raise UserError(f"--sample-weight {config.sample_weight}: {config.dataset} has no weights of its examples")
        return None
    _say_weights(config)
    rows = own_rows(config, cid)[0]
    return checked(np.asarray(weights)[rows], len(rows), f"client {cid}'s sample weights")


def learns_scaling(config: Config) -> bool:
    """Whether the normaliser depends on rows, so that other rows make another one."""
    return fixed_normaliser(open_source(config), config) is None


def label_counts(config: Config, cids: Iterable[int]) -> np.ndarray:
    """How many of these clients' training examples, together, have each label, (classes,)."""
    source = open_source(config)
    if source.targets is not None:
        raise UserError(f"--class-weight {config.class_weight} needs classes, and {source.name} has amounts to learn")
    rows = np.concatenate([own_rows(config, cid)[0] for cid in cids])
    return np.bincount(source.labels[rows], minlength=len(source.classes))


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


def weights_said(config: Config) -> str:
    """That examples are weighted, where the data set says so and no flag that it should not; else ""."""
    if config.sample_weight == IGNORED or open_source(config).sample_weight is None:
        return ""
    asked = "" if config.sample_weight else " (--sample-weight none: not)"
    return f"the data set's own weigh its training examples{asked}"


@lru_cache(maxsize=1)
def _say_weights(config: Config) -> None:
    """A word, once a process, where nobody asked for it: the losses of a run with weights are others."""
    if not config.sample_weight:
        log.warning("sample weights: %s", weights_said(config))


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
