"""A run that collects: every client trains once, or hands over what it has trained before; no rounds.

What was collected as one model: the strategy's aggregate of the clients' model files, weighted by their examples.
"""

import logging
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from flwr.serverapp import Grid

from fedkeras import models
from fedkeras.config import Config
from fedkeras.errors import RunFailed, UserError, describe
from fedkeras.factory import CentralEvaluation
from fedkeras.federation import offline_aggregation
from fedkeras.federation.dialogue import talk
from fedkeras.federation.metrics import add_means, row
from fedkeras.federation.round_result import RoundResult
from fedkeras.provisioning.central_evaluation import measure_models, write_figures
from fedkeras.provisioning.client_manager import ProvisionedClientManager
from fedkeras.reports import Recorder, RunFolder
from fedkeras.reports.headline import figure
from fedkeras.reports.progress_table import ProgressTable
from fedkeras.strategies import options_of
from fedkeras.tensorflow_import import import_tensorflow
from fedkeras.workflows.collect import protocol
from fedkeras.workflows.collect.outbox import LocalResult
from fedkeras.workflows.collect.protocol import Arrived

log = logging.getLogger("fedkeras")

LOOK_SECONDS = 0.1
TALK_SECONDS = 600.0
"""Seconds for one answer, each of which is a small matter for the client."""


def train_and_collect(
    grid: Grid, config: Config, nodes: ProvisionedClientManager, folder: RunFolder, recorder: Recorder,
    tell: Mapping | None,
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
                lambda cid: protocol.train(cid, run, arrived, tell or {}, config.round_timeout, progress.say),
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
    started, claimed, progress = time.monotonic(), set(), ProgressTable()
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
                lambda cid: protocol.deliver(cid, claim, arrived, tell or {}, progress.say),
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
    outcome = RoundResult(1, 1, asked=asked, answered=asked - len(missing), failures=dict(missing), seconds=seconds)
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


def _figures(result: LocalResult, prefix: str) -> dict[str, float]:
    named = {name: result.figures[prefix + name] for name in ("loss", "accuracy") if prefix + name in result.figures}
    own = {"num-examples": int(result.figures["num-examples"]), "seconds": result.figures.get("seconds", 0.0)}
    return {**own, **named}


def _clients(folder: RunFolder) -> Path:
    path = folder.path / "clients"
    path.mkdir(exist_ok=True)
    return path


OWN = ("loss", "accuracy", "val-loss", "val-accuracy")
"""Figures of a client's own training that are shown."""


def aggregate(config: Config, parts: Mapping[Path, int], out: Path) -> int | None:
    """Write the aggregate of `parts`, {model file: examples}, to `out`; return its number of weights.

    None, and a line in the log that says why, if these files make no one model.
    """
    import_tensorflow()
    from fedkeras.models.architecture import difference

    try:
        strategy = offline_aggregation.check_strategy(config.strategy, options_of(config))
        first, weights = None, {}
        for path in parts:
            model = models.load(path)
            first = first or model
            if (found := difference(first, model)) is not None:
                raise UserError(f"{path} is of another architecture: {found}")
            weights[str(path)] = models.get_weights(model)
        models.set_weights(first, offline_aggregation.combine(strategy, weights, list(parts.values())))
        models.save(first, out)
    except Exception as error:  # noqa: BLE001 - whatever a client's file makes of Keras, the models have been collected
        log.warning("there is no aggregate of the collected models: %s", describe(error))
        return None
    return sum(array.size for array in models.get_weights(first).values())


def table(
    config: Config, results: Mapping[str, LocalResult], tested: Mapping[str, Mapping], aggregated: bool
) -> list[str]:
    """What was collected as lines to print: each model's own figures, and those on the server's test set.

    `results` and `tested` go by the names of the models' folders.
    """
    own = [name for name in OWN if any(name in result.figures for result in results.values())]
    central = [name for name in ("loss", "accuracy") if any(name in figures for figures in tested.values())]
    lines = [_cells("model", "examples", *own, *(f"test {name}" for name in central))]
    for name, result in results.items():
        known = [figure(result.figures.get(key)) for key in own]
        count = str(int(result.figures["num-examples"]))
        lines.append(_cells(f"client {name}", count, *known, *_of(tested, name, central)))
    if aggregated:
        count = str(sum(int(result.figures["num-examples"]) for result in results.values()))
        lines.append(_cells("aggregate", count, *("-" for _ in own), *_of(tested, "aggregate", central)))
        lines.append(f"aggregate: {config.strategy} of {len(results)} models, weighted by examples; in model.keras")
    return ["", *lines]


def _of(tested: Mapping[str, Mapping], name: str, central: list[str]) -> list[str]:
    return [figure(tested.get(name, {}).get(key)) for key in central]


def _cells(first: str, *rest: str) -> str:
    return f"{first:<12}" + "".join(f"{cell:>14}" for cell in rest)
