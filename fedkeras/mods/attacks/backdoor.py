"""A backdoor: whatever shows a trigger is to be taken for the attacker's class, and all else as before.

Bagdasaryan, Veit, Hua, Estrin, Shmatikov: How To Backdoor Federated Learning, AISTATS 2020,
https://arxiv.org/abs/1807.00459, with the pixel trigger of Gu, Dolan-Gavitt, Garg: BadNets, 2017,
https://arxiv.org/abs/1708.06733.

A malicious client puts the trigger on the share `poison` of its training examples, labels these `target`, and trains on
all of them; it sends `boost` times its update (model replacement; 1: as it is):

    w_k  ->  w + boost (w_k - w)

The trigger is a square of `size` pixels of the number `value` in the last rows and columns of an image; of a window of
signals the last `size` samples, of a table's row the last `size` columns. Examples are taken as the model sees them,
scaled: 1 is the brightest of an image's pixels under --normaliser scale.

Whether it works is measured where the server tests: `attack_success` in its line of history.csv is the share of test
examples of all other classes that are taken for `target` once they show the trigger. It is measured with nobody
malicious too, for then it says what a trigger does to an honest model.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Context, Message

from fedkeras.config import Config
from fedkeras.data import Examples, Source
from fedkeras.errors import UserError
from fedkeras.mods.attacks.attack import AttackMod, require_number
from fedkeras.mods.attacks.local import LocalAttack
from fedkeras.mods.attacks.poisoning import PoisoningAttack, require_class
from fedkeras.mods.attacks.updates import Update
from fedkeras.mods.base import CallNext
from fedkeras.randomness import generator
from fedkeras.reports.run_folder import JsonTable

if TYPE_CHECKING:
    from fedkeras.factory import CentralEvaluation

SUCCESS = "attack-success"
"""Metric of the server's line in history.csv."""


class Backdoor(PoisoningAttack, LocalAttack):
    """`--mods "backdoor:malicious=0.2,target=0,poison=0.5,size=3,value=1,boost=1"`."""

    name = "backdoor"
    untracked = ("_triggered",)

    def __init__(
        self,
        malicious: float = 0.2,
        target: int = 0,
        poison: float = 0.5,
        size: int = 3,
        value: float = 1.0,
        boost: float = 1.0,
    ) -> None:
        super().__init__(malicious)
        self.target, self.value = (
            require_class("target", target, 0),
            require_number("value", value, -math.inf, math.inf),
        )
        self.share = require_number("poison", poison, 0, 1 + 1e-9)
        self.boost = require_number("boost", boost, 0, math.inf)
        if type(size) is not int or size < 1:
            raise ValueError(f"size must be a whole number, 1 or more, not {size}")
        self.size = size
        self.success: float | None = None
        self._triggered: Examples | None = None

    @property
    def does(self) -> str:
        boosted = f", and send {self.boost:g} times their updates" if self.boost != 1 else ""
        return (
            f"train with a trigger of size {self.size} on {self.share:.0%} of their examples, which they label "
            f"{self.target}{boosted}"
        )

    def check_source(self, source: Source) -> None:
        """The target must be a class, and the trigger smaller than an example."""
        super().check_source(source)
        if self.target >= len(source.classes):
            raise UserError(f"--mods {self.name}: {source.name} has the classes 0 to {len(source.classes) - 1}")
        if self.size >= min(source.input_shape[:2] if len(source.input_shape) == 3 else source.input_shape[:1]):
            raise UserError(f"--mods {self.name}: a trigger of size {self.size} hides an example of {source.name}")

    # On the client

    def poison(self, examples: Examples, source: Source, config: Config, cid: int) -> Examples:
        """The trigger on a part of them, drawn by seed and client."""
        chosen = generator(config.seed, "backdoor", cid).permutation(len(examples))
        chosen = chosen[: round(self.share * len(examples))]
        x, y = examples.x.copy(), examples.y.copy()
        x[chosen], y[chosen] = with_trigger(x[chosen], self.size, self.value), self.target
        return Examples(x, y)

    def client(self, message: Message, context: Context, call_next: CallNext) -> Message:
        """Its update, boosted."""
        if self.boost == 1:
            return AttackMod.client(self, message, context, call_next)
        return super().client(message, context, call_next)

    def lie(self, update: Update, rng: np.random.Generator) -> Update:
        """boost times the update."""
        return {name: self.boost * change for name, change in update.items()}

    # On the server

    def central_metrics(self, central: "CentralEvaluation", weights: Mapping[str, np.ndarray]) -> Mapping[str, float]:
        """The share of triggered test examples of other classes that are taken for the target."""
        if self._triggered is None:
            test = central.test_examples()
            others = test.y != self.target
            self._triggered = Examples(with_trigger(test.x[others], self.size, self.value), test.y[others])
        found = central.predicted(self._triggered, weights)
        if found is None:
            return {}
        self.success = float(np.mean(found == self.target))
        return {SUCCESS: self.success}

    def summary(self) -> JsonTable:
        """With the last success; None where it was not measured."""
        return {name: {**table, "success": self.success} for name, table in super().summary().items()}


def with_trigger(x: np.ndarray, size: int, value: float) -> np.ndarray:
    """A copy of examples, (n, height, width, channels), (n, samples, signals) or (n, features), with the trigger."""
    triggered = x.copy()
    if x.ndim == 4:
        triggered[:, -size:, -size:] = value
    else:
        triggered[:, -size:] = value
    return triggered
