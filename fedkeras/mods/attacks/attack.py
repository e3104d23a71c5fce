"""What all attacks have in common: who is malicious, what such a run goes with, and how it is told from an honest one.

The malicious clients are drawn from the seed (`malicious_clients`), so that every strategy, and every run of one seed,
meets the same. Strategy, validation and client weights are told nothing of them. They answer in the right format, with
the figures of their honest training.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from flwr.app import Context, Message, MessageType

from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.requests import ClientRequest
from fedkeras.mods.attacks.malicious_clients import malicious_clients
from fedkeras.mods.base import CallNext, Mod
from fedkeras.named_code import parse_specs
from fedkeras.reports.page import ReportSection, section
from fedkeras.reports.run_folder import JsonTable, RunFolder
from fedkeras.reports.server_view import Sight

chosen_log = logging.getLogger("fedkeras.chosen")
"""What a client's terminal shows."""
BESIDE = ("stragglers",)
"""Mods that may be named beside an attack; of others nobody has thought what they and a liar make of each other."""
NO_PRIVACY = {
    "dp": "what liars send under it is neither what it protects nor what it bounds for their sake",
    "dp-sgd": "a client that lies keeps to no privacy either",
    "secure-aggregation": "the server sees no single update there, so no strategy could withstand a liar",
}
"""Why some may not."""
SHOWN = 20
"""Client ids that are said in a line."""


class AttackMod(Mod):
    """Makes the fraction `malicious` of all clients (rounded down) malicious; a subclass says what they do then."""

    name = ""
    """In --mods."""
    least = 1
    """Malicious clients that it takes."""
    needs_updates = True

    def __init__(self, malicious: float = 0.2) -> None:
        self.fraction = require_number("malicious", malicious, 0, 1)
        self.clients, self.cids = 0, ()  # the run's, by `choose`

    # Before a run

    def check(self, config: Config) -> None:
        """One attack a run, and nothing beside it whose meaning would be lost; somebody must be malicious."""
        own = (self.name, f"{type(self).__module__}:{type(self).__name__}")
        names = [spec.name for spec in parse_specs(config.mods, "mods")]
        if sum(name in own for name in names) > 1:
            raise UserError(f"--mods {self.name} does not go with another {self.name}: a run has one attack")
        for other in names:
            if other not in (*own, *BESIDE):
                why = NO_PRIVACY.get(other, "a run has one attack, and nobody knows what other mods make of it")
                raise UserError(f"--mods {self.name} does not go with {other}: {why}")
        if config.hands_out_model:
            raise UserError(f"--mods {self.name} does not go with --data-source: its clients must know the data set")
        found = malicious_clients(config.seed, config.num_partitions, self.fraction)
        if self.fraction and len(found) < self.least:
            raise UserError(
                f"--mods {self.name}:malicious={self.fraction:g} of {config.num_partitions} clients is {len(found)}, "
                f"and the attack takes {self.least}; malicious=0 is the run without it"
            )

    def choose(self, config: Config) -> Mapping[str, str]:
        """Who is malicious, and that this is a study. A run that tests a model has no attack."""
        if config.evaluate:
            return {}
        self.clients = config.num_partitions
        self.cids = malicious_clients(config.seed, config.num_partitions, self.fraction)
        return {"attack": self.words}

    @property
    def words(self) -> str:
        """Who does what in this run, in a line."""
        if not self.cids:
            return f"none: {self.name} with malicious=0, so all clients are honest"
        shown = ", ".join(map(str, self.cids[:SHOWN])) + (", ..." if len(self.cids) > SHOWN else "")
        return (
            f"{self.name}: {len(self.cids)} of {self.clients} clients were made malicious ({shown}), drawn from the "
            f"seed; they {self.does}"
        )

    @property
    def does(self) -> str:
        """What a malicious client does, as the end of a sentence, with the options that decide it."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its clients do")

    def warnings(self, clients: int) -> Iterator[str]:
        """That its figures are those of an attack."""
        if self.cids:
            yield f"A STUDY, NO HONEST RUN: {self.words}"

    # Of a run

    def is_malicious(self, config: Config, cid: int) -> bool:
        """Whether this client is one of them: what a client asks, which has the run's configuration."""
        return cid in malicious_clients(config.seed, config.num_partitions, self.fraction)

    def client(self, message: Message, context: Context, call_next: CallNext) -> Message:
        """Whoever runs a client that is made malicious is told, once."""
        request = ClientRequest(context, message)
        if message.metadata.message_type == MessageType.TRAIN and self.is_malicious(request.config, request.cid):
            _tell(request.cid, f"{self.name}: by the server's --mods this client is to {self.does}")
        return call_next(message, context)

    def summary(self) -> JsonTable:
        """For summary.json: which attack, and who was made malicious."""
        if not self.clients:
            return {}
        return {
            "attack": {
                "name": self.name,
                "fraction": self.fraction,
                "malicious": list(self.cids),
                "clients": self.clients,
                "does": self.does,
            }
        }

    def report_sections(self, folder: RunFolder) -> Sequence[ReportSection]:
        """What was attacked how."""
        return (section("Attack", [f"{self.words[0].upper()}{self.words[1:]}."]),) if self.clients else ()

    def server_saw(self, sight: Sight, config: Config) -> Sight:
        """The same: of the malicious clients a lie."""
        return sight


@lru_cache(maxsize=64)
def _tell(cid: int, text: str) -> None:
    """On the client's terminal."""
    chosen_log.info("attack: client %d: %s", cid, text)


def require_number(name: str, value: float, low: float, below: float) -> float:
    """An option as a float. Raises ValueError unless it is a number from `low` on and below `below`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < below:
        raise ValueError(f"{name} must be from {low:g} to below {below:g}, not {value}")
    return float(value)
