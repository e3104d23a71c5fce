"""What a client demands of a run before it takes part (`--require`), and how long and how often it does.

A demand is about what the server says of its run, or about the connection. What is said is checked when the client
joins, and again when a server that was started anew says it again; `hours` and `rounds` are kept count of as well, for
a server may go on beyond what it has said.

    tls, passphrase         the connection is encrypted; the server has shown that it knows the passphrase
    rounds<=50, hours<=8    the run's rounds; hours since this client joined, after which it leaves
    mods=NAME:option=value  such a mod, with these options at least, is around the training
    KEY<=N, KEY>=N, KEY=VALUE   any other key of the run's configuration, such as local-epochs<=5 or split=off
"""

import math
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fedkeras.config import Value
from fedkeras.errors import UserError
from fedkeras.named_code import Spec, parse_specs

ROUNDS, HOURS, MODS = "num-server-rounds", "hours", "mods"
OF_CONNECTION = ("tls", "passphrase")
TRAININGS_A_ROUND = 3
"""A round that got too few replies is asked once more, by default twice at most (--max-retries)."""

_FORM = re.compile(r"\s*([a-z][a-z0-9-]*)\s*(<=|>=|=)\s*(.+?)\s*")


class Withdrawn(UserError):
    """The client leaves a run that it took part in, since the run is not as the client demands."""

    status = 3


@dataclass(frozen=True)
class Demand:
    """`key` is one of a run's configuration; `text` is the demand as it was typed."""

    text: str
    key: str
    sign: str
    value: str

    def is_met(self, found: Value) -> bool:
        """Whether the run, which has `found` for the key, is as demanded."""
        if self.key == MODS:
            there = parse_specs(str(found), MODS)
            return all(any(_protects(spec, own) for spec in there) for own in parse_specs(self.value, MODS))
        if self.sign == "=" and not _is_number(found):
            return self.value.lower() == str(found).lower() if isinstance(found, bool) else self.value == found
        number = float(self.value) if _reads_as_number(self.value) else math.nan
        if not _is_number(found):
            return False
        return {"<=": found <= number, ">=": found >= number, "=": found == number}[self.sign]


class ClientTerms:
    """The demands `texts`, each as `--require` takes it, and the most bytes that a message of the server's may have.

    `known`: the keys that a run's configuration has; None: any may be. Raises UserError for what is no demand.
    """

    def __init__(
        self, texts: Iterable[str] = (), max_message_bytes: int | None = None, known: Iterable[str] | None = None
    ) -> None:
        self.max_message_bytes = max_message_bytes
        self._of_connection: list[str] = []
        self._demands: list[Demand] = []
        self._seconds = self._rounds = math.inf
        self._joined = time.monotonic()
        self._trained: dict[int, int] = {}
        keys = None if known is None else {*known}
        for text in filter(None, (text.strip() for text in texts)):
            self._add(text, keys)

    def _add(self, text: str, known: set[str] | None) -> None:
        if text in OF_CONNECTION:
            self._of_connection.append(text)
            return
        parts = _FORM.fullmatch(text)
        if parts is None:
            raise UserError(
                f"--require: '{text}' is none of tls, passphrase, rounds<=N, hours<=N, mods=NAME, KEY<=N, KEY>=N, "
                "KEY=VALUE (in quotes, for the shell)"
            )
        key, sign, value = parts.groups()
        key = ROUNDS if key == "rounds" else key
        if sign != "=" and not _reads_as_number(value):
            raise UserError(f"--require: '{text}' compares with '{value}', which is no number")
        if key == HOURS:
            if sign != "<=" or not float(value) > 0:
                raise UserError(f"--require: '{text}': of hours there is hours<=N alone, with N above 0")
            self._seconds = min(self._seconds, 3600 * float(value))
            return
        if known is not None and key not in known:
            raise UserError(f"--require: a run's configuration has no key '{key}'; it has {', '.join(sorted(known))}")
        if key == ROUNDS and sign != ">=":
            self._rounds = min(self._rounds, float(value))
        self._demands.append(Demand(text, key, sign, value))

    @property
    def seconds_left(self) -> float:
        """Until this client leaves; infinite without a demand."""
        return self._seconds - (time.monotonic() - self._joined)

    def begin(self, encrypted: bool, passphrase: bool) -> None:
        """The client has joined, over such a connection; hours count. Raises UserError if it is not as demanded."""
        self._joined = time.monotonic()
        for text, is_so in (("tls", encrypted), ("passphrase", passphrase)):
            if text in self._of_connection and not is_so:
                raise UserError(f"this client demands --require {text}, and the connection to the server is without")

    def check_run(self, run_config: Mapping[str, Value]) -> None:
        """Raise UserError for a run that is not as demanded."""
        for demand in self._demands:
            if demand.key not in run_config:
                raise UserError(f"this client demands --require '{demand.text}', and the run says no {demand.key}")
            found = run_config[demand.key]
            if not demand.is_met(found):
                shown = "unset" if found == "" else str(found)[:100]
                raise UserError(
                    f"this client demands --require '{demand.text}', and in this run {demand.key} is {shown}"
                )

    def check_message(self, cid: int, message_type: str) -> None:
        """Raise Withdrawn for a message to client `cid` that goes beyond what was demanded."""
        if self.seconds_left < 0:
            raise self.time_is_over()
        if message_type.partition(".")[0] == "train":
            self._trained[cid] = self._trained.get(cid, 0) + 1
            if self._trained[cid] > TRAININGS_A_ROUND * self._rounds:
                raise Withdrawn(
                    f"the server goes on asking for trainings: {self._trained[cid]} times, and this client demands "
                    f"--require 'rounds<={self._rounds:g}'"
                )

    def time_is_over(self) -> Withdrawn:
        """The reason to leave when `seconds_left` is used up."""
        hours = self._seconds / 3600
        return Withdrawn(f"the run takes longer than this client takes part: --require 'hours<={hours:g}'")


def _protects(there: Spec, demanded: Spec) -> bool:
    """Whether a mod is the one that is demanded, with these options at least.

    `study=true`, by which a mod of privacy takes its secrets from the seed, must be demanded to be accepted.
    """
    given, wanted = there.options, demanded.options
    return (
        there.name == demanded.name
        and wanted.items() <= given.items()
        and (not given.get("study", False) or bool(wanted.get("study", False)))
    )


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _reads_as_number(text: str) -> bool:
    try:
        return not math.isnan(float(text))
    except ValueError:
        return False
