"""Run a reference, or what is left of it, and print ours beside theirs.

    python -m benchmarks.references NAME [--quick] [--rounds N] [--seeds 42,43] [--settings a,b] [--out DIR] [--show]

NAME is mcmahan, niid-bench, fedprox-synthetic, femnist, yin or flanders. Every run is a run folder below --out; started
again, the command does what is left. Prints a table, which claims of the paper hold, and ends with one line of JSON,
which is also OUT/table.json; OUT/rounds.csv has every round's figures. Data are looked for in FEDKERAS_DATA.
"""

import argparse
import importlib
import sys
from pathlib import Path

from benchmarks.references import driver, table
from benchmarks.references.experiment import Curve, Reference, Setting
from fedkeras.atomic import replace_file
from fedkeras.errors import UserError, complain

NAMES = ("mcmahan", "niid-bench", "fedprox-synthetic", "femnist", "yin", "flanders")
ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "benchmarks.references"


def main(args: list[str] | None = None) -> int:
    """The command. Returns the exit status."""
    options = _parsed(args)
    out = options.out or ROOT / "runs" / "references" / options.name
    try:
        reference = load(options.name)
        if reference.data is not None and not reference.data.is_dir():
            print(f"{options.name} is skipped: there is no {reference.data}; set FEDKERAS_DATA to the folder above it")
            return 0
        seeds, settings = _seeds(options, reference), _settings(options, reference)
        work(options.name, reference, settings, seeds, options, out)
    except UserError as error:
        return complain(PROGRAM, error)
    except KeyboardInterrupt:
        print(f"\n{PROGRAM}: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    return 0


def work(
    name: str, reference: Reference, settings: list[Setting], seeds: list[int], options: argparse.Namespace, out: Path
) -> None:
    """Do all runs, one seed of every setting before the next seed, and print."""
    say = (lambda text: None) if options.show else (lambda text: print(text, flush=True))
    say(f"{reference.title}\npublished: {reference.source}\na full run takes {reference.minutes}; into {out}")
    curves: dict[str, list[Curve]] = {setting.name: [] for setting in settings}
    for seed in seeds:
        for setting in settings:
            rounds = _rounds(options, reference, setting)
            if options.show:
                found = driver.read(setting, seed, rounds, out)
            else:
                with driver.timed(say, f"{setting.name}, seed {seed}, {rounds} rounds"):
                    found = driver.run(setting, seed, rounds, out, options.threads)
            if found is not None:
                curves[setting.name].append(found)
                _keep_rounds(reference, out)
    done = {key: value for key, value in curves.items() if value}
    if not done:
        raise UserError(f"there is nothing to show in {out}; run it without --show")
    rows = [
        table.row(reference, setting, done[setting.name], _rounds(options, reference, setting))
        for setting in settings
        if setting.name in done
    ]
    conclusions = reference.conclusions(done)
    line = table.as_json(name, rows, conclusions)
    replace_file(out / "table.json", f"{line}\n".encode())
    print("\n" + table.as_text(rows))
    for sentence in [*reference.differs, *conclusions]:
        print(f"- {sentence}")
    print(line)


def load(name: str) -> Reference:
    """The reference of this name."""
    return importlib.import_module(f"benchmarks.references.{name.replace('-', '_')}").reference()


def _parsed(args: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--quick", action="store_true", help="one seed, a few rounds, some settings: does it run?")
    parser.add_argument("--rounds", type=int, default=0, help="fewer, or more, than the full run's")
    parser.add_argument("--seeds", default="", help="such as 42,43,44")
    parser.add_argument("--settings", default="", help="some of them, with commas")
    parser.add_argument("--threads", type=int, default=1, help="of TensorFlow")
    parser.add_argument("--out", type=Path, help="folder of the runs; unset: runs/references/NAME")
    parser.add_argument(
        "--show", action="store_true", help="run nothing: the table of what is there, unfinished or not"
    )
    options = parser.parse_args(args)
    if options.rounds < 0 or options.threads < 1:
        parser.error("--rounds and --threads are whole numbers above 0")
    return options


def _rounds(options: argparse.Namespace, reference: Reference, setting: Setting) -> int:
    return options.rounds or (reference.quick_rounds if options.quick else setting.rounds)


def _seeds(options: argparse.Namespace, reference: Reference) -> list[int]:
    if not options.seeds:
        return list(reference.seeds[:1] if options.quick else reference.seeds)
    try:
        return [int(word) for word in options.seeds.split(",")]
    except ValueError:
        raise UserError(f"--seeds is '{options.seeds}'; give whole numbers with commas, such as 42,43") from None


def _settings(options: argparse.Namespace, reference: Reference) -> list[Setting]:
    known = {setting.name: setting for setting in reference.settings}
    wanted = options.settings.split(",") if options.settings else []
    if unknown := [name for name in wanted if name not in known]:
        raise UserError(f"--settings: there is no '{unknown[0]}'; there are {', '.join(known)}")
    if wanted:
        return [known[name] for name in wanted]
    chosen = reference.quick_settings if options.quick else ()
    return [known[name] for name in chosen] if chosen else list(reference.settings)


def _keep_rounds(reference: Reference, out: Path) -> None:
    """Every round of all that lies in the folder, whatever was asked for this time."""
    lines = [",".join(driver.COLUMNS)]
    for setting in reference.settings:
        for seed in driver.seeds_of(setting, out):
            if (found := driver.read(setting, seed, sys.maxsize, out)) is not None:
                lines += driver.points_as_csv(setting.name, found)
    replace_file(out / "rounds.csv", ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())
