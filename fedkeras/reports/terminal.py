"""The live view of a run: one table row a round, with a progress bar below the newest row.

Where stdout is no terminal (a file, a pipe, the log of `flwr run`) the same rows are plain aligned lines, without
control characters, each flushed when it is known.
"""

import os
import sys
from collections.abc import Mapping
from numbers import Real

from fedkeras.reports.headline import Headline, choose_headline

SHOWN_FAILURES = 10
"""Failures printed a round; the log has the others."""


class Terminal:
    """Prints rounds as they finish. `live` forces or forbids the bar; None: where stdout is a terminal."""

    def __init__(self, num_rounds: int, live: bool | None = None) -> None:
        self._num_rounds = num_rounds
        self._live = sys.stdout.isatty() and os.environ.get("TERM") != "dumb" if live is None else live
        self._headline: Headline | None = None
        self._progress = None
        self._task = None

    def start(self) -> None:
        """Show the empty bar, where there is one."""
        if self._live:
            self._progress = _bar()
            self._task = self._progress.add_task("round", total=self._num_rounds)
            self._progress.start()

    def round_finished(self, outcome) -> None:
        """Print an outcome's row (see Recorder) and a line for each failure; the header comes before the first."""
        if self._headline is None and (outcome.rows or outcome.round > 0):
            self._headline = choose_headline(outcome.rows) or Headline("training")
            self._say(header(self._headline))
        if outcome.rows or outcome.round > 0:
            self._say(table_row(self._headline, outcome))
        for line in failure_lines(outcome.round, outcome.failures):
            self._say(line)
        if self._progress:
            self._progress.update(self._task, completed=outcome.round)

    def close(self) -> None:
        """Leave the bar where it is; further prints come below it."""
        if self._progress:
            self._progress.stop()
            self._progress = None

    def _say(self, line: str) -> None:
        if self._progress:
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, flush=True)


def header(headline: Headline) -> str:
    """The table's header, which says where loss and accuracy come from; its columns are those of `table_row`."""
    loss, metric = f"loss ({headline.source})", f"{headline.metric[:20]} ({headline.source})"
    return f"{'round':>5}  {loss:>15}  {metric:>19}  {'seconds':>8}  {'clients':>9}"


def table_row(headline: Headline, outcome) -> str:
    """One round as a line of the table; what the round lacks is a dash."""
    row = next(iter(headline.select(outcome.rows)), {})
    loss, metric = figure(row.get("loss")), figure(row.get(headline.metric))
    answered = f"{outcome.answered}/{outcome.asked}" if outcome.asked else "-"
    width = max(19, len(f"{headline.metric[:20]} ({headline.source})"))
    return f"{outcome.round:>5}  {loss:>15}  {metric:>{width}}  {outcome.seconds:>8.2f}  {answered:>9}"


def failure_lines(number: int, failures: Mapping[object, object]) -> list[str]:
    """One line for each failed client, at most SHOWN_FAILURES and then how many more."""
    lines = [f"round {number}: client {cid} failed: {' '.join(str(why).split())}" for cid, why in failures.items()]
    if len(lines) > SHOWN_FAILURES:
        rest = len(lines) - SHOWN_FAILURES
        lines[SHOWN_FAILURES:] = [f"round {number}: {rest} more client{'s' * (rest > 1)} failed; see run.log"]
    return lines


def figure(value: object) -> str:
    """A loss or metric to four places, in eight characters or so whatever its size; a dash where there is none."""
    if not isinstance(value, Real):
        return "-"
    return f"{value:.4f}" if abs(value) < 10_000 else f"{value:.4g}"


def _bar():
    """Imported here: a server whose output is a file does without rich."""
    from rich import progress

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.MofNCompleteColumn(),
        progress.BarColumn(bar_width=34),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
    )
