"""Canary clients in whole runs: right noise is not refuted; none, a tenth of it, and no clipping at the server are."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedkeras.audit.attack import chosen_attacks, parse_attacks
from fedkeras.audit.canaries import claim_of
from fedkeras.audit.canary_clients import CanaryClients
from fedkeras.audit.directions import Directions
from fedkeras.audit.finding import BESIDE, HOLDS, REFUTED
from fedkeras.audit.subject import Subject
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.mods.client_dp import mod as client_dp
from fedkeras.mods.client_dp.mod import ClientDp
from fedkeras.reports import RunFolder

CONFIG = Config(
    num_partitions=6, num_server_rounds=12, fraction_train=0.5, client_weights="uniform", rest_after=0,
    model="logistic_regression", mods="dp:epsilon=2,delta=1e-3",
)  # fmt: skip


class Scaled:
    """The operating system's noise, multiplied."""

    def __init__(self, factor: float) -> None:
        self.factor, self.rng = factor, np.random.default_rng()

    def normal(self, mean, deviation, shape):
        return self.rng.normal(mean, deviation * self.factor, shape)

    def standard_normal(self):
        return self.rng.standard_normal()


@pytest.fixture
def attack(monkeypatch, tmp_path):
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda n: None)

    def run(noise=None, canaries=0, **fields):
        if noise is not None:
            monkeypatch.setattr(client_dp, "_system_generator", lambda: Scaled(noise))
        said = []
        subject = Subject(replace(CONFIG, **fields), RunFolder(tmp_path), tmp_path, say=said.append)
        return *CanaryClients(canaries).run(subject), said

    return run


def test_a_run_with_its_noise_is_not_refuted(attack):
    every, last, said = attack()
    assert every.verdict == HOLDS and every.bound <= every.claimed == pytest.approx(2.0, abs=0.001)
    assert last.verdict == BESIDE and every.unit == "client"
    assert every.most > 3.0, "it could have been"
    assert "12 rounds again, with 200 canaries beside 6 clients" in said[0]
    assert len(every.scores.included) + len(every.scores.left_out) == 200 == every.figures["canaries"]
    assert not list(Path.cwd().glob("privacy.json")), "a run that nobody has asked for leaves no ledger"


@pytest.mark.parametrize("clip", ["adaptive", pytest.param("0.3", marks=pytest.mark.slow)])
def test_a_run_without_noise_is_refuted(attack, clip):
    every, _, _ = attack(0.0, mods=f"dp:epsilon=2,delta=1e-3,clip={clip}")
    assert every.verdict == REFUTED and every.claimed < 2.001 < every.bound <= every.most
    assert every.figures["right"] >= every.figures["guesses"] - 8, "who is drawn into no round at all leaves no trace"
    assert every.estimate > 10


@pytest.mark.slow
def test_a_server_that_does_not_clip_is_refuted(attack, monkeypatch):
    """The canaries lie, so that the server must see to the bound."""
    monkeypatch.setattr("fedkeras.mods.client_dp.clipping.factor", lambda length, bound: 1.0)
    every, _, _ = attack()
    assert every.verdict == REFUTED


@pytest.mark.slow
def test_a_tenth_of_the_noise_is_refuted_and_the_right_noise_never(attack):
    assert [attack()[0].verdict for _ in range(3)] == [HOLDS] * 3
    assert attack(0.1)[0].verdict == REFUTED
    assert attack(0.1, strategy="fedavgm")[0].estimate > 3


def test_as_many_canaries_as_the_claim_needs_and_a_claim_that_none_could_refute_is_said(tmp_path):
    said = []
    subject = Subject(CONFIG, RunFolder(tmp_path), tmp_path, say=said.append)
    attack = CanaryClients()
    assert (attack.count_for(2.0, 1e-3, subject), attack.count_for(2.0, 0.0, subject)) == (200, 200)
    assert attack.count_for(4.0, 1e-6, subject) == 800 and said == []
    assert (attack.count_for(None, 0.0, subject), CanaryClients(50).count_for(9.0, 0.0, subject)) == (200, 50)
    attack.count_for(9.0, 1e-5, subject)
    assert "could not refute epsilon 9 at delta 1e-05" in said[0]


