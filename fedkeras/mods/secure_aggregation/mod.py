"""Secure aggregation as a mod: the server is handed the sum of the clients' updates and never one of them.

Bonawitz, Ivanov, Kreuter, Marcedone, McMahan, Patel, Ramage, Segal, Seth: Practical Secure Aggregation for
Privacy-Preserving Machine Learning, CCS 2017; Bell, Bonawitz, Gascón, Lepoint, Raykova: Secure Single-Server
Aggregation with (Poly)Logarithmic Overhead, CCS 2020. The server is taken to follow the protocol and to be curious.

Keys are the operating system's randomness, fresh for each attempt; `study=true` takes them from the seed, which every
client knows, so that a run can be repeated to the bit, and then nothing is secret. The sum is exact and rounding is to
the nearest, so that the model is the same to the bit in every runtime, with either kind of keys.
"""

import functools
import logging
import math
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Context, Message, MessageType
from flwr.serverapp.strategy import Strategy

from fedkeras.callbacks import Callback
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.dispatcher import SPARE_BYTES
from fedkeras.federation.grids import IDENTIFY
from fedkeras.federation.initial_weights import INITIAL_WEIGHTS
from fedkeras.federation.strategy_adapter import TAKE_ALL, is_robust, nested
from fedkeras.mods.base import CallNext, Exchange, Mod
from fedkeras.mods.secure_aggregation import conditions, journal, openings, parameters, section, wire
from fedkeras.mods.secure_aggregation.attempt import SumAttempt
from fedkeras.mods.secure_aggregation.client_session import Randomness
from fedkeras.mods.secure_aggregation.conditions import NAME
from fedkeras.mods.secure_aggregation.openings import Openings
from fedkeras.mods.secure_aggregation.participant import MUCH, Participant
from fedkeras.mods.secure_aggregation.plan import Outcome, Plan
from fedkeras.mods.secure_aggregation.summed_mean import SummedMean
from fedkeras.randomness import generator
from fedkeras.reports.choices import CONCEALED
from fedkeras.reports.page import ReportSection
from fedkeras.reports.run_folder import JsonTable, RunFolder
from fedkeras.reports.server_view import COUNTS, FIGURES, NOBODY, OPEN, SUM, UPDATE, Seen, Sight

if TYPE_CHECKING:
    from fedkeras.workflows.base import RunContext

log = logging.getLogger("fedkeras")

UNKNOWN_EXAMPLES = 1000
"""What a client counts for at most, where the server does not deal the examples out and nobody says it."""
FEW = 10
"""Clients in a sum below which the run says how little it hides."""
NAME_BYTES = 16


