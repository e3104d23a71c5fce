"""The comparison's tables: a line an arm, with means over seeds; a line a difference; table.csv, a row an arm run."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fedkeras import csv_text
from fedkeras.compare.arm_run import ArmResult, common_clients
from fedkeras.compare.differences import PairedDifference
from fedkeras.reports.fairness import fairness_of

COLUMNS = (
    "arm", "kind", "seed", "accuracy", "macro_f1", "loss", "seconds", "training_seconds", "bytes_up", "bytes_down",
    "own_min", "own_median", "own_max", "central_min", "central_median", "central_max",
    "own_mean", "own_worst_tenth", "own_variance", "own_accuracy", "new_accuracy",
)  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """A mean over seeds, and the sample standard deviation (divided by n - 1), which takes two of them at least."""

    mean: float
    deviation: float | None = None


@dataclass(frozen=True)
class TableLine:
    """An arm. What one of its seeds lacks is None. `own`, `central`: lowest, median and highest client.

    `apart`: the mean over clients' own tests, of the worst tenth of clients, and the variance in squared points.
    """

    arm: str
    kind: str
    seeds: tuple[int, ...]
    accuracy: Figure | None
    macro_f1: Figure | None
    loss: Figure | None
    seconds: Figure
    training_seconds: Figure | None
    megabytes: Figure | None
    own: tuple[Figure, Figure, Figure] | None
    central: tuple[Figure, Figure, Figure] | None
    apart: tuple[Figure, Figure, Figure] | None = None
    own_accuracy: Figure | None = None
    new_accuracy: Figure | None = None
    personal: bool = False
    """Its clients end with models of their own."""


def lines_of(results: Iterable[ArmResult]) -> list[TableLine]:
    """A line an arm, in the order in which they come."""
    by_arm: dict[str, list[ArmResult]] = {}
    for result in results:
        by_arm.setdefault(result.arm, []).append(result)
    clients = common_clients(one for group in by_arm.values() for one in group)
    return [_line(group, clients) for group in by_arm.values()]


def mean_and_deviation(values: Iterable[float | None]) -> Figure | None:
    """None if one is missing, or there is none."""
    values = list(values)
    if not values or any(value is None for value in values):
        return None
    return Figure(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def spread(clients: dict[str, float]) -> tuple[float, float, float] | None:
    """Lowest, median and highest client; None without clients."""
    values = list(clients.values())
    return (min(values), statistics.median(values), max(values)) if values else None


def between(clients: dict[str, float]) -> tuple[float, float, float] | None:
    """Mean, worst tenth and variance over clients (reports.fairness); None without clients."""
    found = fairness_of(clients)
    return found and (found.mean, found.worst_tenth, found.variance)


def table_csv(results: Sequence[ArmResult]) -> str:
    """table.csv: a row an arm run, all digits; an empty cell where there is no figure."""
    lines: list[Sequence[csv_text.Cell]] = [COLUMNS]
    for one in results:
        own, central = spread(one.own) or ("",) * 3, spread(one.central) or ("",) * 3
        cells = [getattr(one, name) for name in COLUMNS[:10]]
        lines.append([*cells, *own, *central, *(between(one.own) or ("",) * 3), one.own_accuracy, _mean_of(one.new)])
    return csv_text.text_of(lines)


def _line(group: Sequence[ArmResult], clients: Mapping[int, set[str]]) -> TableLine:
    first = group[0]
    moved = [None if one.bytes_up is None else (one.bytes_up + one.bytes_down) / 1e6 for one in group]
    return TableLine(
        first.arm,
        first.kind,
        tuple(one.seed for one in group),
        mean_and_deviation(one.accuracy for one in group),
        mean_and_deviation(one.macro_f1 for one in group),
        mean_and_deviation(one.loss for one in group),
        mean_and_deviation(one.seconds for one in group),
        mean_and_deviation(one.training_seconds for one in group),
        mean_and_deviation(moved),
        _spreads([spread(one.own) for one in group]),
        _spreads([spread(one.central) for one in group]),
        _spreads([between(one.own) for one in group]),
        mean_and_deviation(one.own_accuracy_of(clients.get(one.seed, ())) for one in group),
        mean_and_deviation(_mean_of(one.new) for one in group),
        any(one.personal for one in group),
    )


def _mean_of(clients: dict[str, float]) -> float | None:
    return statistics.fmean(clients.values()) if clients else None


def _spreads(spreads: Sequence[tuple[float, float, float] | None]) -> tuple[Figure, Figure, Figure] | None:
    if any(one is None for one in spreads):
        return None
    return tuple(mean_and_deviation(values) for values in zip(*spreads, strict=True))


OWN_HEADS = ("mean", "worst 10 %", "lowest", "median", "highest", "variance")
HEADS = ("", "accuracy", "macro F1", "loss", *OWN_HEADS, "seconds", "MB")
OWN_HEAD, NEW_HEAD = "accuracy, all", "new clients"


def heads_of(lines: Sequence[TableLine]) -> tuple[str, ...]:
    """Where clients of an arm have models of their own, what arms are compared by stands too; and new clients' mean."""
    more = [OWN_HEAD] * any(line.personal for line in lines) + [NEW_HEAD] * any(line.new_accuracy for line in lines)
    return (*HEADS[:4], *more, *HEADS[4:])


