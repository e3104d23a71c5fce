"""Asynchronous rounds on the server: flags, and a run of versions in the place of rounds (FedBuff).

J. Nguyen, K. Malik, H. Zhan, A. Yousefpour, M. Rabbat, M. Malek, D. Huba, "Federated Learning with Buffered
Asynchronous Aggregation", AISTATS 2022, arXiv:2106.06639. `--concurrency` clients train at once; who is done is given
the newest model at once; `--buffer-size` updates make the next version. The arithmetic is in `buffer`.
"""

import dataclasses
import functools
import logging
import time
from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.serverapp.strategy import Strategy

from fedkeras import factory
from fedkeras.config import TIME, Config, fields_of
from fedkeras.errors import UserError
from fedkeras.federation import registry, strategy_adapter
from fedkeras.federation.client_speeds import ClientSpeeds
from fedkeras.federation.messages import LOCAL_STEPS
from fedkeras.federation.records import of_kind
from fedkeras.federation.requests import ClientContext, Handler
from fedkeras.federation.round_result import RoundResult
from fedkeras.named_code import EVERYTHING, Permission
from fedkeras.provisioning import provisioned_run
from fedkeras.reports import ReportSection, RunFolder, simulated_time
from fedkeras.reports.run_folder import Json
from fedkeras.reports.server_view import UPDATE, Seen, Sight
from fedkeras.strategy_names import STRATEGIES, canonical
from fedkeras.workflows.base import RunContext, Summary, Workflow, workflow_of
from fedkeras.workflows.fedbuff import report
from fedkeras.workflows.fedbuff.clocks import Clock, RealClock, SimulatedClock
from fedkeras.workflows.fedbuff.progress import Progress
from fedkeras.workflows.fedbuff.versions import BufferTerms, Versions
from fedkeras.workflows.round_loop import repeat_rounds, run_rounds
from fedkeras.workflows.soundness import mostly_of_few
from fedkeras.workflows.traffic import Sizes, Traffic, cohorts, weight_bytes

if TYPE_CHECKING:
    import keras

log = logging.getLogger("fedkeras")

OF_MEANS = ("fedavg", "fedprox", "fedavgm", "fedadagrad", "fedadam", "fedyogi")
"""The pages that move the global model along a mean of updates, which is all that a buffer can give."""

PAPERS_BUFFER = 10
"""K of the paper's experiments, whatever the concurrency."""


