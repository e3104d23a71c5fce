"""What a client's own file must have in common with the server's, where nothing is dealt out (`--partitioner own`).

The files are different ones, so their rows are not compared (`identity`), but what one model makes of them: classes and
their order, columns and their order, the shape of an example, what is learned, and how values are scaled.
"""

import dataclasses
import json
import zlib
from dataclasses import asdict, dataclass, fields

import numpy as np

from fedkeras.config import Config, Value
from fedkeras.data.catalogue import kind_of_file, open_source
from fedkeras.data.columns import as_list, differing
from fedkeras.data.labels import shown
from fedkeras.data.source import Source

LONGEST = 1_000_000
"""Characters of a form that came by wire."""


@dataclass(frozen=True)
class DataForm:
    """`classes` are empty where amounts are learned, `columns` where they have no names; `scaling` is the normaliser
    that suits the format, and the range of values that it fixes."""

    classes: list[str]
    columns: list[str]
    shape: str
    task: str
    outputs: int
    scaling: str

    def to_json(self) -> str:
        """As a value of a message's configuration."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: Value | None) -> "DataForm":
        """The inverse. Raises ValueError for anything else."""
        if not isinstance(text, str) or len(text) > LONGEST:
            raise ValueError("what the server says of its data's form is no text, or too long")
        table = json.loads(text)
        kinds = {field.name: int if field.name == "outputs" else str for field in fields(cls)}
        kinds |= {"classes": list, "columns": list}
        if not isinstance(table, dict) or {name: type(value) for name, value in table.items()} != kinds:
            raise ValueError("what the server says of its data's form cannot be read")
        return cls(**table)

    def difference(self, other: "DataForm") -> str:
        """The first thing in which they differ, such as "the classes are a, b here and a, c there"; "" for none."""
        if self.task != other.task:
            return f"labels are for {self.task} here and for {other.task} there (--task)"
        if self.classes != other.classes:
            return f"the classes are {shown(self.classes)} here and {shown(other.classes)} there"
        if self.columns and other.columns and (found := differing(self.columns, other.columns)):
            return f"there are {found[0]} here and {found[1]} there"
        pairs = {
            "columns stand in the order {} here and {} there": (shown(self.columns), shown(other.columns)),
            "examples are of shape {} here and {} there": (self.shape, other.shape),
            "{} amounts are learned of an example here and {} there": (self.outputs, other.outputs),
            "values are scaled by {} here and {} there (--normaliser)": (self.scaling, other.scaling),
        }
        return next((words.format(*pair) for words, pair in pairs.items() if pair[0] != pair[1]), "")


def form_of(config: Config) -> DataForm:
    """Of the data set that `config.dataset` names here. Raises UserError where it cannot be opened."""
    source = open_source(config)
    scaling = config.normaliser
    if scaling == "default":
        low_to_high = "" if source.known_range is None else " of {:g} to {:g}".format(*source.known_range)
        scaling = source.default_normaliser + low_to_high
    if source.normaliser is not None:
        numbers = np.concatenate([np.ravel(source.normaliser.shift), np.ravel(source.normaliser.spread)])
        scaling += f" as its file says ({zlib.crc32(np.ascontiguousarray(numbers, '<f8').tobytes()):08x})"
    return DataForm(
        classes=[] if source.targets is not None else list(source.classes),
        columns=list(source.columns),
        shape=" x ".join(map(str, source.input_shape)),
        task=_task(source),
        outputs=source.outputs,
        scaling=scaling,
    )


def told(config: Config) -> Config:
    """The configuration with what the server's own file says in it, where clients bring others: how to read theirs.

    Where the server deals out, as it is. Raises UserError where its data set cannot be opened.
    """
    if config.deals or not config.uses_catalogue:
        return config
    source = open_source(config)
    of_images = kind_of_file(config.dataset, config.data_dir) == "image_folder"
    return dataclasses.replace(
        config,
        label_column=source.label,
        feature_columns=as_list(source.columns),
        classes="" if source.targets is not None else as_list(source.classes),
        task=_task(source),
        image_size="x".join(map(str, source.input_shape)) if of_images else config.image_size,
    )


def _task(source: Source) -> str:
    return "classification" if source.targets is None else "regression"
