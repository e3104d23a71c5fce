"""Epsilon of Poisson-sampled Gaussian sums, and the noise that a budget needs; by the library dp-accounting.

Mironov, Talwar, Zhang: Renyi Differential Privacy of the Sampled Gaussian Mechanism, 2019, arXiv:1908.10530 (RDP).
Koskela, Jalko, Honkela: Computing Tight Differential Privacy Guarantees Using FFT, AISTATS 2020, arXiv:1906.03049, and
Doroshenko et al.: Connect the Dots, PETS 2022, arXiv:2207.04380 (PLD).

Two data sets are neighbours if one client (`--mods dp`) or one example (`--mods dp-sgd`) is in one of them and not in
the other. Both ways give an upper bound; PLD's is the tighter one, and what a run states. RDP's is shown beside it,
since papers and other libraries state that.
"""

import contextlib
import functools
import importlib.util
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedkeras.errors import UserError

if TYPE_CHECKING:
    from dp_accounting import DpEvent, PrivacyAccountant

INTERVAL = 1e-3
"""Discretisation of the privacy loss: ten times as fine changes the fourth digit of epsilon and costs ten times as
much. Values are rounded so that the result stays an upper bound."""
TOLERANCE = 1e-4
"""Of a calibrated noise multiplier."""
KINDS = ("PLD", "RDP")


def require_library(mod: str, advice: str = "") -> None:
    """Raise UserError where dp-accounting is not installed; it is not imported to find out. `mod`: a name of --mods."""
    if importlib.util.find_spec("dp_accounting") is None:
        raise UserError(
            f"--mods {mod} counts with dp-accounting, which is not installed: pip install 'fedkeras[privacy]'{advice}"
        )


@dataclass(frozen=True)
class Mechanism:
    """Sums over what is drawn with probability `rate`, with Gaussian noise of `noise` times the clipping bound."""

    noise: float
    rate: float
    delta: float

    def epsilon(self, sums: int, kind: str = "PLD") -> float:
        """What so many sums cost at `delta`; 0 for none."""
        return _epsilon(self, sums, kind) if sums else 0.0


@functools.lru_cache(maxsize=4096)
def _epsilon(mechanism: Mechanism, sums: int, kind: str) -> float:
    with _quiet():
        accountant = _accountant(kind)
        accountant.compose(_sum(mechanism.noise, mechanism.rate), sums)
        return float(accountant.get_epsilon(mechanism.delta))


@dataclass(frozen=True)
class Calibration:
    """The noise multipliers by which so many sums keep within epsilon: by PLD, which is used, and by RDP."""

    pld: float
    rdp: float


@functools.lru_cache(maxsize=1024)  # a client each, where one process serves many
def calibrate(epsilon: float, delta: float, sums: int, rate: float) -> Calibration:
    """The least noise that keeps within the budget, to TOLERANCE. PLD's is looked for just below RDP's answer."""
    from dp_accounting import ExplicitBracketInterval, SelfComposedDpEvent, calibrate_dp_mechanism

    def event(noise: float) -> "DpEvent":
        return SelfComposedDpEvent(_sum(noise, rate), sums)

    with _quiet():
        by_rdp = float(calibrate_dp_mechanism(lambda: _accountant("RDP"), event, epsilon, delta, tol=TOLERANCE))
        bracket = ExplicitBracketInterval(by_rdp / 2, by_rdp * 1.01)
        by_pld = float(
            calibrate_dp_mechanism(lambda: _accountant("PLD"), event, epsilon, delta, bracket, tol=TOLERANCE)
        )
    return Calibration(by_pld, by_rdp)


def _sum(noise: float, rate: float) -> "DpEvent":
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent

    return PoissonSampledDpEvent(rate, GaussianDpEvent(noise))


def _accountant(kind: str) -> "PrivacyAccountant":
    if kind == "RDP":
        from dp_accounting.rdp import RdpAccountant

        return RdpAccountant()
    from dp_accounting.pld import PLDAccountant

    return PLDAccountant(value_discretization_interval=INTERVAL)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The library warns of each order of RDP that it leaves out, which only loosens the bound.

    It does so through absl, which gives the root logger a handler for stderr, for good, if there is none.
    """
    log, nothing = logging.getLogger("absl"), logging.NullHandler()
    before = log.level
    log.setLevel(logging.ERROR)
    logging.root.addHandler(nothing)
    try:
        yield
    finally:
        logging.root.removeHandler(nothing)
        log.setLevel(before)


def short(number: float) -> str:
    """A number as it is typed: 1e-5, and not 1e-05."""
    return re.sub(r"e-0(\d)", r"e-\1", f"{number:.4g}")
