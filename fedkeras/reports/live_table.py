"""The live table as lines of text: a line a client where they fit, else medians, the slowest, the failed and a strip.

`lines` gives at most `height` lines of at most `width` columns, whether the run has 3 clients, 300 or 10,000.
"""

import statistics
from collections.abc import Iterable
from numbers import Real
from typing import TYPE_CHECKING

from fedkeras.reports.fairness import fairness
from fedkeras.reports.headline import figure
from fedkeras.reports.live_state import (
    ANSWERED,
    AT_WORK,
    CONNECTED,
    FAILED,
    LEFT_OUT,
    NOT_ASKED,
    NOT_CONNECTED,
    SUSPENDED,
    LiveClient,
    LiveState,
)

if TYPE_CHECKING:
    from rich.text import Text

STYLES = {
    ANSWERED: "green", CONNECTED: "green", "training": "yellow", "evaluating": "cyan", FAILED: "bold red",
    LEFT_OUT: "magenta", SUSPENDED: "blue", NOT_ASKED: "dim", NOT_CONNECTED: "dim",
}  # fmt: skip
MARKS = {
    ANSWERED: "■", CONNECTED: "■", "training": "□", "evaluating": "□", FAILED: "×", SUSPENDED: "z", NOT_ASKED: "·",
    NOT_CONNECTED: "·", LEFT_OUT: "-",
}  # fmt: skip
ASCII = str.maketrans("■□×·━─", "#o!.=-")
FIRST_SHOWN = (FAILED, *AT_WORK.values(), LEFT_OUT, SUSPENDED, NOT_CONNECTED, ANSWERED, CONNECTED, NOT_ASKED)
"""Of several clients that share a mark, the mark shows the state that comes first here."""
STATE_WIDTH = max(map(len, FIRST_SHOWN))

ROOM_ABOVE = 8
"""Lines of the terminal left to the finished rounds above a table of all clients."""
ROOM_ABOVE_STRIP = 4
"""The same above the strip."""
FEW = 3
"""The slowest and the failed that are named."""
GROUP = 10


def lines(state: LiveState, width: int, height: int, ascii_only: bool = False) -> "list[Text]":
    """The table of a state that nobody changes meanwhile (see LiveState.snapshot)."""
    if state.phase == "over":
        return []
    head = [_status(state), _bar(state, width)]
    if len(state.clients) + len(head) + 1 <= height - ROOM_ABOVE:
        shown = [*head, *_rows(state)]
    else:
        shown = [*head, *_summary(state)]
        shown += _strip(state, width, height - ROOM_ABOVE_STRIP - len(shown))
    shown = shown[: max(1, height - 1)]
    for line in shown:
        if ascii_only:
            line.plain = line.plain.translate(ASCII)
        line.no_wrap, line.overflow = True, "crop" if ascii_only else "ellipsis"
        line.truncate(width, overflow=line.overflow)
    return shown


def _text(*parts: str | tuple[str, str]) -> "Text":
    from rich.text import Text

    return Text.assemble(*parts)


def _status(state: LiveState) -> "Text":
    """Which round, which phase, how many of how many, and for how long."""
    counts, cohort, elapsed = state.counts(), state.cohort_size(), state.clock() - state.since
    clock = f"  {elapsed:.1f} s"
    if state.phase == "waiting":
        connected = counts[CONNECTED]
        waits = connected < state.needed
        title = "waiting for clients" if waits else "getting ready"
        until = f", giving up after {state.patience:.0f} s" if waits and state.patience else ""
        return _text((title, "bold"), f"  {connected} of {state.needed} connected", clock, until)
    where = (f"round {state.round} of {state.num_rounds}", "bold")
    if state.phase == "between":
        return _text(where, "  done", clock)
    done = counts[ANSWERED] + counts[FAILED] + counts[LEFT_OUT] == cohort
    doing = {"train": "aggregating", "evaluate": "evaluated"}[state.phase] if done else AT_WORK[state.phase]
    parts = [where, f"  {doing}  {counts[ANSWERED]}/{cohort} answered"]
    parts += [(f"  {counts[FAILED]} failed", STYLES[FAILED])] if counts[FAILED] else []
    parts += [(f"  {counts[LEFT_OUT]} left out", STYLES[LEFT_OUT])] if counts[LEFT_OUT] else []
    parts += [(f"  {counts[SUSPENDED]} suspended", STYLES[SUSPENDED])] if counts[SUSPENDED] else []
    return _text(*parts, clock)


def _bar(state: LiveState, width: int) -> "Text":
    """Rounds done, the time since this process's first began, and what is left."""
    left = "" if state.seconds_left() is None else f", some {_duration(state.seconds_left())} left"
    words = f"  {state.done}/{state.num_rounds} rounds  {_duration(state.clock() - state.started)}{left}"
    room = max(5, min(40, width - len(words) - 1))
    full = room * min(state.done, state.num_rounds) // max(1, state.num_rounds)
    return _text(("━" * full, "green"), ("─" * (room - full), "dim"), words)


