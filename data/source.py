"""What a source of examples is: arrays by index, who they belong to, and where they come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedkeras.data.labels import shown
from fedkeras.data.normalise import Normaliser
from fedkeras.data.sample_weights import checked
from fedkeras.errors import UserError
from fedkeras.shapes import same_order


@dataclass(frozen=True)
class Examples:
    """What learning needs. x: float32, (n, *input_shape); y: int32 class numbers, (n,), or float32 amounts, (n,) or
    (n, outputs).

    Where it is not normalised x may be float64, int32 or int64 too, of numbers that float32 has not the digits for: a
    model that looks whole numbers up takes them as they are.
    """

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class ClientExamples:
    """One client's own examples; `test` is held out of its own part and may be empty."""

    train: Examples
    test: Examples


class Source:
    """Training examples by index, and a central test set. Subclass it, or use ArraySource.

    Attributes are set by the subclass; those with a value here may be left alone.
    """

    name: str
    classes: tuple[str, ...]
    """Class names; labels are positions in it."""
    input_shape: tuple[int, ...]
    """Shape of one example: (height, width, channels), (samples, signals) or (features,)."""
    provenance: str
    """Where the data come from, licence and citation, in one or two lines."""
    labels: np.ndarray
    """Integer labels of all training examples, (n,)."""
    groups: np.ndarray | None = None
    """Natural owner of each training example, such as its writer or subject, (n,); None if there is none."""
    recordings: np.ndarray | None = None
    """Number of the recording each training example was cut from, (n,): never torn between clients, nor between
    a client's training and test part, because neighbouring windows overlap. None where examples stand alone."""
    sample_weight: np.ndarray | None = None
    """What each training example's loss is multiplied by, (n,), numbers of 0 or more; None: by nothing."""
    default_normaliser: str = "none"
    """What `--normaliser default` means: none, scale, minmax or zscore."""
    known_range: tuple[float, float] | None = None
    """Smallest and largest possible value where the format decides them; spares a pass over the data."""
    normaliser: Normaliser | None = None
    """What the files themselves say that their examples are scaled by; then no rows decide it."""
    origin: str = ""
    """Which files these are, in a few words, such as "LEAF's files": told where two processes have different ones."""
    notes: tuple[str, ...] = ()
    """What the loader merged or left out, one sentence each."""
    targets: np.ndarray | None = None
    """The amounts that are learned, of all training examples, (n,) or (n, outputs); None where classes are. `labels`
    then says in which bin of their range each lies, and `classes` names the bins: by them examples are dealt out."""
    columns: tuple[str, ...] = ()
    """Names of the features of a table, in the order of x's columns; empty where they have none."""
    label: str = ""
    """Name of the column of a table that is learned."""
    held_out: np.ndarray | None = None
    """Numbers of the training examples that are a client's test set, sorted, where its own file says which."""
    chosen: Mapping[str, str] = {}
    """What was decided that a flag could have said, {what: which, and why}: a run says it once, and keeps it."""

    @property
    def outputs(self) -> int:
        """How many numbers a model gives for an example: one a class, or the amounts."""
        if self.targets is None:
            return len(self.classes)
        return 1 if self.targets.ndim == 1 else self.targets.shape[1]

    def examples(self, indices: np.ndarray) -> Examples:
        """The training examples at `indices`, not normalised; reads no others where the format allows."""
        raise NotImplementedError

    def test(self) -> Examples:
        """The central test set, not normalised."""
        raise NotImplementedError

    def test_labels(self) -> np.ndarray:
        """Labels of the central test set; override it where reading the examples can be spared."""
        return self.test().y


