"""A comparison in sentences. Each follows from the results alone, and is left out where they do not support it.

Two arms are compared seed by seed: with the same seed they have the same partitions and initial weights. So only seeds
that every arm has finished are looked at: where a comparison stopped half-way, means over other seeds would contradict
the differences. A difference counts as seen when it has the same sign with every seed and its mean is larger than both
arms' standard deviations over seeds. That is a rule of thumb for a handful of seeds, no test of significance.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from fedkeras.compare.arm_run import ArmResult
from fedkeras.compare.table import lines_of, mean_and_deviation, spread

TRAINED_TOGETHER = ("federated", "split")
Arms = dict[str, dict[int, ArmResult]]


@dataclass(frozen=True)
class Gap:
    """How much higher the first arm's accuracy is, as a share; over so many seeds."""

    mean: float
    spread: float | None
    seeds: int
    same_sign: bool

    @property
    def seen(self) -> bool | None:
        """Whether the difference counts as seen; None: with one seed nobody knows."""
        return None if self.spread is None else self.same_sign and abs(self.mean) > self.spread


def paragraph(results: Sequence[ArmResult]) -> list[str]:
    """The sentences, the answer first."""
    if not results:
        return ["No arm run is finished yet."]
    every: Arms = {}
    for result in results:
        every.setdefault(result.arm, {})[result.seed] = result
    seeds = shared_seeds(every)
    if not seeds:
        return ["No seed is finished in every arm yet, so nothing is compared."]
    arms = {arm: {seed: group[seed] for seed in seeds} for arm, group in every.items()}
    return _on_which(every, seeds) + _compared(arms)


def shared_seeds(arms: Arms) -> list[int]:
    """The seeds that every arm has finished."""
    return sorted(set.intersection(*(set(group) for group in arms.values())))


def _on_which(every: Arms, seeds: Sequence[int]) -> list[str]:
    """A sentence where an arm has more seeds: the table's figures are of all of them, and may be in another order."""
    if all(len(group) == len(seeds) for group in every.values()):
        return []
    named = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    return [f"Compared on {named}, which every arm has finished; the table's means are over all finished seeds."]


def _compared(arms: Arms) -> list[str]:
    if any(result.accuracy is None for group in arms.values() for result in group.values()):
        return _by_loss(arms)
    together = [arm for arm in arms if _kind(arms, arm) in TRAINED_TOGETHER]
    best_together = max(together, key=lambda arm: _accuracy(arms, arm), default=None)
    local = next((arm for arm in arms if _kind(arms, arm) == "local"), None)
    pooled = next((arm for arm in arms if _kind(arms, arm) == "centralised"), None)
    sentences = []
    if best_together and local:
        sentences += [_answer(arms, best_together, local)]
    sentences += [_best(arms)]
    if pooled:
        sentences += [_of_centralised(arms, together, pooled)]
    if local:
        sentences += [_weakest_alone(arms, local)]
    sentences += _own(arms, best_together, local)
    sentences += _cost(arms, together, pooled)
    return [sentence for sentence in sentences if sentence] + _caution(arms)


def gap(arms: Arms, one: str, other: str) -> Gap | None:
    """Over the seeds that both have; None if they share none."""
    seeds = sorted(arms[one].keys() & arms[other].keys())
    if not seeds:
        return None
    pairs = [(arms[one][seed].accuracy, arms[other][seed].accuracy) for seed in seeds]
    differences = [left - right for left, right in pairs]
    deviations = [mean_and_deviation(column).deviation for column in zip(*pairs, strict=True)]
    same = all(value > 0 for value in differences) or all(value < 0 for value in differences)
    return Gap(statistics.fmean(differences), None if None in deviations else max(deviations), len(seeds), same)


def points(share: float) -> str:
    """Percentage points, without a sign: 12.3, 0.83."""
    value = abs(100 * share)
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _answer(arms: Arms, together: str, local: str) -> str:
    found = gap(arms, together, local)
    if found is None:
        return ""
    if found.seen is False:
        return (
            f"On the central test set these numbers do not tell {together} from training alone: the difference of "
            f"{points(found.mean)} points is within the spread over {found.seeds} seeds ({points(found.spread)})."
        )
    where = "On examples such as the central test set's"
    if found.mean > 0:
        yes = "training together is worth it by these numbers" if found.seen else "training together won with this seed"
        return (
            f"{where} {yes}: {together} is {points(found.mean)} points above a client's training alone{_beyond(found)}."
        )
    no = "training together is not worth it by these numbers" if found.seen else "training alone won with this seed"
    if found.mean == 0:
        no = "training alone was as good with this seed"
    return f"{where} {no}: {together} is {points(found.mean)} points below a client's training alone{_beyond(found)}."


