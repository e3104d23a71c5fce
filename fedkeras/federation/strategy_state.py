"""What a strategy remembers between rounds, taken out of it for a checkpoint and put back into a fresh one.

A strategy's state is its attributes: Flower's interface knows no other, and the optimizers on the server (FedAdam's
`m` and `v`, FedAvgM's `velocity`) keep theirs so. Saved are numbers, text, None, NumPy arrays, Flower's records, and
lists, tuples and dictionaries of them; also in a strategy inside a strategy, and in the mods around it. Anything else
is looked at once when the strategy is new, and if it has changed since, it is state that a checkpoint cannot hold: it
is named there instead, and only a resumption is refused. What a strategy keeps elsewhere (a global variable, a file)
nobody can know.
"""

import logging
import pickle
from collections.abc import Iterable, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import NamedTuple

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp.strategy import Strategy

from fedkeras.errors import UserError

RECORDS = {kind.__name__: kind for kind in (ArrayRecord, MetricRecord, ConfigRecord)}
CODE = (FunctionType, BuiltinFunctionType, MethodType, ModuleType, type, logging.Logger)
"""What a strategy calls, and no state of its own."""


TOLD = ("trainable", "cid_of")
"""Attributes that the run sets before its first round, or before each, and keeps at a place of its own: no state."""


class Stateful:
    """Anything beside a strategy whose attributes go into the checkpoint: a mod."""

    untracked: tuple[str, ...] = ()
    """Attributes that do not: a run that goes on has them from elsewhere."""


Holder = Strategy | Stateful
"""What has attributes that are looked into."""


class StrategySnapshot(NamedTuple):
    """Arrays that nobody else can change, by name; and how the attributes are made of them, as JSON can hold it."""

    arrays: dict[str, np.ndarray]
    table: dict


class StrategyState:
    """The way into a strategy and the mods around it, outermost first.

    Made when they are new: a later look is held against what is found then.
    """

    def __init__(self, strategy: Strategy, mods: Sequence[Stateful] = ()) -> None:
        # A mod's wrapper of a strategy may refer to the mod, whose own place is in the list.
        self._holders: list[tuple[str, Holder]] = [("", strategy), *((f"mods.{i}.", mod) for i, mod in enumerate(mods))]
        self._apart = tuple(mods)
        self._new = {path: _fingerprint(value) for path, value in self._foreign()}
        self._other: dict[str, None] = {}  # as a set with an order

    def snapshot(self) -> StrategySnapshot:
        """The state between two rounds. Arrays are copied, so it may be written while the next one runs."""
        arrays: dict[str, np.ndarray] = {}
        seen: dict[int, str] = {}
        strategy, *mods = (
            _attributes_of(holder, arrays, seen, prefix, self._apart) for prefix, holder in self._holders
        )
        # What has changed once stays named: it need not be looked at again, and a change back may be chance.
        for path, value in self._foreign():
            if path not in self._other and (path not in self._new or _fingerprint(value) != self._new[path]):
                self._other[path] = None
        table = {"attributes": strategy, "not-saved": list(self._other)}
        return StrategySnapshot(arrays, table | ({"mods": mods} if mods else {}))

    def restore(self, arrays: Mapping[str, np.ndarray], table: Mapping[str, object]) -> None:
        """Make all of them what they were when this state was taken. Raises UserError if not all of it was saved."""
        if table["not-saved"]:
            name, where = type(self._holders[0][1]).__name__, table["not-saved"][0]
            raise UserError(
                f"--resume: strategy {name} keeps state in its attribute '{where}', which a checkpoint cannot hold "
                "(only numbers, text and NumPy arrays); start a new run"
            )
        tables = [table["attributes"], *table.get("mods", ())]
        if len(tables) != len(self._holders):
            raise UserError(f"--resume: the checkpoint has the state of {len(tables) - 1} mods; start a new run")
        made: dict[str, object] = {}
        for (_, holder), own in zip(self._holders, tables, strict=True):
            _set(holder, own, arrays, made)

    def _foreign(self) -> Iterable[tuple[str, object]]:
        for prefix, holder in self._holders:
            yield from _foreign(holder, prefix, self._apart)


class _NoPlainValue(Exception):
    """Something that is not made of numbers, text and arrays."""


def _attributes(strategy: Holder) -> dict[str, object]:
    slots = [name for kind in type(strategy).__mro__ for name in _names(getattr(kind, "__slots__", ()))]
    found = {name: getattr(strategy, name) for name in slots if hasattr(strategy, name)} | vars(strategy)
    left_out = (*TOLD, *getattr(strategy, "untracked", ()))
    return {name: value for name, value in found.items() if name not in left_out}


def _names(slots: str | Iterable[str]) -> list[str]:
    return [name for name in ([slots] if isinstance(slots, str) else slots) if name not in ("__dict__", "__weakref__")]