class FedBuffWorkflow(Workflow):
    """Clients train as in rounds, `rounds`, and nobody waits for them."""

    name = "fedbuff"
    sends_updates = True
    tests_again = True
    is_timed = True

    def __init__(self, rounds: Workflow) -> None:
        self._rounds = rounds
        self._progress = Progress()
        self.state = (self._progress,)

    @classmethod
    def made_for(cls, config: Config, permission: Permission = EVERYTHING) -> Workflow:
        """Around federated rounds, whose messages, limits and evaluation these are."""
        return cls(workflow_of(dataclasses.replace(config, mode="federated"), permission))

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """What a client answers in rounds."""
        return self._rounds.handlers

    def prepare_client(self, client: ClientContext) -> None:
        """As for rounds."""
        self._rounds.prepare_client(client)

    def check(self, config: Config) -> None:
        """What a version has no place for is refused, each in one line."""
        self._rounds.check(config)
        terms = terms_of(config)
        if terms.concurrency > config.num_partitions:
            raise UserError(
                f"--concurrency is {terms.concurrency}, but there are only {config.num_partitions} clients "
                "(--num-partitions)"
            )
        config.refuse(["fraction_train"], "is for rounds: --mode fedbuff has --concurrency, how many train at once")
        config.refuse(["min_results"], "is for rounds: --mode fedbuff makes a version of --buffer-size updates")
        of_rounds = [name for name in fields_of(group=TIME) if name != "clients"]
        config.refuse(of_rounds, "is for rounds: in --mode fedbuff nobody is waited for, and nobody is late")
        if config.mods:
            raise UserError(f"--mods {config.mods} is for rounds, and --mode fedbuff has none")
        if config.server_learning_rate != 1.0 and config.strategy not in ("fedavg", "fedprox"):
            raise UserError(
                f"--server-learning-rate is for --strategy fedavg and fedprox: {config.strategy} has steps of its own "
                "(--strategy-args)"
            )
        strategy = registry.load(config.strategy, registry.options_of(config))
        if getattr(strategy, "needs_rounds", False):
            raise UserError(
                f"--strategy {config.strategy} is for rounds: updates of a version begin at global models of unlike age"
            )
        if not _takes_means(config, strategy):
            raise UserError(
                f"--strategy {config.strategy} is for rounds: it compares what clients make of one model, and a "
                f"version has updates of several, and perhaps several of one client; take {', '.join(OF_MEANS)}"
            )

    def run_name(self, config: Config) -> str:
        """Data set and way to train; the strategy where it is not the paper's mean."""
        return provisioned_run.run_name(
            config, self.name if config.strategy == "fedavg" else f"fedbuff-{config.strategy}"
        )

    def keeps_client_state(self, config: Config) -> bool:
        """As in rounds."""
        return self._rounds.keeps_client_state(config)

    def preview(self, config: Config) -> Sequence[str]:
        """Who trains what for how long, and what travels."""
        terms = terms_of(config)
        return (
            f"{config.num_server_rounds} versions of {terms.buffer_size} updates each: {terms.concurrency} of "
            f"{config.num_partitions} clients train {config.model or factory.model_name(config)} for "
            f"{config.local_epochs} epochs at once, and nobody waits for another",
            "the model's weights travel to each client that is given work, and back; examples and labels stay where "
            "they are",
        )

    def traffic(self, config: Config, model: "keras.Model", sizes: Sizes | None) -> Traffic | None:
        """The weights there and back for K updates; and to who tests each version, by a simulated clock."""
        updates = terms_of(config).buffer_size
        down = up = weight_bytes(model.weights)
        tested = cohorts(config)[1] if config.clients else 0
        return Traffic(down * (updates + tested), up * updates)

    def report_sections(self, folder: RunFolder) -> Sequence[ReportSection]:
        """How stale updates were, and how many each client sent."""
        return [*report.sections(folder), *simulated_time.sections(folder)]

    def server_saw(self, config: Config) -> Sight:
        """What it sees in rounds, and when each client has finished."""
        sight = self._rounds.server_saw(config)
        update = Seen("weights after each of its trainings, and so its update of the version that it was sent")
        return sight | {UPDATE: update}

    def reply_limit(self, config: Config, message: Message) -> int | None:
        """As in rounds."""
        return self._rounds.reply_limit(config, message)

    def evaluate(self, run: RunContext, result: RoundResult) -> None:
        """As after a round."""
        self._rounds.evaluate(run, result)

    def run(self, run: RunContext) -> Summary:
        """All versions."""
        terms, table = terms_of(run.config), report.path_of(run.folder)
        report.UPDATES_TABLE.cut(table, run.start.round if run.start else 0)
        clock_repeats = clock_of(run, 0.0).repeatable
        said = f"{terms.buffer_size} updates make a version, {terms.concurrency} clients train at once"
        run.choices.note("buffer", said)
        if not clock_repeats:
            run.choices.note("order", "by arrival, so this run cannot be repeated to the bit (with --clients it can)")
            if run.config.fraction_evaluate:
                run.choices.note("clients test", "the last version alone, for until then they are training")
        versions: list[Versions] = []

        def one_version(run: RunContext, arrays: ArrayRecord, number: int, failed: Set[int] | None) -> RoundResult:
            if not versions:  # only now it is known which arrays are trained
                versions.append(self._versions(run, arrays, number))
            result = versions[0].one_version(run, arrays, number, failed)
            report.UPDATES_TABLE.append(table, [report.line_of(number, update) for update in versions[0].taken])
            return result

        def finish(status: str = "finished", **more: Json) -> Summary:
            own = report.figures(report.UPDATES_TABLE.read(table))
            if told := mostly_of_few(own.get("updates_of_clients", {}), run.config.num_partitions):
                log.warning("of the whole run: %s", told)
            repeatable = clock_repeats and not self._progress.given_up
            about = {**dataclasses.asdict(terms), **own, "too_stale": self._progress.too_stale}
            return run.finish(status, fedbuff={**about, "repeatable": repeatable}, **more)

        try:
            return run_rounds(dataclasses.replace(run, finish=finish), one_version)
        finally:
            for each in versions:
                each.stop()

    def train(
        self, run: RunContext, arrays: ArrayRecord, first_version: int = 1, clock: Clock | None = None
    ) -> ArrayRecord:
        """The versions alone, from these global arrays on, by this clock: the last one's. For a `bare_run`."""
        versions = self._versions(run, arrays, first_version, clock)
        try:
            return repeat_rounds(run, versions.one_version, arrays, first_version)
        finally:
            versions.stop()

    def _versions(self, run: RunContext, arrays: ArrayRecord, first: int, clock: Clock | None = None) -> Versions:
        clock = clock or clock_of(run, self._progress.seconds)
        versions = Versions(run, self._rounds, terms_of(run.config), clock, self._progress)
        versions.go_on(first - 1, arrays)
        return versions


def terms_of(config: Config) -> BufferTerms:
    """What the flags say, with what they leave open decided."""
    concurrency = config.concurrency or config.num_partitions
    return BufferTerms(
        buffer_size=config.buffer_size or min(PAPERS_BUFFER, max(1, concurrency // 2)),
        concurrency=concurrency,
        staleness_exponent=config.staleness_exponent,
        max_staleness=config.max_staleness,
        learning_rate=config.server_learning_rate,
    )


def _takes_means(config: Config, strategy: Strategy) -> bool:
    """Whether the strategy is a mean, or built on one; of somebody's own it is believed, unless it withstands liars."""
    if canonical(config.strategy) in STRATEGIES:
        return canonical(config.strategy) in OF_MEANS
    found = strategy_adapter.nested(strategy)
    takes_all = any(getattr(each, "takes_all", False) or isinstance(each, strategy_adapter.TAKE_ALL) for each in found)
    return not (takes_all or strategy_adapter.is_robust(strategy))


def clock_of(run: RunContext, seconds: float) -> Clock:
    """The simulated clock where one is wanted, or where all clients are in this process; else the real one."""
    if (speeds := ClientSpeeds.of(run.config)) is not None:
        return SimulatedClock(functools.partial(_seconds_of, speeds), seconds)
    if run.grid.patient:
        return SimulatedClock(now=seconds)
    return RealClock(time.monotonic, before=seconds)


def _seconds_of(speeds: ClientSpeeds, reply: Message, cid: int, num_bytes: int) -> float:
    """What a client's training takes by what it says of its steps; whether it lies is looked at afterwards."""
    tables = of_kind(reply.content, MetricRecord)
    steps = next(iter(tables.values())).get(LOCAL_STEPS) if tables else None
    return speeds.seconds(cid, steps if type(steps) is int and steps > 0 else 1, num_bytes)
