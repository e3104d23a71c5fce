"""A study in sentences: what each defence costs with nobody malicious, what withstands which attack, where each breaks.

Which of two is better is said by paired differences and no further than their intervals go (compare.differences).
"""

from collections.abc import Mapping, Sequence

from fedkeras.compare.differences import PairedDifference
from fedkeras.compare.words import relation
from fedkeras.study.grid import NOBODY, Cell, Condition
from fedkeras.study.table import (
    Results,
    breakdowns,
    columns_of,
    conditions_of,
    defences_of,
    differences,
    figure_of,
    head_of,
    success_of,
)

Differences = Mapping[tuple[str, float], Sequence[PairedDifference]]
"""By attack and fraction: each defence against the reference."""


def reference_of(cells: Sequence[Cell]) -> str:
    """What the others are compared with: fedavg, or the first defence where it is not there."""
    defences = defences_of(cells)
    return "fedavg" if "fedavg" in defences else defences[0]


def paragraphs(cells: Sequence[Cell], results: Results, share: float) -> list[str]:
    """A paragraph a condition."""
    if not results:
        return ["No cell is finished yet."]
    found = differences(cells, results, reference_of(cells))
    made = []
    for condition in conditions_of(cells):
        own = {key[1:]: value for key, value in found.items() if key[0] == condition}
        sentences = [*_costs(own.get((NOBODY, 0.0), ())), *_attacks(cells, results, condition, own)]
        sentences += _breaks(cells, results, condition, share)
        if sentences:
            under = f"Under {condition.name}: " if condition.name else ""
            made.append(under + " ".join(sentences))
    seeds = {seed for _, seed in results}
    if len(seeds) < 2:
        made.append("One seed judges nothing: raise --repeats.")
    return made or ["No attack is finished with all of its fractions yet."]


def _costs(found: Sequence[PairedDifference]) -> list[str]:
    said = [relation(one) for one in found]
    return [f"With nobody malicious {'; '.join(said)}."] if said else []


def _attacks(cells: Sequence[Cell], results: Results, condition: Condition, found: Differences) -> list[str]:
    """Each attack by its largest fraction: the defence with the highest mean, and its difference from the reference."""
    sentences = []
    for attack in dict.fromkeys(attack for attack, _ in columns_of(cells) if attack != NOBODY):
        column = attack, max(fraction for own, fraction in columns_of(cells) if own == attack)
        means = {
            defence: one.mean
            for defence in defences_of(cells)
            if (one := figure_of(results, Cell(condition, defence, *column), "last"))
        }
        if len(means) < len(defences_of(cells)):
            continue
        success = {defence: success_of(results, Cell(condition, defence, *column)) for defence in means}
        if None not in success.values():
            named = ", ".join(f"{one.mean:.2f} with {defence}" for defence, one in success.items())
            sentences.append(f"{head_of(column)} succeeds on attacked examples: {named}.")
            continue
        best = max(means, key=means.get)
        sentence = f"Under {head_of(column)} {best} has the highest mean, {means[best]:.4f}"
        own = next((one for one in found.get(column, ()) if one.arm == best), None)
        sentences.append(f"{sentence}: {relation(own)}." if own else f"{sentence}.")
    return sentences


def _breaks(cells: Sequence[Cell], results: Results, condition: Condition, share: float) -> list[str]:
    found = breakdowns(cells, results, condition, share)
    sentences = []
    for defence in defences_of(cells):
        own = [one for one in found if one.defence == defence]
        broken = [f"{one.attack} at {one.fraction:g}" for one in own if one.fraction is not None]
        held = [f"{one.attack} up to {one.withstood:g}" for one in own if one.fraction is None]
        words = [f"is broken by {', '.join(broken)}"] * bool(broken) + [f"withstands {', '.join(held)}"] * bool(held)
        if words:
            sentences.append(f"{defence} {' and '.join(words)}.")
    if sentences:
        sentences.append(
            f"Broken: less than {share:g} of its accuracy above a guess is left, or a backdoor succeeds on more than "
            "half."
        )
    return sentences
