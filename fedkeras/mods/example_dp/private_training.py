"""The client's half of DP-SGD: it names the objective itself, and sends an update only if that is how it was had.

Nothing that the server says can lower the noise: it follows from the options of `--mods`, which a client can demand
(`--require`), and from the client's own number of examples. The client counts its trainings too, for a server may ask
more often than it has said; it does so as long as its process lives.
"""

import logging
import math

from flwr.app import ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict

from fedkeras.accountant import require_library, short
from fedkeras.errors import UserError
from fedkeras.federation.grids import IDENTIFY
from fedkeras.federation.initial_weights import INITIAL_WEIGHTS
from fedkeras.federation.messages import NUM_EXAMPLES, arrays_of, metrics_of
from fedkeras.federation.records import of_kind
from fedkeras.mods.base import CallNext
from fedkeras.mods.budget_options import LEAST_NOISE
from fedkeras.mods.example_dp.privacy_terms import PrivacyTerms, Training
from fedkeras.named_code import parse_spec

chosen_log = logging.getLogger("fedkeras.chosen")
"""Shown on a client's terminal."""

OBJECTIVE, PROXIMAL_MU = "objective", "proximal-mu"
"""Keys of a train message's configuration."""
NOISE, RATE, STEPS = "dp-sgd-noise", "dp-sgd-rate", "dp-sgd-steps"
"""Figures of the objective's; a reply has them and the number of examples, and no other."""
STATE, TIMES, SUMS = "dp-sgd", "trainings", "noisy-sums"
"""Where a client keeps count, in its context's state; a server may ask for longer and for shorter trainings."""


def private_answer(
    message: Message, context: Context, call_next: CallNext, terms: PrivacyTerms, tells: bool = True
) -> Message:
    """The answer of a client that trains by `call_next`; it `tells` what the server counts epsilon from, or not.

    Raises UserError for a question whose answer would not be protected, and for a training beyond the budget.
    """
    kind = message.metadata.message_type
    if kind in (IDENTIFY, INITIAL_WEIGHTS):
        return call_next(message, context)
    if kind != MessageType.TRAIN:
        raise UserError(f"--mods dp-sgd: a client answers no '{kind}', since the answer would not be protected")
    if terms.budget is not None:
        require_library("dp-sgd", ", or let the server say noise-multiplier without epsilon")
    kept = context.state.get(STATE) or {TIMES: 0, SUMS: 0}
    before, sums = int(kept[TIMES]), int(kept[SUMS])
    reply = call_next(_with_objective(message, terms), context)
    if reply.has_error():
        return reply
    training, examples = training_of(metrics_of(reply.content), terms), int(metrics_of(reply.content)[NUM_EXAMPLES])
    if not before:
        chosen_log.info("%s", words(training, examples, terms))
    if not terms.allow(training, before + 1, sums):
        raise UserError(
            f"this client has trained {before} times, and once more would exceed epsilon {terms.budget:g} at delta "
            f"{short(terms.delta)}: nothing of that is sent"
        )
    context.state[STATE] = ConfigRecord({TIMES: before + 1, SUMS: sums + training.steps})
    counted = {NOISE: training.noise, RATE: training.rate, STEPS: training.steps} if tells else {}
    figures = {NUM_EXAMPLES: examples, **counted}
    content = RecordDict({"arrays": arrays_of(reply.content), "metrics": MetricRecord(figures)})
    return Message(content, metadata=reply.metadata)


def training_of(figures: MetricRecord, terms: PrivacyTerms) -> Training:
    """What was done, by the objective's figures. Raises ValueError if that is not DP-SGD with noise enough."""
    noise, rate, steps = (figures.get(name) for name in (NOISE, RATE, STEPS))
    numbers = isinstance(noise, float) and isinstance(rate, float) and isinstance(steps, int | float)
    least = LEAST_NOISE if terms.calibrated else terms.noise
    if not (numbers and least <= noise < math.inf and 0 < rate <= 1 and 1 <= steps < 2**53 and steps == int(steps)):
        raise ValueError("this was not trained by DP-SGD with the noise that is wanted: nothing of it is used")
    return Training(noise, rate, int(steps))


def words(training: Training, examples: int, terms: PrivacyTerms) -> str:
    """What a client's terminal says once."""
    added = (
        f"dp-sgd: each of this client's {examples} examples moves a step by {terms.clip:g} at most, and each step gets "
        f"noise of {training.noise:.4g} times that; {training.steps} steps a round of some "
        f"{training.rate * examples:.3g} examples"
    )
    if terms.study:
        return f"{added}. NOT PRIVATE: study=true takes the noise from the seed, which the server knows"
    if terms.budget is None:
        return f"{added}; no budget ends it, and the server counts epsilon at delta {short(terms.delta)}"
    weak = "; delta is 1 / examples or more, which protects hardly anybody" if terms.delta * examples >= 1 else ""
    return f"{added}; epsilon {terms.budget:g} at delta {short(terms.delta)} is not exceeded{weak}"


def _with_objective(message: Message, terms: PrivacyTerms) -> Message:
    """The train message with this objective, FedProx's term beside it. Raises UserError if the server names another.

    Of a message with two configurations the training could read the one that is not looked at here.
    """
    found = of_kind(message.content, ConfigRecord)
    if len(found) != 1:
        raise UserError(f"--mods dp-sgd: a train message has one configuration, and the server sent {len(found)}")
    name, table = next(iter(found.items()))
    wanted = {OBJECTIVE: terms.objective}
    if named := table.get(OBJECTIVE):
        spec = parse_spec(str(named), OBJECTIVE)
        if spec.name != "proximal" or "mu" not in spec.options:
            raise UserError(f"--mods dp-sgd is an objective, and the server names another one: {named}")
        wanted[PROXIMAL_MU] = spec.options["mu"]
    content = RecordDict(dict(message.content.items()))
    content[name] = ConfigRecord({**table, **wanted})
    return Message(content, metadata=message.metadata)
