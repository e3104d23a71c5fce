"""The table of faults survived: fault, tries, survived, seconds to recover.

    python -m benchmarks.faults [--tries 3] [--only WORD]

Each try is a run of its own: the real server.py and three clients that learn by arithmetic, so that it takes seconds.
Survived: the run finished with the weights of an undisturbed run, bit for bit, or it ended as it is documented to (a
client that may not join: status 2 and one line). Seconds to recover are from the fault to the end of the next whole
round, or to the refusal. Pings are sent every 2 s here, every 10 s otherwise: a half-open connection takes five times
as long. The last line is JSON.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import time
from pathlib import Path

from benchmarks.case import Case

QUICK = [Case("--tries 3 --only 'connection cut in'", 32)]

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "runtime"))


def main() -> None:
    """Play the faults and print the table."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else the processes of a try would stay behind
    os.environ["TOY_KEEPALIVE"] = "2"
    from faults import FAULTS, play

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--only", default="", help="faults with this in their name")
    flags = parser.parse_args()
    started, table = time.monotonic(), []
    print(f"{'fault':<56}{'tries':>7}{'survived':>10}{'seconds':>9}")
    for name, scenario in FAULTS.items():
        if flags.only not in name:
            continue
        verdicts = [attempt(play, scenario) for _ in range(flags.tries)]
        survived = sum(verdict[0] for verdict in verdicts)
        seconds = statistics.median(verdict[1] for verdict in verdicts)
        table.append({"fault": name, "tries": len(verdicts), "survived": survived, "seconds": round(seconds, 2)})
        print(f"{name:<56}{len(verdicts):>7}{survived:>10}{seconds:>9.2f}", flush=True)
        for note in sorted({verdict[2] for verdict in verdicts if verdict[2]}):
            print(f"    {note}", flush=True)
    print(f"{time.monotonic() - started:.0f} s in all")
    print(json.dumps(table))


def attempt(play: object, scenario: object) -> tuple[bool, float, str]:
    """One try; a run that hangs or dies is one that did not survive."""
    started = time.monotonic()
    try:
        verdict = play(scenario)
    except AssertionError as error:
        return False, time.monotonic() - started, " ".join(str(error).split())[:600]
    return verdict.survived, verdict.seconds, verdict.note


if __name__ == "__main__":
    main()
