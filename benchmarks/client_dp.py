"""Accuracy against epsilon under client-level differential privacy: `python -m benchmarks.client_dp`.

The same clients, initial weights and training for each epsilon, and without privacy; cohort and noise are the system's
randomness, so that seeds differ in both. Prints a table of the central accuracy after the last round and writes a
picture of it. The last line is the same as JSON. `--dataset femnist --data-dir DIR`: FEMNIST's writers, one a client.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.case import Case
from fedkeras import client, server
from fedkeras.config import Config
from fedkeras.reports.axes import Axes, number_axis

QUICK = [Case("--epsilons 4 --rounds 5 --seeds 3 --out {folder}/client_dp.svg", 16)]
PRESETS = {
    "digits": {
        "model": "logistic_regression", "num_partitions": 100, "num_server_rounds": 30, "fraction_train": 0.5,
        "local_epochs": 5, "learning_rate": 0.1,
    },
    "femnist": {
        "model": "logistic_regression", "partitioner": "natural", "num_partitions": 207, "num_server_rounds": 100,
        "fraction_train": 0.2, "local_epochs": 1, "learning_rate": 0.03,
    },
}  # fmt: skip
STYLE = (
    "<style>svg{--ink:#1f2733;--grid:#e6e9ee;--axis:#9aa3b0;background:#fff;font-family:sans-serif}"
    "text{fill:#1f2733}</style>"
)
PLAIN, PRIVATE = "#777777", "#4477aa"


@dataclass(frozen=True)
class Outcome:
    """Central accuracies of one setting, a seed each, and its epsilon and noise (None: without privacy)."""

    epsilon: float | None
    noise: float | None
    accuracies: list[float]

    @property
    def mean(self) -> float:
        """Over seeds."""
        return statistics.mean(self.accuracies)


def outcome(settings: dict, epsilon: float | None, seeds: int, delta: float, clip: str) -> Outcome:
    """Runs of all seeds at one budget."""
    found, noise = [], None
    mods = "" if epsilon is None else f"dp:epsilon={epsilon},delta={delta},clip={clip}"
    same = {"client_weights": "uniform", "rest_after": 0, "fraction_evaluate": 0.0, "checkpoint_every": 0}
    for seed in range(seeds):
        config = Config(**settings, **same, mods=mods, seed=seed)
        with tempfile.TemporaryDirectory() as parent:
            folder = server.in_process(config, client.app, Path(parent))
            summary = json.loads(folder.summary_path.read_text())
        found.append(summary["accuracy"])
        noise = summary["privacy"]["noise"] if mods else None
    return Outcome(epsilon, noise, found)


def picture(outcomes: list[Outcome], what: str) -> str:
    """An SVG file's text: accuracy by epsilon, a dot a seed, and without privacy as a dashed line."""
    private, plain = [one for one in outcomes if one.epsilon], [one for one in outcomes if not one.epsilon]
    known = [accuracy for one in outcomes for accuracy in one.accuracies]
    axes = Axes(
        what, number_axis([one.epsilon for one in private], "epsilon", True), number_axis(known, "accuracy", True)
    )
    axes.line([(one.epsilon, one.mean) for one in private], PRIVATE)
    for one in private:
        axes.dots([(one.epsilon, accuracy) for accuracy in one.accuracies], PRIVATE)
    for one in plain:
        ends = [(0.0, one.mean), (max(each.epsilon for each in private), one.mean)]
        axes.line(ends, PLAIN, dash="4 3")
        axes.text(0.0, one.mean + 0.03, "without privacy", anchor="start", shift=4)
    return (
        str(axes.svg()).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace("\n", STYLE + "\n", 1)
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=PRESETS, default="digits")
    parser.add_argument("--data-dir", default="")
    parser.add_argument("--epsilons", default="1,2,4,8")
    parser.add_argument("--delta", type=float, default=1e-3)
    parser.add_argument("--clip", default="adaptive")
    parser.add_argument("--rounds", type=int, default=0, help="0: as the preset of the data set has it")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", default="client_dp.svg")
    flags = parser.parse_args()
    settings = {"dataset": flags.dataset, "data_dir": flags.data_dir, **PRESETS[flags.dataset]}
    settings["num_server_rounds"] = flags.rounds or settings["num_server_rounds"]
    outcomes, started = [], time.monotonic()
    clients, rounds = settings["num_partitions"], settings["num_server_rounds"]
    share = f"{settings['fraction_train']:.0%}"
    what = f"{flags.dataset}, {clients} clients, {rounds} rounds of {share}, delta {flags.delta:g}"
    print(f"{what}\n{'epsilon':>8}{'noise':>8}{'accuracy':>10}  each seed")
    for epsilon in [None, *map(float, flags.epsilons.split(","))]:
        one = outcome(settings, epsilon, flags.seeds, flags.delta, flags.clip)
        outcomes.append(one)
        shown = ("none", "-") if epsilon is None else (f"{epsilon:g}", f"{one.noise:.3g}")
        each = " ".join(f"{accuracy:.4f}" for accuracy in one.accuracies)
        print(f"{shown[0]:>8}{shown[1]:>8}{one.mean:>10.4f}  {each}", flush=True)
    Path(flags.out).write_text(picture(outcomes, f"accuracy by epsilon: {what}"))
    print(f"{flags.out}, {time.monotonic() - started:.0f} s")
    table = [{"epsilon": one.epsilon, "noise": one.noise, "accuracies": one.accuracies} for one in outcomes]
    print(json.dumps({"setting": what, "delta": flags.delta, "outcomes": table}))


if __name__ == "__main__":
    main()
