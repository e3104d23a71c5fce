"""Each attack against numbers computed by hand, and who is malicious."""

import numpy as np
import pytest
from scipy.stats import norm

from fedkeras.config import Config
from fedkeras.data import ArraySource, Examples
from fedkeras.errors import UserError
from fedkeras.mods.attacks.alie import Alie, z_max
from fedkeras.mods.attacks.backdoor import Backdoor, with_trigger
from fedkeras.mods.attacks.collusion import Round, mean_of
from fedkeras.mods.attacks.ipm import Ipm
from fedkeras.mods.attacks.label_flip import LabelFlip
from fedkeras.mods.attacks.malicious_clients import malicious_clients
from fedkeras.mods.attacks.min_max import MinMax, largest_gamma
from fedkeras.mods.attacks.noise import Noise
from fedkeras.mods.attacks.sign_flip import SignFlip
from fedkeras.mods.chain import make_mods


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


class TestAlie:
    @pytest.mark.parametrize(
        ("clients", "malicious", "share"),
        [(100, 20, 49 / 80), (50, 12, 24 / 38), (24, 5, 11 / 19), (10, 2, 4 / 8), (10, 6, 3 / 4)],
    )
    def test_z_of_the_paper(self, clients, malicious, share):
        """s = floor(n / 2 + 1) - m, 1 at least: 31 of 100 and 20, and the honest that are not in s, of all honest."""
        assert z_max(clients, malicious) == pytest.approx(norm.ppf(share))

    def test_the_lie(self):
        """Means 2 and 5, deviations 1 and 3."""
        lie = Alie(z=1.5).lie([vector(1, 2), vector(3, 8)], Round(10, 2))
        assert lie["w"].tolist() == [0.5, 0.5]
        by_paper = Alie().lie([vector(1, 2), vector(3, 8)], Round(100, 20))["w"]
        assert by_paper == pytest.approx([2 - norm.ppf(49 / 80), 5 - 3 * norm.ppf(49 / 80)])

    def test_who_is_alone_sends_its_own(self):
        assert Alie().lie([vector(1, 2)], Round(100, 20))["w"].tolist() == [1, 2]


def test_ipm():
    assert Ipm(epsilon=0.5).lie([vector(1, -2), vector(3, 4)], Round(10, 2))["w"].tolist() == [-1, -0.5]


TRIANGLE = [vector(0, 0), vector(4, 0), vector(0, 3)]


class TestMinMax:
    def test_by_hand_along_the_line(self):
        """Updates 0 and 4: mean 2, p = -2; 4 - (2 - 2 gamma) may be 4, so gamma is 1 and the lie 0."""
        assert MinMax().lie([vector(0), vector(4)], Round(10, 2))["w"].tolist() == [0]

    @pytest.mark.parametrize("perturbation", ["deviation", "sign", "unit"])
    def test_it_is_as_far_as_it_may_be(self, perturbation):
        """The longest side of the triangle is 5; the lie is 5 from one corner, and no further from any."""
        lie = MinMax(perturbation=perturbation).lie(TRIANGLE, Round(10, 3))["w"]
        assert max(np.linalg.norm(lie - each["w"]) for each in TRIANGLE) == pytest.approx(5)

    @pytest.mark.parametrize("perturbation", ["deviation", "sign", "unit"])
    def test_gamma_is_what_the_paper_s_search_comes_to(self, perturbation):
        """Algorithm 1 of the paper, on its oracle, from 10 on."""
        rng = np.random.default_rng(5)
        known = [{"a": rng.normal(size=(3, 2)), "b": rng.normal(1, 2, size=4)} for _ in range(6)]
        attack = MinMax(perturbation=perturbation)
        mean, p = mean_of(known), attack.direction(known)
        flat = [np.concatenate([each["a"].ravel(), each["b"]]) for each in known]
        m, d = (np.concatenate([each["a"].ravel(), each["b"]]) for each in (mean, p))
        widest = max(np.linalg.norm(a - b) for a in flat for b in flat)
        gamma, step, good = 10.0, 10.0, 0.0
        while step > 1e-7:
            passes = max(np.linalg.norm(m + gamma * d - each) for each in flat) <= widest
            good = gamma if passes else good
            gamma += step / 2 if passes else -step / 2
            step /= 2
        assert 0 < good < 20 and largest_gamma(known, mean, p) == pytest.approx(good, abs=1e-5)

    def test_who_is_alone_sends_its_own(self):
        assert MinMax().lie([vector(1, 2)], Round(10, 2))["w"].tolist() == [1, 2]


