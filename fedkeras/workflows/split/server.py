"""U-shaped split learning, round by round: the clients hold M1, M3, examples and labels; the server holds M2.

A round is `local_epochs` epochs over every client of the cohort, in one of three modes, a page each: split_sequential,
split_fed, split_shared. Between rounds there are the whole model's weights and nothing else (optimizers are new in each
round), so that retries, rests, checkpoints and histories are the same as with federated averaging.

Evaluating by the way of split learning: the examples and the labels of a client's own test set stay with it.
"""

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from fedkeras.config import Config
from fedkeras.errors import RunFailed
from fedkeras.federation.callbacks import UNWATCHED, Callback
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.conversation import Conversation
from fedkeras.federation.metrics import add_means, row
from fedkeras.federation.records import record, views
from fedkeras.federation.round_loop import cohort_of, repeat_rounds
from fedkeras.federation.round_result import RoundResult, require
from fedkeras.federation.sampling import FailureTracker
from fedkeras.federation.validation import fault_of_arrays, fault_of_evaluate
from fedkeras.strategies import split_sequential, splitfed_v1, splitfed_v2
from fedkeras.strategies.fedavg import examples, metrics_of
from fedkeras.workflows.rounds.server import Evaluate
from fedkeras.workflows.split.client_pass import SCORE, TEST, WEIGHTS, BodyServer, weights_for_clients
from fedkeras.workflows.split.split_round import SplitRound

log = logging.getLogger("fedkeras")

MODES = {"sequential": split_sequential.train, "splitfed": splitfed_v1.train, "shared": splitfed_v2.train}


@dataclass(frozen=True)
class Run:
    """What stays the same from round to round."""

    grid: Grid
    nodes: ClientManager
    config: Config
    rests: FailureTracker
    middle: BodyServer
    evaluate: Evaluate | None
    tell: Mapping
    in_flight: int
    watch: Callback = UNWATCHED


def run_split(
    grid: Grid,
    nodes: ClientManager,
    arrays: ArrayRecord,
    config: Config,
    middle: BodyServer,
    evaluate: Evaluate | None = None,
    callbacks: Iterable[Callable[[RoundResult], None]] = (),
    tell: Mapping | None = None,
    first_round: int = 1,
    rests: FailureTracker | None = None,
    stop: Callable[[], bool] = lambda: False,
    watch: Callback = UNWATCHED,
) -> ArrayRecord:
    """As `rounds.run_rounds`, by split learning in mode `config.split`; `arrays` are the whole model's weights.

    Raises RunFailed if clients stay away, if a round fails `config.max_retries` + 1 times, or if M2 diverges.
    """
    lasting = hasattr(grid, "wait_for_replies")
    if not lasting and config.in_flight > 1:
        log.warning("--in-flight %d is 1 here: under Flower's own runtimes no process keeps a batch", config.in_flight)
    tell = {**(tell or {}), "stateless": not lasting}
    in_flight = config.in_flight if lasting else 1
    run = Run(grid, nodes, config, rests or FailureTracker(config), middle, evaluate, tell, in_flight, watch)
    return repeat_rounds(
        lambda arrays, server_round, failed: _one_round(run, arrays, server_round, failed),
        arrays,
        config,
        callbacks,
        first_round,
        stop,
    )


def _one_round(run: Run, arrays: ArrayRecord, server_round: int, failed: Set[int] | None) -> RoundResult:
    """One round of training and evaluation. Raises TooFewAnswers; `arrays` are not changed."""
    outcome, started = RoundResult(server_round, run.config.num_server_rounds), time.monotonic()
    phase = MessageType.TRAIN
    cohort = cohort_of(run.nodes, run.rests, phase, server_round, failed)
    outcome.asked = len(cohort)
    outcome.took("waiting")
    run.watch.began(server_round, phase, cohort, run.rests.resting(phase, server_round))
    talk = Conversation(run.grid, cohort, run.config.round_timeout)
    run.middle.start(views(arrays))
    parties = SplitRound(server_round, list(cohort), arrays, talk, run.middle, run.config, run.tell, run.in_flight)
    lanes, weights = MODES[run.config.split](parties)
    outcome.took("training")
    _note(run, outcome, phase, talk, {cid: lane.metrics for cid, lane in lanes.items()})
    require(run.config.min_results, outcome)
    outcome.arrays = _checked(weights, arrays)
    outcome.took("aggregation")
    log.info("round %d is trained", server_round)
    add_means(outcome.rows, server_round, phase, None, time.monotonic() - started)
    outcome.answered = len(cohort) - len(outcome.failures)

    _evaluate_round(run, outcome)
    outcome.took("evaluation")
    outcome.seconds = time.monotonic() - started
    return outcome


