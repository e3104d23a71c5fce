"""Seconds a simulated round, beside a bare loop without Flower: all variants in turn, within the same minutes.

    python -m benchmarks.simulation [--work AB] [--blocks 5] [--variants one,two,local,spawn,flwr,quickstart]

Every variant runs in processes of its own and is held at a gate (gate.py) but when it is its turn: a block of some
rounds, then the next variant's, `--blocks` times over. A timed round holds no evaluation and no checkpoint; ink is 1
in all. Prints medians and the least, peak memory (the sum over a variant's processes of each one's peak) and a line of
JSON, with each block's median and its ratio to the bare loops' in the same block.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.blocks import BLOCKS, grouped, ratios
from benchmarks.case import Case
from benchmarks.gate import GateKeeper
from benchmarks.workloads import WORK
from fedkeras.commands.simulate import changed, superlink

ROOT = Path(__file__).resolve().parents[1]
QUICK = [
    Case("--work B --blocks 5 --variants one,two,local,spawn,flwr", 110, "b", data=("mnist",)),
    Case("--work A --blocks 5 --variants two,spawn", 50, "a", data=("femnist/leaf",)),
]
NAMES = {
    "one": "bare loop, one process, two threads",
    "two": "bare loop, two processes, one thread each",
    "local": "fedkeras in-process, two threads",
    "spawn": "fedkeras over gRPC, --spawn 2",
    "flwr": "fedkeras under flwr run, two workers",
    "quickstart": "Flower's quickstart pattern under flwr run",
}
WARM_ROUNDS = {"A": 3, "B": 5}
BLOCK_ROUNDS = {"A": 3, "B": 15}
SLOW_BLOCK_ROUNDS = 1
START_SECONDS = 300.0


@dataclass
class Variant:
    """A running variant."""

    name: str
    keeper: GateKeeper
    process: subprocess.Popen
    block: int
    warm: int


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="AB", choices=["A", "B", "AB"])
    parser.add_argument("--blocks", type=int, default=BLOCKS)
    parser.add_argument("--variants", default=",".join(NAMES))
    flags = parser.parse_args()
    results = {work: measure(work, flags.variants.split(","), flags.blocks) for work in flags.work}
    print(json.dumps(results))


def measure(work: str, names: list[str], blocks: int) -> dict:
    """Run all variants of one piece of work; print the table and return its figures."""
    with tempfile.TemporaryDirectory(prefix="fedkeras-bench-") as folder, contextlib.ExitStack() as stack:
        variants = []
        for name in names:  # one after the other: they would only slow each other down
            variants.append(stack.enter_context(start(name, work, blocks, Path(folder))))
            run_block(variants[-1], variants[-1].warm)
        for _ in range(blocks):
            for variant in variants:
                run_block(variant, variant.block)
        figures = {}
        for variant in variants:
            seconds = variant.keeper.seconds(variant.warm + 1)
            figures[variant.name] = {
                "seconds": round(statistics.median(seconds), 4),
                "min": round(min(seconds), 4),
                "max": round(max(seconds), 4),
                "rounds": len(seconds),
                "peak_mb": peak_megabytes(variant.process.pid),
                "blocks": {"seconds": [round(value, 4) for value in grouped(seconds, blocks)]},
            }
        compare_with_bare_loops(figures)
    show(work, figures)
    return figures


def compare_with_bare_loops(figures: dict) -> None:
    """Beside each variant's blocks, their ratios to those of each bare loop that was measured."""
    for base in {"one", "two"} & figures.keys():
        for name, row in figures.items():
            if name != base:
                blocks = (figures[each]["blocks"]["seconds"] for each in (name, base))
                row["blocks"][f"times_{base}"] = [round(value, 3) for value in ratios(*blocks)]


@contextlib.contextmanager
def start(name: str, work: str, blocks: int, folder: Path) -> Iterator[Variant]:
    """Start a variant; it ends when its rounds are over, or is ended here."""
    block = SLOW_BLOCK_ROUNDS if name == "quickstart" else BLOCK_ROUNDS[work]
    warm = 2 if name == "quickstart" else WARM_ROUNDS[work]
    gate = folder / f"{work}-{name}"
    keeper = GateKeeper(gate)
    rounds = warm + block * blocks + 1  # the run stands at the gate of one more
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((folder / f"{work}-{name}.log").open("w"))
        environment = stack.enter_context(superlink(folder / f"{work}-{name}-home")) if name in FLOWER else None
        command = COMMANDS[name](work, gate, rounds, folder)
        process = subprocess.Popen(
            [str(part) for part in command], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=environment
        )
        holder = environment["FEDKERAS_SUPERLINK"] if environment else None
        variant = Variant(name, keeper, process if holder is None else _Other(int(holder), process), block, warm)
        try:
            yield variant
        finally:
            keeper.open(10**6)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


