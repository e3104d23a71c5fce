"""Whether two processes mean the same data set: what a source is called and holds, without one of its examples.

Server and clients divide their own copies of a data set by number, so copies that differ, or stand in another order,
give clients parts that overlap and a test set that somebody has trained on.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from functools import lru_cache

import numpy as np

from fedkeras.config import Config, Value
from fedkeras.data.catalogue import open_source
from fedkeras.data.source import Source

LONGEST = 2000
"""Characters of an identity that came by wire."""


@dataclass(frozen=True)
class SourceIdentity:
    """`digest` is of all labels, and of who the examples belong to; `origin` is shown, and not compared."""

    name: str
    classes: int
    shape: str
    training: int
    test: int
    digest: str
    origin: str

    def to_json(self) -> str:
        """As a value of a message's configuration."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: Value | None) -> "SourceIdentity":
        """The inverse. Raises ValueError for anything else."""
        if not isinstance(text, str) or len(text) > LONGEST:
            raise ValueError("what the server says of its data set is no text, or too long")
        table = json.loads(text)
        kinds = {field.name: int if field.type in (int, "int") else str for field in fields(cls)}
        if not isinstance(table, dict) or {name: type(value) for name, value in table.items()} != kinds:
            raise ValueError("what the server says of its data set cannot be read")
        return cls(**table)

    def difference(self, other: "SourceIdentity") -> str:
        """The first thing in which they differ, such as "3 classes here and 4 there"; "" if they are the same."""
        pairs = {
            "it is '{}' here and '{}' there": (self.name, other.name),
            "{:,} classes here and {:,} there": (self.classes, other.classes),
            "examples of shape {} here and {} there": (self.shape, other.shape),
            "{:,} training examples here and {:,} there": (self.training, other.training),
            "{:,} test examples here and {:,} there": (self.test, other.test),
            "as many examples, but with other labels or owners, or in another order": (self.digest, other.digest),
        }
        return next((words.format(*pair) for words, pair in pairs.items() if pair[0] != pair[1]), "")


@lru_cache(maxsize=4)
def identity_of(config: Config) -> SourceIdentity:
    """Of the source that `config.dataset` names here. Raises UserError where it cannot be opened."""
    source = open_source(config)
    return SourceIdentity(
        name=source.name,
        classes=len(source.classes),
        shape=" x ".join(map(str, source.input_shape)),
        training=len(source.labels),
        test=len(source.test_labels()),
        digest=_digest(source),
        origin=source.origin,
    )


def _digest(source: Source) -> str:
    digest = hashlib.sha256()
    digest.update(json.dumps([source.classes, source.columns]).encode())
    for labels in (source.labels, source.test_labels()):
        digest.update(np.ascontiguousarray(labels, "<i4").tobytes())
    for amounts in () if source.targets is None else (source.targets, source.test().y):
        digest.update(np.ascontiguousarray(amounts, "<f4").tobytes())
    for owners in (source.groups, source.recordings):
        if owners is not None:
            names, number = np.unique(owners, return_inverse=True)
            digest.update("\n".join(map(str, names.tolist())).encode(errors="replace"))
            digest.update(np.ascontiguousarray(number, "<i4").tobytes())
    return digest.hexdigest()[:16]
