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
    results: dict[int, Result] = {}
    failures: dict[int, str] = {}
    asked: set[int] = set()
    for _ in range(1 + config.max_retries):
        try:
            cohort = {cid: node for cid, node in nodes.wait().items() if cid not in results}
        except RunFailed:
            if not results:
                raise
            break
        asked |= set(cohort)
        with progress:
            new, failures = talk(
                grid,
                cohort,
                lambda cid: collecting.train(
                    cid, run, _clients(folder), tell or {}, config.round_timeout, progress.say
                ),
                min(config.round_timeout, TALK_SECONDS),
            )
        results |= new
        nodes.ask_again(failures)
        if not failures:
            break
    missing = {cid: failures.get(cid, "was not there") for cid in range(config.num_partitions) if cid not in results}
    return _finish(config, folder, recorder, results, missing, time.monotonic() - started, central)


def collect_only(grid: Grid, config: Config, folder: RunFolder, recorder: Recorder, tell: Mapping | None) -> dict:
    """Take what clients hold, each as it comes, until num-partitions of them have been asked or node-timeout is over.

    Returns the summary. Raises RunFailed if fewer came, or if one could not deliver.
    """
    if not hasattr(grid, "cids"):
        raise UserError("--collect-only needs our own runtime: `python server.py` and `python client.py --deliver`")
    started, claimed, progress = time.monotonic(), set(), Progress()
    taken: list[Result] = []
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
            new, failures = talk(
                grid,
                cohort,
                lambda cid: collecting.deliver(cid, claim, _clients(folder), tell or {}, progress.say),
                TALK_SECONDS,
            )
            done |= set(new) | set(failures)
            taken += [result for results in new.values() for result in results]
            for cid, results in new.items():
                progress.say(cid, f"has delivered {len(results)} results")
    results = {result.cid: result for result in taken}
    absent = {cid: "did not come (--node-timeout)" for cid in range(config.num_partitions) if cid not in done}
    if not taken and not failures and not absent:
        raise RunFailed("no client held anything that it had trained")
    return _finish(config, folder, recorder, results, failures | absent, time.monotonic() - started)


def _finish(
    config: Config, folder: RunFolder, recorder: Recorder, results: Mapping[int, Result], missing: Mapping[int, str],
    seconds: float, central: CentralEvaluation | None = None,
) -> dict:  # fmt: skip
    """The history, the aggregate and the summary of what was collected."""
    for cid, reason in missing.items():
        log.warning("nothing was collected from client %d: %s", cid, reason)
    results = dict(sorted(results.items()))
    outcome = Outcome(1, 1, asked=config.num_partitions, answered=len(results), failures=dict(missing), seconds=seconds)
    for cid, result in results.items():
        outcome.rows.append(row(1, "train", str(cid), _figures(result, "")))
    add_means(outcome.rows, 1, "train", None, seconds)
    tested = [cid for cid, result in results.items() if "val-loss" in result.figures]
    for cid in tested:
        outcome.rows.append(row(1, "evaluate", str(cid), _figures(results[cid], "val-")))
    add_means(outcome.rows, 1, "evaluate", None, seconds)
    places = {str(cid): _clients(folder) / str(cid) for cid in results}
    parts = {
        place / "model.keras": int(result.figures["num-examples"])
        for place, result in zip(places.values(), results.values(), strict=True)
    }
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
            f"{len(results)} models are in {_clients(folder)}, and client {cid} is missing ({reason}); what it has "
            "trained it keeps: start it with --deliver, and python server.py --collect-only"
        )
    return summary


def _figures(result: Result, prefix: str) -> dict[str, float]:
    named = {name: result.figures[prefix + name] for name in ("loss", "accuracy") if prefix + name in result.figures}
    own = {"num-examples": int(result.figures["num-examples"]), "seconds": result.figures.get("seconds", 0.0)}
    return {**own, **named}


def _clients(folder: RunFolder) -> Path:
    path = folder.path / "clients"
    path.mkdir(exist_ok=True)
    return path