def _evaluate_round(run: Run, outcome: RoundResult) -> None:
    """Evaluate outcome.arrays on the clients and, while they begin, on the central test set."""
    phase, server_round, started = MessageType.EVALUATE, outcome.round, time.monotonic()

    def central() -> None:
        if run.evaluate and (metrics := run.evaluate(server_round, outcome.arrays)) is not None:
            outcome.rows.append(row(server_round, phase, "server", metrics))

    if run.config.fraction_evaluate == 0:
        central()
        return
    cohort = cohort_of(run.nodes, run.rests, phase, server_round)
    outcome.took("waiting")
    run.watch.began(server_round, phase, cohort, run.rests.resting(phase, server_round))
    talk = Conversation(run.grid, cohort, run.config.round_timeout)
    run.middle.start(views(outcome.arrays))
    ends = weights_for_clients(outcome.arrays, run.middle.names)
    _note(run, outcome, phase, talk, evaluate_clients(talk, list(cohort), ends, run.middle, run.tell, central))
    add_means(outcome.rows, server_round, phase, None, time.monotonic() - started)


def _note(run: Run, outcome: RoundResult, phase: str, talk: Conversation, good: Mapping[int, Mapping]) -> None:
    """Rows and failures of a phase, in the order of cid."""
    talk.close()
    for cid, metrics in good.items():
        outcome.rows.append(row(outcome.round, phase, str(cid), metrics, (talk.up[cid], talk.down[cid])))
        run.watch.answered(cid, outcome.rows[-1])
    for cid, reason in sorted(talk.failures.items()):
        outcome.failures.setdefault(cid, reason)  # who failed to train and then to evaluate: why it did not train
        run.watch.failed(cid, reason)
    run.rests.note(phase, outcome.round, good, talk.failures)


def _checked(weights: Mapping, arrays: ArrayRecord) -> ArrayRecord:
    """The new weights in the order of the old ones. Raises RunFailed if they cannot go on."""
    new = record({name: weights[name] for name in arrays})
    if fault := fault_of_arrays(new, arrays):
        raise RunFailed(f"split learning gave weights that cannot go on: {fault}")
    return new


BATCH = 256
"""Examples in a message; a server that knows it can tell how many a batch must have."""


def evaluate_clients(
    talk: Conversation, cids: list[int], ends: ArrayRecord, middle: BodyServer, tell: Mapping, meanwhile: Callable
) -> dict[int, Mapping[str, float]]:
    """The clients' metrics by cid, in its order; who fails is in talk.failures.

    `meanwhile` is called when the clients have something to do. M2 changes nothing here, so who comes first is served.
    """
    tell = {**tell, "epoch": uuid.uuid4().hex}
    talk.send(cids, TEST, 0, RecordDict({WEIGHTS: ends, "config": ConfigRecord(tell)}))
    meanwhile()
    awaited, sizes, metrics = dict.fromkeys(cids, 0), {}, {}
    while found := talk.next({cid: tag for cid, tag in awaited.items() if cid not in talk.failures}):
        cid, message = found
        try:
            finished = _one_batch(talk, middle, tell, cid, awaited[cid], message, sizes)
        except ValueError as error:
            talk.fail(cid, str(error))
            continue
        awaited[cid] += 1
        if finished:
            del awaited[cid]
            metrics[cid] = metrics_of(message.content)
    return {cid: metrics[cid] for cid in cids if cid in metrics}


def _one_batch(
    talk: Conversation, middle: BodyServer, tell: Mapping, cid: int, batch: int, message: Message, sizes: dict[int, int]
) -> bool:
    """Answer a client's activations with M2's output; True if these were its metrics, and it has no more."""
    first = batch * BATCH
    if first == 0 or first >= sizes[cid]:
        if fault := fault_of_evaluate(message):
            raise ValueError(fault)
        count = examples(message.content)
        if sizes.setdefault(cid, count) != count:
            raise ValueError(f"had {sizes[cid]} examples and has {count} at the end")
    if first >= sizes[cid]:
        return True
    output, penalty = middle.test(batch, message.content, min(BATCH, sizes[cid] - first))
    output["config"] = ConfigRecord({**tell, "batch": batch, "penalty": penalty})
    talk.send([cid], SCORE, batch + 1, output)
    return False
