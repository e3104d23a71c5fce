"""From what the server sees to images: labels first, then images, by search or, where it fits better, by algebra."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from fedkeras.audit.inversion import analytic
from fedkeras.audit.inversion.curious_server import SeenUpdate, View
from fedkeras.audit.inversion.likeness import Likeness, likeness, matched
from fedkeras.data import Examples
from fedkeras.errors import UserError
from fedkeras.randomness import generator

if TYPE_CHECKING:
    import keras

    from fedkeras.audit.inversion.gradient_matching import GradientMatching

MOST_STEPS = 40
"""Local steps of all clients of one update that are simulated: each is a pass of its own in the compiled graph."""
GREY = 64
"""Images of noise whose mean answer stands for what the model says to the clients' images."""


@dataclass(frozen=True)
class Search:
    """How images are looked for: see GradientMatching."""

    steps: int = 1000
    restarts: int = 1
    variation: float = 0.01


@dataclass(frozen=True)
class Victims:
    """Images (n, ...) and labels (n,) that are handed to clients; `others` are what else the data set holds."""

    images: np.ndarray
    labels: np.ndarray
    classes: Sequence[str]
    others: Examples

    @cached_property
    def range(self) -> tuple[float, float]:
        """The least and the largest number in any image, which the attacker knows of the format."""
        every = self.images, self.others.x
        return min(float(x.min()) for x in every if len(x)), max(float(x.max()) for x in every if len(x))

    def scaled(self, images: np.ndarray) -> np.ndarray:
        """In 0..1."""
        low, high = self.range
        return (images - low) / ((high - low) or 1.0)

    def average(self, label: int) -> np.ndarray:
        """The mean of the others of a label, in 0..1: what can be guessed from the label alone."""
        of_label = self.others.x[self.others.y == label]
        return self.scaled(of_label if len(of_label) else self.others.x).mean(axis=0)


def chosen_victims(parts: Sequence[Examples], count: int, classes: Sequence[str], rng: np.random.Generator) -> Victims:
    """So many examples of the clients' training parts. Raises UserError where there are no more than that."""
    x, y = np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts])
    if len(y) <= count:
        raise UserError(f"--attacks inversion takes {count} images, and the clients have {len(y)}")
    order = rng.permutation(len(y))
    taken, left = order[:count], np.sort(order[count:])
    return Victims(x[taken], y[taken], classes, Examples(x[left], y[left]))


@dataclass(frozen=True)
class Attempt:
    """What came of one update: images in 0..1 in the order of the originals, and how near each is to its own."""

    seen: SeenUpdate
    originals: np.ndarray
    rebuilt: np.ndarray
    likenesses: Sequence[Likeness]
    labels_right: int | None
    """How many of the labels were read off; None where the model's last layer does not show them: they were given."""
    objective: float


def attempts(view: View, victims: Victims, search: Search, seed: int) -> list[Attempt]:
    """One an update. Raises UserError for updates of more local steps than can be simulated."""
    from fedkeras.audit.inversion.gradient_matching import GradientMatching

    if (steps := max(sum(map(len, each.batches)) for each in view.updates)) > MOST_STEPS:
        raise UserError(
            f"--attacks inversion would simulate {steps} local steps in one update, and {MOST_STEPS} is the most; "
            "fewer images or clients, or a run with larger batches or fewer local epochs"
        )
    low, high = victims.range
    matching = GradientMatching(view.model, view.rate, low=low, high=high, weight=search.variation)
    return [_attempt(view, matching, seen, victims, search, seed + i) for i, seen in enumerate(view.updates)]


def _attempt(
    view: View, matching: "GradientMatching", seen: SeenUpdate, victims: Victims, search: Search, seed: int
) -> Attempt:
    rng = generator(seed, "audit inversion", "start")
    labels, right = _labels(view, seen, victims, rng)
    found = matching.rebuild(seen.update, labels, seen.batches, rng, search.steps, search.restarts)
    images, objective = found.images, found.objective
    if len(labels) == 1 and (by_algebra := _by_algebra(seen, images.shape)) is not None:
        by_algebra = np.clip(by_algebra, *victims.range).astype(np.float32)
        reached = matching.objective(by_algebra, seen.update, labels, seen.batches)
        if reached < objective:
            images, objective = by_algebra, reached
    originals, rebuilt = victims.scaled(seen.images), victims.scaled(images)
    rebuilt = rebuilt[matched(rebuilt, originals)]
    near = [_likeness(one, other, victims) for one, other in zip(rebuilt, originals, strict=True)]
    return Attempt(seen, originals, rebuilt, near, right, objective)


def _likeness(rebuilt: np.ndarray, original: np.ndarray, victims: Victims) -> Likeness:
    return likeness(rebuilt, original, victims.scaled(victims.others.x))


def _labels(view: View, seen: SeenUpdate, victims: Victims, rng: np.random.Generator) -> tuple[np.ndarray, int | None]:
    """Labels, and how many are right; the true ones where the last layer shows none."""
    bias = seen.update[-1]
    if bias.shape != (len(victims.classes),) or not _says_probabilities(view.model):
        return np.sort(seen.labels), None
    noise = rng.uniform(*victims.range, (GREY, *seen.images.shape[1:])).astype(np.float32)
    steps = np.mean([len(steps) for steps in seen.batches])
    guessed = _probabilities(view.model, noise).mean(axis=0)
    labels = analytic.labels_of(bias, -view.rate * steps, guessed, len(seen.labels))
    counts = [np.bincount(each, minlength=len(victims.classes)) for each in (labels, seen.labels)]
    return labels, int(np.minimum(*counts).sum())


def _says_probabilities(model: "keras.Model") -> bool:
    from fedkeras.models.output import SOFTMAX, output_of

    return output_of(model).kind == SOFTMAX


def _probabilities(model: "keras.Model", images: np.ndarray) -> np.ndarray:
    return np.asarray(model(images, training=False))


def _by_algebra(seen: SeenUpdate, shape: tuple[int, ...]) -> np.ndarray | None:
    """The one image of an update whose first layer is dense, over all numbers of it; None of any other."""
    kernel, bias = (*seen.update[:2], np.zeros(0))[:2]
    if kernel.ndim != 2 or kernel.shape[0] != np.prod(shape) or bias.shape != kernel.shape[1:]:
        return None
    return analytic.input_of_dense(kernel, bias).reshape(shape)
