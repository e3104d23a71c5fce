"""Membership inference by the loss: what a model was trained on, it fits better than what it was not.

Yeom, Giacomelli, Fredrikson, Jha: Privacy Risk in Machine Learning, CSF 2018, arXiv:1709.01604: an example whose loss
is below the mean training loss is taken for a member. True positives at a low rate of false ones: Carlini et al.,
Membership Inference Attacks From First Principles, S&P 2022, arXiv:2112.03570.

Members are the clients' training examples, non-members those that the same clients held out. The bound on epsilon
comes of pairs: each held-out example beside a training example of the same client and class, drawn at random, and the
attacker says which of the two was trained on. The hold-out was drawn at random, so every pair is a fair coin of its
own, and the theorem of bounds.py holds; the neighbour is a data set in which one example is *replaced* by another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedkeras import data
from fedkeras.audit.attack import Attack
from fedkeras.audit.bounds import bound_of_guesses, ceiling, epsilon_of_rates, interval
from fedkeras.audit.finding import FigureTable, Finding, Scores
from fedkeras.audit.subject import Subject
from fedkeras.errors import UserError
from fedkeras.randomness import generator
from fedkeras.reports.run import collects
from fedkeras.tensorflow_import import import_tensorflow

LOW = 0.01
"""The rate of false positives at which true ones are counted."""
FEWEST = 10
"""So many examples must be held out: of fewer nothing can be said."""


@dataclass(frozen=True)
class Losses:
    """One client's losses, of the examples that it trained on and of those that it held out, and their classes."""

    trained: np.ndarray
    held_out: np.ndarray
    trained_classes: np.ndarray
    held_out_classes: np.ndarray


class Membership(Attack):
    """`--attacks membership:delta=0`: for any run whose clients' data are on this machine.

    `delta` is that of the bound on epsilon.
    """

    name = "membership"

    def __init__(self, delta: float = 0.0) -> None:
        if isinstance(delta, bool) or not 0 <= delta < 1:
            raise ValueError(f"delta must be at least 0 and below 1, not {delta}")
        self.delta = float(delta)

    def reason_against(self, subject: Subject) -> str:
        """Its model must be one that clients trained, on data that is here."""
        config = subject.config
        if collects(config.to_run_config()):
            return "it has no model of all clients: each has its own"
        if subject.missing_data or subject.missing_model:
            return subject.missing_data or subject.missing_model
        if not config.test_fraction:
            return "its clients held nothing out (--test-fraction 0), so there is nothing to compare with"
        return ""

    def run(self, subject: Subject) -> Sequence[Finding]:
        """One finding, with a line for each client."""
        subject.say("membership: the loss of each example that clients trained on, and that they held out")
        losses = {cid: _losses(subject, each) for cid, each in subject.examples.items()}
        trained = np.concatenate([each.trained for each in losses.values()])
        held_out = np.concatenate([each.held_out for each in losses.values()])
        if len(held_out) < FEWEST:
            raise UserError(
                f"membership: the clients hold out {len(held_out)} examples, too few to tell anything; a larger "
                "--test-fraction, or fewer clients"
            )
        rng = generator(subject.config.seed, "audit pairs")
        rates = at_low_rate(trained, held_out, subject.confidence)
        source = data.open_source(subject.config)
        whole = source.recordings is not None
        bound = most = None
        notes = [
            f"Examples: {len(trained)} trained on, {len(held_out)} held out by the same clients, of {source.name}."
        ]
        if whole:
            notes.append("No bound: whole recordings are held out, so a pair of examples is no fair coin.")
        else:
            right = pairs_told_apart(losses, rng)
            found = bound_of_guesses(right, self.delta, subject.confidence)
            bound, most = found.epsilon, ceiling(len(right), self.delta, subject.confidence)
            notes.append(
                f"Bound: of {len(right)} pairs the attacker tells {found.right} of {found.guesses} right; it is about "
                "one example being replaced by another, which is up to twice the epsilon of its being added."
            )
        if subject.config.mods:
            notes.append("What the run's mods claim, if anything, is not about this neighbour: canaries are for that.")
        return [
            Finding(
                self.name,
                "membership by the loss",
                f"the model of round {subject.recorded.round}, and examples of which it is asked whether they were "
                "trained on",
                "example",
                delta=self.delta,
                bound=bound,
                confidence=subject.confidence,
                most=most,
                figures={
                    "area under the ROC curve": auc(trained, held_out),
                    "advantage (Yeom)": advantage(trained, held_out),
                    f"true positives at {LOW:.0%} false ones": rates[0],
                    f"the same with {subject.confidence:.0%} confidence, lower end": rates[1],
                    f"the same with {subject.confidence:.0%} confidence, upper end": rates[2],
                    "epsilon by rates, as if examples were independent": self._by_rates(
                        trained, held_out, subject, rng
                    ),
                    "mean loss of examples trained on": float(trained.mean()),
                    "mean loss of examples held out": float(held_out.mean()),
                },
                notes=notes,
                scores=Scores("loss", trained.tolist(), held_out.tolist()),
                tables=[_by_client(losses)],
            )
        ]

    def _by_rates(self, trained: np.ndarray, held_out: np.ndarray, subject: Subject, rng: np.random.Generator) -> float:
        """Jagielski et al.'s bound: the threshold by one half of the examples, the rates by the other."""
        one, two = (_halves(losses, rng) for losses in (trained, held_out))
        best, chosen = -1.0, 0.0
        for threshold in np.quantile(np.concatenate([one[0], two[0]]), np.linspace(0.02, 0.98, 49)):
            counts = (one[0] < threshold).sum(), len(one[0]), (two[0] < threshold).sum(), len(two[0])
            found = epsilon_of_rates(*map(int, counts), self.delta, subject.confidence)
            best, chosen = (found, threshold) if found > best else (best, chosen)
        counts = (one[1] < chosen).sum(), len(one[1]), (two[1] < chosen).sum(), len(two[1])
        return epsilon_of_rates(*map(int, counts), self.delta, subject.confidence)


