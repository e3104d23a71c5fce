"""Whose description of its data does not fit the others': refused by name, and the run goes on without that client.

What can be wrong by itself (numbers that are none, counts that do not add up) is that client's failure before it comes
here (`agreement.description_in`). Here clients are compared, and only a majority can call one wrong: more than half of
those that have something to say. Of two clients that differ nobody can say who is right, so the run ends with a line
that names both; where the server has a table of its own, it is the measure.

Statistics are far off where a client's values, by what its scaling uses (mean and standard deviation for zscore, the
extremes for minmax and scale), reach beyond those of the median client by MOST times (zscore: MOST_ZSCORE times) its
range in more than half of the features, or by ANY times in a single one. A feature that is constant at most clients is
no measure of others. What a liar can do within that is to squeeze the scaled values by such a factor; clients with
other units, decimal marks or columns are found as liars are.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

import numpy as np

from fedkeras.data.columns import UNNAMED, Columns, Names, differing
from fedkeras.data.labels import shown
from fedkeras.data.statistics import Statistics
from fedkeras.errors import RunFailed
from fedkeras.provisioning.agreement import DataDescription, Kind
from fedkeras.shapes import same_order

MOST, MOST_ZSCORE, ANY = 10.0, 2.0, 100.0

Descriptions = Mapping[int, DataDescription]
"""By cid."""
Reasons = dict[int, str]
"""By cid, why a description does not fit."""


@dataclass(frozen=True)
class Measure:
    """What descriptions are held against beside each other: the server's own, and the model's."""

    columns: Columns = UNNAMED
    shape: tuple[int, ...] = ()
    """Of an example in the server's own test table; (): it has none."""
    outputs: int | None = None
    """How many the model has, if that is known."""
    classes: bool = True
    """Whether targets may come with labels: those of a data set's are known."""


def sift(descriptions: Descriptions, measure: Measure) -> tuple[dict[int, DataDescription], Reasons]:
    """Those that fit together, and why the others do not. Raises RunFailed where no majority can tell."""
    left, odd = dict(descriptions), Reasons()
    checks: tuple[Callable[[Descriptions, Measure], Reasons], ...] = (
        _odd_shapes, lambda some, _: of_one_kind(some)[1], _odd_columns, _odd_labels, _odd_statistics,
    )  # fmt: skip
    for check in checks:
        odd |= (found := check(left, measure))
        left = {cid: one for cid, one in left.items() if cid not in found}
        if not left:
            raise RunFailed(f"the clients' data do not fit: {_first(odd)}")
    return left, odd


def of_one_kind(descriptions: Descriptions) -> tuple[dict[int, DataDescription], Reasons]:
    """Those descriptions, by cid, that most clients' fit, and why the others do not: one cannot spoil it for all.

    Raises RunFailed where no kind has a majority.
    """
    kinds = Counter(each.kind for each in descriptions.values())
    if any(shape is not None for _, shape, *_ in kinds):  # who sends no statistics fits any shape
        kinds = Counter({kind: count for kind, count in kinds.items() if kind[1] is not None or kind[0] == "none"})
    (usual, most), *others = kinds.most_common()
    if 2 * most <= kinds.total():
        first, second = (next(cid for cid, one in descriptions.items() if one.kind == kind) for kind in
                         (usual, others[0][0]))  # fmt: skip
        raise RunFailed(
            f"the clients' data do not fit together: client {first} describes {_said(usual)}, and client {second} "
            f"{_said(others[0][0])}"
        )
    good = {cid: one for cid, one in descriptions.items() if _fits(one.kind, usual)}
    odd = {cid: f"describes {_said(one.kind)}, and the others {_said(usual)}" for cid, one in descriptions.items()
           if cid not in good}  # fmt: skip
    return good, odd


def _odd_shapes(descriptions: Descriptions, measure: Measure) -> Reasons:
    """Examples whose axes stand in another order, or that have other sizes; flat ones fit any."""
    shapes = {cid: one.shape for cid, one in descriptions.items() if len(one.shape) > 1}
    if len(measure.shape) > 1:
        usual, whose = measure.shape, "X_test"
    else:
        like = {cid: next(each for each in shapes.values() if same_order(each, shape)) for cid, shape in shapes.items()}
        usual, whose = _usual(like, lambda shape: f"has examples of {_by(shape)}"), "most clients"
    return {
        cid: f"has examples of {_by(shape)}, and {whose} of {_by(usual)}"
        for cid, shape in shapes.items()
        if usual is not None and not same_order(shape, usual)
    }


