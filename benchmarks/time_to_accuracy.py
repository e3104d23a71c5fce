"""Simulated seconds until an accuracy, by how rounds treat slow clients: `python -m benchmarks.time_to_accuracy`.

Clients of lognormal speed train in this process, a quarter of them in a round, on the same data from the same weights.
The ways: wait for the slowest of the cohort; ask 1.3 times as many and send the slowest home; a deadline, at which who
is slow sends what it has, or is left out; both; and FedBuff with as many clients at work as a cohort has. The deadline
is a multiple (`--deadline`) of what the median training takes without one. Prints as means over seeds: simulated
seconds until the central accuracy is at the target for the first time, how many times fewer than waiting takes, the
accuracy when waiting is at the target, the accuracy at the end, and clients whose work never counted. `--dataset
femnist --data-dir DIR --partitioner natural`: FEMNIST's writers, one a client. The last line is the same as JSON.
"""

import argparse
import contextlib
import io
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from fedkeras.config import Config, Value
from fedkeras.reports import read_rows
from fedkeras.reports.simulated_time import elapsed

WAITING = "waits for all"


@dataclass(frozen=True)
class Curve:
    """A run: (simulated seconds, central accuracy) by round, and of its clients how many never counted."""

    points: Sequence[tuple[float, float]]
    unheard: int
    median_training: float
    """Simulated seconds of the median of all trainings that counted."""

    def until(self, target: float) -> float | None:
        """Seconds until the accuracy; None: it was not reached."""
        return next((seconds for seconds, accuracy in self.points if accuracy >= target), None)

    def at(self, seconds: float) -> float:
        """The newest model's accuracy then; 0 before the first."""
        return next((accuracy for end, accuracy in reversed(self.points) if end <= seconds), 0.0)


def curve(config: Config) -> Curve:
    """The run of this configuration, in this process."""
    from fedkeras import client, server

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        rows = read_rows(server.in_process(config, client.app, Path(folder)).history_path)
    at = elapsed(rows)
    tested = {row["round"]: row["accuracy"] for row in rows if (row["phase"], row["client"]) == ("evaluate", "server")}
    trained = [row for row in rows if row["phase"] == "train" and row["client"] != "all"]
    unheard = config.num_partitions - len({row["client"] for row in trained})
    points = [(at[number], float(tested[number])) for number in sorted(at)]
    return Curve(points, unheard, median(float(row["simulated_seconds"]) for row in trained))


def ways(cohort: int, rounds: int, fraction: float, deadline: float) -> dict[str, Mapping[str, Value]]:
    """What differs from waiting, by name. FedBuff's versions are of half a cohort, and there are twice as many."""
    in_rounds = {"num_server_rounds": rounds, "fraction_train": fraction}
    over, ends = {**in_rounds, "over_select": 1.3}, {"round_deadline": deadline}
    buffer = max(1, cohort // 2)
    return {
        WAITING: in_rounds,
        "asks 1.3 x": over,
        "deadline, partial": {**in_rounds, **ends},
        "deadline, drop": {**in_rounds, **ends, "late": "drop"},
        "1.3 x, partial": {**over, **ends},
        f"fedbuff, K = {buffer}": {
            "mode": "fedbuff", "num_server_rounds": rounds * cohort // buffer, "buffer_size": buffer,
            "concurrency": cohort,
        },
    }  # fmt: skip


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-dir", default="")
    parser.add_argument("--model", default="")
    parser.add_argument("--partitioner", default="iid")
    parser.add_argument("--clients", type=int, default=40)
    parser.add_argument("--fraction", type=float, default=0.25, help="share of the clients in a cohort")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--slow", default="lognormal:sigma=1.0")
    parser.add_argument("--deadline", type=float, default=1.0, help="times the median training")
    parser.add_argument("--target", type=float, default=0.9, help="central accuracy")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    flags = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    cohort = max(1, round(flags.fraction * flags.clients))
    curves: dict[str, list[Curve]] = {}
    for seed in range(1, flags.seeds + 1):
        same = {
            "dataset": flags.dataset, "data_dir": flags.data_dir, "model": flags.model,
            "partitioner": flags.partitioner, "num_partitions": flags.clients, "local_epochs": flags.epochs,
            "learning_rate": flags.learning_rate, "seed": seed, "clients": f"slow={flags.slow}",
            "fraction_evaluate": 0.0, "checkpoint_every": 0,
        }  # fmt: skip
        waiting = curve(Config(**same, num_server_rounds=flags.rounds, fraction_train=flags.fraction))
        deadline = flags.deadline * waiting.median_training
        for name, own in ways(cohort, flags.rounds, flags.fraction, deadline).items():
            curves.setdefault(name, []).append(waiting if name == WAITING else curve(Config(**{**same, **own})))
    report(curves, flags.target)


def report(curves: Mapping[str, Sequence[Curve]], target: float) -> None:
    """The table, and the line of JSON."""
    whole = [each.until(target) for each in curves[WAITING]]
    table = {}
    print(f"{'':<18}{'seconds':>10}{'fewer':>9}{'accuracy then':>15}{'at the end':>12}{'unheard':>9}")
    for name, of_seeds in curves.items():
        until = [each.until(target) for each in of_seeds]
        then = [each.at(seconds) for each, seconds in zip(of_seeds, whole, strict=True) if seconds is not None]
        both = [(seconds, own) for seconds, own in zip(whole, until, strict=True) if None not in (seconds, own)]
        ratio = (
            f"{fmean(seconds for seconds, _ in both) / fmean(own for _, own in both):.2f}x"
            if len(both) == len(until)
            else "-"
        )
        mean = f"{fmean(own for _, own in both):.1f}" if len(both) == len(until) else "not all"
        last, unheard = [each.points[-1][1] for each in of_seeds], [each.unheard for each in of_seeds]
        shown = f"{fmean(then):.4f}" if then else "-"
        print(f"{name:<18}{mean:>10}{ratio:>9}{shown:>15}{fmean(last):>12.4f}{fmean(unheard):>9.1f}")
        table[name] = {"simulated": until, "accuracy_then": then, "accuracy": last, "unheard": unheard}
    print(json.dumps({"time_to_accuracy": table}))


if __name__ == "__main__":
    main()