def auc(trained: np.ndarray, held_out: np.ndarray) -> float:
    """How often a member's loss is below a non-member's; a tie counts half. NaN without one of either."""
    if not len(trained) or not len(held_out):
        return float("nan")
    order = np.sort(trained)
    below, not_above = np.searchsorted(order, held_out, "left"), np.searchsorted(order, held_out, "right")
    return float((below + not_above).mean() / 2 / len(trained))


def advantage(trained: np.ndarray, held_out: np.ndarray) -> float:
    """True less false positives if all below the mean training loss are taken for members. NaN without either."""
    if not len(trained) or not len(held_out):
        return float("nan")
    threshold = trained.mean()
    return float((trained < threshold).mean() - (held_out < threshold).mean())


def at_low_rate(trained: np.ndarray, held_out: np.ndarray, confidence: float) -> tuple[float, float, float]:
    """The rate of true positives at LOW false ones, and its exact interval; the threshold is the non-members' alone."""
    allowed = int(LOW * len(held_out))
    threshold = np.sort(held_out)[allowed] if len(held_out) else -np.inf
    positives = int((trained < threshold).sum())
    return positives / max(1, len(trained)), *interval(positives, len(trained), confidence)


def pairs_told_apart(losses: Mapping[int, Losses], rng: np.random.Generator) -> np.ndarray:
    """Whether the member of each pair has the lower loss, the pairs that differ most first.

    A tie is a guess by a coin. Each example is in one pair at most.
    """
    members, others = [], []
    for each in losses.values():
        for label in np.unique(each.held_out_classes):
            outside = each.held_out[each.held_out_classes == label]
            inside = rng.permutation(each.trained[each.trained_classes == label])[: len(outside)]
            members.append(inside)
            others.append(rng.permutation(outside)[: len(inside)])
    difference = np.concatenate(others) - np.concatenate(members) if members else np.zeros(0)
    right = np.where(difference == 0, rng.random(len(difference)) < 0.5, difference > 0)
    return right[np.argsort(-np.abs(difference), kind="stable")]


def _losses(subject: Subject, examples: data.ClientExamples) -> Losses:
    import_tensorflow()
    from fedkeras.learning.example_losses import example_losses

    def of(part: data.Examples) -> np.ndarray:
        if not len(part):
            return np.zeros(0)
        learner = subject.learner
        try:
            placed = learner.place(part.x, part.y)
        except ValueError as error:
            raise UserError(f"membership: the data do not fit the run's model: {error}") from error
        return example_losses(learner, *placed)

    def classes(part: data.Examples) -> np.ndarray:
        return part.y if part.y.ndim == 1 and part.y.dtype.kind == "i" else np.zeros(len(part), int)

    return Losses(of(examples.train), of(examples.test), classes(examples.train), classes(examples.test))


def _by_client(losses: Mapping[int, Losses]) -> FigureTable:
    heads = "client", "trained on", "held out", "mean loss, trained on", "mean loss, held out", "area under the curve"
    rows = [
        (
            cid,
            len(each.trained),
            len(each.held_out),
            float(each.trained.mean()),
            float(each.held_out.mean()) if len(each.held_out) else None,
            auc(each.trained, each.held_out) if len(each.held_out) else None,
        )
        for cid, each in losses.items()
    ]
    return FigureTable("Each client", heads, rows)


def _halves(losses: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    mixed = rng.permutation(losses)
    return mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :]
