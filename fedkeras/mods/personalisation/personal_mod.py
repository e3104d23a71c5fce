"""What mods have in common whose clients end with models of their own: who is tested, what counts, what is refused."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from flwr.app import ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict

from fedkeras.callbacks import Callback
from fedkeras.cids import cids_text
from fedkeras.config import TIME, Config, fields_of
from fedkeras.errors import UserError
from fedkeras.federation.messages import NUM_EXAMPLES, metrics_of
from fedkeras.federation.sampling import cohort_size, sampling_order
from fedkeras.mods.base import CallNext, Mod
from fedkeras.mods.client_state import CommittedStates
from fedkeras.mods.personalisation import section
from fedkeras.mods.personalisation.wire import (
    LAST,
    NEW,
    SECONDS,
    TABLE,
    Arrays,
    OwnHandlers,
    renamed,
    seconds_of,
    table_of,
)
from fedkeras.named_code import parse_specs
from fedkeras.randomness import generator
from fedkeras.reports.page import ReportSection
from fedkeras.reports.run_folder import JsonTable, RunFolder
from fedkeras.reports.server_view import Sight

if TYPE_CHECKING:
    from fedkeras.workflows.base import RunContext

BESIDE = ("compress", "stragglers")
"""Mods that may be named too; of others nobody has thought what they make of a model of one's own."""
ROUNDS = (MessageType.TRAIN, MessageType.EVALUATE)