def _rows(state: LiveState) -> "list[Text]":
    """A line a client."""
    metric = state.metric()
    name = metric[:20]
    titles = f"  {'loss (train)':>12}  {'loss (test)':>11}  {name:>9}  {'seconds':>8}"
    rows = [_text((f"{'client':>6}  {'state':<{STATE_WIDTH}}{titles}", "dim"))]
    for cid, client in state.clients.items():
        train, test = client.figures.get("train", {}), client.figures.get("evaluate", {})
        title = f"{client.state:<{STATE_WIDTH}}", STYLES[client.state]
        if client.state in (FAILED, LEFT_OUT):
            rows.append(_text(f"{cid:>6}  ", title, f"  {client.reason}"))
            continue
        best = test.get(metric, train.get(metric))
        figures = (
            f"  {figure(train.get('loss')):>12}  {figure(test.get('loss')):>11}  {figure(best):>{max(9, len(name))}}"
        )
        seconds = state.clock() - state.since if client.state in AT_WORK.values() else client.seconds
        shown = "" if seconds is None else f"{seconds:.{1 if client.state in AT_WORK.values() else 2}f}"
        rows.append(_text(f"{cid:>6}  ", title, f"{figures}  {shown:>8}"))
    return rows


def _summary(state: LiveState) -> "list[Text]":
    """Medians and ranges over many clients, and which of them stand out."""
    metric, shown = state.metric(), []
    for name, phase in ((metric, "evaluate"), (metric, "train"), ("loss", "evaluate"), ("loss", "train")):
        values = _values(state.clients.values(), phase, name)
        if values and not any(line.plain.startswith(f"{name[:10]:<10}") for line in shown):
            whose = "own test sets" if phase == "evaluate" else "training"
            median, low, high = figure(statistics.median(values)), figure(min(values)), figure(max(values))
            worst = figure(fairness(values, "loss" not in name).worst_tenth)
            words = f"  median {median}, {low} to {high}, worst 10 % {worst} ({whose})"
            shown.append(_text((f"{name[:10]:<10}", "dim"), words))
    took = {cid: client.seconds for cid, client in state.clients.items() if client.state == ANSWERED and client.seconds}
    if took:
        slowest = sorted(took, key=lambda cid: (-took[cid], cid))[:FEW]
        named = ", ".join(f"{cid} ({took[cid]:.1f})" for cid in slowest)
        median = statistics.median(took.values())
        shown.append(_text((f"{'seconds':<10}", "dim"), f"  median {median:.1f}; slowest: client {named}"))
    working = [cid for cid, client in state.clients.items() if client.state in AT_WORK.values()]
    if working:
        working.sort(key=lambda cid: (-state.clients[cid].before.get(state.phase, float("inf")), cid))
        more = f" and {len(working) - 8} more" if len(working) > 8 else ""
        shown.append(_text((f"{'at work':<10}", STYLES["training"]), f"  {', '.join(map(str, working[:8]))}{more}"))
    failed = {cid: client.reason for cid, client in state.clients.items() if client.state == FAILED}
    for place, (cid, reason) in enumerate(list(failed.items())[:FEW]):
        shown.append(_text((f"{'' if place else 'failed':<10}", STYLES[FAILED]), f"  client {cid}: {reason}"))
    if len(failed) > FEW:
        shown.append(_text(f"{'':<12}and {len(failed) - FEW} more"))
    return shown


def _values(clients: Iterable[LiveClient], phase: str, name: str) -> list[float]:
    found = [client.figures[phase].get(name) for client in clients if phase in client.figures]
    return [value for value in found if isinstance(value, Real)]


def _strip(state: LiveState, width: int, room: int) -> "list[Text]":
    """A mark a client, in groups of ten, and a legend, in `room` lines; a mark for several if they do not fit."""
    cids = list(state.clients)
    margin = len(str(cids[-1])) + 2
    a_line = max(1, (width - margin + 1) // (GROUP + 1)) * GROUP
    if room < 2 or width < margin + GROUP:
        return []
    a_mark = -(-len(cids) // (a_line * (room - 1)))
    marks = [_worst(state, cids[start : start + a_mark]) for start in range(0, len(cids), a_mark)]
    drawn = []
    for start in range(0, len(marks), a_line):
        parts: list[str | tuple[str, str]] = [f"{cids[start * a_mark]:>{margin - 2}}  "]
        for place, shown in enumerate(marks[start : start + a_line]):
            parts += [" "] if place and place % GROUP == 0 else []
            parts.append((MARKS[shown], STYLES[shown]))
        drawn.append(_text(*parts))
    legend: list[str | tuple[str, str]] = [" " * margin]
    for shown in FIRST_SHOWN:
        if shown in marks:
            legend += [(MARKS[shown], STYLES[shown]), f" {shown}  "]
    return [*drawn, _text(*legend, (f"a mark is {a_mark} clients" if a_mark > 1 else "", "dim"))]


def _worst(state: LiveState, cids: list[int]) -> str:
    found = {state.clients[cid].state for cid in cids}
    return next(shown for shown in FIRST_SHOWN if shown in found)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
