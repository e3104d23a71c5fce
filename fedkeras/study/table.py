"""A study's figures: accuracy by cell in the last and in the best round, what defences cost, where they break."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedkeras import csv_text
from fedkeras.compare.arm_run import ArmResult
from fedkeras.compare.differences import PairedDifference, intervals
from fedkeras.compare.table import Figure, mean_and_deviation, mean_text
from fedkeras.reports.text_table import text_table
from fedkeras.study.grid import NOBODY, Cell, Condition

Results = Mapping[tuple[Cell, int], ArmResult]
Round = Literal["last", "best"]
COLUMNS = (
    "condition", "defence", "attack", "malicious", "seed", "last_accuracy", "best_accuracy", "best_round", "loss",
    "worst_tenth", "seconds", "attack_success",
)  # fmt: skip
LEAST_LEARNED = 0.1
"""Accuracy above a guess that a defence must have with nobody malicious, or there is nothing to break."""
SUCCEEDED = 0.5


@dataclass(frozen=True)
class Breakdown:
    """The smallest fraction tried at which a defence is broken by an attack, and the largest below it, where it is not.

    `fraction` is None where it withstood all that were tried, up to `withstood`; `withstood` is None where it broke at
    the first.
    """

    defence: str
    attack: str
    fraction: float | None
    withstood: float | None


def accuracy_of(result: ArmResult, which: Round) -> float | None:
    """In the last round, where a run that has diverged has 0, or in the best one, as published tables often have it.

    None for a model without an accuracy.
    """
    if which == "last":
        return 0.0 if result.loss is None else result.accuracy
    return max((point["accuracy"] for point in result.curve if point["accuracy"] is not None), default=None)


def figure_of(results: Results, cell: Cell, which: Round) -> Figure | None:
    """The mean over the seeds that are finished, and their deviation; None without any."""
    values = [accuracy_of(result, which) for (own, _), result in results.items() if own == cell]
    return mean_and_deviation(values)


def columns_of(cells: Sequence[Cell]) -> list[tuple[str, float]]:
    """(attack, fraction) in their order, nobody first."""
    found = dict.fromkeys((cell.attack, cell.malicious) for cell in cells)
    return sorted(found, key=lambda column: column[0] != NOBODY)


def head_of(column: tuple[str, float]) -> str:
    """`nobody`, or `alie 20 %`."""
    attack, fraction = column
    return "nobody" if attack == NOBODY else f"{attack} {100 * fraction:g} %"


def defences_of(cells: Sequence[Cell]) -> list[str]:
    """In their order."""
    return list(dict.fromkeys(cell.defence for cell in cells))


def conditions_of(cells: Sequence[Cell]) -> list[Condition]:
    """In their order."""
    return list(dict.fromkeys(cell.condition for cell in cells))


def lines_of(cells: Sequence[Cell], results: Results, condition: Condition, which: Round) -> list[list[str]]:
    """A line a defence, a column an attack by a fraction, the heads first; a dash for what is not finished."""
    columns = columns_of(cells)
    lines = [["", *map(head_of, columns)]]
    for defence in defences_of(cells):
        own = [figure_of(results, Cell(condition, defence, *column), which) for column in columns]
        lines.append([defence, *map(mean_text, own)])
    return lines


def text(cells: Sequence[Cell], results: Results, width: int | None) -> list[str]:
    """All tables as aligned lines."""
    found = []
    for condition in conditions_of(cells):
        for which, words in (("last", "last round"), ("best", "best round")):
            under = f", {condition.name}" if condition.name else ""
            found += ["", f"accuracy on the central test set, {words}{under}"]
            found += text_table(lines_of(cells, results, condition, which), width=width)
        if lines := success_lines(cells, results, condition):
            found += ["", "share of attacked test examples that end where the attack wants them"]
            found += text_table(lines, width=width)
    return found


def study_csv(cells: Sequence[Cell], results: Results) -> str:
    """study.csv: a row a cell run, all digits; an empty cell where there is no figure."""
    lines: list[Sequence[csv_text.Cell]] = [COLUMNS]
    for (cell, seed), one in sorted(results.items(), key=lambda item: (cells.index(item[0][0]), item[0][1])):
        known = {p["round"]: p["accuracy"] for p in one.curve if p["accuracy"] is not None}
        best = max(known, key=lambda number: (known[number], -number), default=None)
        own = sorted(one.own.values())
        worst = statistics.fmean(own[: -(-len(own) // 10)]) if own else None
        figures = (
            accuracy_of(one, "last"),
            accuracy_of(one, "best"),
            best,
            one.loss,
            worst,
            one.seconds,
            one.attack_success,
        )
        named = (cell.condition.name, cell.defence, cell.attack, cell.malicious, seed)
        lines.append([*named, *("" if value is None else value for value in figures)])
    return csv_text.text_of(lines)


def breakdowns(cells: Sequence[Cell], results: Results, condition: Condition, share: float) -> list[Breakdown]:
    """By defence and attack; none for what is not finished, and for a defence that learns little with nobody malicious.

    A defence is broken where its mean accuracy in the last round, above that of a guess, is below `share` of its own
    with nobody malicious. An attack that is not aimed at the accuracy (it has an `attack_success`) has broken it where
    it succeeds on more than half of the test examples that it is aimed at.
    """
    found = []
    guess = max((result.guess or 0.0 for result in results.values()), default=0.0)
    for defence in defences_of(cells):
        honest = figure_of(results, Cell(condition, defence, NOBODY, 0.0), "last")
        if honest is None or honest.mean - guess < LEAST_LEARNED:
            continue
        for attack in dict.fromkeys(cell.attack for cell in cells if not cell.nobody):
            fractions = sorted({cell.malicious for cell in cells if cell.attack == attack})
            own = [Cell(condition, defence, attack, fraction) for fraction in fractions]
            figures = [figure_of(results, cell, "last") for cell in own]
            if None in figures:
                continue
            succeeded = [success_of(results, cell) for cell in own]
            if None in succeeded:
                broken = [one.mean - guess < share * (honest.mean - guess) for one in figures]
            else:
                broken = [one.mean > SUCCEEDED for one in succeeded]
            first = broken.index(True) if any(broken) else len(broken)
            fraction = fractions[first] if first < len(fractions) else None
            found.append(Breakdown(defence, attack, fraction, fractions[first - 1] if first else None))
    return found


def success_of(results: Results, cell: Cell) -> Figure | None:
    """The mean success of an attack that is not aimed at the accuracy; None for one that is."""
    return mean_and_deviation([result.attack_success for (own, _), result in results.items() if own == cell])


def success_lines(cells: Sequence[Cell], results: Results, condition: Condition) -> list[list[str]]:
    """A line a defence, a column an attack that says its success by a fraction; no line where none does."""
    columns = [
        column
        for column in columns_of(cells)
        if any(success_of(results, Cell(condition, defence, *column)) for defence in defences_of(cells))
    ]
    lines = [["", *map(head_of, columns)]]
    for defence in defences_of(cells):
        lines.append([defence, *(mean_text(success_of(results, Cell(condition, defence, *one))) for one in columns)])
    return lines if columns else []


def differences(
    cells: Sequence[Cell], results: Results, reference: str
) -> dict[tuple[Condition, str, float], list[PairedDifference]]:
    """By condition, attack and fraction: each defence against the `reference`, seed by seed, in the last round.

    All intervals of the study hold together (compare.differences).
    """
    pairs = {}
    for condition in conditions_of(cells):
        for column in columns_of(cells):
            for defence in defences_of(cells):
                if defence != reference:
                    one = _by_seed(results, Cell(condition, defence, *column))
                    other = _by_seed(results, Cell(condition, reference, *column))
                    if seeds := sorted(one.keys() & other.keys()):
                        pairs[condition, *column, defence] = [(seed, one[seed] - other[seed]) for seed in seeds]
    comparisons = sum(len(values) > 1 for values in pairs.values())
    sizes = [result.test_examples for result in results.values() if result.test_examples]
    found: dict[tuple[Condition, str, float], list[PairedDifference]] = {}
    for (condition, attack, fraction, defence), own in pairs.items():
        values = tuple(value for _, value in own)
        ends = intervals(np.array(values), comparisons, 1 / min(sizes) if sizes else None)
        low, high = (None if np.isnan(end) else float(np.clip(end, -1, 1)) for end in ends)
        one = PairedDifference(defence, reference, "accuracy", tuple(seed for seed, _ in own), values, low, high)
        found.setdefault((condition, attack, fraction), []).append(one)
    return found


def _by_seed(results: Results, cell: Cell) -> dict[int, float]:
    known = {seed: accuracy_of(result, "last") for (own, seed), result in results.items() if own == cell}
    return {seed: value for seed, value in known.items() if value is not None}
