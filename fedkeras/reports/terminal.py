"""What a run says on the terminal: one table row a round, above a live table of the round under way (live.py).

Where stdout is no terminal (a file, a pipe, the log of `flwr run`) the same rows are plain aligned lines, without
control characters, each flushed when it is known.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedkeras.callbacks import FinishedRound
from fedkeras.errors import one_line
from fedkeras.reports.headline import Headline, choose_headline, figure
from fedkeras.reports.history import OF_RUN
from fedkeras.reports.live import RELAY, LiveView, Relay, can_draw
from fedkeras.reports.live_state import LiveState

SHOWN_FAILURES = 10
"""Failures printed a round; the log has the others."""


class Terminal:
    """Prints rounds as they finish. `live` forces or forbids the live table; None: where stdout is a terminal.

    `patience` are the seconds that clients are waited for (see LiveState).
    `live_view` is the callback that keeps the live table up to date, or relays what happens to whoever draws it.
    """

    def __init__(self, num_rounds: int, num_clients: int, live: bool | None = None, patience: float = 0.0) -> None:
        self._headline: Headline | None = None
        self._of_run: list[str] = []
        relay, drawn = os.environ.get(RELAY), can_draw(live)
        self.live_view: LiveState | Relay = (
            Relay(Path(relay)) if relay and not drawn else LiveState(num_clients, num_rounds, patience=patience)
        )
        self._drawing = LiveView(self.live_view) if drawn else None

    def start(self) -> None:
        """Show the live table, where there is one."""
        if self._drawing:
            self._drawing.start()

    def print_round(self, result: FinishedRound) -> None:
        """Print a round's row and a line for each failure; the header comes before the first row."""
        if result.rows or result.round > 0:
            if self._headline is None:
                self._headline = choose_headline(result.rows) or Headline("training")
                self._of_run = [name for name in OF_RUN if any(name in row for row in result.rows)]
                self._print(header(self._headline, self._of_run))
            self._print(table_row(self._headline, result, self._of_run))
        for line in failure_lines(result.round, result.failures):
            self._print(line)

    def close(self) -> None:
        """Take the live table away; the rows stay, and further prints come below them."""
        self.live_view.close()
        if self._drawing:
            self._drawing.stop()
            self._drawing = None

    def _print(self, line: str) -> None:
        if self._drawing:
            self._drawing.print_above(line)
        else:
            print(line, flush=True)


def header(headline: Headline, of_run: Sequence[str] = ()) -> str:
    """The table's header, which says where loss and accuracy come from; its columns are those of `table_row`."""
    loss, metric = f"loss ({headline.source})", f"{headline.metric[:20]} ({headline.source})"
    return f"{'round':>5}  {loss:>15}  {metric:>19}  {'seconds':>8}  {'clients':>9}" + "".join(
        f"  {name:>8}" for name in of_run
    )


def table_row(headline: Headline, result: FinishedRound, of_run: Sequence[str] = ()) -> str:
    """One round as a line of the table; what the round lacks is a dash. `of_run`: see history.OF_RUN."""
    row = next(iter(headline.select(result.rows)), {})
    loss, metric = figure(row.get("loss")), figure(row.get(headline.metric))
    answered = f"{result.answered}/{result.asked}" if result.asked else "-"
    width = max(19, len(f"{headline.metric[:20]} ({headline.source})"))
    line = f"{result.round:>5}  {loss:>15}  {metric:>{width}}  {result.seconds:>8.2f}  {answered:>9}"
    found = {name: row[name] for row in result.rows for name in of_run if name in row}
    return line + "".join(f"  {figure(found.get(name)):>8}" for name in of_run)


def failure_lines(number: int, failures: Mapping[int, str]) -> list[str]:
    """One line for each failed client, at most SHOWN_FAILURES and then how many more."""
    lines = [f"round {number}: client {cid} failed: {one_line(str(why))}" for cid, why in failures.items()]
    if len(lines) > SHOWN_FAILURES:
        rest = len(lines) - SHOWN_FAILURES
        lines[SHOWN_FAILURES:] = [f"round {number}: {rest} more client{'s' * (rest > 1)} failed; see run.log"]
    return lines