BLANK = np.zeros((20, 4, 4, 1), np.float32)
DIGITS = ArraySource("toy", (BLANK, np.arange(20) % 10), (BLANK[:2], np.arange(2)), tuple("0123456789"))


def poisoned(attack, labels):
    given = Examples(np.zeros((len(labels), 4, 4, 1), np.float32), np.array(labels, np.int32))
    made = attack.poison(given, DIGITS, Config(seed=1), 3)
    assert given.x.max() == 0 and given.y.tolist() == labels, "its own stay as they are"
    return made


def test_label_flip():
    assert poisoned(LabelFlip(), [0, 1, 9]).y.tolist() == [9, 8, 0]
    one = poisoned(LabelFlip(source=7, target=1), [7, 1, 2])
    assert one.y.tolist() == [1, 1, 2] and one.y.dtype == np.int32


class TestBackdoor:
    def test_the_trigger(self):
        image = with_trigger(np.zeros((1, 4, 4, 2), np.float32), 2, 0.5)[0]
        assert image[2:, 2:].tolist() == np.full((2, 2, 2), 0.5).tolist() and image.sum() == 4
        assert with_trigger(np.zeros((1, 3, 2)), 1, 1.0)[0].tolist() == [[0, 0], [0, 0], [1, 1]]
        assert with_trigger(np.zeros((1, 3)), 2, 1.0)[0].tolist() == [0, 1, 1]

    def test_a_share_of_the_examples_shows_it_and_has_the_target(self):
        made = poisoned(Backdoor(target=4, poison=0.3, size=2), [5] * 10)
        shown = made.x[:, -1, -1, 0] == 1
        assert shown.sum() == 3 and made.y[shown].tolist() == [4] * 3 and set(made.y[~shown]) == {5}

    def test_it_is_boosted(self):
        assert Backdoor(boost=5).lie(vector(1, -2), None)["w"].tolist() == [5, -10]

    def test_success_is_of_triggered_test_examples_of_other_classes(self):
        class Central:
            """Takes for class 4 whatever shows the trigger twice, which one of three does."""

            def test_examples(self):
                x = np.zeros((4, 4, 4, 1), np.float32)
                x[1, 0, 0] = 1
                return Examples(x, np.array([1, 2, 4, 3]))

            def predicted(self, examples, weights):
                return np.where(examples.x.sum(axis=(1, 2, 3)) == 5, 4, 0)

        attack = Backdoor(target=4, size=2)
        assert attack.central_metrics(Central(), {}) == {"attack-success": pytest.approx(1 / 3)}
        attack.clients = 10
        assert attack.summary()["attack"]["success"] == pytest.approx(1 / 3)

    @pytest.mark.parametrize(
        ("attack", "said"),
        [
            (Backdoor(target=10), "toy has the classes 0 to 9"),
            (LabelFlip(source=3, target=10), "toy has the classes 0 to 9"),
            (Backdoor(size=4), "a trigger of size 4 hides an example of toy"),
        ],
    )
    def test_what_the_data_set_has_not_is_refused(self, attack, said):
        with pytest.raises(UserError, match=said):
            attack.check_source(DIGITS)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("label-flip:source=3", "say both, source and target, or neither"),
        ("label-flip:source=3,target=3", "nothing would be changed"),
        ("label-flip:source=a,target=3", "source must be a class number, -1 or more, not a"),
        ("backdoor:poison=2", "poison must be from 0"),
        ("backdoor:size=0", "size must be a whole number, 1 or more"),
    ],
)
def test_options_that_make_no_sense_are_refused(spec, said):
    with pytest.raises(UserError, match=said):
        make_mods(spec)
