"""A comparison in sentences. Each follows from the results alone, and is left out where they do not support it.

Which arm is better is said by the paired differences and no further than their intervals go (see differences.py).
Means, counts and costs are what was measured, and are called that. Where not every arm has every seed, a difference is
over the seeds that both arms have, and means are over those that all have: others would contradict the differences.
"""

import statistics
from collections.abc import Sequence

from fedkeras.compare.arm_run import ArmResult
from fedkeras.compare.arms import SOLO
from fedkeras.compare.differences import OWN, PairedDifference, figures_of, is_share, metric_of, paired_differences
from fedkeras.compare.table import lines_of, spread

Arms = dict[str, dict[int, ArmResult]]
FEW = 3
"""Seeds up to which an interval is several times as wide as the differences vary."""


def paragraph(results: Sequence[ArmResult]) -> list[str]:
    """The sentences, the answer first."""
    if not results:
        return ["No arm run is finished yet."]
    metric, figures = metric_of(results), figures_of(results)
    every: Arms = {}
    for result in results:
        if result.seed in figures[result.arm]:
            every.setdefault(result.arm, {})[result.seed] = result
    if not every:
        return ["There is neither an accuracy nor a finite loss of any arm run: nothing can be compared."]
    left_out = _left_out(results, metric)
    seeds = shared_seeds(every)
    if not seeds:
        return [*left_out, "No seed is finished in every arm yet, so nothing is compared."]
    arms = {arm: {seed: group[seed] for seed in seeds} for arm, group in every.items()}
    found = paired_differences(results)
    return left_out + _on_which(every, seeds) + _compared(arms, figures, metric, found) + _caution(every, found)


def shared_seeds(arms: Arms) -> list[int]:
    """The seeds that every arm has finished."""
    return sorted(set.intersection(*(set(group) for group in arms.values())))


def relation(found: PairedDifference) -> str:
    """What the interval says of two arms, and no more; the better one first where one is shown to be."""
    if found.mean < 0 and (found.shown or found.low is None):
        return relation(found.mirrored())
    one, other, count = found.arm, found.other, len(found.seeds)
    mean, *ends = found.texts()
    if found.identical:
        each = f"with seed {found.seeds[0]}" if count == 1 else f"with each of {count} seeds"
        return f"{one} and {other} have the same {found.metric} {each}"
    points = is_share(found.metric)
    ahead = f"{one} is {mean} points above {other}" if points else f"{one}'s loss is {mean} below {other}'s"
    if count == 1:
        return f"{ahead} with seed {found.seeds[0]} (one pair, which is not judged)"
    if found.low is None:
        return f"{ahead} with each of {count} seeds alike, so that there is no deviation to judge it by"
    between = f"95 % interval {ends[0]} to {ends[1]}"
    if not found.shown:
        unit = "points" if points else "in loss"
        return f"no difference between {one} and {other} is shown (mean {mean} {unit}, {between}, {count} pairs)"
    better = f"{mean} points better than {other}" if points else f"better than {other} by {mean} in loss"
    return f"{one} is {better} ({between}, {count} pairs)"


def _left_out(results: Sequence[ArmResult], metric: str) -> list[str]:
    figures = figures_of(results)
    without = [f"{one.arm} with seed {one.seed}" for one in results if one.seed not in figures[one.arm]]
    if not without:
        return []
    no_number = "loss" if metric == "loss" else "accuracy or loss"
    return [f"Left out, as {no_number} is no number there: {', '.join(without)}. No difference counts what diverged."]


def _on_which(every: Arms, seeds: Sequence[int]) -> list[str]:
    """A sentence where an arm has more seeds: the table's figures are of all of them, and may be in another order."""
    if all(len(group) == len(seeds) for group in every.values()):
        return []
    named = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    return [
        f"Not every arm has every seed: means below are of {named}, which all have, those of the table of all; a "
        "difference is over the seeds that both arms have."
    ]


