"""Federated averaging and FedProx on skewed labels, beside the figures of Flower's baseline niid_bench.

    python -m benchmarks.niid_bench [--rounds 50] [--local-epochs 10] [--settings iid,dirichlet,labels]
                                    [--strategies fedavg,fedprox] [--out DIR]

MNIST, 10 clients, all in every round, LeNet, batch 64, SGD 0.01 with momentum 0.9, seed 42. The settings are those of
Q. Li, Y. Diao, Q. Chen, B. He, "Federated Learning on Non-IID Data Silos: An Experimental Study", ICDE 2022,
arXiv:2102.02079: equal parts; each label divided by Dirichlet(0.5); two labels a client, the first by its number and
the other drawn, each label divided evenly among its clients (`--partitioner shards` here). Clients hold nothing out.

What differs from the baseline: its first convolution is without padding (44,426 weights, ours has 61,706); it has a
weight decay of 1e-5, ours none; its Dirichlet parts are evened out in size. Draws are others, of course.

Each setting is one `python -m fedkeras compare` in a folder of its own below --out: started again, it goes on. The
seconds are the rounds' (see docs/comparing.md). Prints a table, and a line of JSON.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.workloads import DATA

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {
    "iid": ["--partitioner=iid"],
    "dirichlet": ["--partitioner=dirichlet", "--alpha=0.5"],
    "labels": ["--partitioner=shards", "--labels-per-client=2"],
}
PUBLISHED = {
    "fedavg": {"iid": 99.09, "dirichlet": 98.89, "labels": 96.86},
    "fedprox": {"iid": 99.16, "dirichlet": 99.02, "labels": 96.85},
}
"""Accuracy in percent on the 10,000 test images after 50 rounds of 10 epochs."""
FIXED = [
    "--dataset=mnist", "--model=lenet", "--num-partitions=10", "--batch-size=64", "--learning-rate=0.01",
    "--optimizer-args=momentum=0.9", "--proximal-mu=0.01", "--test-fraction=0", "--seed=42",
]  # fmt: skip


def main() -> None:
    """Run what is asked for, and print ours beside theirs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--local-epochs", type=int, default=10)
    parser.add_argument("--settings", default=",".join(SETTINGS))
    parser.add_argument("--strategies", default=",".join(PUBLISHED))
    parser.add_argument("--processes", type=int, default=0, help="that train at once; 0: one a core")
    parser.add_argument("--out", type=Path, help="folder of the results; unset: runs/niid_bench-ROUNDSxEPOCHS")
    options = parser.parse_args()
    options.settings, options.strategies = options.settings.split(","), options.strategies.split(",")
    for name, known in (("settings", SETTINGS), ("strategies", PUBLISHED)):
        if not set(getattr(options, name)) <= known.keys():
            parser.error(f"--{name}: there are {', '.join(known)}")
    out = options.out or ROOT / "runs" / f"niid_bench-{options.rounds}x{options.local_epochs}"
    rows = []
    for setting in options.settings:
        figures = measured(setting, options, out / setting)
        rows += [
            {
                "setting": setting,
                "strategy": strategy,
                "ours": 100 * figures[strategy]["accuracy"]["mean"],
                "theirs": PUBLISHED[strategy][setting],
                "seconds": figures[strategy]["seconds"]["mean"],
                "round_seconds": figures[strategy]["seconds"]["mean"] / options.rounds,
            }
            for strategy in options.strategies
        ]
    print(f"\n{'setting':<12}{'strategy':<10}{'ours':>8}{'theirs':>8}{'seconds':>10}{'a round':>9}")
    for row in rows:
        print(
            "{setting:<12}{strategy:<10}{ours:>8.2f}{theirs:>8.2f}{seconds:>10.1f}{round_seconds:>9.1f}".format(**row)
        )
    if (options.rounds, options.local_epochs) != (50, 10):
        print("theirs are after 50 rounds of 10 epochs")
    print(json.dumps({"rows": rows, "rounds": options.rounds, "local_epochs": options.local_epochs}))


def measured(setting: str, options: argparse.Namespace, folder: Path) -> dict:
    """{strategy: its line of summary.json}; what is finished in the folder is not run again."""
    flags = [
        *FIXED,
        *SETTINGS[setting],
        f"--data-dir={DATA / 'mnist'}",
        f"--num-server-rounds={options.rounds}",
        f"--local-epochs={options.local_epochs}",
        f"--processes={options.processes}",
        f"--arms={','.join(_with_earlier(options.strategies, folder))}",
        f"--out={folder}",
    ]
    done = subprocess.run([sys.executable, "-m", "fedkeras", "compare", *flags], cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return {line["arm"]: line for line in json.loads((folder / "summary.json").read_text())["arms"]}


def _with_earlier(strategies: list[str], folder: Path) -> list[str]:
    """A comparison's arms can be added to, not taken away."""
    path = folder / "compare.json"
    earlier = json.loads(path.read_text())["arms"].split(",") if path.exists() else []
    return [*earlier, *(name for name in strategies if name not in earlier)]


if __name__ == "__main__":
    main()
