"""Runs that collect: every client trains once, or hands over what it has trained before; there are no rounds.

What was collected is made one model as well: the strategy's aggregate of the clients' model files, weighted by their
examples.
"""

import functools
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from flwr.app import MessageType

from fedkeras import models
from fedkeras.config import Config
from fedkeras.errors import RunFailed, UserError, describe
from fedkeras.federation import offline_aggregation, strategy_adapter
from fedkeras.federation.client_weights import MAJORITY, Weighting
from fedkeras.federation.dispatcher import talk
from fedkeras.federation.messages import NUM_EXAMPLES
from fedkeras.federation.metrics import RowTable, add_means, row
from fedkeras.federation.registry import options_of
from fedkeras.federation.requests import Handler
from fedkeras.federation.round_result import RoundResult
from fedkeras.provisioning import provisioned_run
from fedkeras.provisioning.central_evaluation import DeliveredModels, measure_models, write_figures
from fedkeras.provisioning.protocol import ReportState
from fedkeras.reports import ReportSection, RunFolder
from fedkeras.reports.progress_table import ProgressTable
from fedkeras.reports.server_view import EXAMPLES, LABELS, NOBODY, PRESENCE, UPDATE, Seen, Sight
from fedkeras.workflows.base import RunContext, Summary, Workflow
from fedkeras.workflows.beside_training import NEVER, figures_seen, seen_beside_training
from fedkeras.workflows.collect import protocol, report
from fedkeras.workflows.collect.model_table import meaning_of_figures, table
from fedkeras.workflows.collect.outbox import LocalResult
from fedkeras.workflows.collect.protocol import CollectedModels

log = logging.getLogger("fedkeras")

LOOK_SECONDS = 0.1
TALK_SECONDS = 600.0
"""Seconds for one answer, each of which is a small matter for the client."""


class CollectWorkflow(Workflow):
    """Every client trains once, by `fit` or k-fold; the server collects models, logs and tables."""

    name = "collect"
    evaluates_centrally = False
    has_rounds = False

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """Begin to train, say how far it is, deliver, confirm."""
        from fedkeras.workflows.collect.client import HANDLERS

        return HANDLERS

    def check(self, config: Config) -> None:
        """There are no rounds to go on with, and no messages for a mod to change."""
        if config.resume:
            raise UserError(
                f"--resume is for rounds, and {config.resume} is a run that collects. What has arrived lies in its "
                "folder clients; what clients still hold is taken by --collect-only (and client.py --deliver); python "
                "-m fedkeras aggregate combines model files. Or start a new run"
            )
        if config.mods:
            raise UserError("--mods are for federated rounds, and this run collects what clients train by themselves")

    def run_name(self, config: Config) -> str:
        """The model file, or the data set, and that it collects."""
        return provisioned_run.run_name(config, "collect")

    def keeps_client_state(self, config: Config) -> bool:
        """What a client was handed and has trained is in its own process."""
        return True

    def preview(self, config: Config) -> Sequence[str]:
        """Who trains what, and what travels."""
        how = f"{config.folds}-fold cross-validation" if config.method == "kfold" else "one training"
        epochs = f"{config.local_epochs} epoch{'s' * (config.local_epochs > 1)}"
        return (
            f"{config.num_partitions} clients train {config.model} once: {how} of {epochs}",
            "the model goes to the clients (and their share of the data, with --data-source server); models, logs and "
            "tables come back",
        )

    def report_sections(self, folder: RunFolder) -> Sequence[ReportSection]:
        """Each model's figures, epochs and folds."""
        return report.sections(folder)

    def server_saw(self, config: Config) -> Sight:
        """The model that each client has trained to its end, and its tables."""
        model = Seen("the model that it has trained by itself; loss and metrics of each epoch, its log")
        return {UPDATE: model} | figures_seen() | seen_beside_training(config)

    def run(self, run: RunContext) -> Summary:
        """Let all clients train, and collect. Raises RunFailed if a client's model is missing."""
        config, clients, started = run.config, run.clients, time.monotonic()
        run_id, arrived = uuid.uuid4().hex, _collected(run)
        failures: dict[int, str] = {}
        again: dict[int, str] = {}
        run.callbacks.on_run_begin(run)
        for _ in range(1 + config.max_retries):
            try:
                cohort = {cid: node for cid, node in clients.wait(again).items() if str(cid) not in arrived.models}
            except RunFailed:
                if not arrived.models:
                    raise
                break
            say = _saying(run, arrived)
            with clients.progress:
                _, again = talk(
                    run.grid,
                    cohort,
                    lambda cid, say=say: protocol.train_and_take(
                        cid,
                        run_id,
                        arrived,
                        config.round_timeout,
                        say,
                        functools.partial(run.client_weights.fault, MessageType.TRAIN, cid),
                    ),
                    min(config.round_timeout, TALK_SECONDS),
                )
            # Whose model has come has done its part, even if it went before it heard that.
            again = {cid: reason for cid, reason in again.items() if str(cid) not in arrived.models}
            failures |= again
            clients.offer_again(again)
            if not again:
                break
        absent = [cid for cid in range(config.num_partitions) if str(cid) not in arrived.models]
        missing = {cid: failures.get(cid, "was not connected") for cid in absent}
        return _finish(run, arrived, missing, time.monotonic() - started)


