"""Who holds what: the training examples of a source, or the rows of a table, divided among clients.

Parts are disjoint, never empty, and a function of the source and the configuration (or of the arguments) alone, so that
every process computes the same. No scheme but `natural` cares for the order of the rows: they are permuted with the
seed first, so a client's examples of a label are a random sample of them, and not one writer's because the file is
sorted by writers. Dirichlet and label-skewed parts are Flower Datasets'; the others are a few lines here, because its
IidPartitioner, SizePartitioner and ShardPartitioner cut consecutive rows and its natural partitioners cannot fill N
clients evenly. Where a source has recordings, whole recordings are dealt out: windows of one overlap, and would
otherwise stand in one client's training and another's test part.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
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
"""Indices, an array a client."""


@dataclass(frozen=True)
class Partition:
    """parts[cid]: sorted indices of client cid's training examples; left_out: examples that no client holds."""

    parts: Parts
    left_out: int
    scheme: str


def partition(source: Source, config: Config) -> Partition:
    """Divide the training examples of `source` among `config.num_partitions` clients.

    Where nothing is dealt out there is one part, the whole. Raises UserError, naming the flag to change, where that
    cannot be done without an empty part.
    """
    if not config.deals:
        return Partition([np.arange(len(source.labels))], 0, "own: nothing is dealt; each client brings a file")
    units = _units(source)
    if config.num_partitions > len(units):
        kind = "training examples" if source.recordings is None else "training recordings"
        raise UserError(f"--num-partitions is {config.num_partitions}, but {source.name} has only {len(units)} {kind}")
    labels = source.labels[[unit[0] for unit in units]] if source.recordings is not None else source.labels
    if config.partitioner == "natural":
        if source.groups is None:
            raise UserError(
                f"--partitioner natural: {source.name} does not say who its examples belong to; use another"
            )
        parts = natural(source.groups, config.num_partitions, config.seed, source.name)
    else:
        parts = [np.sort(np.concatenate([units[i] for i in part])) for part in _deal(labels, config)]
    if not all(len(part) for part in parts):
        raise UserError(f"--partitioner {config.partitioner} left a client without examples; lower --num-partitions")
    shard_count = config.num_partitions * config.shards_per_client
    scheme = _SCHEMES[config.partitioner].format(config=config, shards=shard_count)
    return Partition(parts, len(source.labels) - sum(map(len, parts)), scheme)


_SCHEMES = {
    "iid": "iid: stratified, statistically equivalent parts",
    "dirichlet": "dirichlet: label proportions drawn with alpha {config.alpha}",
    "shards": "shards: {config.labels_per_client} labels a client",
    "mcmahan": "mcmahan: sorted by label, {config.shards_per_client} of the {shards} equal shards a client",
    "natural": "natural: whole writers or subjects, evened out by size",
    "sizes": "sizes: stratified parts in the proportions {config.sizes}",
}


def _deal(labels: np.ndarray, config: Config) -> Parts:
    """Positions in `labels`, an array a client, by any scheme but `natural`. Raises UserError."""
    clients, seed = config.num_partitions, config.seed
    if config.partitioner == "iid":
        return iid(labels, clients, seed)
    if config.partitioner == "dirichlet":
        return dirichlet(labels, clients, config.alpha, seed)
    if config.partitioner == "shards":
        return shards(labels, clients, config.labels_per_client, seed)
    if config.partitioner == "mcmahan":
        return mcmahan(labels, clients, config.shards_per_client, seed)
    try:
        return sizes(labels, size_weights(config), seed)
    except EmptyPart:
        raise UserError(f"--sizes {config.sizes} leaves a client without examples; make its share larger") from None


class EmptyPart(ValueError):
    """A client's share is so small that no example falls to it."""


def iid(labels: np.ndarray, clients: int, seed: int) -> Parts:
    """Stratified: any two clients' counts of a label, and their sizes, differ by at most one."""
    rng = generator(seed, "partition", "iid")
    shuffled = rng.permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    return [by_label[cid::clients] for cid in range(clients)]  # dealt like cards


def sizes(labels: np.ndarray, weights: np.ndarray, seed: int) -> Parts:
    """Stratified parts in the proportions of `weights`, one a client, above 0. Raises EmptyPart."""
    exact = weights / weights.sum() * len(labels)
    counts = exact.astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: len(labels) - counts.sum()]] += 1
    if not counts.all():
        raise EmptyPart("a share leaves a client without examples")
    rng = generator(seed, "partition", "sizes")
    shuffled = rng.permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    # client i takes its k-th example at time (k + 1/2) / size i: evenly all along the labels
    times = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])
    owners = np.repeat(np.arange(len(counts)), counts)[np.argsort(times, kind="stable")]
    return [by_label[owners == cid] for cid in range(len(counts))]


def dirichlet(labels: np.ndarray, clients: int, alpha: float, seed: int) -> Parts:
    """Each label divided among the clients in proportions drawn from Dirichlet(alpha). Raises UserError.

    Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution", arXiv:1909.06335, in the form of
    Yurochkin et al., arXiv:1905.12022.
    """
    from flwr_datasets.partitioner import DirichletPartitioner

    own = _flower_seed(seed, "dirichlet")
    deal = DirichletPartitioner(clients, "label", alpha, min_partition_size=1, shuffle=False, seed=own)
    order = generator(seed, "partition", "dirichlet rows").permutation(len(labels))
    return _flower_parts(deal, labels, order, "dirichlet", "raise --alpha or lower --num-partitions")


