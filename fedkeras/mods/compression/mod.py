"""Compression of what travels in a round: float16, bfloat16 or int8 on both ways, upwards the largest numbers alone.

The server's global arrays stay float32: a client trains from a compressed copy, and what it sends is how far it has
moved from that copy, which the server adds to its own float32 arrays. So what the copy has lost is no part of an
update, and nothing piles up from round to round, however coarse the way down is. A strategy, a robust one too, sees
whole float32 arrays as without this mod, after they were checked as ever.
"""

import dataclasses
import logging
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict

from fedkeras.callbacks import Callback
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.records import payload, record, view, views
from fedkeras.federation.trainable import trainable_of
from fedkeras.mods.base import CallNext, Mod, ModelBytes
from fedkeras.mods.client_state import CommittedStates
from fedkeras.mods.compression import section
from fedkeras.mods.compression.client_half import compressed_answer
from fedkeras.mods.compression.forms import BYTES, EXACT, FORMATS, forms_of, is_compressed
from fedkeras.mods.compression.sparsification import count_of
from fedkeras.mods.compression.wire import (
    DOWN,
    GAPS,
    MOST,
    SCALES,
    TABLE,
    TOPK,
    UP,
    densified,
    model_of,
    packed,
    require_shapes,
    table_of,
    unpacked,
)  # fmt: skip
from fedkeras.named_code import parse_specs
from fedkeras.reports.page import ReportSection
from fedkeras.reports.run_folder import JsonTable, RunFolder
from fedkeras.reports.server_view import UPDATE, Sight

log = logging.getLogger("fedkeras")

NAME = "compress"


class Compression(Mod):
    """`--mods compress:up=int8,down=float16`: the number format of updates, and that of the global arrays.

    With `topk=0.01` a client sends the hundredth of each array's numbers that is largest, and keeps the others for the
    next round. Clients test the model as it reached them; the server tests its own float32 one.
    """

    needs_updates = True
    untracked = ("_encoded", "keeps_client_state")

    def __init__(self, up: str = "float32", down: str = "float32", topk: float = 0.0) -> None:
        for name, number_format in (("up", up), ("down", down)):
            if number_format not in FORMATS:
                raise ValueError(f"{name} must be one of {', '.join(FORMATS)}, not {number_format}")
        if isinstance(topk, bool) or not isinstance(topk, int | float) or not 0 <= topk <= MOST:
            raise ValueError(f"topk must be the share of numbers that is sent, above 0 and at most {MOST}, not {topk}")
        if up == down == "float32" and not topk:
            raise ValueError("nothing is compressed; say up=float16, bfloat16 or int8, down=..., topk=0.01, or several")
        self.up, self.down, self.topk = up, down, float(topk)
        self.keeps_client_state = bool(topk)
        self.residuals = CommittedStates("what it had not sent yet") if topk else None
        self.bytes = dict.fromkeys(("down", "down_plain", "up", "up_plain"), 0)
        self._encoded = _Encoded()

    def check(self, config: Config) -> None:
        """It must be the outermost: what is around it would see compressed arrays."""
        names = [spec.name for spec in parse_specs(config.mods, "mods")]
        if found := [name for name in names if name.startswith("secure")]:
            raise UserError(
                f"--mods compress does not go with {found[0]}, which sums whole numbers of its own over all clients: "
                "scales that differ by client do not add up; that mod has its own number of bits"
            )
        if names.count(NAME) > 1 or (NAME in names and names[0] != NAME):
            raise UserError(
                f"--mods {config.mods}: name {NAME} once, and first, for a mod before it would see compressed arrays"
            )

    def choose(self, config: Config) -> Mapping[str, str]:
        """What travels how."""
        return {"compression": self._words}

    @property
    def _words(self) -> str:
        sparse = f" (the largest {self.topk:.4g} of each array's numbers, the others later)" if self.topk else ""
        words = f"updates travel as {self.up}{sparse}, global arrays as {self.down}; small and untrained arrays exact"
        tested = "" if self.down == "float32" else f"; clients test the model as {self.down}, the server as float32"
        return words + tested

    # On the client

    def client(self, message: Message, context: Context, call_next: CallNext) -> Message:
        """Decode, train, encode the update."""
        return compressed_answer(message, context, call_next)

    # On the server

    def encode(self, message: Message) -> Message:
        """The global arrays in their forms; the same for all clients that are sent the same."""
        key = model_of(message.content)
        if key is None or message.metadata.message_type not in (MessageType.TRAIN, MessageType.EVALUATE):
            return message
        content = self._encoded.content(message, key, self)
        self._count("down", content, message.content)
        return Message(content, metadata=message.metadata)

    def decode(self, reply: Message, sent: Message) -> Message:
        """The client's whole arrays: what it was sent, before that was compressed, and its update."""
        key = model_of(sent.content)
        if key is None or sent.metadata.message_type != MessageType.TRAIN:
            return reply
        table, name = table_of(reply.content), model_of(reply.content)
        if table is None or name is None:
            raise ValueError("its answer is not compressed, as it was asked to be")
        base, came = sent.content[key], reply.content[name]
        forms, gaps = self.forms(base, self.up), reply.content.get(GAPS)
        if list(came) != list(base) or (gaps is not None) != bool(self.topk):
            raise ValueError("it names other arrays than it was given")
        if not self.topk:
            require_shapes(came, {own: tuple(array.shape) for own, array in base.items()})
            update = unpacked(came, forms, table.get(SCALES))
        else:
            update = densified(came, gaps, base, forms, table.get(SCALES), self.topk)
            self.residuals.take(reply.metadata.src_node_id, table)
        with np.errstate(over="ignore", invalid="ignore"):  # it is checked afterwards
            whole = {
                own: array if form == EXACT else view(base[own]) + array
                for (own, array), form in zip(update.items(), forms, strict=True)
            }
        beside = {own: entry for own, entry in reply.content.items() if own not in (name, GAPS, TABLE)}
        content = RecordDict({name: record(whole), **beside})
        self._count("up", reply.content, content)
        return Message(content, metadata=reply.metadata)

    def forms(self, arrays: ArrayRecord, number_format: str) -> list[str]:
        """The form of each of a model's arrays."""
        trainable = trainable_of(arrays, None) if self.trainable is None else self.trainable
        return forms_of(arrays, trainable, number_format)

    def model_bytes(
        self, without: ModelBytes, arrays: Mapping[str, np.ndarray], trainable: Collection[str]
    ) -> ModelBytes:
        """By the number formats; places are counted as two bytes each."""
        spared_down = spared_up = 0
        for name, array in arrays.items():
            if name in trainable and is_compressed(str(array.dtype), array.shape):
                size = BYTES[self.up]
                up = count_of(self.topk, array.size) * (size + 2) if self.topk else array.size * size
                spared_down += array.nbytes - array.size * BYTES[self.down]
                spared_up += array.nbytes - up
        return without._replace(down=without.down - spared_down, up=without.up - spared_up)

    def callbacks(self) -> Sequence[Callback]:
        """With top-k, one that knows which updates have been used."""
        return () if self.residuals is None else (self.residuals,)

    def summary(self) -> JsonTable:
        """Bytes of arrays that the server has counted, and what they would have been."""
        more = {} if self.residuals is None else {"topk": self.topk, "residuals_lost": self.residuals.lost}
        return {"compression": {"up": self.up, "down": self.down, **more, "bytes": dict(self.bytes)}}

    def report_sections(self, folder: RunFolder) -> Sequence[ReportSection]:
        """Bytes by round."""
        return section.of(folder, self._words)

    def server_saw(self, sight: Sight, config: Config) -> Sight:
        """Each update as before, with fewer digits or fewer numbers."""
        if UPDATE not in sight:
            return sight
        kind = f"as {self.up}" + (f", the largest {self.topk:.4g} of it" if self.topk else "")
        return {**sight, UPDATE: dataclasses.replace(sight[UPDATE], what=f"{sight[UPDATE].what} ({kind})")}

    def _count(self, way: str, travelled: RecordDict, plain: RecordDict) -> None:
        self.bytes[way] += payload(travelled)
        self.bytes[f"{way}_plain"] += payload(plain)


