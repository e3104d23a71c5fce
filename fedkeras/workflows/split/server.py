"""U-shaped split learning on the server: clients hold head, tail, examples and labels; the server holds the body.

A round is `local_epochs` epochs over every client of the cohort, in one of three modes, a page each in strategies/.
Between rounds there are the whole model's weights and nothing else (optimizers are new in each round), so that retries,
suspensions, checkpoints and histories are the same as with federated averaging. In evaluation, too, the examples and
the labels of a client's own test set stay with it.
"""

import functools
import importlib
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence, Set
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict

from fedkeras import data, factory, models
from fedkeras.config import Config, Value
from fedkeras.errors import RunFailed, UserError
from fedkeras.federation.dispatcher import Dispatcher
from fedkeras.federation.messages import NUM_EXAMPLES, metrics_of, num_examples
from fedkeras.federation.records import record, views
from fedkeras.federation.requests import ClientContext, Handler
from fedkeras.federation.round_result import RoundResult, require
from fedkeras.federation.validation import fault_of_arrays, fault_of_evaluate
from fedkeras.reports import ReportSection, RunFolder
from fedkeras.reports.server_view import OPEN, UPDATE, Seen, Sight
from fedkeras.workflows.base import RunContext, Summary, Workflow
from fedkeras.workflows.beside_training import figures_seen, seen_beside_training
from fedkeras.workflows.round_loop import Phase, add_central_row, open_phase, run_rounds
from fedkeras.workflows.split import report
from fedkeras.workflows.split.client_pass import BodyServer, limit_of_activations
from fedkeras.workflows.split.protocol import EVALUATION_BATCH, SCORE, TEST, WEIGHTS, weights_without_body
from fedkeras.workflows.split.server_model import SplitServer
from fedkeras.workflows.split.split_round import SplitRound
from fedkeras.workflows.split.split_traffic import cut_points, traffic_of
from fedkeras.workflows.traffic import Sizes, Traffic

if TYPE_CHECKING:
    import keras

log = logging.getLogger("fedkeras")

MODES = {
    "sequential": "fedkeras.strategies.split_sequential",
    "splitfed": "fedkeras.strategies.splitfed_v1",
    "shared": "fedkeras.strategies.splitfed_v2",
}
"""Value of --split -> its page, whose `train` does a round's training."""