def _odd_columns(descriptions: Descriptions, measure: Measure) -> Reasons:
    """Columns of other names; who has none is taken as it is."""
    odd = Reasons()
    for side in ("x", "y"):
        named = {cid: names for cid, one in descriptions.items() if (names := getattr(one.columns, side))}
        usual, whose = getattr(measure.columns, side), f"the server's {side.upper()}_test"
        if usual is None and named:
            sets = {cid: tuple(sorted(names)) for cid, names in named.items()}
            most = _usual(sets, lambda names, side=side: f"has in {side.upper()} {_columns(names)}")
            first = next(cid for cid, names in sets.items() if names == most)
            usual, whose = named[first], "most clients"
        for cid, names in named.items():
            if usual and (found := differing(names, usual)):
                odd.setdefault(cid, f"has in {side.upper()} {found[0]} where {whose} have {found[1]}")
    return odd


def _odd_labels(descriptions: Descriptions, measure: Measure) -> Reasons:
    """Labels of another sort, or ones that the model has no output for."""
    if not measure.classes:
        return {cid: "describes labels, which the data set has itself" for cid, one in descriptions.items()
                if one.labels is not None}  # fmt: skip
    sorts = {cid: _sort(one) for cid, one in descriptions.items()}
    if set(sorts.values()) == {"one-hot rows", "numbers"}:
        # One row with two ones is proof that rows are no classes, and a small client may have none such.
        sorts = dict.fromkeys(sorts, "")
    usual = _usual(sorts, lambda sort: f"has targets that are {sort}")
    odd = {cid: f"has targets that are {sort}, and those of most clients are {usual}" for cid, sort in sorts.items()
           if sort != usual}  # fmt: skip
    having = {cid: one.labels.names for cid, one in descriptions.items() if cid not in odd and one.labels is not None}
    if usual == "one-hot rows":
        widths = {cid: len(names) for cid, names in having.items()}
        width = _usual(widths, lambda width: f"has targets of {width} columns")
        return odd | {cid: f"has targets of {own} columns, and most clients of {width}" for cid, own in widths.items()
                      if own != width}  # fmt: skip
    return odd | (_beyond(having, max(measure.outputs, 2)) if measure.outputs and having and usual else {})


def _beyond(having: Mapping[int, tuple[str, ...] | tuple[int, ...]], outputs: int) -> Reasons:
    """Who has labels that make more classes than the model has outputs. Raises RunFailed where several may be wrong."""
    if len(set().union(*having.values())) <= outputs:
        return {}
    outside = {cid: [name for name in names if not (isinstance(name, int) and 0 <= name < outputs)]
               for cid, names in having.items()}  # fmt: skip
    if 0 < 2 * sum(map(bool, outside.values())) < len(having):
        return {cid: f"has the labels {shown(names)}, and the model's {outputs} outputs are 0 to {outputs - 1}"
                for cid, names in outside.items() if names}  # fmt: skip
    counts = Counter(name for names in having.values() for name in names)
    alone = {cid: [name for name in names if counts[name] == 1] for cid, names in having.items()}
    enough = [cid for cid, names in alone.items() if len(counts) - len(names) <= outputs]
    if len(enough) == 1 and len(having) > 2:
        [cid] = enough
        return {cid: f"has the labels {shown(alone[cid])}, which no other client has, and with them there are more "
                     f"classes than the model's {outputs} outputs"}  # fmt: skip
    return {}  # nobody can tell whose are wrong: `agree` says what there is


def _odd_statistics(descriptions: Descriptions, measure: Measure) -> Reasons:
    """Values that are far from those of the median client, see above."""
    with_some = {cid: one for cid, one in descriptions.items() if one.statistics}
    if len(with_some) < 2:
        return {}
    ordered = {cid: [_in_order(part, one.columns.x, with_some) for part in one.statistics]
               for cid, one in with_some.items()}  # fmt: skip
    name = next(iter(with_some.values())).normaliser
    if len(ordered) == 2:
        (one, its), (other, others) = ordered.items()
        found = _far(its, [others], name) or _far(others, [its], name)
        if found:
            raise RunFailed(
                f"the clients' data do not fit together: clients {one} and {other} describe values that are far apart "
                f"(one {found}), and of two nobody can say who is right; give both the same units, or --normaliser none"
            )
        return {}
    odd = {cid: reason for cid, its in ordered.items() if (reason := _far(its, list(ordered.values()), name))}
    if 2 * len(odd) >= len(ordered):
        raise RunFailed(f"the clients' data do not fit together, and no majority does: {_first(odd)}")
    return odd


