"""Calling a strategy that anybody may have written: what it raises is one line, what it returns is checked."""

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence, Set

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp.strategy import (
    Bulyan,
    DifferentialPrivacyClientSideAdaptiveClipping,
    DifferentialPrivacyClientSideFixedClipping,
    DifferentialPrivacyServerSideAdaptiveClipping,
    DifferentialPrivacyServerSideFixedClipping,
    FedMedian,
    FedTrimmedAvg,
    Krum,
    MultiKrum,
    Strategy,
)

from fedkeras.errors import RunFailed, UserError, one_line, reason_of
from fedkeras.federation.aggregation import as_dtype
from fedkeras.federation.grids import CohortGrid
from fedkeras.federation.messages import NUM_EXAMPLES
from fedkeras.federation.records import record, view
from fedkeras.federation.trainable import Shown, Trainable, complete, withheld
from fedkeras.federation.validation import fault_of_arrays

TAKE_ALL = (
    FedMedian,
    FedTrimmedAvg,
    DifferentialPrivacyClientSideAdaptiveClipping,
    DifferentialPrivacyClientSideFixedClipping,
    DifferentialPrivacyServerSideAdaptiveClipping,
    DifferentialPrivacyServerSideFixedClipping,
)
"""Flower's strategies whose rule is for all arrays: a plain mean beside it would let a liar, or a secret, through."""


ROBUST = (FedMedian, FedTrimmedAvg, Krum, MultiKrum, Bulyan)
"""Flower's strategies that withstand liars."""


def nested(strategy: Strategy) -> list[Strategy]:
    """The strategy, and those that it surrounds: its attributes, and theirs."""
    found = [strategy]
    for each in found:  # which grows meanwhile
        inside = [value for value in getattr(each, "__dict__", {}).values() if isinstance(value, Strategy)]
        found += [value for value in inside if not any(value is other for other in found)]
    return found


def kept_from(strategy: Strategy, arrays: ArrayRecord, trainable: Trainable) -> Set[str]:
    """Names of the arrays that the strategy is not shown: those not trainable, unless it, or one in it, takes all."""
    if any(getattr(each, "takes_all", False) or isinstance(each, TAKE_ALL) for each in nested(strategy)):
        return set()
    return withheld(arrays, trainable)


def is_robust(strategy: Strategy | None) -> bool:
    """Whether the strategy, or one in it, withstands liars, so that the clients' figures must too."""
    return strategy is not None and any(
        getattr(each, "robust", False) or isinstance(each, ROBUST) for each in nested(strategy)
    )


def tell(strategy: Strategy, trainable: Trainable) -> None:
    """Tell the strategy, and those in it, which arrays are trainable, if they have a place for it."""
    for each in nested(strategy):
        if hasattr(each, "trainable"):
            with contextlib.suppress(AttributeError):  # a property of somebody's, which means something else
                each.trainable = trainable


def tell_cohort(strategy: Strategy, cohort: Mapping[int, int]) -> None:
    """Tell the strategy, and those in it, whose the nodes of a round's cohort {cid: node id} are, if they keep that."""
    for each in nested(strategy):
        if hasattr(each, "cid_of"):
            with contextlib.suppress(AttributeError):
                each.cid_of = {node_id: cid for cid, node_id in cohort.items()}


def check(strategy: Strategy, clients: int) -> list[str]:
    """Warnings, a sentence each, before a run whose rounds ask `clients` clients to train.

    Raises UserError for what cannot go well.
    """
    warnings = []
    for each in nested(strategy):
        if isinstance(each, Krum | MultiKrum | Bulyan):
            warnings.append(
                f"Flower's {type(each).__name__} chooses by the trainable arrays, and the others are averaged over all "
                "clients, liars too; --strategy krum averages those of the clients that it has chosen"
            )
        if (key := getattr(each, "weighted_by_key", NUM_EXAMPLES)) != NUM_EXAMPLES:
            warnings.append(
                f"{type(each).__name__} counts each client by its own metric '{key}': neither --client-weights nor "
                "--max-client-weight has a say in that"
            )
        if callable(getattr(each, "check", None)):
            try:
                warnings += _call(each, "check", clients, then=list, passing=(ValueError,))
            except ValueError as error:
                raise UserError(f"--strategy-args: {error}") from error
    return warnings


def configure(
    strategy: Strategy,
    phase: str,
    server_round: int,
    arrays: ArrayRecord,
    grid: CohortGrid,
    kept: Set[str] = frozenset(),
) -> list[Message]:
    """The messages of `configure_train` or `configure_evaluate`; at most one to each node of the cohort.

    The strategy is not shown the arrays in `kept`, which are put into its messages.
    """
    name = f"configure_{phase}"
    shown = ArrayRecord({key: arrays[key] for key in arrays if key not in kept}) if kept else arrays
    messages = _call(strategy, name, server_round, shown, ConfigRecord(), grid, then=list)
    if not all(isinstance(message, Message) for message in messages):
        raise RunFailed(f"{type(strategy).__name__}.{name} returned something else than messages")
    addressed = [message.metadata.dst_node_id for message in messages]
    if len(set(addressed)) < len(addressed) or not set(addressed) <= set(grid.get_node_ids()):
        raise RunFailed(f"{type(strategy).__name__}.{name} must address nodes of the grid it is given, each once")
    return complete(messages, arrays, kept) if kept else messages


def aggregate_train(
    strategy: Strategy, server_round: int, replies: Iterable[Message], kept: Set[str] = frozenset()
) -> tuple[ArrayRecord | None, MetricRecord | None]:
    """What should be the new global arrays (see `conform`), and the strategy's metrics.

    The strategy is not shown the arrays in `kept`: those of the result are FedAvg's, over all replies. Raises the
    strategy's ValueError: it cannot use these replies, but perhaps those of a repeated round.
    """
    shown = Shown(replies, kept) if kept else None
    given = replies if shown is None else list(shown) if isinstance(replies, Sequence) else shown
    result = _call(strategy, "aggregate_train", server_round, given, passing=(ValueError,))
    if not (isinstance(result, tuple) and len(result) == 2):
        raise RunFailed(f"{type(strategy).__name__}.aggregate_train must return (arrays, metrics)")
    arrays, metrics = result
    if shown is not None and isinstance(arrays, ArrayRecord):
        arrays = ArrayRecord({**shown.mean(), **arrays})
    return arrays, _metrics(strategy, "aggregate_train", metrics)


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
