"""What a run says on the terminal: one table row a round, above a live table of the round under way (live.py).

Where stdout is no terminal (a file, a pipe, the log of `flwr run`) the same rows are plain aligned lines, without
control characters, each flushed when it is known.
"""

import os
from collections.abc import Mapping
from numbers import Real
from pathlib import Path

from fedkeras.reports import live as live_view
from fedkeras.reports.headline import Headline, choose_headline
from fedkeras.reports.live_state import LiveState

SHOWN_FAILURES = 10
"""Failures printed a round; the log has the others."""


class Terminal:
    """Prints rounds as they finish. `live` forces or forbids the live table; None: where stdout is a terminal.

    `watch` is for the round loop (see fedkeras/federation/callbacks.py): what the live table shows.
    """

    def __init__(self, num_rounds: int, num_clients: int, live: bool | None = None) -> None:
        self._headline: Headline | None = None
        relay = os.environ.get(live_view.RELAY)
        drawn = live_view.wanted(live)
        self.watch = live_view.Relay(Path(relay)) if relay and not drawn else LiveState(num_clients, num_rounds)
        self._view = live_view.LiveView(self.watch) if drawn else None

    def start(self) -> None:
        """Show the live table, where there is one."""
        if self._view:
            self._view.start()

    def round_finished(self, outcome) -> None:
        """Print an outcome's row (see Recorder) and a line for each failure; the header comes before the first."""
        if self._headline is None and (outcome.rows or outcome.round > 0):
            self._headline = choose_headline(outcome.rows) or Headline("training")
            self._say(header(self._headline))
        if outcome.rows or outcome.round > 0:
            self._say(table_row(self._headline, outcome))
        for line in failure_lines(outcome.round, outcome.failures):
            self._say(line)
        self.watch.round_finished(outcome.round)

    def close(self) -> None:
        """Take the live table away; the rows stay, and further prints come below them."""
        self.watch.ended()
        if self._view:
            self._view.stop()
            self._view = None

    def _say(self, line: str) -> None:
        if self._view:
            self._view.say(line)
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
