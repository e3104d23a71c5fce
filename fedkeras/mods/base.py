"""What a mod is: something around the training, on the client and on the server, in one class.

Privacy, compression, secure aggregation, layers that stay at home: each is one subclass of `Mod` in one file. Its
options are its constructor's (`--mods "name:norm=0.5,rounds=3"`); what it keeps in its attributes on the server goes
into the checkpoint, as a strategy's does. On a client the object is made anew for each message, since the next one may
come to another process: what must last there belongs into `context.state`.

The first mod named is the outermost on both sides: it sees a message first on the client, and last before it leaves the
server. A mod uses numpy and libraries, never TensorFlow: what changes the training itself is an objective
(`fedkeras.learning.objectives`), which a mod names in the train message's configuration.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from flwr.app import Context, Message
from flwr.serverapp.strategy import Strategy

from fedkeras.callbacks import Callback
from fedkeras.config import Config
from fedkeras.data import Examples
from fedkeras.federation.strategy_state import Stateful
from fedkeras.federation.trainable import Trainable
from fedkeras.reports.page import ReportSection
from fedkeras.reports.run_folder import JsonTable, RunFolder
from fedkeras.reports.server_view import Sight

if TYPE_CHECKING:
    from fedkeras.factory import CentralEvaluation

CallNext = Callable[[Message, Context], Message]
"""What is inside of a mod on the client: the next mod, at last the handler of the message."""


class Exchange(Protocol):
    """What is inside of a mod on the server: sends messages, at most one to each node, and yields the replies."""

    def exchange(self, messages: Sequence[Message], seconds: float | None = None) -> Iterator[Message]:
        """Send now; yield each reply when it is there, errors too. It may be called again when it has ended.

        An answer counts if it is there within --round-timeout, or `seconds` if they are fewer.
        """


class ModelBytes(NamedTuple):
    """Bytes of arrays: a model on its way to a client, and what a client that has trained sends back.

    `beside` is what travels down besides where a client is asked to train, and not where it is to test.
    """

    down: int
    up: int
    beside: int = 0


class Mod(Stateful):
    """Does nothing: override what is wanted."""

    shows_clients = True
    """False: no figure of a single client is kept or shown, neither in history.csv nor in a live view."""

    shows_means = True
    """False: nor is a mean over clients' figures; the clients are not asked to evaluate, and the central test set alone
    says how good a model is."""

    shows_cohort = True
    """False: who was asked to train in a round, and how many, stands in none of the run's tables. Failures are said on
    the server's terminal and in run.log alone."""

    own_models = False
    """True: clients end with models of their own and are tested with these, so that a comparison goes by what each
    client holds out, and not by the central test set."""

    whole_model = True
    """False: clients keep a part of the model, so that the global arrays are none: nothing is tested on the server, and
    what the run leaves is no model.keras."""

    needs_replies = True
    """False: a round goes on without any good answer, and --min-results is no matter."""

    needs_updates = False
    """True: it is for ways to train in which a client sends an update of the global arrays, and nothing else that comes
    of its examples but figures (`Workflow.sends_updates`)."""

    fixed_counts = True
    """False: what its clients state as `num-examples` may change from round to round (each trains on a sample of its
    examples, or the number is masked), so that a changed count is nobody's fault."""

    keeps_client_state = False
    """True: a client is half-way between two messages, or keeps what it goes on from (`client_state`), so that one
    process must answer all of its messages: two would remove each other's."""

    trainable: tuple[str, ...] | None = None
    """On the server, from `on_run_begin` on: the names of the trainable arrays; the others are BatchNormalization's
    statistics, counters, frozen layers. A client's half learns them if `encode` puts them into its messages. A wrapper
    that `strategy` returns is shown the trainable arrays alone, unless it says `takes_all = True`."""

    def check(self, config: Config) -> None:
        """Raise UserError, in one line, for what this mod cannot be combined with. Called before a run begins."""

    def choose(self, config: Config) -> Mapping[str, str]:
        """What this mod decides by itself, a few words by name: said once, and kept in config.json.

        Called once on the server, after `check` and before `strategy`. A resumed run must decide the same. UserError.
        """
        return {}

    def warnings(self, clients: int) -> Iterable[str]:
        """What must be known of a run with this mod before its first round, in which `clients` train; a sentence each.

        Called after `choose`. The terminal, the log and the report have them.
        """
        return ()

    def check_arrays(self, names: Collection[str], trainable: Trainable) -> None:
        """Raise UserError for a model that this mod cannot be combined with: its arrays, and those that are trained.

        Called as soon as they are known, before a client is asked to train.
        """

    # On the client

    def client(self, message: Message, context: Context, call_next: CallNext) -> Message:
        """Answer a message; Flower's signature of a mod. `call_next(message, context)` is what it surrounds."""
        return call_next(message, context)

    def training_examples(self, examples: Examples, config: Config, cid: int) -> Examples:
        """What this client trains on, in the place of its own examples; asked when they are loaded, and kept.

        Not for rows and models that a server hands out (--data-source). `examples` are not to be changed in place.
        """
        return examples

    # On the server

    def strategy(self, strategy: Strategy) -> Strategy:
        """The strategy to use in place of this one, such as one that surrounds it."""
        return strategy

    def sample(self, eligible: Sequence[int], server_round: int, phase: str) -> Sequence[int] | None:
        """The cohort of a phase ("train" or "evaluate"), out of the client ids that are connected and not suspended.

        None: as the run's own sampling has it.
        """
        return None

    def encode(self, message: Message) -> Message:
        """A message as it goes over the wire. For one content give one content again: it is then serialised once."""
        return message

    def decode(self, reply: Message, sent: Message) -> Message:
        """A reply, which is no error, as the rest of the server knows it; it is checked afterwards.

        `sent` is the message that the strategy made. Raise ValueError for what cannot be decoded: it is that client's
        failure.
        """
        return reply

    def exchange(self, inner: Exchange, messages: Sequence[Message]) -> Iterator[Message]:
        """A round's messages and their replies; several steps in one round are several calls of `inner.exchange`.

        A reply is checked against the message that its client was sent last.
        """
        return inner.exchange(messages)

    def reply_limit(self, limit: int | None, message: Message) -> int | None:
        """Bytes of arrays that the reply to `message` may have; `limit` is what the workflow allows, None: no limit.

        It holds for what travels, where a larger reply is refused before its bytes are taken, and for what `decode` has
        made of it: a mod that encodes numbers in more bytes than they had raises it.
        """
        return limit

    def model_bytes(
        self, without: ModelBytes, arrays: Mapping[str, np.ndarray], trainable: Collection[str]
    ) -> ModelBytes:
        """What is moved for a model of these arrays; `without` this mod. For `fedkeras check`."""
        return without

    def most_epochs(self, config: Config) -> int:
        """How many epochs this mod's half on a client may ask for in a training of its own (`messages.PART`)."""
        return config.local_epochs

    def central_metrics(self, central: "CentralEvaluation", weights: Mapping[str, np.ndarray]) -> Mapping[str, float]:
        """More figures of these global weights, for the server's line of history.csv, where it tests them at all."""
        return {}

    def callbacks(self) -> Sequence[Callback]:
        """Callbacks to hang on the run."""
        return ()

    def summary(self) -> JsonTable:
        """What summary.json has of this mod when the run has come to its end."""
        return {}

    def report_sections(self, folder: RunFolder) -> Sequence[ReportSection]:
        """What the run's report says of this mod (`reports.section` makes one), from the files in its folder."""
        return ()

    def server_saw(self, sight: Sight, config: Config) -> Sight:
        """What the server sees of clients' data when this mod has done its part: lines added, changed or taken out.

        `sight` is what it would see without. For the report, from the configuration alone: whoever writes it may have
        no more than the run's folder.
        """
        return sight