class SecureAggregation(Mod):
    """`--mods secure-aggregation:max-dropout=0.1`.

    `max-dropout` is the share of a round's clients that may be lost once they have trained, `colluding` the share that
    may work together with the server. A change of a value beyond `clip` is cut off. A client counts for at most
    `max-examples` (0: as many as the largest part has, where the server deals them out, else 1000), and a sum is of
    `min-clients` at least. After its training a client has `phase-timeout` seconds for each message.
    """

    shows_clients = False
    needs_replies = False  # a sum says of how many it must be: who is lost afterwards is in it all the same
    needs_updates = True
    fixed_counts = False
    keeps_client_state = True
    untracked = ("outcomes", "journal_path", "cohort", "opened")

    def __init__(
        self,
        max_dropout: float = 0.1,
        colluding: float = 0.1,
        clip: float = 1.0,
        max_examples: int = 0,
        min_clients: int = parameters.LEAST_COHORT,
        phase_timeout: float = 300.0,
        study: bool = False,
    ) -> None:
        parameters.require_fractions(max_dropout, colluding)
        for name, value in (("clip", clip), ("phase-timeout", phase_timeout)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ValueError(f"{name} must be a number above 0, not {value}")
        for name, number, least in (("max-examples", max_examples, 0), ("min-clients", min_clients, 3)):
            if type(number) is not int or number < least:
                raise ValueError(f"{name} must be a whole number, {least} at least, not {number}")
        if not isinstance(study, bool):
            raise ValueError(f"study must be true or false, not {study}")
        self.max_dropout, self.colluding, self.clip = float(max_dropout), float(colluding), float(clip)
        self.max_examples, self.min_clients, self.study = max_examples, min_clients, study
        self.phase_timeout = float(phase_timeout)
        self.least = dict.fromkeys((MessageType.TRAIN, MessageType.EVALUATE), min_clients)
        self.opened = Openings()
        """Of whom sums of updates were opened."""
        self.seed, self.most = 0, {MessageType.TRAIN: 1, MessageType.EVALUATE: 1}  # the run's, by `choose` and `begin`
        self.attempts: dict[str, list[int]] = {}
        """{kind: [round, attempt]} of the last attempt."""
        self.entries: list[dict] = []
        """What became of each attempt (`journal.SumEntry`)."""
        self.warned = False
        self.outcomes: dict[str, Outcome] = {}
        self.journal_path: Path | None = None
        self.cohort: Mapping[int, int] = {}
        """{client id: node id} of the phase that is under way."""

    # Before a run

    def check(self, config: Config) -> None:
        """What a sum cannot be had of, or what would tell of single clients beside it."""
        conditions.check(config, self)

    def choose(self, config: Config) -> Mapping[str, str]:
        """How the sums of this run are made; how finely is said when it is known how many examples clients have."""
        self.seed = config.seed
        if config.evaluate:
            return {}
        clients = conditions.cohorts(config)[MessageType.TRAIN]
        degree, threshold = parameters.choose(clients, self.max_dropout, self.colluding)
        least = max(
            parameters.least_survivors(clients, degree, threshold, self.max_dropout),
            self.min_clients,
            config.min_results,
        )
        keys = "from the seed (study=true): NOT SECRET" if self.study else "fresh for each attempt"
        return {
            "secure aggregation": (
                f"sums of {clients} clients, {least} of them at least; each masks with {degree} others, {threshold} of "
                f"{degree + 1} shares open a secret; keys {keys}"
            ),
            CONCEALED: "not told of single clients, whose figures are added up as their updates are",
        }

    def begin(self, run: "RunContext") -> None:
        """A client's part is known, or a claim that is cut down; so is how finely a value can be told."""
        config, most = run.config, self.max_examples
        for kind in self.most:
            dealt = run.client_weights.largest_dealt(kind)
            self.most[kind] = 1 if config.client_weights == "uniform" else most or dealt or UNKNOWN_EXAMPLES
        clients = conditions.cohorts(config)[MessageType.TRAIN]
        encoding = conditions.quantised(config, self.clip, clients, self.most[MessageType.TRAIN])
        try:
            encoding.check()
        except ValueError as error:
            raise UserError(f"--mods {NAME}: {error} (max-examples, or --client-weights uniform)") from error
        weight = encoding.max_weight
        counted = "all count alike" if weight == 1 else f"a client counts for {weight} examples at most"
        run.choices.note(
            "quantisation",
            f"{encoding.bits} bits a value, changes of up to {self.clip:g} in steps of {encoding.step:.2g} or finer; "
            f"{counted}",
        )
        self.least[MessageType.TRAIN] = max(self.min_clients, config.min_results)
        folder = run.folder.path if run.folder.path.name else None  # a bare run leaves nothing behind
        self.journal_path = folder and folder / journal.NAME
        done = run.start.round if run.start else 0
        self.opened = Openings(folder and folder / openings.NAME, done)
        if self.opened.rounds:
            log.warning(
                "a secure sum of round %d was opened before this run ended: another one is opened only if it is of the "
                "same clients, or of %d others at least",
                self.opened.rounds[0],
                self.least[MessageType.TRAIN],
            )

    def strategy(self, strategy: Strategy) -> Strategy:
        """One that is handed the mean alone."""
        if is_robust(strategy) or any(isinstance(each, TAKE_ALL) for each in nested(strategy)):
            raise UserError(
                f"--mods {NAME} does not go with {type(strategy).__name__}, which must see each client's update: it is "
                "for fedavg, fedprox, fedavgm, fedadam, fedyogi and fedadagrad"
            )
        return SummedMean(strategy, self)

    def warnings(self, clients: int) -> Iterable[str]:
        """What a user must know who relies on it; `clients` train in a round."""
        if self.study:
            yield "NOT SECRET: study=true takes keys from the seed, which every client and the server know"
        if clients < FEW:
            yield (
                f"a sum of {clients} clients hides little: whoever knows all but one of the updates, or sees that one "
                "client has most of the examples, has that one's"
            )

    # On the client

    def client(self, message: Message, context: Context, call_next: CallNext) -> Message:
        """What leaves a client is masked: neither an update nor a figure of its own."""
        kind = message.metadata.message_type
        if kind in (IDENTIFY, INITIAL_WEIGHTS):
            return call_next(message, context)
        if kind not in (MessageType.TRAIN, MessageType.EVALUATE, *wire.STEPS):
            raise UserError(f"--mods {NAME}: a client answers no '{kind}', since the answer would not be masked")
        return Participant(self, message, context).answer(context, call_next)

    def randomness(self, seed: int, cid: int, purpose: str) -> Randomness:
        """Where a client's keys come from."""
        if not self.study:
            return secrets.token_bytes
        return generator(seed, "secure aggregation", cid, purpose).bytes

    # On the server

    def exchange(self, inner: Exchange, messages: Sequence[Message]) -> Iterator[Message]:
        """All steps of an attempt at a round's sum."""
        kind = messages[0].metadata.message_type if messages else ""
        if kind not in (MessageType.TRAIN, MessageType.EVALUATE):
            return inner.exchange(messages)
        plan = self._plan(kind, int(wire.config_of(messages[0].content)["server-round"]))
        cids = {node_id: cid for cid, node_id in self.cohort.items()}
        opening = functools.partial(self.opened.note, plan.round) if kind == MessageType.TRAIN else _nothing
        attempt = SumAttempt(plan, inner, messages, cids, opening)
        arriving = attempt.begin()

        def answers() -> Iterator[Message]:
            yield from arriving
            self._note(attempt.outcome)

        return answers()

    def take_outcome(self, kind: str) -> Outcome | None:
        """What has come of the last attempt, once."""
        return self.outcomes.pop(kind, None)

    def _plan(self, kind: str, server_round: int) -> Plan:
        before, number = self.attempts.get(kind, [0, 0])
        number = number + 1 if before == server_round else 1
        self.attempts[kind] = [server_round, number]
        if self.study:
            rng = generator(self.seed, "secure aggregation", kind, server_round, number)
            name, graph_seed = rng.bytes(NAME_BYTES).hex(), rng.bytes(32)
        else:
            name, graph_seed = secrets.token_hex(NAME_BYTES), secrets.token_bytes(32)
        return Plan(
            round=server_round,
            kind=kind,
            number=number,
            name=name,
            graph_seed=graph_seed,
            max_dropout=self.max_dropout,
            colluding=self.colluding,
            least=self.least[kind],
            clip=self.clip,
            most_examples=self.most[kind],
            seconds=self.phase_timeout,
            before=self.opened.of(server_round) if kind == MessageType.TRAIN else (),
        )

    def _note(self, outcome: Outcome) -> None:
        self.outcomes[outcome.plan.kind] = outcome
        self.entries.append(asdict(journal.entry_of(outcome)))
        if self.journal_path is not None:
            journal.write(self.journal_path, self.entries)
        if outcome.clipped > MUCH * outcome.values and not self.warned:
            self.warned = True
            log.warning(
                "round %d: %.2g %% of the values of all updates were cut off at clip=%g, so the mean is not theirs: "
                "raise it in --mods %s (this is said once)",
                outcome.plan.round, 100 * outcome.clipped / outcome.values, self.clip, NAME,
            )  # fmt: skip

    def reply_limit(self, limit: int | None, message: Message) -> int | None:
        """A masked vector has as many bytes as it is said to have; the other answers have no arrays."""
        words = wire.config_of(message.content).get(wire.WORDS)
        if message.metadata.message_type != wire.MASK or type(words) is not int:
            return limit
        return 4 * words + SPARE_BYTES

    def callbacks(self) -> Sequence[Callback]:
        """One that tells the run's cohorts."""
        return (_Cohorts(self),)

    def summary(self) -> JsonTable:
        """What summary.json has."""
        if not self.entries:
            return {}
        trained = [entry for entry in self.entries if entry["kind"] == MessageType.TRAIN]
        return {
            "secure_aggregation": {
                "sums": sum(entry["summed"] > 0 for entry in trained),
                "repeated": sum(entry["summed"] == 0 for entry in trained),
                "lost": sum(sum(entry["lost"].values()) for entry in trained),
                "clipped": max((entry["clipped"] for entry in trained), default=0.0),
                "bits": max((entry["bits"] for entry in trained), default=0),
                "secret": not self.study,
            }
        }

    def report_sections(self, folder: RunFolder) -> Sequence[ReportSection]:
        """Clients lost by phase and round, and how finely values were told."""
        return section.of(folder)

    def server_saw(self, sight: Sight, config: Config) -> Sight:
        """Sums, and how many clients are in each; of a client that it has taken part."""
        how = "not against the server: keys came from the seed" if self.study else "masked on the client"
        lines = {
            UPDATE: "changes of all arrays",
            FIGURES: "loss, accuracy and other metrics",
            COUNTS: "numbers of examples",
        }
        sent = {name: what for name, what in lines.items() if name in sight and sight[name].whose != NOBODY}
        before = {name: "" if sight[name].protection == OPEN else f"; {sight[name].protection}" for name in sent}
        summed = {name: Seen(what, SUM, how + before[name]) for name, what in sent.items()}
        if COUNTS in sent and config.uses_catalogue and config.deals:
            summed[COUNTS] = Seen(lines[COUNTS], SUM, f"{how}; but the server has dealt them out, and knows each")
        return {**sight, **summed}


def _nothing(clients: frozenset[int]) -> None:
    """Of figures that were tested no two sums are of one round: an evaluation is not repeated."""


class _Cohorts(Callback):
    """Tells the mod what only the run knows."""

    def __init__(self, mod: SecureAggregation) -> None:
        self._mod = mod

    def on_run_begin(self, run: "RunContext") -> None:
        """How many examples clients have. Raises UserError where that leaves too few bits."""
        self._mod.begin(run)

    def on_phase_begin(
        self, server_round: int, phase: str, cohort: Mapping[int, int], suspended: Collection[int]
    ) -> None:
        """Which node is which client."""
        self._mod.cohort = dict(cohort)
