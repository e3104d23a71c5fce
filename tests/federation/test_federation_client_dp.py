"""Client-level differential privacy: what one client can move, the noise, the cohort, the ledger; numbers by hand."""

import dataclasses
import json
import math

import numpy as np
import pytest
from bare_runs import run_of
from flwr.app import Message
from toy_federation import ToyClients, content, floats

from fedkeras.accountant import Mechanism
from fedkeras.callbacks import Callbacks
from fedkeras.config import Config
from fedkeras.errors import RunFailed, UserError
from fedkeras.federation import registry
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.grids import federation_grid
from fedkeras.federation.records import record, views
from fedkeras.federation.strategy_state import StrategyState
from fedkeras.mods.chain import make_mods
from fedkeras.mods.client_dp.clipping import AdaptiveBound, ClippedSum, clipped, distance, factor
from fedkeras.mods.client_dp.ledger import NAME, Ledger
from fedkeras.reports import RunFolder
from fedkeras.runtime.in_process import InProcessGrid
from fedkeras.workflows.rounds.server import RoundsWorkflow

SILENT = "noise-multiplier=1e-9"
"""Noise that changes no digit that a test looks at; what it would cost is not asked."""
OPTIONS = f"{SILENT},clip=1.0,delta=1e-3"


@pytest.fixture
def free(monkeypatch):
    """Every round costs 1, and noise may be as little as none."""
    monkeypatch.setattr("fedkeras.mods.budget_options.LEAST_NOISE", 0.0)
    monkeypatch.setattr(Mechanism, "epsilon", lambda self, rounds, kind="PLD": float(rounds))


def moving(steps):
    """Clients whose weights move by steps[cid], a number or an array; all claim a million examples."""

    def train(cid, server_round, weights, config):
        moved = {"w": weights["w"] + np.asarray(steps[cid], np.float32), "s": weights["s"] + np.float32(7)}
        return content(moved, 1_000_000, loss=float(cid), accuracy=0.5)

    return train


def run(options, train, tmp_path=None, clients=4, rounds=1, start=None, strategy="fedavg", honest=None, **fields):
    """(final weights, results, what arrived at the server by (round, cid), mod) with `w` trained and `s` not.

    `honest`: the clients that have the mod's half; None: all.
    """
    arrived, results = {}, []
    fields = {"fraction_train": 0.5, "seed": 5, **fields}
    config = Config(
        num_partitions=clients, num_server_rounds=rounds, mods=f"dp:{options}", client_weights="uniform", rest_after=0,
        **fields,
    )  # fmt: skip
    toy = ToyClients(train)

    def app(message, context):
        cid = context.node_config["partition-id"]
        if message.metadata.message_type == "train" and (honest is None or cid in honest):
            reply = make_mods(config.mods).answer(message, context, toy)
        else:
            reply = toy(message, context)
        if message.metadata.message_type == "train":
            arrived[int(message.content["config"]["server-round"]), cid] = reply
        return reply

    grid = federation_grid(InProcessGrid(app, clients, config.to_run_config()))
    chain = make_mods(config.mods)
    chain.check(config)
    chain.choose(config)
    own = {"clients": ClientManager(grid, config, Callbacks([])), "mods": chain}
    hooks = [*(chain.callbacks() if tmp_path else ()), results.append]
    context = run_of(grid, config, registry.load(strategy), hooks, **own).knowing(("w",), ("w", "s"))
    if tmp_path:
        context = dataclasses.replace(context, folder=RunFolder(tmp_path))
        context.callbacks.on_run_begin(context)
    final = RoundsWorkflow().train(context, record(start or floats(w=[0, 0], s=[3])))
    return views(final), results, arrived, chain.mods[0]


# What one client can move


def test_an_update_is_clipped_as_one_vector_and_what_is_not_trained_stays_at_home():
    origin, arrays = floats(a=[1], b=[[1, 1]], s=[5]), floats(a=[4], b=[[5, 1]], s=[9])
    assert distance(arrays, origin, ["a", "b"]) == 5.0
    assert (factor(5.0, 2.5), factor(5.0, 5.0), factor(1.0, 5.0)) == (0.5, 1.0, 1.0)
    sent = clipped(arrays, origin, ["a", "b"], 0.5)
    assert {name: array.tolist() for name, array in sent.items()} == {"a": [2.5], "b": [[3.0, 1.0]], "s": [5.0]}


