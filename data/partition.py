"""Who holds what: the training examples of a source divided among clients.

Parts are disjoint, never empty, and a function of (source, config) alone, so that every process computes the same.
Dirichlet and label-skewed parts are Flower Datasets'; the others are a few lines here, because its IidPartitioner and
SizePartitioner cut consecutive rows (not stratified) and its natural partitioners cannot fill N clients evenly.
Where a source has recordings, whole recordings are dealt out: windows of one overlap, and would otherwise stand in
one client's training and another's test part.

A table divided among clients: disjoint parts that together are the whole, stratified where targets are classes.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fedkeras.config import Config
from fedkeras.data.source import Source
from fedkeras.errors import UserError
from fedkeras.randomness import generator

if TYPE_CHECKING:
    from flwr_datasets.partitioner import Partitioner


Parts = list[np.ndarray]


@dataclass(frozen=True)
class Partition:
    """parts[cid]: sorted indices of client cid's training examples; left_out: examples that no client holds."""

    parts: Parts
    left_out: int
    scheme: str


def partition(source: Source, config: Config) -> Partition:
    """Divide the training examples of `source` among `config.num_partitions` clients.

    Raises UserError, naming the flag to change, where that cannot be done without an empty part.
    """
    units = _units(source)
    if config.num_partitions > len(units):
        kind = "training examples" if source.recordings is None else "training recordings"
        raise UserError(f"--num-partitions is {config.num_partitions}, but {source.name} has only {len(units)} {kind}")
    labels = source.labels[[unit[0] for unit in units]] if source.recordings is not None else source.labels
    scheme, deal = _SCHEMES[config.partitioner]
    if config.partitioner == "natural":
        parts = _natural(source, config)
    else:
        parts = [np.sort(np.concatenate([units[i] for i in part])) for part in deal(labels, config)]
    if not all(len(part) for part in parts):
        raise UserError(f"--partitioner {config.partitioner} left a client without examples; lower --num-partitions")
    return Partition(parts, len(source.labels) - sum(map(len, parts)), scheme.format(config=config))


def iid(labels: np.ndarray, config: Config) -> Parts:
    """Stratified: any two clients' counts of a label, and their sizes, differ by at most one."""
    rng = generator(config.seed, "partition", "iid")
    shuffled = rng.permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    return [by_label[cid :: config.num_partitions] for cid in range(config.num_partitions)]  # dealt like cards


def sizes(labels: np.ndarray, config: Config) -> Parts:
    """Stratified parts in the proportions of `config.sizes`."""
    weights = _weights(config)
    exact = weights / weights.sum() * len(labels)
    counts = exact.astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: len(labels) - counts.sum()]] += 1
    if not counts.all():
        raise UserError(f"--sizes {config.sizes} leaves a client without examples; make its share larger")
    rng = generator(config.seed, "partition", "sizes")
    shuffled = rng.permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    # client i takes its k-th example at time (k + 1/2) / size i: evenly all along the labels
    times = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])
    owners = np.repeat(np.arange(len(counts)), counts)[np.argsort(times, kind="stable")]
    return [by_label[owners == cid] for cid in range(len(counts))]


def dirichlet(labels: np.ndarray, config: Config) -> Parts:
    """Each label divided among the clients in proportions drawn from Dirichlet(alpha).

    Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution", arXiv:1909.06335, in the form of
    Yurochkin et al., arXiv:1905.12022.
    """
    from flwr_datasets.partitioner import DirichletPartitioner

    deal = DirichletPartitioner(
        config.num_partitions, "label", config.alpha, min_partition_size=1, shuffle=False, seed=_seed(config)
    )
    return _flower_parts(deal, labels, config, "raise --alpha or lower --num-partitions")


def shards(labels: np.ndarray, config: Config) -> Parts:
    """`labels_per_client` labels a client, each label divided evenly among those that hold it.

    The pathological split of McMahan et al., arXiv:1602.05629, section 3, in the form of Li et al., arXiv:2102.02079,
    section IV (`#C=k`): client cid has label cid, counted round, and others that are drawn. With fewer clients than
    labels some fall to nobody and are left out.
    """
    from flwr_datasets.partitioner import PathologicalPartitioner

    present = len(np.unique(labels))
    if config.labels_per_client > present:
        raise UserError(f"--labels-per-client is {config.labels_per_client}, but there are only {present} labels")
    deal = PathologicalPartitioner(
        config.num_partitions,
        "label",
        config.labels_per_client,
        class_assignment_mode="first-deterministic",
        shuffle=False,
        seed=_seed(config),
    )
    return _flower_parts(deal, labels, config, "lower --num-partitions or --labels-per-client")