class ArraySource(Source):
    """A source that holds arrays of any numeric dtype, in memory or memory-mapped.

    `x_train` has shape (n, ...) and `input_shape` may add a channel axis to it. Values become float32 only in the
    examples that are read, so a memory-mapped uint8 file costs a client no more than its own part. 64-bit floats and
    whole numbers of 32 bits and more become float32 only when they are normalised: a time of 1.7e9 s is rounded to two
    minutes in float32. `targets` are the amounts to learn, of training and test examples, where the labels are bins of
    them (`data.targets`). `rows` are the numbers of the training and of the test examples in x, where x holds more.
    Raises UserError where lengths or labels do not fit.
    """

    def __init__(
        self,
        name: str,
        train: tuple[np.ndarray, np.ndarray],
        test: tuple[np.ndarray, np.ndarray],
        classes: Sequence[str],
        *,
        provenance: str = "not stated",
        input_shape: tuple[int, ...] | None = None,
        groups: np.ndarray | None = None,
        recordings: np.ndarray | None = None,
        sample_weight: np.ndarray | None = None,
        default_normaliser: str = "none",
        known_range: tuple[float, float] | None = None,
        normaliser: Normaliser | None = None,
        notes: Sequence[str] = (),
        origin: str = "",
        targets: tuple[np.ndarray, np.ndarray] | None = None,
        rows: tuple[np.ndarray, np.ndarray] | None = None,
        columns: Sequence[str] = (),
        label: str = "",
        held_out: np.ndarray | None = None,
        chosen: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.classes, self.provenance = name, tuple(classes), provenance
        self._x, self.labels = train[0], _labels(train[1], name)
        self._test_x, self._test_y = test[0], _labels(test[1], name)
        self.input_shape = tuple(self._x.shape[1:]) if input_shape is None else input_shape
        self.groups, self.recordings, self.origin = groups, recordings, origin
        self.sample_weight, self.normaliser = sample_weight, normaliser
        self.default_normaliser, self.known_range, self.notes = default_normaliser, known_range, tuple(notes)
        self.targets, self._test_targets = (None, None) if targets is None else targets
        self.columns, self.label, self.held_out, self.chosen = tuple(columns), label, held_out, dict(chosen or {})
        self._rows, self._test_rows = (None, None) if rows is None else rows
        for part, x, y, own in (
            ("training", self._x, self.labels, self._rows),
            ("test", self._test_x, self._test_y, self._test_rows),
        ):
            count = len(x if own is None else own)
            if count != len(y):
                raise UserError(f"{name}: {count} {part} examples but {len(y)} labels; they must be as many")
            if len(y) and not same_order(x.shape[1:], self.input_shape):
                raise UserError(f"{name}: {part} examples of shape {x.shape[1:]} do not fit {self.input_shape}")
        for labels, amounts in ((self.labels, self.targets), (self._test_y, self._test_targets)):
            if amounts is not None and len(amounts) != len(labels):
                raise UserError(f"{name}: {len(labels)} examples but {len(amounts)} amounts to learn")

    def examples(self, indices: np.ndarray) -> Examples:
        return self._select(self._x, self.labels, self.targets, self._rows, indices)

    def test(self) -> Examples:
        return self._select(self._test_x, self._test_y, self._test_targets, self._test_rows, slice(None))

    def test_labels(self) -> np.ndarray:
        return self._test_y

    def _select(
        self,
        x: np.ndarray,
        y: np.ndarray,
        targets: np.ndarray | None,
        rows: np.ndarray | None,
        which: np.ndarray | slice,
    ) -> Examples:
        keeps = np.result_type(x.dtype, np.float32) == np.float64
        found = x[which if rows is None else rows[which]]
        chosen = np.asarray(found, dtype=x.dtype if keeps else np.float32).reshape(-1, *self.input_shape)
        return Examples(chosen, y[which].astype(np.int32) if targets is None else targets[which].astype(np.float32))


def check_source(value: object, dataset: str) -> Source:
    """Return `value` if it is a source that partitions can be made of; raises UserError naming --dataset otherwise."""
    source = value
    if not isinstance(source, Source):
        raise UserError(f"--dataset {dataset}: it must return a data.Source, not {type(source).__name__}")
    missing = [name for name in ("name", "classes", "input_shape", "provenance", "labels") if not hasattr(source, name)]
    if missing:
        raise UserError(f"--dataset {dataset}: the source does not set {', '.join(missing)}")
    labels = source.labels
    if not len(labels):
        raise UserError(f"--dataset {dataset}: there is not one training example; check --data-dir and its filters")
    for part, values in (("training", labels), ("test", source.test_labels())):
        if len(values) and not (np.min(values) >= 0 and np.max(values) < len(source.classes)):
            raise UserError(
                f"--dataset {dataset}: {part} labels run from {np.min(values)} to {np.max(values)}, "
                f"but there are {len(source.classes)} classes, numbered from 0: {shown(source.classes)}"
            )
    for name in ("groups", "recordings"):
        values = getattr(source, name)
        if values is not None and len(values) != len(labels):
            raise UserError(f"--dataset {dataset}: {len(values)} {name} for {len(labels)} training examples")
    if source.sample_weight is not None:
        checked(source.sample_weight, len(labels), f"--dataset {dataset}: sample weights")
    return source


def _labels(y: np.ndarray, name: str) -> np.ndarray:
    """Labels as a flat int32 array: Keras' own data sets ship some as a column."""
    flat = np.asarray(y).reshape(-1)
    if not np.issubdtype(flat.dtype, np.integer):
        raise UserError(f"{name}: labels must be integers, not {flat.dtype}")
    limits = np.iinfo(np.int32)
    if len(flat) and not (limits.min <= flat.min() and flat.max() <= limits.max):
        raise UserError(f"{name}: labels run from {flat.min()} to {flat.max()}; they must number classes from 0")
    return flat.astype(np.int32)