class CollectOnlyWorkflow(CollectWorkflow):
    """Nobody trains: what clients started with --deliver still hold is taken."""

    name = "collect-only"

    def check(self, config: Config) -> None:
        """Who only delivers has said nothing before."""
        super().check(config)
        if config.client_weights == "known":
            raise UserError(
                "--client-weights known needs counts that were known before, and --collect-only asks nobody"
            )

    def run_name(self, config: Config) -> str:
        """Nothing is known of it before it comes."""
        return "collected"

    def preview(self, config: Config) -> Sequence[str]:
        """What travels."""
        return (f"{config.num_partitions} clients deliver what they have trained and no server has confirmed",)

    def server_saw(self, config: Config) -> Sight:
        """What each client delivers. Of which data it was made is not known here."""
        sight = dict(super().server_saw(config))
        return {
            **{name: seen for name, seen in sight.items() if name not in (EXAMPLES, PRESENCE)},
            LABELS: Seen("how its examples were scaled, names of its classes and columns"),
            EXAMPLES: Seen("examples and labels", NOBODY, NEVER),
            PRESENCE: sight[PRESENCE],
        }

    def run(self, run: RunContext) -> Summary:
        """Take results, each as it comes, until num-partitions clients have been asked or node-timeout is over.

        Raises RunFailed if fewer came, or if one could not deliver.
        """
        config, progress = run.config, ProgressTable()
        if not run.grid.keeps_processes:
            raise UserError("--collect-only needs our own runtime: `python server.py` and `python client.py --deliver`")
        started, arrived = time.monotonic(), _collected(run)
        claimed: set[str] = set()
        done: set[int] = set()
        failures: dict[int, str] = {}

        def claim(key: str) -> bool:
            new = key not in claimed
            claimed.add(key)
            return new

        run.callbacks.on_run_begin(run)
        with progress:
            while len(done) < config.num_partitions and time.monotonic() - started < config.node_timeout:
                cohort = {cid: node for node, cid in run.grid.cids().items() if cid not in done}
                if not cohort:
                    time.sleep(LOOK_SECONDS)
                    continue
                new, failed = talk(
                    run.grid, cohort, lambda cid: protocol.take_all(cid, claim, arrived, progress.say), TALK_SECONDS
                )
                done |= set(new) | set(failed)
                failures |= failed
                for cid, count in new.items():
                    progress.say(cid, f"has delivered {count} result{'s' * (count != 1)}")
        absent = {cid: "did not come (--node-timeout)" for cid in range(config.num_partitions) if cid not in done}
        if not arrived.models and not failures and not absent:
            raise RunFailed("no client held anything that it had trained")
        return _finish(run, arrived, failures | absent, time.monotonic() - started)


def _saying(run: RunContext, arrived: CollectedModels) -> ReportState:
    """Shows what a client does, and tells the callbacks once of each result that has come."""
    told: set[int] = set()

    def say(cid: int, state: str) -> None:
        run.clients.progress.say(cid, state)
        if cid not in told and (result := arrived.models.get(str(cid))):
            told.add(cid)
            run.callbacks.on_client_result(cid, row(1, MessageType.TRAIN, str(cid), result.figures))

    return say