def test_the_server_clips_again_and_adds_in_float64():
    total = ClippedSum(floats(w=[0, 0]), ["w"], 1.0)
    total.add(floats(w=[3e30, 4e30]))
    total.add(floats(w=[0.3, 0.4]))
    assert total.sums["w"] == pytest.approx([0.9, 1.2], rel=1e-7) and total.sums["w"].dtype == np.float64


def test_the_mean_is_over_the_expected_number_and_everybody_counts_alike(free):
    steps = [[3, 4], [0, 0.5], [0.6, 0.8], [-8, 6]]
    bounded = [[0.6, 0.8], [0, 0.5], [0.6, 0.8], [-0.8, 0.6]]
    for seed in range(5):
        final, results, arrived, _ = run(f"{SILENT},clip=1.0,delta=1e-3,study=true", moving(steps), seed=seed)
        drawn = [cid for _, cid in arrived]
        assert final["w"] == pytest.approx(np.sum([bounded[cid] for cid in drawn] + [[0, 0]], axis=0) / 2, abs=1e-6)
        assert final["s"] == [3], "not trained: not released"
        assert (results[0].asked, results[0].answered, results[0].failures, results[0].weightings) == (0, 0, {}, {})


def test_what_leaves_a_client_is_its_clipped_update_and_a_bit(free):
    _, _, arrived, _ = run(
        f"{SILENT},clip=1.0,delta=1e-3,study=true", moving([[3, 4]] * 3 + [[0, 0.5]]), fraction_train=1
    )
    for (_, cid), reply in arrived.items():
        assert dict(reply.content["metrics"]) == {"num-examples": 1, "dp-within": int(cid == 3)}
        assert views(reply.content["arrays"])["s"].tolist() == [3]
        assert np.linalg.norm(views(reply.content["arrays"])["w"]) <= 1 + 1e-6


def test_a_liar_moves_the_sum_by_the_bound_and_no_further(free):
    steps = [[1e20, 0]] * 4
    final, *_ = run(f"{SILENT},clip=0.25,delta=1e-3", moving(steps), honest=(), fraction_train=1)
    assert final["w"] == pytest.approx([0.25, 0], abs=1e-6)


def test_a_client_answers_nothing_that_is_not_protected():
    message = Message(content(floats(w=[1])), 7, "evaluate")
    with pytest.raises(UserError, match="a client answers no 'evaluate'"):
        make_mods("dp:epsilon=2,delta=1e-3").answer(message, None, lambda message, context: message)


def test_absent_and_failing_clients_count_as_no_change_and_the_round_is_not_repeated(free):
    def train(cid, server_round, weights, config):
        if cid < 3:
            raise RuntimeError("broken")
        return moving([[3, 4]] * 4)(cid, server_round, weights, config)

    final, results, _, dp = run(OPTIONS, train, fraction_train=1)
    assert final["w"] == pytest.approx([0.15, 0.2], abs=1e-6) and len(dp.ledger.entries) == 1
    assert results[0].failures == {}


# The cohort


def test_each_client_has_a_coin_of_its_own_and_the_run_s_seed_has_no_say():
    chain = make_mods("dp:noise-multiplier=2,delta=1e-3")
    chain.choose(Config(num_partitions=20, fraction_train=0.3, num_server_rounds=1))
    draws = [chain.sample(range(20), 1, "train") for _ in range(3000)]
    counts = np.bincount([cid for draw in draws for cid in draw], minlength=20)
    assert abs(counts.sum() - 18_000) < 5 * math.sqrt(60_000 * 0.3 * 0.7)
    assert np.abs(counts - 900).max() < 5 * math.sqrt(3000 * 0.21), "each as often as any other"
    sizes = np.array([len(draw) for draw in draws])
    assert sizes.var() == pytest.approx(20 * 0.3 * 0.7, rel=0.2), "no fixed number of clients"
    assert chain.sample(range(5), 1, "evaluate") == []
    assert set(chain.sample([3], 1, "train")) <= {3}, "who is absent is not asked"


def test_with_study_the_cohort_is_the_seed_s():
    def cohorts(seed):
        chain = make_mods("dp:noise-multiplier=2,delta=1e-3,study=true")
        chain.choose(Config(num_partitions=20, fraction_train=0.5, num_server_rounds=1, seed=seed))
        return [chain.sample(range(20), number, "train") for number in range(4)]

    assert cohorts(1) == cohorts(1) != cohorts(2)
    assert len({tuple(each) for each in cohorts(1)}) == 4


