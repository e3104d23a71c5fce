"""The table of attacks: what it cost the attacked, and whether it held.

    python -m benchmarks.attacks [WORD ...] [--list] [--keep FOLDER]

Each attack is a real process against a real server or client on this machine, over 127.0.0.1 alone, bounded in count
and time. Words choose the attacks with one of them in their kind or name. Held: the attacked did what its documents
promise. Fell: it did not, or the attack's own course could not be played. The exit status is 1 if one fell; the last
line is JSON with the counts `held` and `fell`.
"""

import argparse
import contextlib
import importlib
import json
import os
import pkgutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "runtime"))

import benchmarks.attacks
from benchmarks.attacks.outcome import Outcome


def main() -> int:
    """Play the attacks and print the table."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else the processes of an attack would stay behind
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="only attacks with one of these in their kind or name")
    parser.add_argument("--list", action="store_true", help="name the attacks and play none")
    parser.add_argument("--keep", type=Path, help="a folder for what each attack leaves behind (unset: deleted)")
    flags = parser.parse_args()
    chosen = {
        (kind, name): attack
        for kind, name, attack in attacks()
        if not flags.words or any(word in f"{kind} {name}" for word in flags.words)
    }
    if not chosen:
        parser.error(f"no attack has {' or '.join(flags.words)} in its name: --list names them")
    table, began = [], time.monotonic()
    print(f"{'attack':<72}{'':<6}{'seconds':>8}  cost")
    for number, ((kind, name), attack) in enumerate(chosen.items()):
        label = f"{kind}: {name}"
        if flags.list:
            print(label)
            continue
        started = time.monotonic()
        with folder_for(flags.keep, number, kind) as folder:
            outcome = attempt(attack, folder)
        seconds = time.monotonic() - started
        verdict = "held" if outcome.held else "FELL"
        print(f"{label:<72}{verdict:<6}{seconds:>8.1f}  {outcome.cost}", flush=True)
        table.append({"attack": label, "held": outcome.held, "seconds": round(seconds, 1), "cost": outcome.cost})
    if flags.list:
        return 0
    held = sum(row["held"] for row in table)
    fell = len(table) - held
    print(f"{held} held, {fell} fell; {time.monotonic() - began:.0f} s in all")
    print(json.dumps({"held": held, "fell": fell, "attacks": table}))
    return 1 if fell else 0


def attacks() -> Iterator[tuple[str, str, Callable[[Path], Outcome]]]:
    """Kind, name and function of each attack, in the order of the modules' names."""
    for found in pkgutil.iter_modules(benchmarks.attacks.__path__):
        if found.name != "__main__":
            module = importlib.import_module(f"benchmarks.attacks.{found.name}")
            for name, attack in getattr(module, "ATTACKS", {}).items():
                yield found.name, name, attack


@contextlib.contextmanager
def folder_for(keep: Path | None, number: int, kind: str) -> Iterator[Path]:
    """A fresh folder for one attack."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix=f"attack-{kind}-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    else:
        folder = keep.absolute() / f"{number:02d}-{kind}"
        folder.mkdir(parents=True)
        yield folder


def attempt(attack: Callable[[Path], Outcome], folder: Path) -> Outcome:
    """One attack; one that cannot be played to its end has not been held."""
    try:
        return attack(folder)
    except (AssertionError, OSError, ValueError) as error:
        return Outcome(False, f"{type(error).__name__}: " + " ".join(str(error).split())[:400])


if __name__ == "__main__":
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    sys.exit(main())