def _compared(
    arms: Arms, figures: dict[str, dict[int, float]], metric: str, found: Sequence[PairedDifference]
) -> list[str]:
    means = {arm: statistics.fmean(figures[arm][seed] for seed in group) for arm, group in arms.items()}
    ranked = sorted(arms, key=lambda arm: means[arm], reverse=is_share(metric))
    together = [arm for arm in ranked if _kind(arms, arm) not in SOLO]
    local = next((arm for arm in arms if _kind(arms, arm) == "local"), None)
    pooled = next((arm for arm in arms if _kind(arms, arm) == "centralised"), None)
    best = together[0] if together else None
    related = {frozenset((one.arm, one.other)): relation(one) for one in found}
    sentences = [] if is_share(metric) else ["The model has no accuracy, so losses are compared."]
    where = "on the central test set"
    if metric == OWN:
        where = "on what the clients hold out"
        sentences = ["Clients of some arms end with models of their own: compared is accuracy on what each holds out."]
    if best and local:
        sentences += [_sentence("Together against alone", related.get(frozenset((best, local))))]
    first, mean = ranked[0], f"{means[ranked[0]]:.4f}"
    if len(ranked) == 1:
        sentences += [f"{first} reaches a mean {metric} of {mean} {where}."]
    else:
        sentences += [f"{_highest(first, metric)} {where}, {mean}."]
    if len(together) > 1:
        of_these = f"Of the arms trained together {_highest(together[0], metric)}"
        of_these = "The first two" if together == ranked else of_these
        sentences += [_sentence(of_these, related.get(frozenset(together[:2])))]
    if best and pooled:
        against = "Against pooled data"
        if is_share(metric) and means[pooled]:
            against = f"{best} reaches {100 * means[best] / means[pooled]:.1f} % of the centralised accuracy"
        sentences += [_sentence(against, related.get(frozenset((best, pooled))))]
    if local and pooled and not best:
        sentences += [_sentence("Pooled data against clients alone", related.get(frozenset((local, pooled))))]
    if is_share(metric):
        if local and metric != OWN:
            sentences += [_weakest_alone(arms, local)]
        sentences += _own(arms, best, local)
    sentences += _cost(arms, [arm for arm in arms if arm in together], pooled)
    return [sentence for sentence in sentences if sentence]


def _sentence(start: str, said: str | None) -> str:
    return f"{start}: {said}." if said else ""


def _highest(arm: str, metric: str) -> str:
    return f"{arm} has the {'highest' if is_share(metric) else 'lowest'} mean {metric}"


def _weakest_alone(arms: Arms, local: str) -> str:
    lows = [spread(result.central)[0] for result in arms[local].values() if result.central]
    if not lows:
        return ""
    return f"The weakest of the clients' own models has {statistics.fmean(lows):.4f} on the central test set."


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
        counted = f"ahead of the client's own in {better} of {len(pairs)} {cases}, behind in {worse}"
        sentences += [f"There {together}'s model is {counted}; these are counts, and judge nothing."]
    return sentences


def _cost(arms: Arms, together: Sequence[str], pooled: str | None) -> list[str]:
    lines = {line.arm: line for line in lines_of(one for group in arms.values() for one in group.values())}
    moved = [f"{arm} {lines[arm].megabytes.mean:.1f} MB" for arm in together if lines[arm].megabytes]
    shown = [*together, pooled] if pooled else together
    took = [f"{arm} {lines[arm].seconds.mean:.1f} s" for arm in shown]
    sentences = [f"Between server and clients went: {', '.join(moved)}."] if moved else []
    return sentences + ([f"The rounds took: {', '.join(took)}."] if together else [])


def _caution(every: Arms, found: Sequence[PairedDifference]) -> list[str]:
    if max(map(len, every.values())) == 1:
        return ["All this is one seed, and nobody can say how much of it is chance: --repeats 5 shows."]
    judged = [one for one in found if one.low is not None]
    sentences = []
    if len(judged) > 1:
        every_one = "Both" if len(judged) == 2 else f"All {len(judged)}"
        sentences += [f"{every_one} intervals hold together with 95 %: each is wider for their number."]
    if any(not one.shown for one in judged):
        few = min(len(one.seeds) for one in judged)
        only = f", and {few} seeds show large ones only" if few <= FEW else ""
        sentences += [f"A difference that is not shown may be there all the same{only}."]
    return sentences


def _kind(arms: Arms, arm: str) -> str:
    return next(iter(arms[arm].values())).kind


def _model_of(arms: Arms, arm: str) -> str:
    return "its own" if _kind(arms, arm) == "local" else f"{arm}'s model"