class _Other:
    """The process whose tree is measured, where that is not the one that was started."""

    def __init__(self, pid: int, started: subprocess.Popen) -> None:
        self.pid, self._started = pid, started

    def poll(self) -> int | None:
        """Exit status of the started process."""
        return self._started.poll()


def run_block(variant: Variant, rounds: int) -> None:
    """Let a variant go on for `rounds` rounds and wait until it stands at the gate again."""
    variant.keeper.open(rounds)
    deadline = time.monotonic() + START_SECONDS
    while not variant.keeper.has_arrived():
        if variant.process.poll() not in (None, 0) or time.monotonic() > deadline:
            sys.exit(f"{variant.name} did not finish its rounds; its log is lost with the temporary folder")
        time.sleep(0.05)
    time.sleep(0.2)  # let the processor come to rest before the next variant's turn


def _spawn(work: str, gate: Path, rounds: int, folder: Path) -> list:
    own = {**_gated(work, gate, rounds), "spawn": 2, "port": 0, "run-dir": str(folder / "runs")}
    flags = [part for key, value in own.items() for part in _flag(key, value)]
    return [sys.executable, "server.py", *flags]


def _flag(key: str, value: object) -> list[str]:
    if isinstance(value, bool):
        return [f"--{key}" if value else f"--no-{key}"]
    return [f"--{key}", str(value)]


def _flwr(work: str, gate: Path, rounds: int, folder: Path) -> list:
    own = {**_gated(work, gate, rounds), "run-dir": str(folder / "runs")}
    return _flwr_run(ROOT, own, WORK[work].num_partitions, folder / f"{work}-flwr.toml")


def _quickstart(work: str, gate: Path, rounds: int, folder: Path) -> list:
    own = {"work": work, "gate": str(gate), "rounds": rounds}
    return _flwr_run(
        ROOT / "benchmarks" / "quickstart", own, WORK[work].num_partitions, folder / f"{work}-quickstart.toml"
    )


def _flwr_run(app: Path, run_config: dict, nodes: int, toml: Path) -> list:
    toml.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in run_config.items()))
    federation = f"num-supernodes={nodes} client-resources-num-cpus=1"
    flwr = Path(sys.executable).parent / "flwr"
    return [flwr, "run", app, "--stream", "--run-config", toml, "--federation-config", federation]


def _gated(work: str, gate: Path, rounds: int) -> dict:
    own = {"strategy": "benchmarks.gate:Gated", "strategy-args": f"gate={gate}", "num-server-rounds": rounds}
    return {**changed(WORK[work]), **own}


COMMANDS = {
    "one": lambda work, gate, *_: [sys.executable, "-m", "benchmarks.bare_loop", work, gate, 1, 2],
    "two": lambda work, gate, *_: [sys.executable, "-m", "benchmarks.bare_loop", work, gate, 2, 1],
    "local": lambda work, gate, *_: [sys.executable, "-m", "benchmarks.in_process", work, gate, 2],
    "spawn": _spawn,
    "flwr": _flwr,
    "quickstart": _quickstart,
}
FLOWER = ("flwr", "quickstart")


def peak_megabytes(pid: int) -> int:
    """Sum of the peak resident memory of a process and all below it, in MB (Linux; 0 elsewhere)."""
    parents, peaks = {}, {}
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
            parents[int(fields["Pid"])] = int(fields["PPid"])
            peaks[int(fields["Pid"])] = int(fields.get("VmHWM", "0 kB").split()[0])
    tree, added = {pid}, True
    while added:
        added = {child for child, parent in parents.items() if parent in tree} - tree
        tree |= added
    return round(sum(peaks.get(member, 0) for member in tree) / 1024)


def show(work: str, figures: dict) -> None:
    """Print one table."""
    print(f"\nWork {work}: seconds a round")
    print(f"{'variant':<46}{'median':>9}{'min':>9}{'max':>9}{'rounds':>8}{'peak MB':>9}{'x one':>7}{'x two':>7}")
    for name, row in figures.items():
        ratios = [
            f"{row['seconds'] / figures[base]['seconds']:7.2f}" if base in figures else f"{'':7}"
            for base in ("one", "two")
        ]
        numbers = f"{row['seconds']:9.3f}{row['min']:9.3f}{row['max']:9.3f}{row['rounds']:8}{row['peak_mb']:9}"
        print(f"{NAMES[name]:<46}{numbers}{''.join(ratios)}", flush=True)


if __name__ == "__main__":
    main()
