"""Steps a second of 1, 2, 4 and 8 clients that share one GPU, beside a bare loop on it; and whether memory stays flat.

    python -m benchmarks.gpu [--clients 1,2,4,8] [--blocks 5] [--block-rounds 10]

Every variant is `server.py --spawn K --gpus-per-client 1/K` on one device, in turns with the bare loop of one process
that trains the same clients one after the other (gate.py). The device's memory is read after the warm rounds and after
the last, 50 rounds later as it stands. Without a GPU, `--cpu` runs all of it on the processor, as a rehearsal: its
figures say nothing of a GPU. Prints a table and a line of JSON.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.blocks import BLOCKS, grouped, ratios
from benchmarks.case import Case
from benchmarks.gate import GateKeeper
from benchmarks.simulation import ROOT, Variant, run_block
from benchmarks.workloads import G_EXAMPLES, WORK
from fedkeras.commands.simulate import changed
from fedkeras.gpus import VISIBLE, visible_gpus

QUICK = [Case("--clients 1,2 --blocks 3 --block-rounds 2", 60, programs=("nvidia-smi",))]
WARM_ROUNDS = 3


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", default="1,2,4,8")
    parser.add_argument("--blocks", type=int, default=BLOCKS)
    parser.add_argument("--block-rounds", type=int, default=10)
    parser.add_argument("--cpu", action="store_true")
    flags = parser.parse_args()
    gpus = () if flags.cpu else visible_gpus()
    if not (gpus or flags.cpu):
        sys.exit("there is no GPU here (nvidia-smi lists none); --cpu rehearses on the processor")
    counts = [int(word) for word in flags.clients.split(",")]
    figures = measure(counts, flags.blocks, flags.block_rounds, gpus[0] if gpus else "")
    print(json.dumps(figures))


def measure(counts: list[int], blocks: int, block: int, gpu: str) -> dict[str, dict]:
    """All variants in turns on one device ("": the processor); print the table and return its figures."""
    names = [name for count in counts for name in (f"bare-{count}", f"spawn-{count}")]
    figures: dict[str, dict] = {}
    with tempfile.TemporaryDirectory(prefix="fedkeras-bench-") as folder, contextlib.ExitStack() as stack:
        variants = {}
        for name in names:
            variants[name] = stack.enter_context(start(name, blocks * block, Path(folder), gpu, block))
            run_block(variants[name], WARM_ROUNDS)
        before = device_megabytes(gpu)
        for _ in range(blocks):
            for variant in variants.values():
                run_block(variant, block)
        after = device_megabytes(gpu)
        for name, variant in variants.items():
            count, seconds = int(name.partition("-")[2]), variant.keeper.seconds(WARM_ROUNDS + 1)
            steps = count * -(-G_EXAMPLES // WORK[f"G{count}"].batch_size)
            figures[name] = {
                "steps_a_second": round(steps / statistics.median(seconds), 1),
                "seconds": round(statistics.median(seconds), 4),
                "blocks": {"seconds": [round(value, 4) for value in grouped(seconds, blocks)]},
            }
    print(f"{'clients':>8}{'bare loop':>12}{'--spawn':>10}   steps a second, {'one GPU' if gpu else 'processor'}")
    for count in counts:
        bare, spawned = figures[f"bare-{count}"], figures[f"spawn-{count}"]
        gains = ratios(bare["blocks"]["seconds"], spawned["blocks"]["seconds"])
        spawned["blocks"]["bare_loop_gain"] = [round(value, 3) for value in gains]
        print(f"{count:>8}{bare['steps_a_second']:>12}{spawned['steps_a_second']:>10}")
    memory = {"before_mb": before, "after_mb": after}
    print(f"memory of the device, all variants together: {before} MB, {blocks * block} rounds later {after} MB")
    return {**figures, "device": memory}


@contextlib.contextmanager
def start(name: str, rounds: int, folder: Path, gpu: str, block: int) -> Iterator[Variant]:
    """Start a variant on the device; it ends when its rounds are over, or is ended here."""
    kind, _, count = name.partition("-")
    gate = folder / name
    keeper = GateKeeper(gate)
    words = _spawned(int(count), gate, rounds, folder, gpu) if kind == "spawn" else _bare(count, gate)
    environment = {**os.environ, VISIBLE: gpu, "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *map(str, words)], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=environment
        )
    try:
        yield Variant(name, keeper, process, block, WARM_ROUNDS)
    finally:
        if kind == "bare":
            process.kill()  # it would go on for as many rounds as the work has
        keeper.open(10**6)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def _bare(count: str, gate: Path) -> list[object]:
    return ["-m", "benchmarks.bare_loop", f"G{count}", gate, 1, 1]


def _spawned(count: int, gate: Path, rounds: int, folder: Path, gpu: str) -> list[object]:
    own = {**changed(WORK[f"G{count}"]), "strategy": "benchmarks.gate:Gated", "strategy-args": f"gate={gate}"}
    own |= {"num-server-rounds": WARM_ROUNDS + rounds + 1, "spawn": count, "port": 0, "run-dir": folder / "runs"}
    own |= {"gpus-per-client": 1 / count} if gpu else {}
    words: list[object] = ["server.py"]
    for key, value in own.items():
        words += [f"--{key}" if value else f"--no-{key}"] if isinstance(value, bool) else [f"--{key}", value]
    return words


def device_megabytes(gpu: str) -> int:
    """Memory of the device in use, by all processes; 0 for the processor."""
    if not gpu:
        return 0
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", f"--id={gpu}"]
    return int(subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0])


if __name__ == "__main__":
    main()