@pytest.mark.parametrize(
    ("summary", "claimed"),
    [
        ({}, 2.0),
        ({"rounds": 12, "privacy": {"epsilon": 1.5}}, 1.5),
        ({"rounds": 7, "privacy": {"epsilon": 1.5}}, 2.0),
        ({"rounds": 12, "privacy": {"epsilon": 2.5}}, 2.0),
        ({"rounds": 12, "privacy": None}, 2.0),
    ],
)
def test_a_run_that_counts_too_little_is_held_to_its_own_word(tmp_path, summary, claimed):
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert claim_of(Subject(CONFIG, RunFolder(tmp_path), tmp_path), "privacy", 2.0) == claimed


def test_it_is_for_runs_that_claim_something_about_clients(tmp_path):
    subject = Subject(replace(CONFIG, mods=""), RunFolder(tmp_path), tmp_path)
    with pytest.raises(UserError, match="canary-clients is not for this run: it claims nothing about clients"):
        chosen_attacks(parse_attacks("canary-clients"), subject)
    for options in ("canaries=5", "canaries=2.5", "seed=x", "clients=3"):
        with pytest.raises(UserError, match="--attacks canary-clients: "):
            chosen_attacks(parse_attacks(f"canary-clients:{options}"), Subject(CONFIG, RunFolder(tmp_path), tmp_path))


def test_directions_are_orthogonal_unit_vectors_and_come_again(monkeypatch):
    kept = Directions(3, 8, 40)
    assert np.allclose([[kept.of(i) @ kept.of(j) for j in range(8)] for i in range(8)], np.eye(8))
    vector = np.arange(40.0)
    assert np.allclose(kept.along(vector), [kept.of(i) @ vector for i in range(8)])
    monkeypatch.setattr("fedkeras.audit.directions.KEPT", 10)
    drawn = Directions(3, 8, 40)
    assert np.allclose([np.linalg.norm(drawn.of(i)) for i in range(8)], 1)
    assert np.array_equal(drawn.along(vector), Directions(3, 8, 40).along(vector))
    assert np.allclose(drawn.along(vector), [drawn.of(i) @ vector for i in range(8)])


# The sum's variance, which finds what canaries are too few for


def variance_is_that_claimed(dp, size=40_000):
    """Whether noise on a sum of nothing has the deviation that is paid for; chi-square, five standard deviations."""
    bound = dp.bound
    noised, _ = dp.release(1, {"w": np.zeros(size)}, [])
    ratio = float(np.mean((noised["w"] * dp.expected / (dp.sum_noise * bound)) ** 2))
    return abs(ratio - 1) < 5 * (2 / size) ** 0.5


@pytest.mark.parametrize("options", [{"clip": 0.7}, {"clip": "adaptive"}])
@pytest.mark.parametrize(("factor", "right"), [(1.0, True), (0.5, False), (0.95, False), (1.1, False)])
def test_half_the_noise_is_found_by_the_sums_variance(monkeypatch, options, factor, right):
    monkeypatch.setattr(client_dp, "_system_generator", lambda: Scaled(factor))
    dp = ClientDp(delta=1e-3, epsilon=2.0, **options)
    dp.choose(replace(CONFIG, num_partitions=100))
    assert dp.noise > 1 and variance_is_that_claimed(dp) is right


def test_the_noise_that_is_paid_for_is_the_noise_of_the_sum():
    """By hand: with an adaptive bound, z_sum = (z^-2 - (2 sigma_b)^-2)^(-1/2), sigma_b = max(m/20, 1.2 z)."""
    dp = ClientDp(delta=1e-3, noise_multiplier=2.0)
    dp.choose(replace(CONFIG, num_partitions=100))
    assert dp.sum_noise == pytest.approx((0.25 - (2 * 2.5) ** -2) ** -0.5)
    assert ClientDp(delta=1e-3, noise_multiplier=2.0, clip=1.0).sum_noise == 2.0
