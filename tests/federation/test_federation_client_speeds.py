"""Simulated speeds: seconds by hand, a function of seed and cid, and what cannot be read."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.client_speeds import ClientSpeeds, Device, with_absolute_path
from fedkeras.randomness import generator


def speeds(clients, seed=1, num_partitions=3):
    return ClientSpeeds.of(Config(clients=clients, seed=seed, num_partitions=num_partitions))


def test_seconds_are_steps_times_step_times_factor_and_bits_over_the_link(tmp_path):
    (tmp_path / "s.csv").write_text("cid,slow,mbit\n0,1,\n2,4,8\n1,0.5,\n")
    found = speeds(f"slow={tmp_path}/s.csv:step=0.2,mbit=2")
    assert found.seconds(0, 10) == pytest.approx(2.0) and found.seconds(1, 10) == pytest.approx(1.0)
    assert found.seconds(0, 10, 1_000_000) == pytest.approx(2.0 + 4.0), "8 Mbit over 2 Mbit/s"
    assert found.seconds(2, 10, 1_000_000) == pytest.approx(8.0 + 1.0), "its own link"
    assert found.steps_within(2, 5.0, 1_000_000) == 5 and found.steps_within(2, 1.0, 1_000_000) == 0
    assert speeds("slow=none").seconds(0, 7) == pytest.approx(0.7), "a tenth of a second a step, messages for nothing"


def test_a_factor_depends_on_seed_and_cid_alone():
    z = [float(generator(1, "client-speed", cid).standard_normal()) for cid in range(3)]
    assert [speeds("slow=lognormal:sigma=0.5").device(cid).factor for cid in range(3)] == [math.exp(z * 0.5) for z in z]
    assert [speeds("slow=halfnormal:sd=2").device(cid).factor for cid in range(3)] == [1 + 2 * abs(z) for z in z]
    assert speeds("slow=lognormal").device(1) == speeds("slow=lognormal", num_partitions=9).device(1)
    assert speeds("slow=lognormal", seed=2).device(1) != speeds("slow=lognormal").device(1)


def test_the_distributions_are_what_they_are_called():
    factors = [speeds("slow=lognormal:sigma=1").device(cid).factor for cid in range(1000)]
    assert np.median(factors) == pytest.approx(1.0, rel=0.1) and np.std(np.log(factors)) == pytest.approx(1.0, rel=0.1)
    even = [speeds("slow=uniform:low=2,high=6").device(cid).factor for cid in range(500)]
    assert 2 <= min(even) < 2.2 and 5.8 < max(even) <= 6


@given(st.floats(0.01, 50), st.floats(0.001, 10), st.integers(0, 10**6), st.floats(0, 100))
def test_steps_within_are_as_many_as_fit_and_no_more(factor, step, num_bytes, seconds):
    found = ClientSpeeds(1, step=step, devices={0: Device(factor, 5.0)})
    steps = found.steps_within(0, seconds, num_bytes)
    assert steps == 0 or found.seconds(0, steps, num_bytes) <= seconds * (1 + 1e-9)
    assert found.seconds(0, steps + 1, num_bytes) > seconds


def test_three_steps_of_a_tenth_fit_into_three_tenths():
    """Though 3 * 0.1 is above 0.3 in floating point."""
    assert speeds("slow=none").steps_within(0, 0.3) == 3


@pytest.mark.parametrize(
    ("clients", "said"),
    [
        ("lognormal", "--clients is 'lognormal'; give slow=lognormal, uniform"),
        ("slow=pareto", "--clients is 'slow=pareto'; give slow=lognormal, uniform"),
        ("slow=lognormal:mu=1", "mu: slow=lognormal takes no such option"),
        ("slow=lognormal:sigma=-1", "sigma must be from 0 to 5, not -1.0"),
        ("slow=uniform:low=0", "low must be above 0"),
        ("slow=none:step=0", "step, the seconds of a step, must be above 0"),
        ("slow=none:step=fast", "step must be a number, not 'fast'"),
        ("slow=nowhere.csv", r"cannot read .*/nowhere.csv: No such file"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(clients, said):
    with pytest.raises(UserError, match=said) as refused:
        speeds(clients)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cid,slow\n0,1\n1,1\n", "says nothing of client 2; there are 3"),
        ("cid,speed\n0,1\n", "lacks the column slow"),
        ("cid,slow\n0,1\n1,-1\n2,1\n", "line 3: slow must be above 0"),
        ("cid,slow\n0,1\n0,1\n", "line 3: client 0 stands there twice"),
        ("cid,slow\n0,\n", "line 2: could not convert"),
    ],
)
def test_a_file_that_lacks_something_is_refused_by_its_line(text, said, tmp_path):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        speeds(f"slow={tmp_path}/s.csv")


def test_a_file_is_found_from_another_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert with_absolute_path("slow=s.csv:step=1") == f"slow={tmp_path}/s.csv:step=1"
    assert with_absolute_path("slow=lognormal:sigma=1") == "slow=lognormal:sigma=1" and with_absolute_path("") == ""