def cells_of(line: TableLine, heads: Sequence[str] = HEADS) -> tuple[str, ...]:
    """The table as it is printed: the central test set's figures, the clients' own, what it cost."""
    own = (None,) * 3 if line.own is None else line.own
    mean, worst, variance = (None,) * 3 if line.apart is None else line.apart
    return (
        line.arm,
        mean_text(line.accuracy),
        mean_text(line.macro_f1),
        mean_text(line.loss),
        *([mean_text(line.own_accuracy)] if OWN_HEAD in heads else ()),
        *([mean_text(line.new_accuracy)] if NEW_HEAD in heads else ()),
        *("-" if one is None else f"{one.mean:.4f}" for one in (mean, worst, *own)),
        "-" if variance is None else f"{1e4 * variance.mean:.3g}",
        f"{line.seconds.mean:.1f}",
        "-" if line.megabytes is None else f"{line.megabytes.mean:.1f}",
    )


def mean_text(one: Figure | None) -> str:
    """`0.9722`, or `0.9722 ± 0.0040`; a dash for none."""
    if one is None:
        return "-"
    return f"{one.mean:.4f}" + ("" if one.deviation is None else f" ± {one.deviation:.4f}")


def text(lines: Sequence[TableLine]) -> list[str]:
    """The table as aligned lines."""
    heads = heads_of(lines)
    rows = [heads, *(cells_of(line, heads) for line in lines)]
    widths = _widths(rows)
    of_own = widths[4:-2]
    central, own = sum(widths[1:4]) + 4, sum(of_own) + 2 * (len(of_own) - 1)
    top = f"{'':<{widths[0]}}  {'central test set':^{central}}  {'own test sets, by client':^{own}}"
    return [top.rstrip(), *_aligned(rows)]


def difference_heads(metric: str) -> tuple[str, ...]:
    """Of the table of differences."""
    return ("difference", f"{metric}, points" if metric != "loss" else "lower loss by", "95 % interval", "pairs")


def difference_cells(found: PairedDifference) -> tuple[str, ...]:
    """A line of it; a dash where there is no interval."""
    mean, *ends = found.texts()
    return (name_of(found), mean, f"{ends[0]} to {ends[1]}" if ends else "-", str(len(found.seeds)))


def name_of(found: PairedDifference) -> str:
    """`fedavg - local`, with a true minus: names have hyphens."""
    return f"{found.arm} \N{MINUS SIGN} {found.other}"


def differences_text(differences: Sequence[PairedDifference]) -> list[str]:
    """The differences as aligned lines; none where no interval can be given."""
    if all(one.low is None for one in differences):
        return []
    return _aligned([difference_heads(differences[0].metric), *map(difference_cells, differences)])


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = _widths(rows)
    return [
        "  ".join([f"{row[0]:<{widths[0]}}", *(f"{cell:>{w}}" for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _widths(rows: Sequence[tuple[str, ...]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]