def shards(labels: np.ndarray, clients: int, labels_per_client: int, seed: int) -> Parts:
    """`labels_per_client` labels a client, each label divided evenly among those that hold it. Raises UserError.

    The label quantity skew `#C=k` of Li et al., "Federated Learning on Non-IID Data Silos", arXiv:2102.02079, section
    IV: client cid has label cid, counted round, and others that are drawn. With fewer clients than labels some fall to
    nobody and are left out. It is not the split of McMahan et al., see `mcmahan`.
    """
    from flwr_datasets.partitioner import PathologicalPartitioner

    present = len(np.unique(labels))
    if labels_per_client > present:
        raise UserError(f"--labels-per-client is {labels_per_client}, but there are only {present} labels")
    deal = PathologicalPartitioner(
        clients,
        "label",
        labels_per_client,
        class_assignment_mode="first-deterministic",
        shuffle=False,
        seed=_flower_seed(seed, "shards"),
    )
    order = generator(seed, "partition", "shards rows").permutation(len(labels))
    return _flower_parts(deal, labels, order, "shards", "lower --num-partitions or --labels-per-client")


def mcmahan(labels: np.ndarray, clients: int, shards_per_client: int, seed: int) -> Parts:
    """The examples sorted by label and cut into equal shards, of which each client draws `shards_per_client`.

    McMahan, Moore, Ramage, Hampson and Aguera y Arcas, "Communication-Efficient Learning of Deep Networks from
    Decentralized Data", arXiv:1602.05629, section 3: MNIST in 200 shards of 300 images, two for each of 100 clients. A
    shard that spans the border of two labels has both, so a client may hold more labels than it has shards. All clients
    hold equally many; the remainder, fewer examples than there are shards, is drawn at random and left out. Raises
    UserError where there are more shards than examples.
    """
    count = clients * shards_per_client
    if count > len(labels):
        raise UserError(
            f"--partitioner mcmahan makes {count} shards of {len(labels)} examples (or recordings); lower "
            "--num-partitions or --shards-per-client"
        )
    rng = generator(seed, "partition", "mcmahan")
    shuffled = rng.permutation(len(labels))[: len(labels) // count * count]
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    dealt = by_label.reshape(count, -1)[rng.permutation(count)]
    return list(dealt.reshape(clients, -1))


def natural(groups: np.ndarray, clients: int, seed: int, source: str) -> Parts:
    """Whole groups (writers, subjects), in random order each to the client that has the fewest examples so far.

    Two clients' sizes differ by at most the largest group, and one group a client is the result when there are as many.
    Raises UserError, which names the `source`, where there are fewer groups than clients.
    """
    owners, member = np.unique(groups, return_inverse=True)
    if clients > len(owners):
        raise UserError(
            f"--num-partitions is {clients}, but {source} has training examples of only {len(owners)} writers or "
            "subjects"
        )
    counts, held = np.bincount(member), np.zeros(clients, dtype=int)
    client = np.empty(len(owners), dtype=int)
    for group in generator(seed, "partition", "natural").permutation(len(owners)):
        client[group] = np.argmin(held)
        held[client[group]] += counts[group]
    return [np.flatnonzero(client[member] == cid) for cid in range(clients)]


def _units(source: Source) -> Parts | np.ndarray:
    """What is dealt out whole: the indices of each recording, or each example alone."""
    if source.recordings is None:
        return np.arange(len(source.labels))[:, None]
    order = np.argsort(source.recordings, kind="stable")
    _, starts = np.unique(source.recordings[order], return_index=True)
    return np.split(order, starts[1:])


def size_weights(config: Config) -> np.ndarray:
    """What --sizes says, a number above 0 a client, (clients,). Raises UserError."""
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


def _flower_seed(seed: int, scheme: str) -> int:
    return int(generator(seed, "partition", scheme).integers(2**31))


def _flower_parts(deal: "Partitioner", labels: np.ndarray, order: np.ndarray, scheme: str, advice: str) -> Parts:
    """What a partitioner of Flower Datasets makes of the labels in this order: it cuts each label's rows as they come.

    It cannot be asked for indices: they are a column.
    """
    from datasets import Dataset

    deal.dataset = Dataset.from_dict({"label": labels[order], "index": order}).with_format("numpy")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of each of its ten tries; what counts is how they end
            return [np.asarray(deal.load_partition(cid)["index"]) for cid in range(deal.num_partitions)]
    except ValueError as error:
        reason = str(error).split(". ")[0]
        raise UserError(f"--partitioner {scheme} cannot give every client examples ({reason}); {advice}") from None


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
    if not share:
        parts = iid(labels, len(cids), seed)
    else:
        try:
            parts = sizes(labels, np.array([float(share.get(cid, 1.0)) for cid in cids]), seed)
        except EmptyPart:
            least = min(cids, key=lambda cid: share.get(cid, 1.0))
            raise UserError(f"--share leaves client {least} none of the {count} rows; make its weight larger") from None
    return {cid: np.sort(part) for cid, part in zip(cids, parts, strict=True)}
