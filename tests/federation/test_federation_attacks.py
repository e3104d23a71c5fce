"""Attacks in whole rounds: what the strategy gets, by hand; and at how many liars a rule breaks."""

import numpy as np
import pytest
from bare_runs import run_of
from toy_federation import ArrivingIn, ToyClients, breaking, content, floats

from fedkeras.callbacks import Callbacks
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation import registry
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.grids import federation_grid
from fedkeras.federation.records import record, views
from fedkeras.mods.attacks.sign_flip import SignFlip
from fedkeras.mods.chain import make_mods
from fedkeras.workflows.rounds.server import RoundsWorkflow

CLIENTS = 5
START = floats(w=[10])


def step(cid, server_round, weights, config):
    """Client N adds N + 1."""
    return content({"w": weights["w"] + np.float32(cid + 1)}, 1, loss=float(cid))


def run(mods, strategy="fedavg", train=step, order=None, clients=CLIENTS, rounds=1, **fields):
    """(final weight, the malicious cids, results)."""
    config = Config(num_partitions=clients, num_server_rounds=rounds, seed=3, mods=mods, fraction_evaluate=0, **fields)
    chain, results, toys = make_mods(mods), [], ToyClients(train)

    def app(message, context):
        return make_mods(mods).answer(message, context, toys)

    grid = federation_grid(ArrivingIn(app, order or range(clients), config.to_run_config()))
    manager = ClientManager(grid, config, Callbacks([]))
    chain.check(config)
    chain.choose(config)
    args = {"num_byzantine": 1} if "krum" in strategy else {}
    own = {"clients": manager, "mods": chain, "trainable": ("w",)}
    context = run_of(grid, config, registry.load(strategy, args), [*chain.callbacks(), results.append], **own)
    context.callbacks.on_run_begin(context)
    final = RoundsWorkflow().train(context, record(START))
    return float(views(final)["w"][0]), chain.mods[0].cids, results


def mean_with(cids, lie):
    """10 and the mean of N + 1 of the honest clients and `lie(cid)` of the others."""
    return 10 + np.mean([lie(cid) if cid in cids else cid + 1 for cid in range(CLIENTS)])


class OwnAttack(SignFlip):
    """A user's, named by its path."""

    name = "own"


def test_an_attack_of_one_s_own_is_named_by_its_path():
    mods = f"{__name__}:OwnAttack:malicious=0.4,scale=3"
    make_mods(mods).check(Config(mods=mods, num_partitions=10))
    with pytest.raises(UserError, match="own does not go with sign-flip: a run has one attack"):
        make_mods(mods).check(Config(mods=f"{mods}; sign-flip"))


def test_nobody_is_malicious_at_zero():
    assert run("sign-flip:malicious=0")[:2] == (13, ())


def test_a_local_lie_is_what_the_strategy_gets_and_the_figures_stay():
    final, cids, [result] = run("sign-flip:malicious=0.4,scale=3")
    assert len(cids) == 2 and final == pytest.approx(mean_with(cids, lambda cid: -3 * (cid + 1)))
    assert {row["client"]: row["loss"] for row in result.rows if row["client"] != "all"} == {
        str(cid): float(cid) for cid in range(CLIENTS)
    }


@pytest.mark.parametrize("order", [None, [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]])
def test_colluders_send_one_lie_made_of_their_own_updates_in_any_order_of_arrival(order):
    final, cids, _ = run("ipm:malicious=0.4,epsilon=2", order=order)
    own = np.mean([cid + 1 for cid in cids])
    assert final == pytest.approx(mean_with(cids, lambda cid: -2 * own))


def test_the_omniscient_know_the_honest_clients_updates():
    final, cids, _ = run("ipm:malicious=0.4,epsilon=2,omniscient=true", order=[4, 3, 2, 1, 0])
    honest = np.mean([cid + 1 for cid in range(CLIENTS) if cid not in cids])
    assert final == pytest.approx(mean_with(cids, lambda cid: -2 * honest))


