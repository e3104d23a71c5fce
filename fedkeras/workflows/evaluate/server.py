"""Runs that test: one evaluation of a model that another run has left, by that run's own way to train.

The other run's settings decide all: its clients, what they hold out, how examples are scaled, its mods and strategy. So
the figures of its final model are, to the bit, those of its last round.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from flwr.app import Message

from fedkeras.cids import cids_text, parse_cids
from fedkeras.config import Config
from fedkeras.errors import RunFailed, UserError
from fedkeras.federation import strategy_adapter
from fedkeras.federation.records import record, views
from fedkeras.federation.requests import ClientContext, Handler
from fedkeras.federation.round_result import RoundResult
from fedkeras.federation.trainable import trainable_of
from fedkeras.named_code import EVERYTHING, Permission
from fedkeras.reports import ReportSection, RunFolder, section, write_predictions
from fedkeras.reports.run import read_table
from fedkeras.reports.server_view import COUNTS, EXAMPLES, PRESENCE, UPDATE, Sight
from fedkeras.workflows.base import RunContext, Summary, Workflow, workflow_of
from fedkeras.workflows.beside_training import figures_seen
from fedkeras.workflows.evaluate import figures
from fedkeras.workflows.evaluate.chosen_clients import ChosenClients
from fedkeras.workflows.evaluate.recorded_model import RecordedModel, recorded_model

log = logging.getLogger("fedkeras")

ALL, NONE = "all", "none"


class EvaluateWorkflow(Workflow):
    """Clients and server test the model of another run, whose workflow is `own`."""

    name = "evaluate"

    def __init__(self, own: Workflow) -> None:
        self._own = own
        self.evaluates_centrally, self.has_data, self.fixed_counts, self.sends_updates = (
            own.evaluates_centrally, own.has_data, own.fixed_counts, own.sends_updates,
        )  # fmt: skip
        self._recorded: RecordedModel | None = None

    @classmethod
    def made_for(cls, config: Config, permission: Permission = EVERYTHING) -> Workflow:
        """Around the workflow of the run that is tested."""
        return cls(workflow_of(dataclasses.replace(config, evaluate=""), permission))

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """What a client answers in that run."""
        return self._own.handlers

    def check(self, config: Config) -> None:
        """There must be a model, and clients that have something to test it on."""
        if config.resume:
            raise UserError(f"--resume is for rounds, and {config.resume} tests a model once: start it anew")
        if not self._own.tests_again:
            raise UserError(
                f"--evaluate {config.evaluate}: it was no training in rounds ({self._own.name}), so there is no global "
                "model to hand out; `fedkeras aggregate FILES --test FILE.npz` tests models that were collected"
            )
        self._own.check(dataclasses.replace(config, evaluate=""))
        chosen = chosen_cids(config)
        if config.evaluate_clients != NONE and not config.test_fraction:
            raise UserError(
                f"the clients of {config.evaluate} hold nothing out (--test-fraction 0): with clients none it "
                "is tested on the central test set alone"
            )
        if not chosen and not config.central_evaluation:
            raise UserError("no clients and --no-central-evaluation leave nothing to test on")

    def server_threads(self, config: Config) -> int:
        """As many as that run had: they decide the last digits."""
        known = read_table(RunFolder(Path(config.evaluate)).summary_path).get("server_threads")
        return known if isinstance(known, int) and known > 0 else self._own.server_threads(config)

    def prepare_server(self, config: Config, threads: int) -> None:
        """Read the model: what is wrong with it leaves no folder."""
        self._own.prepare_server(config, threads)
        self._recorded = recorded_model(RunFolder(Path(config.evaluate)), config.evaluate_round, config.trust_code)

    def prepare_client(self, client: ClientContext) -> None:
        """As in that run."""
        self._own.prepare_client(client)

    def run_name(self, config: Config) -> str:
        """That run's, and that it is tested."""
        return f"{self._own.run_name(config)}-evaluated"

    def keeps_client_state(self, config: Config) -> bool:
        """As in that run."""
        return self._own.keeps_client_state(config)

    def preview(self, config: Config) -> Sequence[str]:
        """Which model is tested, by whom."""
        whom = {ALL: "all clients", NONE: "no client"}.get(
            config.evaluate_clients, f"clients {config.evaluate_clients}"
        )
        return (f"the model ({config.evaluate_round}) of {config.evaluate} is tested, by {whom}; nothing is trained",)

    def report_sections(self, folder: RunFolder) -> Sequence[ReportSection]:
        """What was tested."""
        summary = read_table(folder.summary_path)
        words = f"The model of {summary.get('evaluated', '?')} after round {summary.get('rounds', '?')}. No training."
        return [section("What was tested", [words])]

    def server_saw(self, config: Config) -> Sight:
        """Nobody trains: figures of those who test, through the cuts if the model is cut."""
        asked = config.evaluate_clients != NONE
        own = {name: seen for name, seen in self._own.server_saw(config).items() if name not in (UPDATE, COUNTS)}
        if not asked:
            return {name: seen for name, seen in own.items() if name in (EXAMPLES, PRESENCE)}
        return own | figures_seen(trains=False)

    def reply_limit(self, config: Config, message: Message) -> int | None:
        """As in that run."""
        return self._own.reply_limit(config, message)

    def run(self, run: RunContext) -> Summary:
        """One evaluation. Raises RunFailed if a client that was asked gave no good answer."""
        assert self._recorded is not None  # prepare_server came before
        config, recorded = run.config, self._recorded
        arrays = record(recorded.weights)
        self._check_names(run, recorded)
        run = run.knowing(trainable_of(arrays, recorded.trainable))
        cids = chosen_cids(config)
        if len(cids) < config.num_partitions:
            run = dataclasses.replace(run, clients=ChosenClients(run.clients, cids, config.node_timeout))
        if cids:
            run.clients.wait()
        run.callbacks.on_run_begin(run)
        result = RoundResult(recorded.round, recorded.round, arrays=arrays, asked=len(cids))
        self._own.evaluate(run, result)
        result.took("evaluation")
        result.answered = len(cids) - len(result.failures)
        run.callbacks.on_round_end(result.end())
        run.callbacks.on_rounds_end()
        if predictions := run.central.predictions(views(arrays)):
            write_predictions(run.folder.predictions_path, *predictions)
        lines = figures.table(result.rows, strategy_adapter.is_robust(run.strategy))
        print(f"\n{recorded.path}, round {recorded.round}", *lines, sep="\n", flush=True)
        summary = run.finish("failed" if result.failures else "finished", evaluated=config.evaluate)
        if result.failures:
            cid, reason = min(result.failures.items())
            raise RunFailed(f"{len(result.failures)} of {len(cids)} clients did not test the model; {cid}: {reason}")
        return summary

    def _check_names(self, run: RunContext, recorded: RecordedModel) -> None:
        """Raise UserError if the server's own model is not the one that the weights are of."""
        own = run.central.weight_names() if run.evaluate_fn else None
        if own is not None and set(own.names) != set(recorded.weights):
            raise UserError(
                f"{recorded.path} does not hold the weights of the model {run.config.model or 'of the data set'}, as "
                "it is made now: has its code changed since?"
            )


def chosen_cids(config: Config) -> list[int]:
    """The clients that are to test, ascending. Raises UserError."""
    if config.evaluate_clients in (ALL, NONE):
        return [*range(config.num_partitions)] if config.evaluate_clients == ALL else []
    try:
        cids = parse_cids(config.evaluate_clients)
    except ValueError:
        raise UserError(
            f"the clients to test on are '{config.evaluate_clients}': give all, none, or ids such as 0-9 or 0,2,5"
        ) from None
    if cids[-1] >= config.num_partitions:
        others = cids_text(cid for cid in cids if cid >= config.num_partitions)
        raise UserError(f"the clients to test on: there is no client {others} among {config.num_partitions}")
    return cids
