"""Small cases of all benchmarks, one after the other, into one file that `python -m benchmarks.compare` reads.

    python -m benchmarks.all --quick [--out FILE] [--only NAME,...] [--list]

Takes about 15 minutes on two cores that do nothing else. Each case is a process of its own with a time limit; what
fails is said and does not end the others, but makes the status 1. The file is written anew after each run, so that
Ctrl-C keeps what there is (status 130). A case that is run more than once has its turns spread over the whole time.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import case_run, machine, result_file
from benchmarks.case import Listed, quick_cases
from benchmarks.figures import UNKNOWN, figures_of
from fedkeras.atomic import check_writable
from fedkeras.errors import UserError, complain

PROGRAM = "benchmarks.all"


def main(args: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small cases; whole benchmarks take hours, a command each")
    parser.add_argument("--out", type=Path, help="the file (unset: benchmarks-DATE-TIME.json)")
    parser.add_argument("--only", default="", help="benchmarks or cases of these names, with commas")
    parser.add_argument("--list", action="store_true", help="name the cases and run none")
    flags = parser.parse_args(args)
    try:
        cases = chosen(quick_cases(), flags.only)
        if flags.list:
            for name, listed in cases.items():
                print(f"{name:<24}{listed.case.times} x {listed.case.seconds:.0f} s  {listed.case.arguments}")
            return 0
        if not flags.quick:
            raise UserError("only small cases are run together: give --quick; benchmarks/README.md has the whole ones")
        out = flags.out or Path(f"benchmarks-{datetime.now():%Y%m%d-%H%M%S}.json")
        check_writable(out)
        return measure(cases, out)
    except UserError as error:
        return complain(PROGRAM, error)


def chosen(cases: Mapping[str, Listed], only: str) -> dict[str, Listed]:
    """The cases of these names, or of the benchmarks of these names; all where none is named. Raises UserError."""
    wanted = {word.strip() for word in only.split(",") if word.strip()}
    found = {name: each for name, each in cases.items() if not wanted or {name, each.benchmark} & wanted}
    known = {*cases, *(each.benchmark for each in cases.values())}
    if unknown := sorted(wanted - known):
        raise UserError(f"--only: there is no '{unknown[0]}'; there are {', '.join(sorted(known))}")
    return found


def measure(cases: Mapping[str, Listed], out: Path) -> int:
    """Run them all and write the file; the exit status."""
    began, status, last = time.monotonic(), 0, machine.state()
    found = {
        "format": result_file.FORMAT,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "state": "interrupted",  # until it is finished
        "revision": machine.revision(),
        "machine": machine.description(),
        "versions": machine.software(),
        "cases": {
            name: {"benchmark": each.benchmark, "arguments": each.case.arguments, "runs": []}
            for name, each in cases.items()
        },
    }
    print(f"{len(cases)} cases into {out}; Python {platform.python_version()}, {found['machine']['cores']} cores")
    if (last["busy_cores"] or 0.0) > machine.BUSY_CORES:
        print(f"warning: something else uses {last['busy_cores']:.1f} cores: compare will judge no times beside it")
    try:
        for name, listed, number in turns(cases):
            runs = found["cases"][name]["runs"]
            runs.append(one_run(name, listed, number, last))
            status, last = max(status, int("fault" in runs[-1])), runs[-1].get("after", last)
            found["seconds"] = round(time.monotonic() - began, 1)
            result_file.write(out, found)
        found["state"] = "finished"
    except KeyboardInterrupt:
        print(f"\n{PROGRAM}: interrupted; {out} has what was measured until now", file=sys.stderr)
        status = 130
    found["seconds"] = round(time.monotonic() - began, 1)
    result_file.write(out, found)
    show(found, out)
    return status


def turns(cases: Mapping[str, Listed]) -> Iterator[tuple[str, Listed, int]]:
    """Each case's first run, then each second one of those that have it, and so on: name, case, number of the run."""
    for number in range(max((each.case.times for each in cases.values()), default=0)):
        for name, listed in cases.items():
            if number < listed.case.times:
                yield name, listed, number + 1


def one_run(name: str, listed: Listed, number: int, before: dict[str, object]) -> dict[str, object]:
    """Run a case once; what the file keeps of it. `before` is the machine's state just now."""
    label = name if listed.case.times == 1 else f"{name} ({number} of {listed.case.times})"
    print(f"{label:<32}", end="", flush=True)
    if fault := listed.fault:
        print(f"FAILED: {fault}", flush=True)
        return {"fault": fault}
    if reason := listed.case.missing():
        print(f"left out: {reason}", flush=True)
        return {"left_out": reason}
    record = {"started": datetime.now(UTC).isoformat(timespec="seconds"), "before": before}
    outcome = case_run.run(listed)
    record |= {"seconds": outcome.seconds, "cpu_seconds": outcome.cpu_seconds, "after": machine.state()}
    busy = [each for when in ("before", "after") if (each := record[when]["busy_cores"]) is not None]
    beside = f"  others used {max(busy):.1f} cores" if busy and max(busy) > machine.BUSY_CORES else ""
    took = f"{outcome.seconds:>7.1f} s {outcome.cpu_seconds:>7.1f} s CPU"
    print(f"{took}  {f'FAILED: {outcome.fault}' if outcome.fault else 'measured'}{beside}", flush=True)
    return {**record, "fault": outcome.fault} if outcome.fault else {**record, "figures": outcome.figures}


def show(found: result_file.File, out: Path) -> None:
    """What came of it, and one line of JSON."""
    cases = found["cases"]
    busy = [name for name, case in cases.items() if result_file.beside(case)]
    if busy:
        print(
            f"warning: something else was at work beside {len(busy)} of {len(cases)} cases; their times are not to be "
            f"trusted, and compare does not judge them"
        )
    known = [each for case in cases.values() for each in figures_of(result_file.figures(case)).values()]
    if unknown := sorted({each.name for each in known if each.kind is UNKNOWN}):
        print(
            f"warning: which way is better is not known of {', '.join(unknown)}: benchmarks/figures.py decides by name"
        )
    told = {"measured": result_file.figures, "failed": result_file.faults, "left_out": result_file.left_out}
    names = {word: [name for name, case in cases.items() if of(case)] for word, of in told.items()}
    head = {"out": str(out), "state": found["state"], "seconds": found["seconds"]}
    print(json.dumps({**head, **names, "busy": busy}))


if __name__ == "__main__":
    sys.exit(main())
