"""The report of a long run with many clients: how big it is, and how long a browser takes to open it.

    python -m benchmarks.report_opening [--rounds 100] [--clients 50] [--times 5]
    python -m benchmarks.report_opening --run RUN_DIR

Makes the folder of such a run (invented figures; a failure in each tenth round) or reads one, writes its report.html,
and opens it in headless Chromium: each time in a browser that was just started and has opened an empty page, the
yardstick for how busy the machine is. Seconds are the page's own, from the start of the navigation: `painted` is the
first contentful paint, `loaded` the end of the load event. `layout` is style and layout of the whole page, and `work`
all that the page's main thread did. Prints medians, the least and the most; the last line is the same as JSON. Needs
chromium on the PATH.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.blocks import figures, table
from benchmarks.case import Case
from fedkeras.config import Config
from fedkeras.reports import (
    History,
    RunFolder,
    read_rows,
    summarise,
    write_label_counts,
    write_predictions,
    write_report,
)
from fedkeras.reports.history import FAILURES, TIMING

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CLASSES = [str(digit) for digit in range(10)]
QUICK = [Case("--rounds 50 --clients 20 --times 5", 10, programs=BROWSERS)]
PARTS = ("painted", "loaded", "layout", "work", "empty")
WAIT_SECONDS = 30.0
TIMES = """JSON.stringify((() => {
    const navigation = performance.getEntriesByType("navigation")[0];
    const paint = performance.getEntriesByName("first-contentful-paint")[0];
    return {page: location.href, loaded: navigation.loadEventEnd / 1000, painted: paint ? paint.startTime / 1000 : 0,
            elements: document.getElementsByTagName("*").length};
})())"""


def main() -> None:
    """Make or read the run, write the report, open it some times, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--times", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fedkeras-bench-") as place:
        folder = RunFolder(given.run) if given.run else make_run(Path(place) / "run", given.rounds, given.clients)
        started = time.perf_counter()
        page = write_report(folder)
        written = time.perf_counter() - started
        pages = [open_page(page) for _ in range(given.times)]
        megabytes = page.stat().st_size / 1e6
    blocks = {f"{name}_seconds": [each[name] for each in pages] for name in PARTS}
    rest = {"megabytes": round(megabytes, 3), "write_seconds": round(written, 3), "elements": pages[0]["elements"]}
    print(table(blocks))
    for name, value in rest.items():
        print(f"{name:<28}{value:>11}")
    print(json.dumps({**figures(blocks, digits=3), **rest}))


