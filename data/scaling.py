"""How a source's examples are scaled: by what its format says, or by statistics of rows that clients train on.

Nobody's test rows, nor the central test set, have a part in it. Where statistics are needed, each client takes them of
its own training rows alone, and they are merged: `provisioning.described_clients` for clients elsewhere,
`clients.pooled_normaliser` where one process has all the files.
"""

import functools
from collections.abc import Iterable

import numpy as np

from fedkeras.config import Config
from fedkeras.data.normalise import Normaliser, fit, fit_range, normaliser_from
from fedkeras.data.source import Examples, Source
from fedkeras.data.statistics import Statistics, merge, statistics_of

CHUNK = 2048
"""Examples held at a time while statistics are taken."""

FORMAT_SAYS = ("digits", "mnist", "femnist")
"""Built-in data sets whose values have a known range, whatever file they come from; so have Keras' own."""


def normaliser_name(source: Source, config: Config) -> str:
    """none, scale, minmax or zscore: what --normaliser says, and for `default` what suits the source."""
    return source.default_normaliser if config.normaliser == "default" else config.normaliser


def fixed_normaliser(source: Source, config: Config) -> Normaliser | None:
    """The normaliser where nothing has to be learned from rows; None where statistics decide."""
    name = normaliser_name(source, config)
    if name == "none":
        return fit(name, None)
    if source.normaliser is not None and source.normaliser.name == name:
        return source.normaliser
    if source.known_range is not None and name in ("scale", "minmax"):
        low, high = map(np.float64, source.known_range)
        return fit_range(name, low, high)
    return None


def format_decides(config: Config) -> bool | None:
    """Whether nothing has to be learned from rows, by the flags alone; None: only who opens the source can tell."""
    if config.normaliser == "none":
        return True
    if config.dataset in FORMAT_SAYS or config.dataset.startswith("keras:"):
        return config.normaliser != "zscore"
    return None


def statistics_of_rows(source: Source, rows: np.ndarray) -> Statistics:
    """Statistics of the training examples `rows`: of each feature (the last axis), of all numbers of an image."""
    chunks = (source.examples(rows[i : i + CHUNK]).x for i in range(0, max(len(rows), 1), CHUNK))
    return statistics_of(chunks, per_feature=len(source.input_shape) < 3)


def shape_of_statistics(source: Source) -> tuple[int, ...]:
    """(features,), or () for images."""
    return tuple(source.input_shape[-1:]) if len(source.input_shape) < 3 else ()


def merged_normaliser(name: str, parts: Iterable[Statistics]) -> Normaliser:
    """The normaliser `name` of all parts' rows together; the order of parts decides its last digits."""
    return normaliser_from(functools.reduce(merge, parts), name)


def scaled(examples: Examples, normaliser: Normaliser) -> Examples:
    """The same examples as a model takes them: float32, or as they came where nothing is scaled."""
    return Examples(normaliser.apply(examples.x), examples.y)