def _best(arms: Arms) -> str:
    ranked = _ranked(arms)
    best = f"{ranked[0]} has the highest accuracy on the central test set, {_accuracy(arms, ranked[0]):.4f}"
    if len(ranked) == 1:
        return f"{ranked[0]} reaches {_accuracy(arms, ranked[0]):.4f} on the central test set."
    found = gap(arms, ranked[0], ranked[1])
    if found is None:
        return f"{best}."
    if found.mean == 0:
        return f"{best}, and {ranked[1]} the same."
    return f"{best}, {points(found.mean)} points above {ranked[1]}{_beyond(found)}{_within(found)}."


def _of_centralised(arms: Arms, together: Sequence[str], pooled: str) -> str:
    shares = []
    for arm in together:
        found = gap(arms, arm, pooled)
        if found is None or not _accuracy(arms, pooled):
            continue
        share = 100 * _accuracy(arms, arm) / _accuracy(arms, pooled)
        where = "below" if found.mean < 0 else "above"
        within = ", within the spread over seeds" if found.seen is False else ""
        shares.append(f"{arm} reaches {share:.1f} % ({points(found.mean)} points {where}{within})")
    return f"Of the centralised accuracy {', '.join(shares)}." if shares else ""


def _weakest_alone(arms: Arms, local: str) -> str:
    lows = [spread(result.central)[0] for result in arms[local].values() if result.central]
    if not lows:
        return ""
    return (
        f"On the central test set a client that trains alone gets {_accuracy(arms, local):.4f} on average, and the "
        f"weakest client's own model {statistics.fmean(lows):.4f}."
    )


def _own(arms: Arms, together: str | None, local: str | None) -> list[str]:
    """What the weakest client gets on its own held-out examples, and for how many clients it pays."""
    shown = [arm for arm in (together, local) if arm and all(one.own for one in arms[arm].values())]
    if not shown:
        return []
    lows = [statistics.fmean(spread(one.own)[0] for one in arms[arm].values()) for arm in shown]
    named = ", ".join(f"{low:.4f} with {_model_of(arms, arm)}" for arm, low in zip(shown, lows, strict=True))
    sentences = [f"On its own held-out examples the weakest client gets {named}."]
    if len(shown) == 2:
        pairs = [
            (one.own[cid], arms[local][seed].own[cid])
            for seed, one in arms[together].items()
            if seed in arms[local]
            for cid in one.own
            if cid in arms[local][seed].own
        ]
        better, worse = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
        cases = "clients" if len(arms[together]) == 1 else "cases (clients and seeds)"
        alone = ": for examples such as their own, clients do better alone" if worse > better else ""
        counted = f"better than training alone in {better} of {len(pairs)} {cases}, worse in {worse}"
        sentences += [f"There {together} is {counted}{alone}."]
    return sentences


def _cost(arms: Arms, together: Sequence[str], pooled: str | None) -> list[str]:
    lines = {line.arm: line for line in lines_of(one for group in arms.values() for one in group.values())}
    moved = [f"{arm} {lines[arm].megabytes.mean:.1f} MB" for arm in together if lines[arm].megabytes]
    shown = [*together, pooled] if pooled else together
    took = [f"{arm} {lines[arm].seconds.mean:.1f} s" for arm in shown]
    sentences = [f"Between server and clients went: {', '.join(moved)}."] if moved else []
    return sentences + ([f"The rounds took: {', '.join(took)}."] if together else [])


def _caution(arms: Arms) -> list[str]:
    seeds = min(map(len, arms.values()))
    if seeds == 1:
        return ["All this is one seed, and nobody can say how much of it is chance: --repeats 3 shows."]
    return ["Two seeds show the spread only roughly."] if seeds == 2 else []


def _by_loss(arms: Arms) -> list[str]:
    losses = {arm: mean_and_deviation(one.loss for one in group.values()) for arm, group in arms.items()}
    known = {arm: loss.mean for arm, loss in losses.items() if loss is not None}
    if not known:
        return ["There is neither an accuracy nor a finite loss of every arm run: nothing can be compared."]
    low = min(known, key=known.get)
    return [f"The model has no accuracy; {low} has the lowest loss on the central test set, {known[low]:.4f}."]


def _beyond(found: Gap) -> str:
    if not found.seen:
        return ""
    return f", more than the spread over {found.seeds} seeds ({points(found.spread)})"


def _within(found: Gap) -> str:
    if found.seen is not False:
        return ""
    return f", within the spread over {found.seeds} seeds ({points(found.spread)}), so not told apart"


def _ranked(arms: Arms) -> list[str]:
    """The highest accuracy first."""
    return sorted(arms, key=lambda arm: -_accuracy(arms, arm))


def _accuracy(arms: Arms, arm: str) -> float:
    return statistics.fmean(one.accuracy for one in arms[arm].values())


def _kind(arms: Arms, arm: str) -> str:
    return next(iter(arms[arm].values())).kind


def _model_of(arms: Arms, arm: str) -> str:
    return "its own" if _kind(arms, arm) == "local" else f"{arm}'s model"
