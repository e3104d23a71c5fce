"""SCAFFOLD by hand: control variates on both sides, where it ends, failed rounds, lost states, resumption."""

import re
import shutil

import numpy as np
import pytest
from quadratic_clients import RATE, Federation, Parabola

from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation import registry
from fedkeras.federation.received_config import received_config
from fedkeras.federation.records import payload, record
from fedkeras.mods.chain import make_mods
from fedkeras.mods.client_state.memory import from_bytes
from fedkeras.mods.control_variates import VARIATE
from fedkeras.named_code import Permission
from fedkeras.workflows.base import workflow_of
from fedkeras.workflows.flag_checks import check_flags

TWO = (Parabola(h=1, t=1, steps=2), Parabola(h=2, t=-1, steps=2))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDKERAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "client-state"


def of_clients(federation, cache):
    """Each client's control variate that counts, by cid."""
    states = federation.mods.mods[-1].states
    return {
        cid: from_bytes((cache / f"{states.run}-control-variates" / str(cid) / digest).read_bytes())["w"]
        for cid, digest in states.used.items()
    }


def test_two_clients_by_hand(cache):
    """Round 1 is FedAvg's: y_1 = 0.19, y_2 = -0.36. c_i is the mean gradient, c the mean of both; round 2 uses them."""
    federation = Federation(TWO, "scaffold")
    assert federation.run(1) == pytest.approx((0.19 - 0.36) / 2)
    c1, c2 = -0.19 / (RATE * 2), 0.36 / (RATE * 2)
    assert {cid: float(c[0]) for cid, c in of_clients(federation, cache).items()} == pytest.approx({0: c1, 1: c2})
    c = (c1 + c2) / 2
    assert federation.page.c["w"] == pytest.approx(c)
    x, found = -0.085, []
    for client, own in zip(TWO, (c1, c2), strict=True):
        y = x
        for _ in range(2):
            y -= RATE * (client.h * (y - client.t) + c - own)
        found.append(y)
    assert federation.run(2, first=2, w=x) == pytest.approx(np.mean(found), rel=1e-6)
    changes = [-c + (x - y) / (RATE * 2) for y in found]
    after = [float(each[0]) for each in of_clients(federation, cache).values()]
    assert after == pytest.approx([c1 + changes[0], c2 + changes[1]], rel=1e-5)
    assert federation.page.c["w"] == pytest.approx(c + np.mean(changes), rel=1e-5)
    assert federation.statistic == 2, "what is not trained is averaged"


def test_it_ends_where_the_mean_of_the_losses_is_least_and_fedavg_elsewhere():
    """Clients that differ in curvature: the least of the sum is at (1 - 2 + 12) / 6; many steps pull FedAvg away."""
    three = (Parabola(1, 1, 10), Parabola(2, -1, 10), Parabola(3, 4, 10))
    least = (1 * 1 + 2 * -1 + 3 * 4) / (1 + 2 + 3)
    assert abs(Federation(three, "fedavg").run(15)[0] - least) > 0.2
    assert Federation(three, "scaffold").run(15) == pytest.approx(least, abs=1e-3)
    flat = [Parabola(client.h / 4, client.t, 6) for client in three]
    momentum = {"optimizer_args": "momentum=0.9"}
    assert Federation(flat, "scaffold", momentum).run(15) == pytest.approx(least, abs=1e-2)


def test_examples_weigh_and_the_servers_rate_counts(cache):
    """p is 3/4 and 1/4; the servers' control variate is the clients' weighted mean after each round of all."""
    clients = (Parabola(1, 1, 2, examples=3), Parabola(2, -1, 2, examples=1))
    federation = Federation(clients, "scaffold", {"strategy_args": "server_learning_rate=0.5"})
    assert federation.run(1) == pytest.approx(0.5 * (0.75 * 0.19 + 0.25 * -0.36))
    federation.run(4, first=2)
    own = of_clients(federation, cache)
    assert federation.page.c["w"] == pytest.approx(0.75 * own[0] + 0.25 * own[1], rel=1e-5)


