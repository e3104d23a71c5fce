"""Label flipping: a malicious client trains as all do, on wrong labels.

Fang, Cao, Jia, Gong: Local Model Poisoning Attacks to Byzantine-Robust Federated Learning, USENIX Security 2020,
https://arxiv.org/abs/1911.11815, section V: with C classes the label of every training example becomes

    y  ->  C - 1 - y

With `source` and `target` only the examples of one class are changed, and all to the other: Tolpegin, Truex, Gursoy,
Liu: Data Poisoning Attacks Against Federated Learning Systems, ESORICS 2020, https://arxiv.org/abs/2007.08432. What a
client holds out to test on keeps its labels.
"""

import numpy as np

from fedkeras.config import Config
from fedkeras.data import Examples, Source
from fedkeras.errors import UserError
from fedkeras.mods.attacks.poisoning import PoisoningAttack, require_class


class LabelFlip(PoisoningAttack):
    """`--mods "label-flip:malicious=0.2"`, or with `source=7,target=1` (-1: all classes)."""

    name = "label-flip"

    def __init__(self, malicious: float = 0.2, source: int = -1, target: int = -1) -> None:
        super().__init__(malicious)
        self.source, self.target = require_class("source", source, -1), require_class("target", target, -1)
        if (self.source < 0) != (self.target < 0):
            raise ValueError("say both, source and target, or neither")
        if self.source >= 0 and self.source == self.target:
            raise ValueError(f"source and target are the same class, {source}: nothing would be changed")

    @property
    def does(self) -> str:
        how = "every y as C - 1 - y" if self.source < 0 else f"those of class {self.source} as {self.target}"
        return f"train on wrong labels: {how}"

    def check_source(self, source: Source) -> None:
        """The classes must be there."""
        super().check_source(source)
        if max(self.source, self.target) >= len(source.classes):
            raise UserError(f"--mods {self.name}: {source.name} has the classes 0 to {len(source.classes) - 1}")

    def poison(self, examples: Examples, source: Source, config: Config, cid: int) -> Examples:
        """The same examples under other labels."""
        if self.source < 0:
            flipped = len(source.classes) - 1 - examples.y
        else:
            flipped = np.where(examples.y == self.source, self.target, examples.y)
        return Examples(examples.x, flipped.astype(examples.y.dtype))
