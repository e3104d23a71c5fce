"""The arms of a comparison: ways to train on the same data, by name.

    ARMS = ARM,ARM,...    ARM = WAY+MOD+MOD...    WAY or MOD = NAME:OPTION=VALUE,OPTION=VALUE

A way to train and each mod bring their own options. Arms and options are both separated by commas, and yet it is never
in doubt which is meant: a word with an equals sign is an option of what stands before it, since no arm begins with one.
So `fedavg,fedavg+dp:noise=1,norm=0.5,trimmed_mean:beta=0.2` is three arms, and needs no quotes in a shell.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from fedkeras.config import Config, Value, fields_of
from fedkeras.errors import UserError
from fedkeras.fields import ANY
from fedkeras.mods.chain import make_mods
from fedkeras.named_code import Spec, parse_spec, parse_specs

SOLO = ("centralised", "local")
SPLIT = {f"split-{mode}": mode for mode in ("sequential", "splitfed", "shared")}
DEFAULT = "centralised,local,fedavg"
LONGEST_SLUG = 100
"""Characters of a folder's name, which ends with a seed; a file system takes 255 bytes, and a path not much more."""

_OPTION = re.compile(r"[A-Za-z_][\w-]*\s*=")
_PLUS = re.compile(r"\+(?!\s*\d)")
"""What stands before a mod, and no plus sign in a number such as 1e+3."""


@dataclass(frozen=True)
class Arm:
    """One way to train, as it is typed.

    `centralised`, `local`, `split-...`, or a strategy as server.py's --strategy takes it, with the strategy's options;
    behind plus signs mods of this arm alone, as --mods has them.
    """

    name: str

    @cached_property
    def way(self) -> Spec:
        """The way to train and its options. Raises UserError."""
        return parse_spec(_PLUS.split(self.name)[0], "arms")

    @property
    def options(self) -> Mapping[str, Value]:
        """Those of the way to train, in snake case."""
        return self.way.options

    @property
    def mods(self) -> str:
        """This arm's own mods as --mods takes them, outermost first; "" for none."""
        return "; ".join(part.strip() for part in _PLUS.split(self.name)[1:])

    @property
    def kind(self) -> str:
        """centralised, local, split or federated."""
        if self.way.name in SOLO:
            return self.way.name
        return "split" if self.way.name in SPLIT else "federated"

    @property
    def slug(self) -> str:
        """The name as a folder's: cut where it is long, and then told apart by a digest of the whole."""
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", self.name).strip("-.")
        if len(slug) <= LONGEST_SLUG:
            return slug
        return f"{slug[: LONGEST_SLUG - 9]}-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}"

    def is_personal(self, mods: str) -> bool:
        """Whether its clients end with models of their own; `mods` are those of all arms. Raises UserError."""
        named = self.mods if self.kind in SOLO else "; ".join(filter(None, (mods, self.mods)))
        try:
            return make_mods(named).own_models
        except UserError as error:
            raise (UserError(f"--arms {self.name}: {error}") if self.mods else error) from error

    def check(self, mods: str) -> None:
        """Raise UserError for options and mods that have nobody here to take them; `mods` are those of all arms."""
        if self.options and self.kind != "federated":
            raise UserError(f"--arms {self.name}: {self.way.name} has no options; those of a strategy stand behind it")
        if self.mods and self.kind in SOLO:
            raise UserError(f"--arms {self.name}: mods stand between clients and server, and {self.kind} has none")
        own, everybodys = ([spec.name for spec in parse_specs(text, "arms")] for text in (self.mods, mods))
        for name in own:
            if (own + everybodys).count(name) > 1:
                where = "--mods has it for all arms already" if name in everybodys else "it is named twice"
                raise UserError(f"--arms {self.name}: {where}, and {name} would be applied twice")

    def configure(self, config: Config, seed: int) -> Config:
        """This arm's training: the comparison's settings, with its way to train and its own mods inside of --mods."""
        # A client without held-out examples answers an evaluation with an error
        own = replace(config, seed=seed, fraction_evaluate=1.0 if config.test_fraction else 0.0)
        own = own.with_defaults({*fields_of(strategy=ANY)} - {*fields_of(strategy=self.way.name)})
        if self.mods:
            own = replace(own, mods="; ".join(filter(None, (own.mods, self.mods))))
        if self.kind == "split":
            return replace(own.with_defaults(["strategy_args"]), split=SPLIT[self.way.name])
        whole = own.with_defaults(fields_of(workflow="split"))
        if self.kind != "federated":
            return whole.with_defaults(("strategy_args", "mods"))
        if self.options:
            return replace(whole, strategy=self.way.name, strategy_args=str(self.way).removeprefix(f"{self.way.name}:"))
        return replace(whole, strategy=self.way.name)


def parse_arms(text: str) -> tuple[Arm, ...]:
    """`centralised,local,fedavg+dp:noise=1,norm=0.5` as three arms, in this order.

    Raises UserError for a name twice, for none at all, and for options that belong to nothing.
    """
    names: list[str] = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        if not _OPTION.match(word):
            names.append(word)
        elif not names or "=" not in names[-1]:
            raise UserError(f"--arms: '{word}' is an option; write what it is of before it, as trimmed_mean:beta=0.2")
        else:
            names[-1] += f",{word}"
    if not names:
        raise UserError(f"--arms is '{text}'; give names such as {DEFAULT}")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"--arms names {name} twice; for more seeds raise --repeats")
        if not all(map(str.strip, _PLUS.split(name))):
            raise UserError(f"--arms: '{name}' has a plus sign too many; one stands before each mod")
    arms = tuple(map(Arm, names))
    slugs = [arm.slug for arm in arms]
    for arm in arms:
        if arm.way.name.startswith("split-") and arm.way.name not in SPLIT:
            raise UserError(f"--arms: there is no {arm.way.name}; split learning is {', '.join(SPLIT)}")
        if not arm.slug or slugs.count(arm.slug) > 1:
            raise UserError(f"--arms: '{arm.name}' has the same folder as another arm; rename its class")
    return arms


def with_those_beside(arms: Sequence[Arm], mods: str) -> tuple[Arm, ...]:
    """These arms, and where clients end with models of their own what that is judged beside, if it is not named.

    That is each client alone, and the same way to train with one model for all.
    """
    personal = [arm for arm in arms if arm.is_personal(mods)]
    if not personal:
        return tuple(arms)
    shared = [arm.way for arm in personal if not make_mods(mods).own_models]
    wanted = dict.fromkeys(["local", *map(str, shared)])
    return (*arms, *(Arm(name) for name in wanted if name not in [arm.name for arm in arms]))


def names_of(arms: Sequence[Arm]) -> str:
    """Arms as they are typed."""
    return ",".join(arm.name for arm in arms)
