"""Models of clients' own beside one for all and beside each client alone: `python -m benchmarks.personalisation`.

One comparison of `fedkeras compare` a setting, on the same clients, seeds and initial weights, by accuracy on what each
client holds out with the model that its arm gives it. Settings: `digits`, `mnist`, `motionsense` by person, six of them
new in the arms with models of their own, and PFLlib's `pfllib-labels` and `pfllib-dirichlet` (20 clients, two labels a
client or Dirichlet 0.1; `--data-dir` with Fashion-MNIST's four files, which the reader of MNIST takes). Prints each
comparison's table and paragraph, and a line of JSON at the end.
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

ARMS = (
    "local,fedavg,fedavg+local-layers:keep=classifier,fedavg+local-layers:keep=classifier,head-epochs=1,"
    "fedavg+ditto:lambda=0.1,fedavg+fine-tuning:epochs=5"
)
NEW = (
    "local,fedavg,fedavg+local-layers:keep=classifier,new-clients=6,new-epochs=5,"
    "fedavg+ditto:lambda=0.1,new-clients=6,new-epochs=5,fedavg+fine-tuning:epochs=5,new-clients=6,new-epochs=5"
)
IMAGES = "--num-partitions 20 --batch-size 10 --learning-rate 0.005"
SETTINGS = {
    "digits": "--dataset digits --num-partitions 10 --partitioner dirichlet --alpha 0.1 --batch-size 16 "
    "--learning-rate 0.05 --num-server-rounds 20",
    "mnist": f"--dataset mnist {IMAGES} --partitioner dirichlet --alpha 0.1 --model mlp --num-server-rounds 20",
    "motionsense": "--dataset motionsense --num-partitions 18 --partitioner natural --test-split subject "
    "--test-fraction 0.34 --batch-size 64 --optimizer adam --learning-rate 0.001 --num-server-rounds 15",
    "pfllib-labels": f"--dataset mnist {IMAGES} --partitioner shards --model mnist_cnn --num-server-rounds 200",
    "pfllib-dirichlet": f"--dataset mnist {IMAGES} --partitioner dirichlet --alpha 0.1 --model mnist_cnn "
    "--num-server-rounds 200",
}
PUBLISHED = {
    "pfllib-labels": {"fedavg": 80.41, "FedPer": 99.47, "FedRep": 99.56, "Ditto": 99.44},
    "pfllib-dirichlet": {"fedavg": 85.85, "FedPer": 97.44, "FedRep": 97.56, "Ditto": 97.47},
}
"""PFLlib's on Fashion-MNIST, in per cent, by its best round (Zhang et al., arXiv:2312.04992); ours is the last one."""


def compared(setting: str, arms: str, seeds: int, rounds: int, data_dir: str, out: Path) -> dict[str, list[float]]:
    """{arm: accuracy on clients' held-out examples, by seed}."""
    words = [*SETTINGS[setting].split(), "--arms", arms, "--repeats", str(seeds), "--out", str(out / setting)]
    words += ["--data-dir", data_dir] if data_dir and setting != "digits" else []
    words += ["--num-server-rounds", str(rounds)] if rounds else []
    subprocess.run([sys.executable, "-m", "fedkeras", "compare", *words], check=True)
    found: dict[str, list[float]] = {}
    with (out / setting / "table.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["arm"], []).append(float(row["own_accuracy"]))
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", default="digits", help=f"comma-separated: {', '.join(SETTINGS)}")
    parser.add_argument("--arms", default="", help="as compare takes them")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=0, help="0: the setting's")
    parser.add_argument("--data-dir", default="", help="of the settings but digits")
    parser.add_argument("--out", default="runs/personalisation")
    flags = parser.parse_args()
    table = {}
    for setting in flags.settings.split(","):
        arms = flags.arms or (NEW if setting == "motionsense" else ARMS)
        table[setting] = compared(setting, arms, flags.seeds, flags.rounds, flags.data_dir, Path(flags.out))
        if setting in PUBLISHED:
            print(f"published (PFLlib, best round, per cent): {PUBLISHED[setting]}", flush=True)
    print(json.dumps({"own_accuracy": table}))


if __name__ == "__main__":
    main()