def test_of_clients_that_are_drawn_the_share_of_all_counts():
    federation = Federation([Parabola(1, 1, 1)] * 4, "scaffold", {"fraction_train": 0.5})
    federation.run(1)
    assert federation.page.c["w"] == pytest.approx(2 / 4 * -1.0), "each has the gradient -1"


def sizes_and_optima(seed, **own):
    clients = [Parabola(1, t, 10, n) for t, n in zip((3, -1, 0, -4), (8, 1, 1, 2), strict=True)]
    return Federation(clients, "scaffold", {"fraction_train": 0.5, "seed": seed, **own})


def test_where_half_of_the_clients_answer_it_ends_where_the_weighted_mean_of_the_losses_is_least(cache):
    """(8 x 3 - 1 + 0 - 2 x 4) / 12, whoever is drawn; the server's c is the weighted mean of all clients'."""
    federation = sizes_and_optima(1)
    assert federation.run(30) == pytest.approx(1.25, abs=1e-3)
    own = of_clients(federation, cache)
    assert federation.page.c["w"] == pytest.approx((8 * own[0] + own[1] + own[2] + 2 * own[3]) / 12, abs=1e-5)
    assert federation.page.n == {0: 8, 1: 1, 2: 1, 3: 2}


def test_clients_that_are_cut_down_in_some_rounds_leave_nothing_behind(cache):
    """Beside one of 1 a client of 8 counts for 2; for c it is what it was in its first round, and so is the end."""
    federation = sizes_and_optima(1, max_client_weight=2.0)
    end, n = federation.run(30), federation.page.n
    assert n != {0: 8, 1: 1, 2: 1, 3: 2}
    expected = sum(n[cid] * client.t for cid, client in enumerate(federation.clients)) / sum(n.values())
    assert end == pytest.approx(expected, abs=1e-3)


def test_half_a_cohort_after_a_checkpoint_has_the_same_bits():
    whole, first, second = (sizes_and_optima(2, checkpoint_every=3) for _ in range(3))
    w = first.run(3)
    snapshot = first.state.snapshot()
    second.state.restore(snapshot.arrays, snapshot.table)
    assert second.run(6, first=4, w=w).tobytes() == whole.run(6).tobytes()


def test_what_travels_is_twice_fedavgs_down_and_no_more_up():
    plain, federation = Federation(TWO, "fedavg"), Federation(TWO, "scaffold")
    plain.run(1), federation.run(1)
    of_c = payload(federation.sent[-1].content) - payload(plain.sent[-1].content)
    assert of_c == len(federation.sent[-1].content[VARIATE]["w"].data) == 128 + 4
    assert payload(federation.said[-1].content) == payload(plain.said[-1].content)
    assert {*federation.said[-1].content["control-variates"]} == {"state", "state-lost"}


def test_a_round_that_is_repeated_and_an_answer_that_is_bad_leave_no_trace():
    """Client 1's first answer is not finite, and both must answer: all bits are those of a run without it."""
    lies = [1]

    def lie(cid, server_round, content):
        if cid == 1 and server_round == 2 and lies:
            lies.pop()
            content["metrics"]["loss"] = float("nan")

    whole = Federation(TWO, "scaffold").run(4)
    again = Federation(TWO, "scaffold", {"min_results": 2, "max_retries": 2}, lie)
    assert again.run(4).tobytes() == whole.tobytes() and not lies


def test_a_run_that_goes_on_from_a_checkpoint_has_the_same_bits():
    whole, first, second = (Federation(TWO, "scaffold", {"checkpoint_every": 2}) for _ in range(3))
    w = first.run(2)
    snapshot = first.state.snapshot()
    first.run(3, first=3, w=w)  # which is lost: the server was killed
    second.state.restore(snapshot.arrays, snapshot.table)
    assert second.run(5, first=3, w=w).tobytes() == whole.run(5).tobytes()
    assert second.mods.summary() == {"control_variates_lost": 0}