def make_run(path: Path, rounds: int, clients: int) -> RunFolder:
    """The folder of a finished run: each client gets better at its own pace, and some fail."""
    path.mkdir()
    rng = np.random.default_rng(0)
    folder, config = RunFolder(path), Config(num_partitions=clients, num_server_rounds=rounds)
    folder.write_config(config)
    history, pace = History(folder.history_path), rng.uniform(5, 40, clients)
    for number in range(1, rounds + 1):
        rows = []
        for phase in ("train", "evaluate"):
            accuracies = 1 - np.exp(-number / pace) * rng.uniform(0.8, 1.0, clients)
            for cid, accuracy in enumerate(accuracies):
                if number % 10 or cid != number // 10 % clients:
                    rows.append(row(number, phase, str(cid), accuracy, rng.uniform(1, 3)))
            rows.append(row(number, phase, "all", accuracies.mean(), 3.0))
        rows.append(row(number, "evaluate", "server", accuracies.mean(), 0.1))
        history.append(rows)
        if number % 10 == 0:
            failure = {"round": number, "client": str(number // 10 % clients), "reason": "no answer within 60 s"}
            FAILURES.append(folder.failures_path, [failure])
    parts = {"waiting": 0.01, "training": 3.0, "aggregation": 0.2, "evaluation": 1.0, "seconds": 4.21}
    TIMING.append(folder.timing_path, [{"round": number, **parts} for number in range(1, rounds + 1)])
    counts = {cid: [int(count) for count in rng.integers(0, 200, len(CLASSES))] for cid in range(clients)}
    write_label_counts(folder.partitions_path, "dirichlet", CLASSES, counts)
    labels = rng.integers(0, len(CLASSES), 10_000)
    wrong = np.where(rng.random(10_000) < 0.9, labels, rng.integers(0, len(CLASSES), 10_000))
    write_predictions(folder.predictions_path, labels, wrong, CLASSES)
    folder.write_summary(summarise(config, read_rows(folder.history_path), 4.21 * rounds, "finished"))
    return folder


def row(number: int, phase: str, client: str, accuracy: float, seconds: float) -> dict:
    """A line of history.csv."""
    figures = {"loss": float(-np.log(max(accuracy, 1e-3))), "accuracy": float(accuracy), "seconds": float(seconds)}
    return {"round": number, "phase": phase, "client": client, "num_examples": 1000, **figures}


def open_page(page: Path) -> dict[str, float]:
    """Open a page in a new browser, after an empty one; seconds by name, and how big it is."""
    empty = page.with_name("empty.html")
    empty.write_text("<!doctype html><title>empty</title><p>empty")
    try:
        with browser() as ask:
            target = ask("Target.createTarget", {"url": "about:blank"})["targetId"]
            session = ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
            ask("Performance.enable", {}, session)
            yardstick = opened(ask, session, empty)
            before = work_of(ask, session)
            found = opened(ask, session, page)
            after = work_of(ask, session)
    finally:
        empty.unlink()
    return {
        **found,
        "empty": yardstick["loaded"],
        "layout": sum(after[name] - before[name] for name in ("LayoutDuration", "RecalcStyleDuration")),
        "work": after["TaskDuration"] - before["TaskDuration"],
    }


def opened(ask: "Asking", session: str, page: Path) -> dict[str, float]:
    """Navigate to a page and wait until it is loaded and painted; its own figures."""
    ask("Page.navigate", {"url": page.absolute().as_uri()}, session)
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        # Through the debugger, since the page itself allows no script
        answer = ask("Runtime.evaluate", {"expression": TIMES}, session)
        found = json.loads(answer["result"].get("value", "{}"))
        if found.get("loaded") and found.get("painted") and found["page"] == page.absolute().as_uri():
            return found
        time.sleep(0.05)
    raise SystemExit(f"{page} is not painted within {WAIT_SECONDS:g} s")


def work_of(ask: "Asking", session: str) -> dict[str, float]:
    """What the tab has done until now, in seconds by kind."""
    return {each["name"]: each["value"] for each in ask("Performance.getMetrics", {}, session)["metrics"]}


@contextlib.contextmanager
def browser() -> Iterator:
    """A headless Chromium spoken to through a pair of pipes; yields `ask(method, params, session)` -> its result."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        raise SystemExit("chromium is not on the PATH: install it to measure how a page opens")
    read_by_it, to_it = os.pipe()
    from_it, written_by_it = os.pipe()
    with tempfile.TemporaryDirectory(prefix="fedkeras-chromium-", ignore_cleanup_errors=True) as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
        flags += ["--disable-background-networking", "--window-size=1280,900", "--remote-debugging-pipe"]
        command = ["sh", "-c", f'exec "$@" 3<&{read_by_it} 4>&{written_by_it}', "sh", program, *flags]
        command += [f"--user-data-dir={profile}"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, pass_fds=(read_by_it, written_by_it), **quiet)
        os.close(read_by_it)
        os.close(written_by_it)
        try:
            with os.fdopen(to_it, "wb", buffering=0) as asked, os.fdopen(from_it, "rb") as answers:
                yield Asking(asked, answers)
        finally:
            process.terminate()
            process.wait()


class Asking:
    """Chromium's DevTools protocol: a JSON object to ask and one to answer, each with a zero byte after it."""

    def __init__(self, asked: object, answers: object) -> None:
        self._asked, self._answers, self._number = asked, answers, 0

    def __call__(self, method: str, params: dict, session: str = "") -> dict:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        self._asked.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._next())
            if answer.get("id") == self._number:  # the others are events
                return answer["result"]

    def _next(self) -> bytes:
        text = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            if not byte:
                raise SystemExit("chromium ended")
            text += byte
        return bytes(text)


if __name__ == "__main__":
    main()