class PersonalMod(Mod):
    """Clients end with models of their own. `new_clients` of them, chosen by the seed, are not there in training.

    A new client is tested once, after the last round, with what it then has: what the others share, and what
    `new_epochs` epochs on its own training examples make of it (`newcomer`).
    """

    needs_updates = True
    own_models = True
    untracked = ("_cids", "keeps_client_state")
    name: str
    """In --mods."""

    def __init__(self, new_clients: int = 0, new_epochs: int = 1, keeps_state: bool = True) -> None:
        for option, value, least in (("new-clients", new_clients, 0), ("new-epochs", new_epochs, 1)):
            require_count(option, value, least)
        self.new_clients, self.new_epochs = new_clients, new_epochs
        self.keeps_client_state = keeps_state
        self.own = CommittedStates("its own layers or model") if keeps_state else None
        self.clients, self.rounds, self.seed, self.fractions = 0, 0, 0, {}  # the run's, when it begins
        self._cids: dict[int, int] = {}

    @property
    def words(self) -> str:
        """What is each client's own, and what it is tested with: a sentence."""
        raise NotImplementedError

    def newcomer(self, handlers: OwnHandlers, epochs: int) -> Arrays:
        """The whole model of a client that was not there in training, after so many epochs of its own."""
        raise NotImplementedError

    def check(self, config: Config) -> None:
        """What is refused, in one line."""
        names = [spec.name for spec in parse_specs(config.mods, "mods")]
        if others := [name for name in names if name not in BESIDE and name != self.name]:
            raise UserError(
                f"--mods {self.name} does not go with {others[0]}: nobody has thought of what that one makes of models "
                "of clients' own"
            )
        if names.count(self.name) > 1:
            raise UserError(f"--mods {self.name} does not go with itself: name it once")
        config.refuse(("mode",), f"does not go with --mods {self.name}, which is for federated rounds")
        config.refuse(("data_source",), f"does not go with --mods {self.name}: its clients have model and data")
        words = f"does not go with --mods {self.name}: a client's trainings of its own are counted in no time"
        config.refuse(fields_of(group=TIME), words)
        if config.evaluate:
            raise UserError(
                f"--evaluate {config.evaluate}: its clients were tested with models of their own ({self.name}), which "
                "no server has to hand out; their figures are in its history.csv"
            )
        if config.stop_after:
            raise UserError(f"--stop-after keeps the best round's model, and with {self.name} clients keep the last's")
        if not config.fraction_evaluate or not config.test_fraction:
            flag = "--fraction-evaluate" if config.test_fraction else "--test-fraction"
            raise UserError(f"--mods {self.name}: clients test models that nobody else has, and {flag} 0 lets them not")
        if self.new_clients >= config.num_partitions:
            raise UserError(
                f"--mods {self.name}: new-clients={self.new_clients} of {config.num_partitions} leaves nobody to train"
            )

    def choose(self, config: Config) -> Mapping[str, str]:
        """What is each client's own, and who is new."""
        chosen = {"own models": self.words}
        if self.new_clients:
            who = cids_text(new_ones(self.new_clients, config.num_partitions, config.seed))
            chosen["new clients"] = (
                f"{who} are not there in training; after the last round each is tested with what {self.new_epochs} "
                "epochs of its own make of what the others share (new_accuracy)"
            )
        return chosen

    def most_epochs(self, config: Config) -> int:
        """A new client's."""
        return max(config.local_epochs, self.new_epochs)

    # On the client

    def client(self, message: Message, context: Context, call_next: CallNext) -> Message:
        """A new client's test; all else is `round_answer`'s."""
        if message.metadata.message_type not in ROUNDS:
            return self.other_answer(message, context, call_next)
        table, handlers = table_of(message.content), OwnHandlers(message, context, call_next)
        if message.metadata.message_type == MessageType.EVALUATE and table.get(NEW):
            tested = handlers.evaluate(self.newcomer(handlers, self.new_epochs))
            figures = renamed(tested, "new") | self.shared_figures(handlers)
            counted = {NUM_EXAMPLES: metrics_of(tested.content)[NUM_EXAMPLES], SECONDS: seconds_of(tested)}
            return Message(RecordDict({"metrics": MetricRecord({**counted, **figures})}), reply_to=message)
        return self.round_answer(handlers, table)

    def round_answer(self, handlers: OwnHandlers, table: ConfigRecord) -> Message:
        """The answer to a round's message."""
        raise NotImplementedError

    def other_answer(self, message: Message, context: Context, call_next: CallNext) -> Message:
        """The answer to a message before the rounds."""
        return call_next(message, context)

    def shared_figures(self, handlers: OwnHandlers) -> dict[str, int | float]:
        """What a new client measures of the shared model as it is, where there is one."""
        return {}

    # On the server

    def sample(self, eligible: Sequence[int], server_round: int, phase: str) -> Sequence[int] | None:
        """Who is new does not train, and is tested after the last round; others are when they have trained."""
        new = set(new_ones(self.new_clients, self.clients, self.seed))
        if phase == MessageType.TRAIN:
            if not new:
                return None
            able = [cid for cid in eligible if cid not in new]
        else:
            able = [cid for cid in eligible if cid not in new and (self.own is None or self.own.has(cid))]
        order = sampling_order(able, self.clients, self.seed, server_round, phase)
        chosen = order[: cohort_size(self.clients, self.fractions[phase])]
        is_last = phase == MessageType.EVALUATE and server_round == self.rounds
        return [*chosen, *(cid for cid in eligible if is_last and cid in new)]

    def encode(self, message: Message) -> Message:
        """Say to each client which of its own counts, and what is special about this test."""
        kind, node_id = message.metadata.message_type, message.metadata.dst_node_id
        if kind not in ROUNDS:
            return message
        table = {} if self.own is None else dict(self.own.told(node_id))
        if kind == MessageType.EVALUATE:
            cid = self._cids.get(node_id, -1)
            table[NEW] = cid in new_ones(self.new_clients, self.clients, self.seed)
            table[LAST] = int(message.content["config"]["server-round"]) == self.rounds
        return Message(RecordDict({**message.content, TABLE: ConfigRecord(table)}), metadata=message.metadata)

    def decode(self, reply: Message, sent: Message) -> Message:
        """Note what the client has kept."""
        if sent.metadata.message_type != MessageType.TRAIN or self.own is None:
            return reply
        self.own.take(reply.metadata.src_node_id, table_of(reply.content))
        content = {name: entry for name, entry in reply.content.items() if name != TABLE}
        return Message(RecordDict(content), metadata=reply.metadata)

    def callbacks(self) -> Sequence[Callback]:
        """One that knows whose own counts, and one that tells the run's settings."""
        return (*([] if self.own is None else [self.own]), _RunSettings(self))

    def summary(self) -> JsonTable:
        """Which mod it was, and how often a client had lost its own."""
        lost = 0 if self.own is None else self.own.lost
        return {"personalisation": {"mod": self.name, "new_clients": self.new_clients, "lost": lost}}

    def report_sections(self, folder: RunFolder) -> Sequence[ReportSection]:
        """Each client's own figures."""
        return section.of(folder, self.words)

    def server_saw(self, sight: Sight, config: Config) -> Sight:
        """The same, of the shared arrays; beside it digests, which tell nothing."""
        return sight


def new_ones(count: int, clients: int, seed: int) -> list[int]:
    """The clients that are not there in training, ascending: by the seed alone."""
    if not count:
        return []
    return sorted(generator(seed, "new clients").permutation(clients)[:count].tolist())


def require_count(option: str, value: int, least: int) -> None:
    """Raise ValueError unless it is a whole number, `least` or more."""
    if type(value) is not int or value < least:
        raise ValueError(f"{option} must be a whole number from {least} on, not {value}")


class _RunSettings(Callback):
    def __init__(self, mod: PersonalMod) -> None:
        self._mod = mod

    def on_run_begin(self, run: "RunContext") -> None:
        mod, config = self._mod, run.config
        mod.clients, mod.rounds, mod.seed = config.num_partitions, config.num_server_rounds, config.seed
        mod.fractions = {MessageType.TRAIN: config.fraction_train, MessageType.EVALUATE: config.fraction_evaluate}

    def on_phase_begin(
        self, server_round: int, phase: str, cohort: Mapping[int, int], suspended: Collection[int]
    ) -> None:
        self._mod._cids = {node_id: cid for cid, node_id in cohort.items()}
