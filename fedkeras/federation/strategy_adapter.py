"""Calling a strategy that anybody may have written: what it raises is one line, what it returns is checked."""

import sys
import traceback
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp.strategy import Strategy

from fedkeras.errors import RunFailed, UserError, reason_of
from fedkeras.federation.aggregation import as_dtype
from fedkeras.federation.grids import CohortGrid
from fedkeras.federation.records import record, view
from fedkeras.federation.validation import fault_of_arrays, one_line


def configure(
    strategy: Strategy, phase: str, server_round: int, arrays: ArrayRecord, grid: CohortGrid
) -> list[Message]:
    """The messages of `configure_train` or `configure_evaluate`; at most one to each node of the cohort."""
    name = f"configure_{phase}"
    messages = _call(strategy, name, server_round, arrays, ConfigRecord(), grid, then=list)
    if not all(isinstance(message, Message) for message in messages):
        raise RunFailed(f"{type(strategy).__name__}.{name} returned something else than messages")
    addressed = [message.metadata.dst_node_id for message in messages]
    if len(set(addressed)) < len(addressed) or not set(addressed) <= set(grid.get_node_ids()):
        raise RunFailed(f"{type(strategy).__name__}.{name} must address nodes of the grid it is given, each once")
    return messages


def aggregate_train(
    strategy: Strategy, server_round: int, replies: Iterable[Message]
) -> tuple[ArrayRecord | None, MetricRecord | None]:
    """What should be the new global arrays (see `conform`), and the strategy's metrics.

    Raises the strategy's ValueError: it cannot use these replies, but perhaps those of a repeated round.
    """
    result = _call(strategy, "aggregate_train", server_round, replies, passing=(ValueError,))
    if not (isinstance(result, tuple) and len(result) == 2):
        raise RunFailed(f"{type(strategy).__name__}.aggregate_train must return (arrays, metrics)")
    return result[0], _metrics(strategy, "aggregate_train", result[1])


def aggregate_evaluate(strategy: Strategy, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
    """The strategy's metrics."""
    name = "aggregate_evaluate"
    return _metrics(strategy, name, _call(strategy, name, server_round, replies))


def conform(new: ArrayRecord | None, old: ArrayRecord, strategy: Strategy) -> ArrayRecord:
    """The strategy's arrays laid over the old ones, in their order and dtypes (some of Flower's return float64).

    What the strategy did not return stays as it was. Raises RunFailed for arrays of other names or shapes, for no
    arrays at all, and if they are not finite.
    """
    if not isinstance(new, ArrayRecord):
        what = "no arrays" if new is None else f"{type(new).__name__} for its arrays, not an ArrayRecord"
        raise RunFailed(f"{type(strategy).__name__} returned {what}")
    expected = ArrayRecord({name: old[name] for name in old if name in new})
    try:
        if new.keys() == expected.keys() and any(new[name].dtype != old[name].dtype for name in expected):
            new = record({name: as_dtype(view(array), np.dtype(old[name].dtype)) for name, array in new.items()})
        fault = fault_of_arrays(new, expected or old)
    except ValueError as error:  # bytes that are no array, or no whole numbers where there should be some
        fault = one_line(str(error))
    if fault:
        raise RunFailed(f"{type(strategy).__name__} returned arrays that cannot go on: {fault}")
    return ArrayRecord({name: new[name] if name in new else old[name] for name in old})


def _call(strategy: Strategy, name: str, *args: object, then: Callable | None = None, passing: tuple = ()) -> object:
    """What the method returns (passed through `then`). Raises RunFailed for whatever it raises, but `passing`."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is looked for in the result
            result = getattr(strategy, name)(*args)
            return then(result) if then else result
    except (UserError, *passing):
        raise
    except Exception as error:
        said = one_line(f"{type(error).__name__}: {reason_of(error)}")
        raise RunFailed(f"{type(strategy).__name__}.{name} failed: {said} ({_place(error, strategy)})") from error


def _place(error: Exception, strategy: Strategy) -> str:
    """file:line where it happened: in the strategy's own file if that was on the way, else the innermost."""
    frames = traceback.extract_tb(error.__traceback__)
    file = getattr(sys.modules.get(type(strategy).__module__), "__file__", None)
    frame = ([frame for frame in frames if frame.filename == file] or frames)[-1]
    return f"{frame.filename}:{frame.lineno}"


def _metrics(strategy: Strategy, name: str, extra: object) -> MetricRecord | None:
    if extra is not None and not isinstance(extra, Mapping):
        said = f"{type(extra).__name__} for its metrics, not a MetricRecord or None"
        raise RunFailed(f"{type(strategy).__name__}.{name} returned {said}")
    return extra