def test_an_empty_cohort_is_a_round_of_noise_alone_and_is_counted(free, monkeypatch):
    monkeypatch.setattr("fedkeras.mods.client_dp.mod.ClientDp.sample", lambda *_: ())
    final, results, arrived, dp = run("noise-multiplier=3,clip=1.0,delta=1e-3", moving([[9, 9]] * 4), rounds=2)
    assert not arrived and len(results) == 2 and np.abs(final["w"]).min() > 0
    assert [entry.round for entry in dp.ledger.entries] == [1, 2]


# The noise


def noise_of(options, clients, **fields):
    start = floats(w=np.zeros(40_000), s=[3])
    return run(options, moving([0.0] * clients), clients=clients, start=start, **fields)[0]["w"].astype(np.float64)


@pytest.mark.parametrize(("clients", "rate"), [(4, 0.5), (40, 1.0)])
def test_noise_is_drawn_once_whoever_is_there(free, clients, rate):
    """z S / (q N), for 2 clients or 40: 0.6 * 0.5 = 0.3 on the sum."""
    found = noise_of("noise-multiplier=0.6,clip=0.5,delta=1e-3", clients, fraction_train=rate)
    expected = 0.3 / (rate * clients)
    assert found.std() == pytest.approx(expected, rel=0.02), "200 deviations would be 0.0035 of it"
    assert abs(found.mean()) < 5 * expected / 200
    fourth = ((found / found.std()) ** 4).mean()
    assert fourth == pytest.approx(3.0, abs=0.15), "normal"


def test_noise_is_the_system_s_unless_it_is_a_study(free):
    private, study = "noise-multiplier=1,clip=1.0,delta=1e-3", "noise-multiplier=1,clip=1.0,delta=1e-3,study=true"
    one, other = noise_of(private, 4), noise_of(private, 4)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03
    assert np.array_equal(noise_of(study, 4), noise_of(study, 4))
    assert abs(np.corrcoef(noise_of(study, 4), noise_of(study, 4, seed=6))[0, 1]) < 0.03


@pytest.mark.parametrize("name", ["fedprox", "fedavgm", "flwr.serverapp.strategy:FedAvg"])
def test_other_strategies_are_handed_the_noisy_mean_as_well(free, name):
    final, *_ = run(OPTIONS, moving([[3, 4]] * 4), strategy=name, fraction_train=1)
    assert final["w"] == pytest.approx([0.6, 0.8], abs=1e-6) and final["s"] == [3]


def test_server_optimizers_step_along_the_noisy_mean(free):
    """FedAdam's first step: m = 0.1 d, v = 0.99 tau^2 + 0.01 d^2, x = eta m / (sqrt v + tau), d = (1.2, 1.6) / 2."""
    options = f"{SILENT},clip=1.0,delta=1e-3,study=true"
    final, *_ = run(options, moving([[3, 4]] * 4), strategy="fedadam", fraction_train=1)
    d, tau = np.array([0.6, 0.8]), 1e-3
    expected = 0.03 * 0.1 * d / (np.sqrt(0.99 * tau**2 + 0.01 * d**2) + tau)
    assert final["w"] == pytest.approx(expected, rel=1e-5)
    assert final["s"] == [3]


# The adaptive bound


def test_the_bound_follows_the_quantile_by_a_noisy_count_of_its_own():
    adaptive = AdaptiveBound(noise=1.0, expected=100, quantile=0.5, rate=0.2)
    assert adaptive.count_noise == 5.0 and adaptive.sum_noise == pytest.approx((1 - 0.01) ** -0.5)
    assert adaptive.share_within([True] * 60 + [False] * 20, 0.0) == pytest.approx((30 - 10) / 100 + 0.5)
    assert adaptive.share_within([], 2.0) == pytest.approx(0.6)
    assert adaptive.next(2.0, 0.75) == pytest.approx(2.0 * math.exp(-0.05))
    assert adaptive.next(2.0, -3.0) == pytest.approx(2.0 * math.exp(0.1)), "a share below 0 is noise"
    few = AdaptiveBound(noise=2.0, expected=10, quantile=0.5, rate=0.2)
    assert few.count_noise == pytest.approx(2.4) and few.sum_noise == pytest.approx(2 / math.sqrt(1 - 1 / 5.76))
    cost = few.sum_noise**-2 + (2 * few.count_noise) ** -2
    assert cost == pytest.approx(2.0**-2), "both together cost what noise 2 would"


