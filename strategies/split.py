"""U-shaped split learning, round by round: the clients hold M1, M3, examples and labels; the server holds M2.

A round is `local_epochs` epochs over every client of the cohort, in one of three modes, a page each: split_sequential,
split_fed, split_shared. Between rounds there are the whole model's weights and nothing else (optimizers are new in each
round), so that retries, rests, checkpoints and histories are the same as with federated averaging.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass

from flwr.app import ArrayRecord, MessageType
from flwr.serverapp import Grid

from fedkeras.config import Config
from fedkeras.errors import RunFailed
from strategies import split_fed, split_sequential, split_shared
from strategies.answers import Outcome, require
from strategies.arrays import record, views
from strategies.checks import fault_of_arrays
from strategies.conversation import Conversation
from strategies.loop import cohort_of, repeat_rounds
from strategies.nodes import Nodes
from strategies.resting import Rests
from strategies.rounds import Evaluate
from strategies.rows import add_means, row
from strategies.split_evaluation import evaluate_clients
from strategies.split_lane import Middle, weights_for_clients
from strategies.split_round import Parties
from strategies.watching import UNWATCHED, Watch

log = logging.getLogger("fedkeras")

MODES = {"sequential": split_sequential.train, "splitfed": split_fed.train, "shared": split_shared.train}


@dataclass(frozen=True)
class Run:
    """What stays the same from round to round."""

    grid: Grid
    nodes: Nodes
    config: Config
    rests: Rests
    middle: Middle
    evaluate: Evaluate | None
    tell: Mapping
    in_flight: int
    watch: Watch = UNWATCHED


def run_split(
    grid: Grid,
    nodes: Nodes,
    arrays: ArrayRecord,
    config: Config,
    middle: Middle,
    evaluate: Evaluate | None = None,
    callbacks: Iterable[Callable[[Outcome], None]] = (),
    tell: Mapping | None = None,
    first_round: int = 1,
    rests: Rests | None = None,
    stop: Callable[[], bool] = lambda: False,
    watch: Watch = UNWATCHED,
) -> ArrayRecord:
    """As `rounds.run_rounds`, by split learning in mode `config.split`; `arrays` are the whole model's weights.

    Raises RunFailed if clients stay away, if a round fails `config.max_retries` + 1 times, or if M2 diverges.
    """
    lasting = hasattr(grid, "wait_for_replies")
    if not lasting and config.in_flight > 1:
        log.warning("--in-flight %d is 1 here: under Flower's own runtimes no process keeps a batch", config.in_flight)
    tell = {**(tell or {}), "stateless": not lasting}
    in_flight = config.in_flight if lasting else 1
    run = Run(grid, nodes, config, rests or Rests(config), middle, evaluate, tell, in_flight, watch)
    return repeat_rounds(
        lambda arrays, server_round, failed: _one_round(run, arrays, server_round, failed),
        arrays,
        config,
        callbacks,
        first_round,
        stop,
    )


def _one_round(run: Run, arrays: ArrayRecord, server_round: int, failed: Set[int] | None) -> Outcome:
    """One round of training and evaluation. Raises TooFewAnswers; `arrays` are not changed."""
    outcome, started = Outcome(server_round, run.config.num_server_rounds), time.monotonic()
    phase = MessageType.TRAIN
    cohort = cohort_of(run.nodes, run.rests, phase, server_round, failed)
    outcome.asked = len(cohort)
    outcome.took("waiting")
    run.watch.began(server_round, phase, cohort, run.rests.resting(phase, server_round))
    talk = Conversation(run.grid, cohort, run.config.round_timeout)
    run.middle.start(views(arrays))
    parties = Parties(server_round, list(cohort), arrays, talk, run.middle, run.config, run.tell, run.in_flight)
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


def _evaluate_round(run: Run, outcome: Outcome) -> None:
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


def _note(run: Run, outcome: Outcome, phase: str, talk: Conversation, good: Mapping[int, Mapping]) -> None:
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
