"""Each attack against numbers computed by hand, and who is malicious."""

import numpy as np
import pytest

from fedkeras.mods.attacks.malicious_clients import malicious_clients
from fedkeras.mods.attacks.noise import Noise
from fedkeras.mods.attacks.sign_flip import SignFlip


def vector(*numbers):
    return {"w": np.array(numbers, np.float64)}


class TestWhoIsMalicious:
    @pytest.mark.parametrize(
        ("fraction", "clients", "count"), [(0, 10, 0), (0.2, 10, 2), (0.29, 100, 29), (0.19, 10, 1), (0.99, 10, 9)]
    )
    def test_as_many_as_the_fraction_rounded_down(self, fraction, clients, count):
        assert len(malicious_clients(42, clients, fraction)) == count

    def test_the_seed_decides_and_a_smaller_fraction_s_are_among_a_larger_one_s(self):
        of = [malicious_clients(7, 100, fraction) for fraction in (0.1, 0.2, 0.3)]
        assert set(of[0]) < set(of[1]) < set(of[2])
        assert of[1] == malicious_clients(7, 100, 0.2) != malicious_clients(8, 100, 0.2)
        assert list(of[1]) == sorted(of[1]) and set(of[2]) <= set(range(100))


def test_sign_flip():
    assert SignFlip(0.2, scale=4.0).lie(vector(1, -2), None)["w"].tolist() == [-4, 8]


def test_noise():
    rng, again = np.random.default_rng(3), np.random.default_rng(3)
    lie = Noise(0.2, deviation=2.0).lie(vector(1, -2), rng)["w"]
    assert lie == pytest.approx(np.array([1, -2]) + 2 * again.standard_normal(2))