def test_an_adaptive_bound_comes_near_the_updates_length_and_is_kept_for_a_resumption(free):
    options = "noise-multiplier=0.5,clip=adaptive,initial-clip=0.1,clip-rate=0.5,delta=1e-3,study=true"
    steps = [[0, 1.0 + 0.02 * cid] for cid in range(50)]
    *_, dp = run(options, moving(steps), clients=50, rounds=25, fraction_train=1)
    assert dp.bound == pytest.approx(1.5, rel=0.25), "the median of 1 to 2"
    assert dp.ledger.entries[0].bound == 0.1 and 0 <= dp.ledger.entries[-1].share_within <= 1
    state = StrategyState(dp.strategy(registry.load("fedavg")), [dp]).snapshot()
    assert state.table["mods"][0]["bound"] == dp.bound and "ledger" not in state.table["mods"][0]
    assert state.table["not-saved"] == []


# The ledger


def rounds_in(tmp_path):
    return [entry["round"] for entry in json.loads((tmp_path / NAME).read_text())["rounds"]]


def test_a_round_is_entered_before_anything_is_made_of_it(free, tmp_path, monkeypatch):
    """The strategy dies with the noisy mean in its hand: the round is on the disk, and redone it costs again."""
    seen = []

    def dying(self, server_round, replies):
        seen.append(rounds_in(tmp_path))
        if len(seen) == 2:
            raise MemoryError("killed")
        return average(self, server_round, replies)

    average = type(registry.load("fedavg")).aggregate_train
    monkeypatch.setattr(type(registry.load("fedavg")), "aggregate_train", dying)
    with pytest.raises(RunFailed, match="killed"):
        run(OPTIONS, moving([[3, 4]] * 4), tmp_path, rounds=3)
    assert seen == [[1], [1, 2]] and rounds_in(tmp_path) == [1, 2]
    *_, dp = run(OPTIONS, moving([[3, 4]] * 4), tmp_path, rounds=1)
    assert rounds_in(tmp_path) == [1, 2, 1] and dp.ledger.spent == 3.0


def test_the_run_ends_before_its_budget_is_exceeded_and_says_so(free, tmp_path, capsys):
    _, results, _, dp = run(f"{OPTIONS},epsilon=2.5", moving([[3, 4]] * 4), tmp_path, rounds=5)
    assert len(results) == 2 and rounds_in(tmp_path) == [1, 2] and dp.ledger.spent == 2.0
    out = capsys.readouterr().out
    assert "privacy: round 3 would exceed epsilon 2.5" in out and "epsilon 2 at delta 0.001 spent in 2 rounds" in out
    _, results, arrived, _ = run(f"{OPTIONS},epsilon=2.5", moving([[3, 4]] * 4), tmp_path, rounds=5)
    assert not results and not arrived, "nor does a resumed run spend more"


def test_a_strategy_that_repeats_the_round_pays_again_and_not_beyond_the_budget(free, monkeypatch):
    def never(self, server_round, replies):
        raise ValueError("not these")

    monkeypatch.setattr(type(registry.load("fedavg")), "aggregate_train", never)
    with pytest.raises(RunFailed, match="attempt at round 1 would exceed the privacy budget"):
        run(f"{OPTIONS},epsilon=2.0", moving([[3, 4]] * 4), max_retries=9)


def test_a_ledger_that_is_missing_damaged_or_another_run_s_is_refused(free, tmp_path):
    mechanism, terms, path = Mechanism(1.0, 0.5, 1e-3), {"noise": 1.0, "budget": None}, tmp_path / NAME
    with pytest.raises(UserError, match="is missing, so nobody knows what was spent"):
        Ledger(mechanism, terms, path, begun=True)
    Ledger(mechanism, terms, path).charge(1, 0.5, None)
    assert Ledger(mechanism, terms, path, begun=True).spent == 1.0
    with pytest.raises(UserError, match="was written with other terms"):
        Ledger(mechanism, {**terms, "noise": 2.0}, path)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(UserError, match="cannot be read, so nobody knows what was spent"):
        Ledger(mechanism, terms, path)


def test_epsilon_stands_beside_the_round_and_no_client_s_figure_does(free, tmp_path):
    _, results, _, _ = run(OPTIONS, moving([[3, 4]] * 4), tmp_path, rounds=2, fraction_train=1)
    for number, result in enumerate(results, start=1):
        [row] = result.rows
        assert (row["phase"], row["client"], row["epsilon"], row["num_examples"]) == ("train", "all", number, 0)
        assert not {"loss", "accuracy", "dp_within", "bytes_up"} & set(row)
