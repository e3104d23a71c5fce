"""Two files of `python -m benchmarks.all`: what changed beyond noise.

    python -m benchmarks.compare OLD.json NEW.json [--changed] [--only NAME,...]

For each figure of each case: the medians, new beside old as a ratio of the best values (the minima, where smaller is
better) and of the medians, how far the values of each lie apart, and the verdict; benchmarks/judgement.py has the rule.
Status 0: nothing is worse beyond noise, of what could be judged; 1: something is, or a case that was measured fails
now; 2: nothing could be judged. The last line is JSON.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import result_file
from benchmarks.figures import SPREAD, figures_of
from benchmarks.judgement import BETTER, CHANGED, MARGIN, SAME, UNJUDGED, WORSE, Drift, Verdict, drift, judged
from benchmarks.result_file import NOTHING, File, Measured
from fedkeras.errors import UserError, complain

PROGRAM = "benchmarks.compare"


def main(args: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--changed", action="store_true", help="only figures that changed, or could not be judged")
    parser.add_argument("--only", default="", help="cases whose names begin so, with commas")
    flags = parser.parse_args(args)
    try:
        return compare(result_file.read(flags.old), result_file.read(flags.new), flags.changed, flags.only)
    except UserError as error:
        return complain(PROGRAM, error)


class Tally:
    """What the comparison of all cases has come to: names by verdict, cases that failed, what one side lacks."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {word: [] for word in (WORSE, BETTER, CHANGED, UNJUDGED, SAME)}
        self.failed: list[str] = []
        self.missing: list[str] = []

    @property
    def judged(self) -> bool:
        """Whether there is anything that the status can rest on."""
        return bool(self.failed) or any(names for word, names in self.names.items() if word != UNJUDGED)

    def show(self) -> None:
        """The last lines."""
        counts = {word: len(names) for word, names in self.names.items() if names}
        print(f"\n{sum(counts.values())} figures: " + ", ".join(f"{count} {word}" for word, count in counts.items()))
        print(
            f"beyond noise: blocks apart, best and median by over {MARGIN:.0%}, times by more than the machine itself"
        )
        listed = {word.lower(): self.names[word] for word in (WORSE, BETTER, CHANGED)}
        rest = {"not_judged": len(self.names[UNJUDGED]), "within_noise": len(self.names[SAME])}
        print(json.dumps({**listed, "failed": self.failed, "missing": self.missing, **rest}))


def compare(old: File, new: File, changed_only: bool = False, only: str = "") -> int:
    """Print all verdicts; the exit status. Raises UserError where nothing can be judged."""
    for line in differences(old, new):
        print(line)
    print(f"{'':<46}{'old':>12}{'new':>12}   {'best':<9}{'median':<9}{'spread':>10}")
    other_machine, tally = "another machine" if old["machine"] != new["machine"] else "", Tally()
    for name in sorted({*old["cases"], *new["cases"]}):
        if name.startswith(tuple(only.split(","))):
            sides = (file["cases"].get(name, NOTHING) for file in (old, new))
            compare_case(name, *sides, other_machine, changed_only, tally)
    if not tally.judged:
        raise UserError(
            "no figure could be judged; measure the same cases twice, on one machine that does nothing else"
        )
    tally.show()
    return int(bool(tally.names[WORSE] or tally.failed))


def compare_case(name: str, old: Measured, new: Measured, obstacle: str, changed_only: bool, tally: Tally) -> None:
    """Print a case's verdicts and count them. `obstacle`: why its times cannot be judged; "" if they can."""
    if reason := incomparable(old, new):
        print(f"\n{name}: {reason}")
        (tally.failed if result_file.figures(old) and result_file.faults(new) else tally.missing).append(name)
        return
    machine_drift = drift(result_file.yardsticks(old), result_file.yardsticks(new))
    if busy := max(map(result_file.beside, (old, new))):
        obstacle = obstacle or f"others used {busy:.1f} cores beside it"
    by_itself = f"the machine itself x {machine_drift[0]:.2f} to {machine_drift[1]:.2f}"
    print(f"\n{name}: {'; '.join(filter(None, (by_itself, obstacle)))}")
    for verdict in verdicts(old, new, machine_drift, obstacle):
        if isinstance(verdict, str):
            tally.missing.append(f"{name}: {verdict}")
            print(f"  {verdict}")
        elif not (verdict.setting and verdict.word == SAME):
            tally.names[verdict.word].append(f"{name}: {verdict.name}")
            if not changed_only or verdict.word != SAME:
                print(line_of(verdict))
    if faults := result_file.faults(new):
        tally.failed.append(name)
        print(f"  a run has failed: {faults[0]}")


def differences(old: File, new: File) -> Iterator[str]:
    """Lines that say what is compared, and what else than the code is not the same."""
    for word, file in (("old", old), ("new", new)):
        revision = file["revision"]
        commit = (revision.get("commit") or "no commit known")[:10]
        edited = ", with changes" if revision.get("changed") else ""
        state = "" if file["state"] == "finished" else f", {file['state']}"
        yield f"{word}: {file['date']}, {commit}{edited}{state}"
    for part in ("machine", "versions"):
        names = sorted({*old[part], *new[part]})
        for name in names:
            if old[part].get(name) != new[part].get(name):
                yield f"{part}: {name} was {old[part].get(name)}, is {new[part].get(name)}"
    if old["machine"] != new["machine"]:
        yield "warning: another machine: times and rates are shown and not judged"


def incomparable(old: Measured, new: Measured) -> str:
    """Why a case has nothing to compare; "" if it has."""
    for word, side in (("old", old), ("new", new)):
        if not result_file.figures(side):
            runs = side["runs"]
            said = next((run.get("fault") or run.get("left_out") for run in runs), "it was not run")
            return f"not measured in the {word} file: {said}"
    if old["arguments"] != new["arguments"]:
        return f"not the same case: was `{old['arguments']}`, is `{new['arguments']}`"
    return ""


def verdicts(old: Measured, new: Measured, machine_drift: Drift, obstacle: str) -> Iterator[Verdict | str]:
    """Of all figures of a case; a line of words for one that only one side has."""
    ours, theirs = (figures_of(result_file.figures(side)) for side in (old, new))
    for name in dict.fromkeys((*ours, *theirs)):
        if name not in theirs or name not in ours:
            yield f"{name}: only in the {'old' if name in ours else 'new'} file"
        elif ours[name].kind is not SPREAD:
            yield judged(ours[name], theirs[name], machine_drift, obstacle)


def line_of(verdict: Verdict) -> str:
    """A line of the table."""
    numbers = f"{verdict.old:>12.5g}{verdict.new:>12.5g}   x {verdict.best:<7.3f}x {verdict.middle:<7.3f}"
    spreads = "/".join("-" if math.isnan(each) else f"{100 * each:.0f}" for each in verdict.spreads) + " %"
    return f"  {verdict.name:<44}{numbers}{spreads:>11}  {verdict.word}{verdict.why and f' ({verdict.why})'}"


if __name__ == "__main__":
    sys.exit(main())
