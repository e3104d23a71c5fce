"""The arms of a comparison: ways to train on the same data, by name."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fedkeras.config import Config, fields_of
from fedkeras.errors import UserError
from fedkeras.fields import ANY

SOLO = ("centralised", "local")
SPLIT = {f"split-{mode}": mode for mode in ("sequential", "splitfed", "shared")}
DEFAULT = "centralised,local,fedavg"


@dataclass(frozen=True)
class Arm:
    """One way to train: `centralised`, `local`, `split-...`, or a strategy as server.py's --strategy takes it."""

    name: str

    @property
    def kind(self) -> str:
        """centralised, local, split or federated."""
        if self.name in SOLO:
            return self.name
        return "split" if self.name in SPLIT else "federated"

    @property
    def slug(self) -> str:
        """The name as a folder's."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.name).strip("-.")

    def configure(self, config: Config, seed: int) -> Config:
        """This arm's training: the comparison's settings, with its strategy or its kind of split learning."""
        # A client without held-out examples answers an evaluation with an error
        own = replace(config, seed=seed, fraction_evaluate=1.0 if config.test_fraction else 0.0)
        own = own.with_defaults({*fields_of(strategy=ANY)} - {*fields_of(strategy=self.name)})
        if self.kind == "split":
            return replace(own.with_defaults(["strategy_args"]), split=SPLIT[self.name])
        whole = own.with_defaults(fields_of(workflow="split"))
        if self.kind == "federated":
            return replace(whole, strategy=self.name)
        return whole.with_defaults(("strategy_args", "mods"))


def parse_arms(text: str) -> tuple[Arm, ...]:
    """`centralised,local,fedavg` as arms, in this order. Raises UserError for a name twice, or none at all."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError(f"--arms is '{text}'; give names such as {DEFAULT}")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"--arms names {name} twice; for more seeds raise --repeats")
        if name.startswith("split-") and name not in SPLIT:
            raise UserError(f"--arms: there is no {name}; split learning is {', '.join(SPLIT)}")
    arms = tuple(map(Arm, names))
    slugs = [arm.slug for arm in arms]
    for arm in arms:
        if not arm.slug or slugs.count(arm.slug) > 1:
            raise UserError(f"--arms: '{arm.name}' has the same folder as another arm; rename its class")
    return arms


def names_of(arms: Sequence[Arm]) -> str:
    """Arms as they are typed."""
    return ",".join(arm.name for arm in arms)