def test_a_colluder_that_fails_is_a_failure_and_the_others_lie_without_it():
    cids = run("ipm:malicious=0.6")[1]
    lost = cids[1]
    final, _, [result] = run("ipm:malicious=0.6,epsilon=1", train=breaking(step, lambda cid, _: cid == lost))
    left = [cid for cid in cids if cid != lost]
    own = np.mean([cid + 1 for cid in left])
    sent = [-own if cid in left else cid + 1 for cid in range(CLIENTS) if cid != lost]
    assert list(result.failures) == [lost] and final == pytest.approx(10 + np.mean(sent))


def test_alie_and_min_max_pass_through_rounds():
    """Of two colluders' updates a and b: mean and deviation are (a + b) / 2 and |a - b| / 2."""
    _, cids, _ = run("ipm:malicious=0.4")
    a, b = (cid + 1 for cid in cids)
    for mods, lie in {
        "alie:malicious=0.4,z=2": (a + b) / 2 - abs(a - b),
        # As far as it may be from either is |a - b|: half of that beyond the smaller one
        "min-max:malicious=0.4": (a + b) / 2 - abs(a - b) / 2,
    }.items():
        assert run(mods)[0] == pytest.approx(mean_with(cids, lambda cid, lie=lie: lie)), mods


# At how many liars a rule breaks: they push by a million.


@pytest.mark.parametrize(
    ("strategy", "withstands", "breaks"),
    [
        ("fedavg", 0, 1),
        ("fedmedian", 2, 3),
        ("geometric-median", 2, 3),
        ("trimmed-mean", 1, 2),
        ("multikrum", 1, 3),
    ],
)
def test_the_mean_breaks_at_one_liar_and_the_median_at_half(strategy, withstands, breaks):
    def final(liars):
        return run(f"ipm:malicious={liars / CLIENTS},epsilon=1e6", strategy)[0]

    assert 10 <= final(withstands) <= 10 + CLIENTS
    assert final(breaks) < -1e4


# What is said, and refused


def test_a_run_says_that_it_is_a_study():
    config = Config(num_partitions=10, seed=3, mods="alie:malicious=0.3")
    chain = make_mods(config.mods)
    chain.check(config)
    said = chain.choose(config)["attack"]
    cids = chain.mods[0].cids
    assert said.startswith(f"alie: 3 of 10 clients were made malicious ({', '.join(map(str, cids))}), drawn from the")
    assert chain.warnings(10)[0] == f"A STUDY, NO HONEST RUN: {said}"
    assert chain.summary()["attack"]["malicious"] == list(cids)
    assert chain.report_sections(None)[0].title == "Attack"


def test_alie_of_so_few_that_its_lie_is_none_says_so():
    def warnings(clients, **fields):
        chain = make_mods("alie:malicious=0.2")
        chain.choose(Config(num_partitions=clients, **fields))
        return chain.warnings(clients)

    assert "alie with 2 of 10 clients has z = 0: a lie that is hardly one" in warnings(10)[1]
    assert len(warnings(100)) == 1, "z is 0.29"


@pytest.mark.parametrize(
    ("mods", "fields", "said"),
    [
        ("sign-flip:malicious=1", {}, "malicious must be from 0 to below 1, not 1"),
        ("sign-flip:malicious=0.05", {}, "malicious=0.05 of 10 clients is 0, and the attack takes 1"),
        ("alie:malicious=0.1", {}, "malicious=0.1 of 10 clients is 1, and the attack takes 2"),
        ("alie:omniscient=2", {}, "omniscient must be true or false, not 2"),
        ("min-max:perturbation=best", {}, "perturbation must be one of deviation, sign, unit, not best"),
        ("ipm; dp:epsilon=2,delta=1e-3", {}, "does not go with"),
        ("ipm", {"over_select": 1.5}, "ipm does not go with --over-select by the real clock"),
        ("alie", {"round_deadline": 9.0}, "alie does not go with --round-deadline by the real clock"),
        ("ipm", {"data_source": "server", "model": "m.keras"}, "does not go with --data-source"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(mods, fields, said):
    with pytest.raises(UserError, match=said):
        make_mods(mods).check(Config(num_partitions=10, mods=mods, **fields))
