"""The cells of a study: every defence under every attack by every fraction of malicious clients, by condition."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from fedkeras.compare.arms import Arm, parse_arms
from fedkeras.config import Config, fields_of
from fedkeras.errors import UserError
from fedkeras.federation.sampling import cohort_size
from fedkeras.mods.attacks import ATTACKS

NOBODY = "none"
"""The attack of a cell in which no client is malicious."""

_PLACE = re.compile(r"=(f|m)(?=[,+]|$)")


@dataclass(frozen=True)
class Condition:
    """How clients are, beside who lies: settings over the study's, and mods such as drop-outs.

    As typed: `partitioner=dirichlet,alpha=0.1`, `+stragglers:share=0.8,drop=true`, `clients=slow=lognormal`.
    """

    name: str

    @property
    def mods(self) -> str:
        """As --mods takes them; "" for none."""
        return "; ".join(part.strip() for part in self.name.split("+")[1:])

    def configure(self, config: Config) -> Config:
        """The study's settings under this condition. Raises UserError."""
        own = {}
        for word in filter(None, (word.strip() for word in self.name.partition("+")[0].split(","))):
            key, equals, value = word.partition("=")
            name = key.strip().replace("-", "_")
            if not equals or name not in fields_of():
                raise UserError(f"--conditions: '{word}' is no setting; write partitioner=dirichlet, or +stragglers")
            own[key.strip()] = value.strip()
        made = replace(config, **{name.replace("-", "_"): getattr(_read(own), name.replace("-", "_")) for name in own})
        mods = "; ".join(filter(None, (made.mods, self.mods)))
        return replace(made, mods=mods)


def _read(texts: dict[str, str]) -> Config:
    """Settings given as texts, by the rules of flags. Raises UserError."""
    return Config.from_flags([f"--{key}={value}" for key, value in texts.items()], "--conditions", None)


@dataclass(frozen=True)
class Cell:
    """A defence, an attack ("none") and the fraction of all clients that are malicious, under a condition."""

    condition: Condition
    defence: str
    attack: str
    malicious: float

    @property
    def nobody(self) -> bool:
        """Whether all its clients are honest."""
        return self.attack == NOBODY

    @cached_property
    def arm(self) -> Arm:
        """The same as an arm of a comparison."""
        if self.nobody:
            return Arm(self.defence)
        name, _, options = self.attack.partition(":")
        given = ",".join(filter(None, (f"malicious={self.malicious:g}", options)))
        return Arm(f"{self.defence}+{name}:{given}")


def cells_of(
    defences: Sequence[str], attacks: Sequence[str], fractions: Sequence[float], conditions: Sequence[Condition]
) -> list[Cell]:
    """By condition, then defence; without an attack, or without malicious clients, a defence has one cell."""
    found: dict[Cell, None] = {}
    for condition in conditions:
        for defence in defences:
            for attack in attacks:
                for fraction in fractions if attack != NOBODY else (0.0,):
                    honest = not fraction or attack == NOBODY
                    cell = Cell(condition, defence, NOBODY if honest else attack, 0.0 if honest else fraction)
                    found[cell] = None
    return list(found)


def parse_attacks(text: str) -> tuple[str, ...]:
    """`none,alie:z=1.5` as names with their options; `none` stands first in any case. Raises UserError."""
    names = [arm.name for arm in parse_arms(text)]
    for name in names:
        if name.partition(":")[0] not in (NOBODY, *ATTACKS):
            raise UserError(f"--attacks: there is no '{name}'; known are {NOBODY}, {', '.join(ATTACKS)}")
        if name.startswith("label-flip") and ("source=" in name or "target=" in name):
            raise UserError(
                f"--attacks {name}: it is aimed at one class, which accuracy hides; leave out source and target"
            )
        if "malicious=" in name:
            raise UserError(f"--attacks {name}: --malicious says how many are malicious, for all attacks")
    return tuple(dict.fromkeys((NOBODY, *names)))


def parse_defences(text: str, config: Config, largest: float) -> tuple[str, ...]:
    """`multikrum:num-byzantine=f,trimmed_mean:beta=m` with their numbers for `m`, the largest fraction. UserError.

    f is as many malicious clients as a cohort has on the average, rounded up. A defence is set once for all cells: it
    knows what it is built for, and never who, nor how many there are today.
    """
    f = math.ceil(largest * cohort_size(config.num_partitions, config.fraction_train) - 1e-9)
    found = []
    for arm in parse_arms(text):
        if arm.kind != "federated":
            raise UserError(f"--defences: {arm.name} is no strategy")
        found.append(_PLACE.sub(lambda place: f"={f}" if place[1] == "f" else f"={largest:g}", arm.name))
    return tuple(found)


def parse_fractions(text: str) -> tuple[float, ...]:
    """`0,0.1,0.2` as numbers, ascending. Raises UserError."""
    try:
        found = sorted({float(word) for word in text.split(",") if word.strip()})
    except ValueError:
        found = []
    if not found or not all(0 <= fraction < 1 for fraction in found):
        raise UserError(f"--malicious is '{text}'; give fractions of the clients from 0 to below 1, such as 0,0.1,0.2")
    return tuple(found)


def parse_conditions(text: str) -> tuple[Condition, ...]:
    """Conditions parted by semicolons; one that says nothing where there is none."""
    return tuple(Condition(word) for word in dict.fromkeys(word.strip() for word in text.split(";")))