def _foreign(strategy: Holder, prefix: str, apart: Sequence[Stateful]) -> Iterable[tuple[str, object]]:
    """The attributes that cannot be saved, by path; `apart` are saved at a place of their own."""
    for name, value in _attributes(strategy).items():
        if any(value is other for other in apart):
            continue
        if isinstance(value, Holder):
            yield from _foreign(value, f"{prefix}{name}.", apart)
        elif not _is_plain(value):
            yield prefix + name, value


def _attributes_of(
    strategy: Holder, arrays: dict[str, np.ndarray], seen: dict[int, str], prefix: str, apart: Sequence[Stateful]
) -> dict[str, object]:
    table: dict[str, object] = {}
    for name, value in _attributes(strategy).items():
        if any(value is other for other in apart):
            continue
        if isinstance(value, Holder):
            table[name] = ["Strategy", _attributes_of(value, arrays, seen, f"{prefix}{name}.", apart)]
        elif _is_plain(value):
            table[name] = _encode(value, arrays, seen, prefix + name)
    return table


def _is_plain(value: object) -> bool:
    try:
        _encode(value, None, {}, "")
    except (_NoPlainValue, RecursionError):
        return False
    return True


def _encode(value: object, arrays: dict | None, seen: dict[int, str], path: str) -> object:
    """`value` as JSON, its arrays put into `arrays` (None: only look whether it can be done).

    Exact types only: a subclass may hold more than what is seen. Two names of one array stay two names of one.
    """
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value

    def put(owner: object, array: np.ndarray, copy: bool) -> str:
        if array.dtype.hasobject or array.dtype.kind == "V":
            raise _NoPlainValue
        if arrays is None:
            return ""
        if id(owner) not in seen:
            seen[id(owner)] = f"{len(arrays)}:{path}"
            arrays[seen[id(owner)]] = array.copy() if copy else array
        return seen[id(owner)]

    if kind is np.ndarray:
        order = "F" if _by_columns(value) else "C"
        return ["ndarray", put(value, value, copy=True), order]
    if isinstance(value, np.generic):
        return ["scalar", put(value, np.asarray(value), copy=True)]
    if kind is bytes:
        return ["bytes", put(value, np.frombuffer(value, np.uint8), copy=False)]
    if kind is Array:
        data = bytes(value.data) if type(value.data) is not bytes else value.data
        named = put(value.data, np.frombuffer(data, np.uint8), copy=False)
        return ["Array", value.dtype, list(value.shape), value.stype, named]
    if kind in (list, tuple):
        return [kind.__name__, [_encode(item, arrays, seen, f"{path}.{i}") for i, item in enumerate(value)]]
    if kind is dict or kind in RECORDS.values():
        pairs = [[_key(key), _encode(item, arrays, seen, f"{path}.{key}")] for key, item in value.items()]
        return [kind.__name__, pairs]
    raise _NoPlainValue


def _by_columns(array: np.ndarray) -> bool:
    """True if its numbers lie column by column: the order of a later sum, and so its last bit, may depend on it."""
    return array.flags.f_contiguous and not array.flags.c_contiguous


def _key(key: object) -> object:
    if key is not None and type(key) not in (bool, int, float, str):
        raise _NoPlainValue
    return key


def _decode(node: object, arrays: Mapping[str, np.ndarray], made: dict[str, object]) -> object:
    if not isinstance(node, list):
        return node
    kind, *content = node
    if kind == "ndarray":
        name, order = content
        return made.setdefault(name, np.array(arrays[name], order=order))
    if kind == "scalar":
        return arrays[content[0]][()]
    if kind == "bytes":
        return arrays[content[0]].tobytes()
    if kind == "Array":
        dtype, shape, stype, name = content
        return Array(dtype, tuple(shape), stype, made.setdefault(name, arrays[name].tobytes()))
    if kind in ("list", "tuple"):
        items = [_decode(item, arrays, made) for item in content[0]]
        return items if kind == "list" else tuple(items)
    return {"dict": dict, **RECORDS}[kind]({key: _decode(item, arrays, made) for key, item in content[0]})


def _set(strategy: Holder, table: Mapping, arrays: Mapping[str, np.ndarray], made: dict) -> None:
    for name, node in table.items():
        if isinstance(node, list) and node[0] == "Strategy":
            _set(getattr(strategy, name), node[1], arrays, made)
        else:
            setattr(strategy, name, _decode(node, arrays, made))


def _fingerprint(value: object, within: tuple[int, ...] = ()) -> object:
    """Something that compares unequal when `value` has changed; what can neither be pickled nor opened is itself."""
    if isinstance(value, CODE) or id(value) in within:
        return value if isinstance(value, CODE) else "itself"
    try:
        return pickle.dumps(value)  # before its attributes: a random generator's state is in none of them
    except Exception:  # noqa: BLE001 - whatever a user's object raises
        within = (*within, id(value))
    if isinstance(value, dict):
        return [(_fingerprint(key, within), _fingerprint(item, within)) for key, item in value.items()]
    if isinstance(value, list | tuple | set):
        return [_fingerprint(item, within) for item in value]
    if hasattr(value, "__dict__"):
        return [type(value), _fingerprint(vars(value), within)]
    return value