def _finish(run: RunContext, arrived: CollectedModels, missing: Mapping[int, str], seconds: float) -> Summary:
    """The history, the aggregate and the summary of what was collected, every model by the name of its folder."""
    config, folder = run.config, run.folder
    for cid, reason in missing.items():
        log.warning("client %d did not deliver all that it has trained: %s", cid, reason)
    results = {name: arrived.models[name] for name in sorted(arrived.models, key=_numbers)}
    asked = config.num_partitions
    result = RoundResult(1, 1, asked=asked, answered=asked - len(missing), failures=dict(missing), seconds=seconds)
    weighting = _weighting(run, {name: int(each.figures[NUM_EXAMPLES]) for name, each in results.items()})
    robust = strategy_adapter.is_robust(run.strategy)

    def rows_of(phase: str, figures: Mapping[str, Mapping[str, float]]) -> list[RowTable]:
        """A phase's lines of history.csv, and their means: a line a model, called as its folder is."""
        rows = [row(1, phase, name, {**own, NUM_EXAMPLES: weighting.counts[name]}) for name, own in figures.items()]
        add_means(rows, 1, phase, None, seconds, weighting.weights, robust)
        return rows

    result.rows += rows_of("train", {name: _figures(each, "") for name, each in results.items()})
    prefixes = {name: "cv-" if "cv-loss" in each.figures else "val-" for name, each in results.items()}
    own = {name: each for name, each in results.items() if f"{prefixes[name]}loss" in each.figures}
    result.rows += rows_of("evaluate", {name: _figures(each, prefixes[name]) for name, each in own.items()})
    places = {name: arrived.folder / name for name in results}
    parts = {places[name] / "model.keras": weighting.weights[name] for name in results}
    tested = measure_models(run.central, places)
    num_weights = aggregate(config, parts, folder.model_path) if parts else None
    if num_weights is not None:
        tested |= measure_models(run.central, {"aggregate": folder.path})
    if tested:
        write_figures(tested, folder.path / "test.csv")
    if "aggregate" in tested:
        result.rows.append(row(1, "evaluate", "server", tested["aggregate"]))
    run.callbacks.on_round_end(result)
    for line in table(config, results, tested, aggregated=num_weights is not None):
        print(line, flush=True)
    more = {"clients_figures": meaning} if (meaning := meaning_of_figures(config, results)) else {}
    summary = run.finish("failed" if missing else "finished", num_weights=num_weights, **more)
    if missing:
        cid, reason = next(iter(missing.items()))
        raise RunFailed(
            f"{len(results)} models are in {arrived.folder}, and client {cid} is missing ({reason}); what it has "
            "trained it keeps: start it with --deliver, and python server.py --collect-only"
        )
    return summary


def _weighting(run: RunContext, counts: Mapping[str, int]) -> Weighting[str]:
    """What each model counts for, by the name of its folder; a claim that is cut down is said."""
    weighting = run.client_weights.weigh(counts, facts=run.client_weights.deals(MessageType.TRAIN))
    for name, count in weighting.claims.items():
        log.warning(
            "client %s says it has %d examples, and counts for %d, since the median client has %d "
            "(--max-client-weight)",
            *(name, count, weighting.counts[name], weighting.median),
        )
    heaviest = weighting.heaviest(counts)
    if len(counts) > 2 and heaviest and heaviest[1] > MAJORITY:
        log.warning(
            "client %s carries %.3g %% of the weight, so that the aggregate is mostly its own; "
            "--client-weights uniform counts all alike",
            *(heaviest[0], 100 * heaviest[1]),
        )
    return weighting


def _numbers(name: str) -> list[int]:
    """0, 0-2, 0-10, 1: the order of cids, and for each of them that of arrival."""
    return [int(number) for number in name.split("-")]


def _figures(result: LocalResult, prefix: str) -> dict[str, float]:
    named = {name: result.figures[prefix + name] for name in ("loss", "accuracy") if prefix + name in result.figures}
    own = {"num-examples": int(result.figures["num-examples"]), "seconds": result.figures.get("seconds", 0.0)}
    return {**own, **named}


def _collected(run: RunContext) -> CollectedModels:
    path = run.folder.path / "clients"
    path.mkdir(exist_ok=True)
    return CollectedModels(path, limit=run.config.max_result_mb * 1_000_000)


def aggregate(config: Config, parts: Mapping[Path, int], out: Path) -> int | None:
    """Write the aggregate of `parts`, {model file: examples}, to `out`; return its number of weights.

    None, and a line in the log that says why, if these files make no one model.
    """
    delivered = DeliveredModels(config)
    try:
        strategy = offline_aggregation.check_strategy(config.strategy, options_of(config))
        delivered.check(parts)
        weights = {str(path): delivered.weights_of(path) for path in parts}
        first = delivered.model
        trainable = models.trainable_names(first)
        models.set_weights(first, offline_aggregation.combine(strategy, weights, list(parts.values()), trainable))
        models.save(first, out)
    except Exception as error:  # noqa: BLE001 - whatever a client's file makes of Keras, the models have been collected
        log.warning("there is no aggregate of the collected models: %s", describe(error))
        return None
    return sum(array.size for array in models.get_weights(first).values())
