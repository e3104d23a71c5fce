"""Who takes part is a function of (seed, round, purpose), not of who connected first."""

import pytest
from hypothesis import given
from hypothesis import strategies as some
from toy_federation import ToyClients, federate, floats

from fedkeras import strategies
from fedkeras.federation.grids import CohortGrid
from fedkeras.federation.sampling import sample
from fedkeras.runtime.in_process import InProcessGrid


@given(some.permutations(range(20)), some.integers(0, 2**40), some.integers(1, 1000))
def test_the_cohort_does_not_depend_on_the_order_of_connection(available, seed, server_round):
    assert sample(available, 20, 0.3, seed, server_round, "train") == sample(
        range(20), 20, 0.3, seed, server_round, "train"
    )


@given(some.sets(some.integers(0, 19), max_size=10), some.integers(0, 100), some.sampled_from([0.1, 0.25, 0.5]))
def test_an_absent_client_is_replaced_and_the_rest_stay(absent, server_round, fraction):
    """Of a cohort of k, those who are there stay; the gaps are filled by others, each once."""
    full = sample(range(20), 20, fraction, 42, server_round, "train")
    rest = sample(set(range(20)) - absent, 20, fraction, 42, server_round, "train")
    assert set(full) - absent <= set(rest)
    assert not set(rest) & absent
    assert len(rest) == len(full)
    assert rest == sorted(set(rest))


def test_seed_round_and_purpose_each_change_the_cohort():
    def cohorts(seed=1, first=1, purpose="train"):
        return [sample(range(100), 100, 0.1, seed, first + number, purpose) for number in range(5)]

    base = cohorts()
    assert base == cohorts()
    assert base != cohorts(seed=2)
    assert base != cohorts(purpose="evaluate")
    assert base[1:] == cohorts(first=2)[:4]
    assert len({tuple(cohort) for cohort in base}) == 5


@pytest.mark.parametrize(("fraction", "size"), [(1.0, 10), (0.5, 5), (0.24, 2), (0.26, 3), (0.01, 1), (0.99, 10)])
def test_cohort_size_is_the_rounded_share_and_at_least_one(fraction, size):
    assert len(sample(range(10), 10, fraction, 0, 1, "train")) == size


def test_the_share_is_of_all_clients_not_of_those_connected():
    """Half of ten is five, also when six are there; when three are there it is three."""
    assert len(sample(range(6), 10, 0.5, 0, 1, "train")) == 5
    assert sample([7, 3, 5], 10, 0.5, 0, 1, "train") == [3, 5, 7]


def test_every_client_has_its_turn():
    """A shuffled order that favoured some clients would show in 400 rounds of 10 %: about 40 turns each."""
    turns = [cid for server_round in range(400) for cid in sample(range(20), 20, 0.1, 42, server_round, "train")]
    counts = [turns.count(cid) for cid in range(20)]
    assert min(counts) > 20
    assert max(counts) < 65


def test_the_grid_of_a_cohort_shows_the_cohort_and_passes_messages_on():
    grid = InProcessGrid(ToyClients(), 5, {})
    cohort = CohortGrid(grid, [6, 2])
    assert cohort.get_node_ids() == [6, 2]
    assert cohort.run is grid.run


@pytest.mark.parametrize("spec", ["fedavg", "fedadam", "flwr.serverapp.strategy:FedAvg"])
def test_a_run_asks_exactly_the_cohort(spec):
    """Flower's strategies sample by themselves, unseeded; they must take all they are shown."""
    clients = ToyClients()
    federate(
        strategies.load(spec),
        clients,
        floats(w=[0]),
        num_partitions=10,
        num_server_rounds=3,
        fraction_train=0.3,
        seed=5,
    )
    for server_round in (1, 2, 3):
        assert clients.trained(server_round) == sample(range(10), 10, 0.3, 5, server_round, "train")