def test_who_has_lost_its_own_takes_the_servers_and_says_so(cache, caplog):
    federation = Federation(TWO, "scaffold")
    w = federation.run(2)
    shutil.rmtree(cache)
    after = federation.run(3, first=3, w=w)
    assert "client 1 has lost its control variate" in caplog.text
    assert after == pytest.approx(Federation(TWO, "fedavg").run(1, w=w)), "a round without corrections"
    assert federation.mods.summary() == {"control_variates_lost": 2}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content.pop("control-variates"), "does not say that it keeps a control variate"),
        (lambda content: content["control-variates"].update({"state": "../x"}), "does not say what it keeps"),
        (lambda content: content["metrics"].pop("local-steps"), "says that it did None steps"),
        (lambda content: content["metrics"].update({"local-steps": 0}), "says that it did 0 steps"),
        (lambda content: content["metrics"].update({"local-steps": 2.5}), "says that it did 2.5 steps"),
    ],
)
def test_a_lie_is_its_clients_failure(change, said):
    federation = Federation(TWO, "scaffold", change=lambda cid, _, content: change(content) if cid else None)
    assert federation.run(1) == pytest.approx(0.19)
    assert list(federation.results[0].failures) == [1] and said in federation.results[0].failures[1]


def test_a_server_that_sends_control_variates_of_no_array_is_refused():
    federation = Federation(TWO, "scaffold")
    federation.run(1)
    for variate, said in ((("v", np.zeros(1, "f")), "'v'"), (("w", np.zeros(2, "f")), "'w'")):
        message, name, array = federation.sent[-1], *variate
        message.content[VARIATE] = record({name: array})
        context = type("Context", (), {"node_config": {"partition-id": 0, "allow": "*"}, "state": {}})
        with pytest.raises(ValueError, match=f"control variate {said} is of no array"):
            make_mods("control-variates").mods[0].client(message, context, federation.train)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"optimizer": "adam"},
            "scaffold is for --optimizer sgd, with or without momentum, and not for adam",
        ),
        ({"optimizer_args": "nesterov=true"}, "no other option than momentum; leave out nesterov"),
        ({"optimizer_args": "weight-decay=0.1"}, "leave out weight_decay"),
        ({"optimizer_args": "momentum=1.5"}, "momentum must be at least 0 and below 1, not 1.5"),
        ({"mods": "compress:up=int8"}, "--strategy scaffold does not go with --mods compress"),
        ({"mods": "dp-sgd:epsilon=2,delta=1e-3"}, "does not go with"),
        ({"mods": "secure-aggregation"}, "does not go with"),
        ({"strategy_args": "server_learning_rate=0"}, "server_learning_rate must be above 0"),
        ({"mode": "fedbuff"}, "--mods control-variates is for rounds, and --mode fedbuff has none"),
        ({"split": "shared"}, "--split shared takes no other strategy"),
    ],
)
def test_what_it_does_not_go_with_is_refused_in_one_line(settings, said):
    config = Config(strategy="scaffold", client_weights="uniform", **settings)
    with pytest.raises(UserError, match=re.escape(said)) as error:
        check_flags(workflow_of(config), config)
    assert "\n" not in str(error.value)


def test_its_half_alone_is_refused():
    with pytest.raises(UserError, match="is half of --strategy scaffold, which adds it: leave it out"):
        make_mods("control-variates").strategy(registry.load("fedavg"))


def test_the_clients_half_is_added_once_and_innermost():
    """Clients under Flower are told what was typed, and add it by themselves."""
    config = registry.with_mods(Config(strategy="scaffold", mods="stragglers:share=0.5,drop=false"))
    assert config.mods == "stragglers:share=0.5,drop=False; control-variates" and registry.with_mods(config) == config
    assert registry.with_mods(Config()) == Config()
    told = Config(strategy="scaffold").to_run_config()
    assert received_config(told, {}, Permission()).mods == "control-variates"