def _far(parts: list[Statistics], others: list[list[Statistics]], normaliser: str) -> str:
    """How far a client's values are off those of the median of `others`, in words; "": not far."""
    most = MOST_ZSCORE if normaliser == "zscore" else MOST
    for number, part in enumerate(parts):
        peers = [peer[number] for peer in others if number < len(peer)]
        low, high = _interval(part, normaliser)
        ends = [_interval(peer, normaliser) for peer in peers]
        below, above = (np.median([end[side] for end in ends], axis=0) for side in (0, 1))
        reach = np.median([peer.high - peer.low for peer in peers], axis=0)
        measurable = reach > 0
        distance = np.maximum(below - low, high - above)
        far = np.where(measurable, distance / np.where(measurable, reach, 1.0), 0.0)
        if (far > ANY).any() or np.sum(far > most) * 2 > max(1, np.sum(measurable)):
            worst = int(np.argmax(far))
            where = f" in column {worst + 1}" if np.ndim(far) else ""
            at = [float(np.ravel(value)[worst]) for value in (low, high, below, above)]
            return (
                f"describes values{where} of {at[0]:.4g} to {at[1]:.4g}, where the median client has {at[2]:.4g} to "
                f"{at[3]:.4g}"
            )
    return ""


def _interval(part: Statistics, normaliser: str) -> tuple[np.ndarray, np.ndarray]:
    """Where a part's values lie, by what its scaling uses."""
    if normaliser == "zscore":
        return part.mean - part.std, part.mean + part.std
    return part.low, part.high


def _in_order(part: Statistics, names: Names | None, descriptions: Descriptions) -> Statistics:
    """A part with its features in the order of the first client that has names."""
    wanted = next((one.columns.x for one in descriptions.values() if one.columns.x), None)
    if names is None or wanted is None or names == wanted or np.shape(part.mean) != (len(wanted),):
        return part
    order = [names.index(name) for name in wanted]
    return Statistics(part.count, *(getattr(part, name)[order] for name in ("mean", "m2", "low", "high")))


def _usual(values: Mapping[int, Hashable], say: Callable[..., str]) -> Hashable | None:
    """What more than half of the clients have; None where nobody has anything. Raises RunFailed where none is so."""
    counted = Counter(values.values()).most_common()
    if not counted:
        return None
    (usual, most), *others = counted
    if 2 * most <= len(values):
        first, second = (next(cid for cid, value in values.items() if value == each) for each in (usual, others[0][0]))
        raise RunFailed(
            f"the clients' data do not fit together, and nobody can say who is right: client {first} {say(usual)}, "
            f"and client {second} {say(others[0][0])}"
        )
    return usual


def _sort(one: DataDescription) -> str:
    """What a client's targets are."""
    if one.labels is None:
        return "numbers"
    return "one-hot rows" if one.one_hot else "words" if isinstance(one.labels.names[0], str) else "whole numbers"


def _fits(kind: Kind, usual: Kind) -> bool:
    """Who sends no statistics, or counts no classes, fits in that."""
    return (kind[0], kind[2]) == (usual[0], usual[2]) and (kind[1] is None or usual[1] is None or kind[1] == usual[1])


def _said(kind: Kind) -> str:
    name, shape, classes = kind
    scaling = "data that nothing is fitted for" if name == "none" else f"statistics for {name}"
    if shape is not None:
        parts, features, per_row = shape
        many = f" of {parts} parts" if parts > 1 else ""
        own = f" of {features} features" if features else " of all numbers together"
        rows = f", {per_row} values a row," if per_row != 1 else ""
        scaling = f"statistics{own}{rows}{many} for {name}"
    return scaling + (f" and {classes} classes" if classes else "")


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _columns(names: Names) -> str:
    return f"the columns {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"


def _first(odd: Reasons) -> str:
    cid, reason = next(iter(odd.items()))
    return f"client {cid} {reason}"
