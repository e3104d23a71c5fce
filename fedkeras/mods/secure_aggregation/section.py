"""The report's section on secure aggregation: how many were lost in which phase, and how finely values were told."""

from collections.abc import Sequence

from flwr.app import MessageType

from fedkeras.mods.secure_aggregation.journal import NAME, SumEntry, read
from fedkeras.mods.secure_aggregation.plan import PHASES
from fedkeras.reports.page import ReportSection, section
from fedkeras.reports.run_folder import RunFolder

MOST = 100
"""Attempts in the table; of more, evenly spaced ones and the last."""
HEADS = (
    "round",
    "attempt",
    "asked",
    *(f"lost: {phase}" for phase in PHASES),
    "in the sum",
    "values cut off",
    "seconds",
)


def of(folder: RunFolder) -> Sequence[ReportSection]:
    """One section; none where no sum was tried. Raises UserError for a damaged file."""
    entries = [entry for entry in read(folder.path / NAME) if entry.kind == MessageType.TRAIN]
    if not entries:
        return ()
    every = -(-len(entries) // MOST)
    shown = entries[::every] + (entries[-1:] if (len(entries) - 1) % every else [])
    return (section("Secure aggregation", _words(entries), HEADS, [_row(entry) for entry in shown]),)


def _row(entry: SumEntry) -> tuple[int | float | str, ...]:
    lost = (_share(entry.lost.get(phase, 0), entry.asked) for phase in PHASES)
    cut_off = f"{100 * entry.clipped:.2g} %"
    return entry.round, entry.attempt, entry.asked, *lost, entry.summed, cut_off, sum(entry.seconds.values())


def _share(lost: int, asked: int) -> str:
    return f"{100 * lost / asked:.3g} %" if lost else "0"


def _words(entries: Sequence[SumEntry]) -> list[str]:
    whole = [entry for entry in entries if entry.summed]
    words = [
        "The server was sent masked vectors, and learned their sum, how many clients are in it, and who answered when; "
        "figures are sums as well. What the sum tells, and the models, is not hidden by it."
    ]
    if whole:
        last, most = whole[-1], 100 * max(entry.clipped for entry in whole)
        words.append(
            f"{len(whole)} sums; in the last one {last.degree} neighbours for each client, {last.threshold} of "
            f"{last.degree + 1} shares open a secret. A value has {last.bits} bits, and changes of up to {last.clip:g} "
            f"are told; {most:.2g} % of the values were beyond that in a round, at the most."
        )
    if failed := [entry for entry in entries if not entry.summed]:
        words.append(f"{len(failed)} attempts came to no sum, the last one since: {failed[-1].reason}")
    return words