class SplitWorkflow(Workflow):
    """Each client trains the model's head and tail, the server its body; activations and gradients travel."""

    name = "split"
    has_data = True
    tests_again = True

    def __init__(self) -> None:
        self._body: SplitServer | None = None

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """A message for each step of a batch."""
        from fedkeras.workflows.split.client import HANDLERS

        return HANDLERS

    def check(self, config: Config) -> None:
        """The strategy is the mode's; sequential clients have one batch at once; the model must have cut points."""
        default = Config()
        if config.strategy != default.strategy or config.strategy_args:
            raise UserError(
                f"--split {config.split} takes no other strategy: its mode says how the parts are averaged; leave out "
                f"--strategy{'' if config.strategy != default.strategy else '-args'}"
            )
        if config.mods:
            raise UserError(
                f"--mods are for federated rounds: --split {config.split} sends batches, not models (in fewer bits "
                "with --split-dtype)"
            )
        if config.split == "sequential" and config.in_flight > 1:
            raise UserError("--in-flight is for --split splitfed or shared: in turns there is one batch at once")
        cut_points(config)

    def server_threads(self, config: Config) -> int:
        """They decide the bits, so they are as many as a client's."""
        return config.threads_per_client

    def prepare_server(self, config: Config, threads: int) -> None:
        """Build and cut the model."""
        self._body = SplitServer(config, threads)

    def prepare_client(self, client: ClientContext) -> None:
        """The model's head and tail, and the examples where nobody has to say how they are scaled."""
        from fedkeras.workflows.split.split_client import examples, split_client

        split_client(client.config)
        if not data.learns_scaling(client.config):
            examples(client.config, client.cid)

    def run_name(self, config: Config) -> str:
        """Data set and mode."""
        return f"{config.dataset}-{config.split}"

    def keeps_client_state(self, config: Config) -> bool:
        """Between two messages a client is in the middle of a batch."""
        return True

    def preview(self, config: Config) -> Sequence[str]:
        """Where the model is cut, and what travels."""
        model, (head, body) = factory.model_name(config), cut_points(config)
        return (
            f"{config.num_server_rounds} rounds of {config.local_epochs} epochs by split learning ({config.split}): "
            f"clients hold {model} up to layer {head} and after layer {body}, the server what is between",
            f"activations and gradients of every batch travel as {config.split_dtype}; examples and labels stay",
        )

    def traffic(self, config: Config, model: "keras.Model", sizes: Sizes | None) -> Traffic | None:
        """Activations and gradients at both cuts for each example, and the weights of head and tail."""
        return None if sizes is None else traffic_of(config, models.cut(model, *cut_points(config)), sizes)

    def report_sections(self, folder: RunFolder) -> Sequence[ReportSection]:
        """Where the model is cut, and what travels."""
        return report.sections(folder)

    def server_saw(self, config: Config) -> Sight:
        """What passes the cuts with every batch, and the weights of head and tail."""
        hidden = []
        if config.split_noise:
            hidden.append(f"noise of {config.split_noise:g} on activations, which is no differential privacy")
        if config.split_nopeek:
            hidden.append(f"NoPeek at {config.split_nopeek:g}, which lowers a correlation and bounds nothing")
        cuts = "activations at the first cut and gradients at the second, of each of its batches"
        sight = {
            "activations": Seen(cuts, protection="; ".join(hidden) or OPEN),
            UPDATE: Seen("its weights of head and tail, before and after each round"),
        }
        return sight | figures_seen() | seen_beside_training(config)

    def run(self, run: RunContext) -> Summary:
        """All rounds."""
        assert self._body is not None  # prepare_server came before
        report.write(run.folder, self._body.cut)
        return run_rounds(run, functools.partial(one_round, self._body, *message_config_of(run)))

    def evaluate(self, run: RunContext, result: RoundResult) -> None:
        """As each round does it: through the clients' heads, the body here, and the clients' tails."""
        assert self._body is not None  # prepare_server came before
        _evaluate(run, result, self._body, message_config_of(run)[0])


def message_config_of(run: RunContext) -> tuple[dict[str, Value], int]:
    """What goes into every message, and how many batches a client has in flight."""
    lasting = run.grid.keeps_processes
    if not lasting and run.config.in_flight > 1:
        log.warning(
            "--in-flight %d is 1 here: under Flower's own runtimes no process keeps a batch", run.config.in_flight
        )
    return {"stateless": not lasting}, run.config.in_flight if lasting else 1


def one_round(
    body: BodyServer,
    message_config: Mapping[str, Value],
    in_flight: int,
    run: RunContext,
    arrays: ArrayRecord,
    server_round: int,
    failed: Set[int] | None,
) -> RoundResult:
    """One round of training and evaluation. Raises TooFewReplies; `arrays` are not changed."""
    result = RoundResult(server_round, run.config.num_server_rounds)
    phase = open_phase(run, result, MessageType.TRAIN, failed)
    body.start(views(arrays))
    split_round = SplitRound(
        server_round, list(phase.cohort), arrays, phase.dispatcher, body, run.config, message_config, in_flight,
        phase.fault_of_count, phase.weigh_begun,
    )  # fmt: skip
    train = importlib.import_module(MODES[run.config.split]).train
    passes, weights = train(split_round)
    result.took("training")
    _note(phase, {cid: client_pass.metrics for cid, client_pass in passes.items()})
    require(run.config.min_results, len(passes), result)
    result.arrays = _checked(weights, arrays)
    result.took("aggregation")
    log.info("round %d is trained", server_round)
    phase.add_means()
    result.answered = result.asked - len(result.failures)
    _evaluate(run, result, body, message_config)
    result.took("evaluation")
    return result.end()


