"""A run that collects: every client trains once, or hands over what it has trained before; no rounds."""

import logging
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from flwr.serverapp import Grid

from fedkeras.assembly import CentralEvaluation
from fedkeras.config import Config
from fedkeras.errors import RunFailed, UserError
from fedkeras.handout import collecting
from fedkeras.handout.central import measure_models, write_figures
from fedkeras.handout.collecting import Arrived
from fedkeras.handout.gathered import aggregate, table
from fedkeras.handout.led_nodes import LedNodes
from fedkeras.handout.progress import Progress
from fedkeras.handout.results import Result
from fedkeras.reports import Recorder, RunFolder
from strategies.answers import Outcome
from strategies.dialogue import talk
from strategies.rows import add_means, row

log = logging.getLogger("fedkeras")

LOOK_SECONDS = 0.1
TALK_SECONDS = 600.0
"""Seconds for one answer, each of which is a small matter for the client."""


def train_and_collect(
    grid: Grid, config: Config, nodes: LedNodes, folder: RunFolder, recorder: Recorder, tell: Mapping | None,
    central: CentralEvaluation,
) -> dict:  # fmt: skip
    """Let all clients train, and collect; models and aggregate are tested by `central` where it has tables.

    Returns the summary. Raises RunFailed if a client's model is missing.
    """
    run, started, progress = uuid.uuid4().hex, time.monotonic(), nodes.progress
    arrived = Arrived(_clients(folder))
    failures: dict[int, str] = {}
    again: dict[int, str] = {}
    for _ in range(1 + config.max_retries):
        try:
            cohort = {cid: node for cid, node in nodes.wait(again).items() if str(cid) not in arrived.models}
        except RunFailed:
            if not arrived.models:
                raise
            break
        with progress:
            _, again = talk(
                grid,
                cohort,
                lambda cid: collecting.train(cid, run, arrived, tell or {}, config.round_timeout, progress.say),
                min(config.round_timeout, TALK_SECONDS),
            )
        # Whose model has come has done its part, even if it went before it heard that.
        again = {cid: reason for cid, reason in again.items() if str(cid) not in arrived.models}
        failures |= again
        nodes.ask_again(again)
        if not again:
            break
    absent = [cid for cid in range(config.num_partitions) if str(cid) not in arrived.models]
    missing = {cid: failures.get(cid, "was not there") for cid in absent}
    return _finish(config, folder, recorder, arrived, missing, time.monotonic() - started, central)


def collect_only(grid: Grid, config: Config, folder: RunFolder, recorder: Recorder, tell: Mapping | None) -> dict:
    """Take what clients hold, each as it comes, until num-partitions of them have been asked or node-timeout is over.

    Returns the summary. Raises RunFailed if fewer came, or if one could not deliver.
    """
    if not hasattr(grid, "cids"):
        raise UserError("--collect-only needs our own runtime: `python server.py` and `python client.py --deliver`")
    started, claimed, progress = time.monotonic(), set(), Progress()
    arrived = Arrived(_clients(folder))
    done: set[int] = set()
    failures: dict[int, str] = {}

    def claim(key: str) -> bool:
        new = key not in claimed
        claimed.add(key)
        return new

    with progress:
        while len(done) < config.num_partitions and time.monotonic() - started < config.node_timeout:
            cohort = {cid: node for node, cid in grid.cids().items() if cid not in done}
            if not cohort:
                time.sleep(LOOK_SECONDS)
                continue
            new, failed = talk(
                grid,
                cohort,
                lambda cid: collecting.deliver(cid, claim, arrived, tell or {}, progress.say),
                TALK_SECONDS,
            )
            done |= set(new) | set(failed)
            failures |= failed
            for cid, count in new.items():
                progress.say(cid, f"has delivered {count} results")
    absent = {cid: "did not come (--node-timeout)" for cid in range(config.num_partitions) if cid not in done}
    if not arrived.models and not failures and not absent:
        raise RunFailed("no client held anything that it had trained")
    return _finish(config, folder, recorder, arrived, failures | absent, time.monotonic() - started)


def _finish(
    config: Config, folder: RunFolder, recorder: Recorder, arrived: Arrived, missing: Mapping[int, str], seconds: float,
    central: CentralEvaluation | None = None,
) -> dict:  # fmt: skip
    """The history, the aggregate and the summary of what was collected, every model by the name of its folder."""
    for cid, reason in missing.items():
        log.warning("client %d did not deliver all that it has trained: %s", cid, reason)
    results = {name: arrived.models[name] for name in sorted(arrived.models, key=_numbers)}
    asked = config.num_partitions
    outcome = Outcome(1, 1, asked=asked, answered=asked - len(missing), failures=dict(missing), seconds=seconds)
    outcome.rows += _rows("train", {name: _figures(result, "") for name, result in results.items()}, seconds)
    tested = {name: _figures(result, "val-") for name, result in results.items() if "val-loss" in result.figures}
    outcome.rows += _rows("evaluate", tested, seconds)
    places = {name: arrived.folder / name for name in results}
    parts = {places[name] / "model.keras": int(result.figures["num-examples"]) for name, result in results.items()}
    tested = measure_models(central, places)
    num_weights = aggregate(config, parts, folder.model_path) if parts else None
    if num_weights is not None:
        tested |= measure_models(central, {"aggregate": folder.path})
    if tested:
        write_figures(tested, folder.path / "test.csv")
    if "aggregate" in tested:
        outcome.rows.append(row(1, "evaluate", "server", tested["aggregate"]))
    recorder.round_finished(outcome)
    for line in table(config, results, tested, aggregated=num_weights is not None):
        print(line, flush=True)
    summary = recorder.finish("failed" if missing else "finished", model=config.model, num_weights=num_weights)
    if missing:
        cid, reason = next(iter(missing.items()))
        raise RunFailed(
            f"{len(results)} models are in {arrived.folder}, and client {cid} is missing ({reason}); what it has "
            "trained it keeps: start it with --deliver, and python server.py --collect-only"
        )
    return summary


def _rows(phase: str, figures: Mapping[str, Mapping[str, float]], seconds: float) -> list[dict]:
    """A phase's lines of history.csv, and their means: a line a model, called as its folder is."""
    rows = [row(1, phase, name, own) for name, own in figures.items()]
    add_means(rows, 1, phase, None, seconds)
    return rows


def _numbers(name: str) -> list[int]:
    """0, 0-2, 0-10, 1: the order of cids, and for each of them that of arrival."""
    return [int(number) for number in name.split("-")]


def _figures(result: Result, prefix: str) -> dict[str, float]:
    named = {name: result.figures[prefix + name] for name in ("loss", "accuracy") if prefix + name in result.figures}
    own = {"num-examples": int(result.figures["num-examples"]), "seconds": result.figures.get("seconds", 0.0)}
    return {**own, **named}


def _clients(folder: RunFolder) -> Path:
    path = folder.path / "clients"
    path.mkdir(exist_ok=True)
    return path
