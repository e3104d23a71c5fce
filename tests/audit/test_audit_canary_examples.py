"""Canary examples in whole runs: DP-SGD's noise holds, none and a tenth of it do not, and a plain run tells all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedkeras import data
from fedkeras.audit.attack import chosen_attacks, parse_attacks
from fedkeras.audit.canary_examples import CanaryExamples
from fedkeras.audit.finding import BESIDE, HOLDS, NO_CLAIM, REFUTED
from fedkeras.audit.planted import patterns, plant
from fedkeras.audit.subject import Subject
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.reports import RunFolder

CONFIG = Config(num_partitions=2, num_server_rounds=12, model="logistic_regression")
PRIVATE = "dp-sgd:epsilon=2,delta=1e-4,clip=1.0"


@pytest.fixture
def attack(monkeypatch, tmp_path):
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda n: None)

    def run(noise=None, **fields):
        from fedkeras.learning import dp_sgd

        if noise is not None:
            own = dp_sgd._noised
            monkeypatch.setattr(dp_sgd, "_noised", lambda sums, deviation, *more: own(sums, deviation * noise, *more))
        subject = Subject(replace(CONFIG, **fields), RunFolder(tmp_path), tmp_path, say=lambda line: None)
        return CanaryExamples().run(subject)

    return run


@pytest.mark.slow
def test_a_run_that_claims_nothing_tells_every_canary(attack):
    every, last = attack(num_server_rounds=6)
    assert (every.verdict, last.verdict, every.claimed, every.delta) == (NO_CLAIM, NO_CLAIM, None, 0.0)
    assert every.bound > 2 and every.estimate is None
    assert len(every.scores.included) + len(every.scores.left_out) == every.figures["canaries"] == 200


@pytest.mark.slow
def test_dp_sgd_is_not_refuted_with_its_noise(attack):
    every, last = attack(mods=PRIVATE)
    assert every.verdict == HOLDS and every.bound <= every.claimed == pytest.approx(2.0, abs=0.001)
    assert (every.delta, last.verdict) == (1e-4, BESIDE) and every.most > 3


def test_dp_sgd_without_noise_is_refuted(attack):
    every, _ = attack(0.0, mods=PRIVATE, num_server_rounds=20)
    assert every.verdict == REFUTED and every.bound > every.claimed


@pytest.mark.slow
def test_a_tenth_of_the_noise_is_refuted_and_the_right_noise_never(attack):
    assert [attack(mods=PRIVATE)[0].verdict for _ in range(2)] == [HOLDS] * 2
    assert attack(0.1, mods=PRIVATE, num_server_rounds=20)[0].verdict == REFUTED


def test_where_updates_are_encoded_the_last_model_alone_is_looked_at(attack):
    (last,) = attack(num_server_rounds=2, mods="compress:up=int8")
    assert last.title == "canary examples, last model" and last.decides


def test_canaries_are_planted_among_the_examples_of_their_client(tmp_path):
    coins = np.arange(40) % 3 == 0
    examples = {cid: data.load_client(CONFIG, cid) for cid in range(2)}
    planted = plant(CONFIG, examples, coins, np.random.default_rng(1), tmp_path)
    for cid in range(2):
        own = data.load_client(planted.config, cid)
        inside = (planted.owner == cid) & coins
        assert len(own.test) == 0
        assert np.array_equal(own.train.x, np.concatenate([planted.examples[cid].x, planted.x[inside]]))
        assert np.array_equal(own.train.y, np.concatenate([planted.examples[cid].y, planted.y[inside]]))
    sizes = sorted(len(each) for each in planted.examples.values())
    assert sizes == sorted(len(each.train) for each in examples.values())
    rows = planted.x[planted.owner == 0].reshape(20, -1)
    products = rows @ rows.T
    assert np.allclose(products, np.diag([products[0, 0]] * 20), atol=1e-3 * products[0, 0]), "orthogonal, alike strong"
    assert np.bincount(planted.owner).tolist() == [20, 20]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"mods": "dp:epsilon=2,delta=1e-3"}, r"what --mods dp claims is about clients"),
        ({"partitioner": "own"}, "its clients' examples are their own, and not on this machine"),
        ({"split": "sequential"}, "it has no federated rounds"),
        ({"dataset": "gone.npz"}, "its data are not on this machine .*gone.npz"),
    ],
)
def test_it_is_refused_where_it_means_nothing(tmp_path, fields, why):
    with pytest.raises(UserError, match=f"canary-examples is not for this run: {why}"):
        chosen_attacks(
            parse_attacks("canary-examples"), Subject(replace(CONFIG, **fields), RunFolder(tmp_path), Path(tmp_path))
        )


def test_more_patterns_than_there_is_room_for():
    found = patterns(10, 4, np.random.default_rng(2))
    assert found.shape == (10, 4) and np.allclose((found**2).mean(axis=1), 1)
    assert np.allclose(found[4:8] @ found[4:8].T, 4 * np.eye(4)) and patterns(0, 4, np.random.default_rng(2)).shape == (
        0,
        4,
    )
