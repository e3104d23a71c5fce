"""Speeds measured in interleaved blocks, and how they are told: the minimum beside the median.

A machine's speed drifts: between two runs of the same bare loop its median has moved from 0.06 to 0.14 s. So what is to
be compared takes turns within the same minutes, some blocks each; a block's figure is the median of what was timed in
it. The minimum of the blocks is what the machine can do when least disturbed.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

BLOCKS = 5
"""Of each variant, unless a benchmark says otherwise."""

BLOCKS_KEY = "blocks"
"""In a benchmark's JSON: beside the figures of an object, {figure's name: its value in each block}."""


def interleaved(variants: Mapping[str, Callable[[], float]], blocks: int = BLOCKS) -> dict[str, list[float]]:
    """Each variant's figure in each block: every variant has its turn before the next block begins."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(blocks):
        for name, measure in variants.items():
            found[name].append(measure())
    return found


def grouped(values: Sequence[float], blocks: int = BLOCKS) -> list[float]:
    """The medians of at most `blocks` groups of consecutive values, as equal in size as can be."""
    count = min(blocks, len(values))
    cuts = [round(number * len(values) / count) for number in range(count + 1)] if count else [0]
    return [statistics.median(values[first:end]) for first, end in itertools.pairwise(cuts)]


def ratios(ones: Sequence[float], others: Sequence[float]) -> list[float]:
    """Block by block, one variant's figure beside another's: what both had of the machine's mood is gone from it."""
    return [one / other for one, other in zip(ones, others, strict=True)]


def timed(work: Callable[[], object]) -> float:
    """Seconds of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def figures(blocks: Mapping[str, Sequence[float]], digits: int = 4) -> dict[str, object]:
    """For a line of JSON: the median of each, and beside them `blocks` with their values."""
    medians = {name: round(statistics.median(values), digits) for name, values in blocks.items() if values}
    return {**medians, BLOCKS_KEY: {name: [round(value, digits) for value in blocks[name]] for name in medians}}


def table(blocks: Mapping[str, Sequence[float]]) -> str:
    """Median, minimum and maximum of each, a line a figure."""
    lines = [f"{'':<28}{'median':>11}{'min':>11}{'max':>11}{'blocks':>8}"]
    for name, values in blocks.items():
        numbers = (statistics.median(values), min(values), max(values))
        lines.append(f"{name:<28}{''.join(f'{number:11.4g}' for number in numbers)}{len(values):>8}")
    return "\n".join(lines)