class _Encoded:
    """What the last global arrays were made into: clients that are sent the same are sent one object."""

    def __init__(self) -> None:
        self._arrays: ArrayRecord | None = None
        self._packed, self._scales = ArrayRecord(), []
        self._down: list[str] = []
        self._contents: dict[int, tuple[RecordDict, RecordDict]] = {}  # the first is kept, so that its id stays its own

    def content(self, message: Message, key: str, mod: Compression) -> RecordDict:
        """The compressed content of a message; `key` is that of its model."""
        given = message.content
        arrays = given[key]
        if arrays is not self._arrays:
            self._pack(arrays, mod)
        if id(given) not in self._contents:
            table = ConfigRecord({DOWN: self._down, SCALES: self._scales})
            if message.metadata.message_type == MessageType.TRAIN:
                table[UP] = mod.forms(arrays, mod.up)
            made = RecordDict({**given, key: self._packed, TABLE: table})
            self._contents[id(given)] = given, made
        made = self._contents[id(given)][1]
        if mod.residuals is None or message.metadata.message_type != MessageType.TRAIN:
            return made
        # Each client is told its own; the arrays stay one object
        own = {TOPK: mod.topk, **mod.residuals.told(message.metadata.dst_node_id)}
        return RecordDict({**made, TABLE: ConfigRecord({**made[TABLE], **own})})

    def _pack(self, arrays: ArrayRecord, mod: Compression) -> None:
        self._down = mod.forms(arrays, mod.down)
        try:
            self._packed, self._scales = packed(views(arrays), self._down, lambda name: None)
        except ValueError as error:  # a model that has diverged: its clients say so, as without compression
            log.warning("the global arrays are sent uncompressed: %s", error)
            self._down = [EXACT] * len(arrays)
            self._packed, self._scales = arrays, [1.0] * len(arrays)
        self._arrays, self._contents = arrays, {}