def _natural(source: Source, config: Config) -> Parts:
    """Whole groups (writers, subjects), in random order each to the client that has the fewest examples so far.

    Two clients' sizes differ by at most the largest group, and one group a client is the result when there are as many.
    """
    if source.groups is None:
        raise UserError(f"--partitioner natural: {source.name} does not say who its examples belong to; use another")
    owners, member = np.unique(source.groups, return_inverse=True)
    if config.num_partitions > len(owners):
        raise UserError(
            f"--num-partitions is {config.num_partitions}, but {source.name} has training examples of only "
            f"{len(owners)} writers or subjects"
        )
    counts, held = np.bincount(member), np.zeros(config.num_partitions, dtype=int)
    client = np.empty(len(owners), dtype=int)
    for group in generator(config.seed, "partition", "natural").permutation(len(owners)):
        client[group] = np.argmin(held)
        held[client[group]] += counts[group]
    return [np.flatnonzero(client[member] == cid) for cid in range(config.num_partitions)]


def _units(source: Source) -> Parts | np.ndarray:
    """What is dealt out whole: the indices of each recording, or each example alone."""
    if source.recordings is None:
        return np.arange(len(source.labels))[:, None]
    order = np.argsort(source.recordings, kind="stable")
    _, starts = np.unique(source.recordings[order], return_index=True)
    return np.split(order, starts[1:])


def _weights(config: Config) -> np.ndarray:
    try:
        weights = np.array([float(word) for word in config.sizes.split(",") if word.strip()])
    except ValueError:
        raise UserError(f"--sizes is '{config.sizes}'; give numbers, one a client, such as 4,2,1") from None
    if len(weights) != config.num_partitions:
        raise UserError(
            f"--sizes gives {len(weights)} sizes, but --num-partitions is {config.num_partitions}; give one a client"
        )
    if not (np.isfinite(weights).all() and (weights > 0).all()):
        raise UserError(f"--sizes is '{config.sizes}'; every size must be above 0")
    return weights


def _seed(config: Config) -> int:
    return int(generator(config.seed, "partition", config.partitioner).integers(2**31))


def _flower_parts(deal: "Partitioner", labels: np.ndarray, config: Config, advice: str) -> Parts:
    """What a partitioner of Flower Datasets makes of the labels. It cannot be asked for indices: they are a column."""
    from datasets import Dataset

    deal.dataset = Dataset.from_dict({"label": labels, "index": np.arange(len(labels))}).with_format("numpy")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of each of its ten tries; what counts is how they end
            return [np.asarray(deal.load_partition(cid)["index"]) for cid in range(config.num_partitions)]
    except ValueError as error:
        reason = str(error).split(". ")[0]
        name = config.partitioner
        raise UserError(f"--partitioner {name} cannot give every client examples ({reason}); {advice}") from None


_SCHEMES: dict[str, tuple[str, Callable[[np.ndarray, Config], Parts] | None]] = {
    "iid": ("iid: stratified, statistically equivalent parts", iid),
    "dirichlet": ("dirichlet: label proportions drawn with alpha {config.alpha}", dirichlet),
    "shards": ("shards: {config.labels_per_client} labels a client", shards),
    "natural": ("natural: whole writers or subjects, evened out by size", None),
    "sizes": ("sizes: stratified parts in the proportions {config.sizes}", sizes),
}


def parse_share(text: str) -> dict[int, float]:
    """`0=2,1=1` as {0: 2.0, 1: 1.0}; unset: no weights. Raises UserError."""
    weights: dict[int, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        cid, equals, weight = (word.strip() for word in part.partition("="))
        try:
            value = float(weight)
        except ValueError:
            value = math.nan
        if not (equals and cid.isdecimal() and 0 < value < math.inf):
            raise UserError(f"--share: '{part}' is not of the form CID=WEIGHT with a weight above 0, such as 0=2,1=1")
        if int(cid) in weights:
            raise UserError(f"--share gives client {int(cid)} two weights")
        weights[int(cid)] = value
    return weights


def divide(
    count: int,
    cids: Sequence[int],
    *,
    classes: np.ndarray | None = None,
    share: Mapping[int, float] | None = None,
    seed: int = 0,
) -> dict[int, np.ndarray]:
    """Divide rows 0..count-1 among clients; returns each one's rows, sorted. Every row has one owner.

    Parts are alike in size, or in proportion to `share`, in which a client that is not named counts 1. `classes`
    (count,) makes them stratified: each part has its share of each class. Depends on nothing but the arguments, and
    not on the order of `cids`. Raises UserError where a client would have no row.
    """
    cids = sorted(cids)
    if unknown := set(share or {}) - set(cids):
        raise UserError(f"--share names client {min(unknown)}; the clients are {', '.join(map(str, cids))}")
    if len(cids) > count:
        raise UserError(f"{count} rows cannot be divided among {len(cids)} clients")
    labels = np.zeros(count, np.int8) if classes is None else classes
    weights = ",".join(repr(float((share or {}).get(cid, 1.0))) for cid in cids)
    config = Config(num_partitions=len(cids), sizes=weights, seed=seed)
    if not share:
        parts = iid(labels, config)
    else:
        try:
            parts = sizes(labels, config)
        except UserError:  # it names its own flag
            least = min(cids, key=lambda cid: share.get(cid, 1.0))
            raise UserError(f"--share leaves client {least} none of the {count} rows; make its weight larger") from None
    return {cid: np.sort(part) for cid, part in zip(cids, parts, strict=True)}
