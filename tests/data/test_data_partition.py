"""Properties of every partitioner, on labels that hypothesis makes up."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedkeras.config import Config
from fedkeras.data import ArraySource, Partition, partition
from fedkeras.errors import UserError

SCHEMES = ("iid", "dirichlet", "shards", "mcmahan", "natural", "sizes")


def source(labels, groups=None, recordings=None) -> ArraySource:
    labels = np.asarray(labels)
    x = np.zeros((len(labels), 1), dtype=np.uint8)
    groups, recordings = (None if v is None else np.asarray(v) for v in (groups, recordings))
    classes = [str(i) for i in range(max(labels) + 1)]
    return ArraySource("made up", (x, labels), (x, labels), classes, groups=groups, recordings=recordings)


@st.composite
def worlds(draw):
    """A source with 20 examples a client at least, and a number of clients."""
    clients, classes = draw(st.integers(1, 6)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    size = clients * draw(st.integers(20, 40))
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, size)])
    return source(labels, groups=np.arange(len(labels)) % (clients * 3)), clients


def config(scheme: str, clients: int, **more) -> Config:
    flags = {"sizes": ",".join(str(i + 1) for i in range(clients)), "alpha": 5.0, "labels_per_client": 2}
    return Config(partitioner=scheme, num_partitions=clients, **(flags | more))


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(world=worlds(), seed=st.integers(0, 1000))
def test_disjoint_complete_or_reported_and_deterministic(scheme: str, world, seed: int) -> None:
    made_up, clients = world
    chosen = config(scheme, clients, seed=seed)
    result = partition(made_up, chosen)
    assert len(result.parts) == clients and all(len(part) for part in result.parts)
    held = np.concatenate(result.parts)
    assert len(np.unique(held)) == len(held)
    assert len(held) + result.left_out == len(made_up.labels)
    assert held.min() >= 0 and held.max() < len(made_up.labels)
    if scheme == "mcmahan":
        assert result.left_out == len(made_up.labels) % (2 * clients)
    elif scheme != "shards":
        assert result.left_out == 0
    again = partition(made_up, chosen)
    assert all(np.array_equal(a, b) for a, b in zip(result.parts, again.parts, strict=True))


@settings(max_examples=50, deadline=None)
@given(world=worlds(), seed=st.integers(0, 1000))
def test_iid_is_stratified(world, seed: int) -> None:
    made_up, clients = world
    result = partition(made_up, config("iid", clients, seed=seed))
    exact = np.bincount(made_up.labels) / clients
    for part in result.parts:
        assert (np.abs(np.bincount(made_up.labels[part], minlength=len(exact)) - exact) < 1).all()
        assert abs(len(part) - len(made_up.labels) / clients) < 1


@settings(max_examples=50, deadline=None)
@given(world=worlds(), seed=st.integers(0, 1000))
def test_sizes_are_in_proportion_and_stratified(world, seed: int) -> None:
    made_up, clients = world
    result = partition(made_up, config("sizes", clients, seed=seed))
    for cid, part in enumerate(result.parts):
        share = (cid + 1) / sum(range(1, clients + 1))
        assert abs(len(part) - share * len(made_up.labels)) < 1
        counts = np.bincount(made_up.labels[part], minlength=len(made_up.classes))
        assert (np.abs(counts - share * np.bincount(made_up.labels)) <= 2.5).all()


@settings(max_examples=25, deadline=None)
@given(world=worlds(), seed=st.integers(0, 1000))
def test_shards_hold_k_labels_and_leave_whole_labels_out(world, seed: int) -> None:
    made_up, clients = world
    result = partition(made_up, config("shards", clients, seed=seed))
    assert all(len(np.unique(made_up.labels[part])) == 2 for part in result.parts)
    taken = np.unique(made_up.labels[np.concatenate(result.parts)])
    assert result.left_out == np.sum(~np.isin(made_up.labels, taken))


@settings(max_examples=25, deadline=None)
@given(world=worlds(), seed=st.integers(0, 1000), k=st.integers(1, 3))
def test_mcmahan_cuts_the_sorted_labels_into_equal_shards(world, seed: int, k: int) -> None:
    made_up, clients = world
    result = partition(made_up, config("mcmahan", clients, seed=seed, shards_per_client=k))
    size = len(made_up.labels) // (clients * k)
    assert [len(part) for part in result.parts] == [size * k] * clients
    # Laid end to end, a label's shards touch at most the next label's: a border of two labels lies in one shard.
    whole = sum(len(np.unique(made_up.labels[part])) for part in result.parts)
    assert whole <= clients * k + len(made_up.classes) - 1


def test_mcmahans_own_split_by_hand() -> None:
    """Ten labels of 600, 200 shards of 30: no shard spans two labels, so each of 100 clients has one or two."""
    made_up = source(np.arange(6000) % 10)
    result = partition(made_up, config("mcmahan", 100))
    counts = np.stack([np.bincount(made_up.labels[part], minlength=10) for part in result.parts])
    assert set(np.unique(counts)) == {0, 30, 60} and (counts.sum(axis=1) == 60).all() and result.left_out == 0
    assert (counts.sum(axis=0) == 600).all() and 80 <= ((counts > 0).sum(axis=1) == 2).sum() < 100
    assert result.scheme == "mcmahan: sorted by label, 2 of the 200 equal shards a client"
    # Seven examples, two shards of three (0 0 0, 1 1 1): the seventh is of either label, and held by nobody.
    small = source([1, 0, 1, 0, 1, 0, 1])
    one_each = partition(small, config("mcmahan", 2, shards_per_client=1))
    assert sorted(np.sort(small.labels[part]).tolist() for part in one_each.parts) == [[0, 0, 0], [1, 1, 1]]
    assert one_each.left_out == 1


@pytest.mark.parametrize("scheme", ["iid", "dirichlet", "shards", "mcmahan", "sizes"])
def test_a_clients_rows_of_a_label_are_a_random_sample_of_them(scheme: str) -> None:
    """The rows are sorted by a hidden attribute, as a file by its writers; each client's mean of it is the label's."""
    labels, hidden = np.repeat([0, 1], 2000), np.tile(np.linspace(0, 1, 2000), 2)
    made_up = source(labels)
    given = config(scheme, 4, labels_per_client=1) if scheme == "shards" else config(scheme, 4)
    for part in partition(made_up, given).parts:
        for label in (0, 1):
            mine = hidden[part[labels[part] == label]]
            if len(mine) > 20:  # standard error of the mean of n uniform numbers: sqrt(1 / 12 n)
                assert abs(mine.mean() - 0.5) < 4 / np.sqrt(12 * len(mine))


def test_whole_recordings_are_permuted_too() -> None:
    recordings = np.repeat(np.arange(400), 5)
    made_up = source(recordings // 200, recordings=recordings)
    for scheme in ("dirichlet", "shards", "mcmahan"):
        parts = partition(made_up, config(scheme, 4, labels_per_client=1)).parts
        for part in parts:
            assert (np.bincount(recordings[part])[np.unique(recordings[part])] == 5).all()
            runs = np.count_nonzero(np.diff(np.unique(recordings[part])) > 1)
            assert runs > len(part) / 5 / 4  # not one block of neighbours


@settings(max_examples=50, deadline=None)
@given(counts=st.lists(st.integers(1, 30), min_size=4, max_size=12), clients=st.integers(1, 4), seed=st.integers(0, 99))
def test_natural_keeps_groups_whole_and_evens_out(counts: list[int], clients: int, seed: int) -> None:
    groups = np.repeat([f"w{i}" for i in range(len(counts))], counts)
    made_up = source(np.arange(len(groups)) % 2, groups=np.random.default_rng(seed).permutation(groups))
    result = partition(made_up, config("natural", clients, seed=seed))
    owners = [set(made_up.groups[part]) for part in result.parts]
    assert sum(map(len, owners)) == len(counts) and set.union(*owners) == set(groups)
    sizes = [len(part) for part in result.parts]
    assert max(sizes) - min(sizes) <= max(counts)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_another_seed_is_another_partition(scheme: str) -> None:
    made_up = source(np.arange(300) % 5, groups=np.arange(300) // 10)
    results = {
        tuple(np.concatenate(partition(made_up, config(scheme, 3, seed=seed)).parts).tolist()) for seed in range(4)
    }
    assert len(results) > 1


def test_small_alpha_is_skewed_and_large_is_even() -> None:
    made_up = source(np.arange(1000) % 4)

    def largest_share(alpha: float) -> float:
        parts = partition(made_up, config("dirichlet", 2, alpha=alpha)).parts
        counts = np.stack([np.bincount(made_up.labels[part], minlength=4) for part in parts])
        return float((counts.max(axis=0) / counts.sum(axis=0)).mean())

    assert largest_share(0.1) > 0.8 and largest_share(1000.0) < 0.55


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=12, max_size=30), seed=st.integers(0, 99))
def test_recordings_are_dealt_out_whole(lengths: list[int], seed: int) -> None:
    recordings = np.repeat(np.arange(len(lengths)) * 7, lengths)
    made_up = source(recordings // 7 % 3, recordings=recordings, groups=recordings % 4)
    for scheme in ("iid", "sizes", "natural"):
        result = partition(made_up, config(scheme, 3, seed=seed))
        owners = [set(recordings[part]) for part in result.parts]
        assert sum(map(len, owners)) == len(lengths) and sum(map(len, result.parts)) == len(recordings)


def test_hand_computed_deal() -> None:
    made_up = source([0, 0, 0, 1, 1, 1, 1])
    parts = partition(made_up, config("iid", 2)).parts
    assert [np.bincount(made_up.labels[part]).tolist() for part in parts] == [[2, 2], [1, 2]]
    parts = partition(made_up, config("sizes", 2, sizes="5,2")).parts
    assert [len(part) for part in parts] == [5, 2]


@pytest.mark.parametrize(
    ("made_up", "chosen", "said"),
    [
        (source([0, 1, 0]), config("iid", 4), "--num-partitions is 4, but made up has only 3 training examples"),
        (source([0, 1] * 9, recordings=[0, 1] * 9), config("iid", 3), "only 2 training recordings"),
        (source([0, 1] * 9), config("natural", 3), "--partitioner natural: made up does not say who"),
        (source([0, 1] * 9, groups=[7] * 18), config("natural", 3), "of only 1 writers or subjects"),
        (source([0, 1] * 9), config("sizes", 3, sizes="1,2"), "--sizes gives 2 sizes, but --num-partitions is 3"),
        (source([0, 1] * 9), config("sizes", 3, sizes=""), "--sizes gives 0 sizes"),
        (source([0, 1] * 9), config("sizes", 3, sizes="1,2,x"), "--sizes is '1,2,x'; give numbers"),
        (source([0, 1] * 9), config("sizes", 3, sizes="1,2,0"), "every size must be above 0"),
        (source([0, 1] * 9), config("sizes", 3, sizes="1,2,inf"), "every size must be above 0"),
        (source([0, 1] * 9), config("sizes", 3, sizes="99,99,1"), "--sizes 99,99,1 leaves a client without"),
        (source([0, 1] * 9), config("shards", 3, labels_per_client=3), "--labels-per-client is 3, .* only 2 labels"),
        (source([0, 1] * 9), config("mcmahan", 10), "mcmahan makes 20 shards of 18 examples.*--shards-per-client"),
        (source([0, 0, 0, 1]), config("shards", 3), "--partitioner shards cannot .*lower --num-partitions"),
        (source([0, 1] * 10), config("dirichlet", 15, alpha=0.001), "dirichlet cannot .*raise --alpha"),
    ],
)
def test_what_cannot_be_done_names_the_flag(made_up: ArraySource, chosen: Config, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        partition(made_up, chosen)
    assert "\n" not in str(error.value)


def test_scheme_is_said_in_words() -> None:
    result = partition(source([0, 1] * 9), config("dirichlet", 2, alpha=3.0))
    assert isinstance(result, Partition) and result.scheme == "dirichlet: label proportions drawn with alpha 3.0"
