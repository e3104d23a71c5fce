"""Shards of the server's tables, one a client: the digest of its rows, and the slices in which they are sent.

The tables are memory-mapped, and a slice is copied when it is sent: a shard never exists whole on the server.
"""

import functools
import hashlib
import json
from collections.abc import Iterator

import numpy as np

SLICE_BYTES = 4 << 20
FIRST_BYTES = 1 << 16
"""The first slice is small."""

Tables = dict[str, np.ndarray]
"""x and, where there are such, y (targets) and sample_weight, of as many rows; or some rows of them."""


class Shard:
    """The rows `indices`, sorted, of `x` and, if there are such, targets `y` and their weights."""

    def __init__(
        self, x: np.ndarray, y: np.ndarray | None, indices: np.ndarray, weights: np.ndarray | None = None
    ) -> None:
        named = {"x": x, "y": y, "sample_weight": weights}
        self._tables = {name: table for name, table in named.items() if table is not None}
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def whole(self) -> Tables:
        """The tables of which it has some rows."""
        return self._tables

    @property
    def rows(self) -> Tables:
        """Its own rows, copied."""
        return {name: table[self._indices] for name, table in self._tables.items()}

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of content, types and shapes: the same rows have the same digest wherever they come from."""
        digest = Digest(self.layout)
        for _, rows in self.slices():
            digest.update(rows)
        return digest.result()

    @property
    def layout(self) -> str:
        """Names, types and shapes as JSON."""
        return json.dumps({name: [t.dtype.str, [len(self), *t.shape[1:]]] for name, t in self._tables.items()})

    @property
    def num_bytes(self) -> int:
        """Of all its rows."""
        return len(self) * sum(row_bytes(table) for table in self._tables.values())

    def slices(self) -> Iterator[tuple[int, Tables]]:
        """(first row, rows), in order, of some megabytes each."""
        size = sum(row_bytes(table) for table in self._tables.values())
        start, limit = 0, FIRST_BYTES
        while start < len(self):
            chosen = self._indices[start : start + max(1, limit // size)]
            yield start, {name: np.ascontiguousarray(_take(table, chosen)) for name, table in self._tables.items()}
            start, limit = start + len(chosen), SLICE_BYTES


class Digest:
    """SHA-256 of tables that come slice by slice; the size of the slices does not matter."""

    def __init__(self, layout: str) -> None:
        self._layout = layout
        self._hashes = {name: hashlib.sha256() for name in json.loads(layout)}

    def update(self, rows: Tables) -> None:
        """Add the next rows, contiguous arrays, of each table."""
        for name, array in rows.items():
            self._hashes[name].update(array.reshape(-1).view(np.uint8) if array.size else b"")

    def result(self) -> str:
        """As hexadecimal digits."""
        named = {name: digest.hexdigest() for name, digest in sorted(self._hashes.items())}
        return hashlib.sha256(json.dumps([self._layout, named]).encode()).hexdigest()


def row_bytes(table: np.ndarray) -> int:
    """Bytes of one row."""
    return max(1, int(np.prod(table.shape[1:], dtype=np.int64)) * table.dtype.itemsize)


def _take(table: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """A run of neighbouring rows is a slice of the file; others are gathered."""
    if len(chosen) and chosen[-1] - chosen[0] == len(chosen) - 1:
        return table[chosen[0] : chosen[-1] + 1]
    return table[chosen]