def _evaluate(run: RunContext, result: RoundResult, body: BodyServer, message_config: Mapping[str, Value]) -> None:
    """Evaluate result.arrays on the clients and, while they begin, on the central test set."""
    central = functools.partial(add_central_row, run, result)
    if run.config.fraction_evaluate == 0:
        central()
        return
    phase = open_phase(run, result, MessageType.EVALUATE)
    body.start(views(result.arrays))
    own = weights_without_body(result.arrays, body.names)
    good = evaluate_clients(
        phase.dispatcher, list(phase.cohort), own, body, message_config, central, phase.fault_of_count
    )
    _note(phase, good)
    phase.add_means()


def evaluate_clients(
    dispatcher: Dispatcher,
    cids: Sequence[int],
    weights: ArrayRecord,
    body: BodyServer,
    message_config: Mapping[str, Value],
    meanwhile: Callable[[], None],
    fault_of_count: Callable[[int, Message], str | None] = lambda cid, message: None,
) -> dict[int, Mapping[str, float]]:
    """The clients' metrics by cid, in its order; who fails is in dispatcher.failures.

    `weights` are head and tail. `meanwhile` is called when the clients have something to do. The body changes nothing
    here, so who comes first is served.
    """
    message_config = {**message_config, "epoch": uuid.uuid4().hex}
    content = RecordDict({WEIGHTS: weights, "config": ConfigRecord(message_config)})
    dispatcher.send(cids, TEST, 0, content, limit_of_activations(body, EVALUATION_BATCH))
    meanwhile()
    awaited, sizes, metrics = dict.fromkeys(cids, 0), {}, {}
    while found := dispatcher.next({cid: tag for cid, tag in awaited.items() if cid not in dispatcher.failures}):
        cid, message = found
        try:
            if awaited[cid] == 0 and (fault := fault_of_evaluate(message) or fault_of_count(cid, message)):
                raise ValueError(fault)
            finished = _one_batch(dispatcher, body, message_config, cid, awaited[cid], message, sizes)
        except ValueError as error:
            dispatcher.fail(cid, str(error))
            continue
        awaited[cid] += 1
        if finished:
            del awaited[cid]
            metrics[cid] = metrics_of(message.content)
    return {cid: metrics[cid] for cid in cids if cid in metrics}


def _one_batch(
    dispatcher: Dispatcher,
    body: BodyServer,
    message_config: Mapping[str, Value],
    cid: int,
    batch: int,
    message: Message,
    sizes: dict[int, int],
) -> bool:
    """Answer a client's activations with the body's output; True if these were its metrics, and it has no more."""
    first = batch * EVALUATION_BATCH
    if first == 0 or first >= sizes[cid]:
        if fault := fault_of_evaluate(message):
            raise ValueError(fault)
        count = num_examples(message.content)
        if sizes.setdefault(cid, count) != count:
            raise ValueError(f"had {sizes[cid]} examples and has {count} at the end")
    if first >= sizes[cid]:
        return True
    output, penalty = body.test(batch, message.content, min(EVALUATION_BATCH, sizes[cid] - first))
    output["config"] = ConfigRecord({**message_config, "batch": batch, "penalty": penalty})
    dispatcher.send([cid], SCORE, batch + 1, output, limit_of_activations(body, EVALUATION_BATCH))
    return False


def _note(phase: Phase, good: Mapping[int, Mapping[str, float]]) -> None:
    """Rows and failures of a phase, in the order of cid."""
    phase.dispatcher.close()
    phase.weigh(good, {cid: int(metrics[NUM_EXAMPLES]) for cid, metrics in good.items()})
    for cid, metrics in good.items():
        phase.commit(cid, phase.client_row(cid, metrics))
    for cid, reason in sorted(phase.dispatcher.failures.items()):
        phase.failed(cid, reason)
    phase.note(good, phase.dispatcher.failures)


def _checked(weights: Mapping[str, np.ndarray], arrays: ArrayRecord) -> ArrayRecord:
    """The new weights in the order of the old ones. Raises RunFailed if they cannot go on."""
    new = record({name: weights[name] for name in arrays})
    if fault := fault_of_arrays(new, arrays):
        raise RunFailed(f"split learning gave weights that cannot go on: {fault}")
    return new
