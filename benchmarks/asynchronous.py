"""Accuracy against simulated seconds, in rounds and asynchronously: `python -m benchmarks.asynchronous`.

Twenty clients of lognormal speed (`--clients slow=lognormal`) train on digits, in this process. In rounds all of them
train and the slowest is waited for; or half of them, drawn anew for each round. Asynchronously (FedBuff) all of them
train all the time, and K updates make a version. Prints for each way, as means over seeds: simulated seconds until the
central accuracy is at the target for the first time, how many times fewer than rounds of all need, trainings until
then, and the accuracy when rounds of all are at the target. The last line is the same as JSON, with each seed's.
"""

import argparse
import contextlib
import io
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from benchmarks.case import Case
from fedkeras.config import Config, Value
from fedkeras.reports import read_rows
from fedkeras.reports.simulated_time import elapsed

QUICK = [Case("--seeds 1 --clients 6 --target 0.3 --rounds 4 --buffers 2", 15)]
NEVER = float("inf")


def curve(config: Config) -> list[tuple[float, float, int]]:
    """(simulated seconds, central accuracy, trainings until then) of each round or version of a run."""
    from fedkeras import client, server

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        rows = read_rows(server.in_process(config, client.app, Path(folder)).history_path)
    seconds, trainings, found = elapsed(rows), 0, []
    of_round = {row["round"]: row for row in rows if (row["phase"], row["client"]) == ("evaluate", "server")}
    for number in sorted(seconds):
        trained = [row for row in rows if (row["phase"], row["round"]) == ("train", number) and row["client"] != "all"]
        trainings += sum(int(row.get("updates", 1)) for row in trained)
        found.append((seconds[number], float(of_round[number]["accuracy"]), trainings))
    return found


def reached(points: list[tuple[float, float, int]], target: float) -> tuple[float, int]:
    """Seconds and trainings until the target; infinity where it is not reached."""
    return next(((seconds, count) for seconds, accuracy, count in points if accuracy >= target), (NEVER, 0))


def accuracy_at(points: list[tuple[float, float, int]], seconds: float) -> float:
    """The newest model's at this moment; 0 before the first."""
    return next((accuracy for at, accuracy, _ in reversed(points) if at <= seconds), 0.0)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-dir", default="")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--slow", default="lognormal:sigma=1.0")
    parser.add_argument("--partitioner", default="iid")
    parser.add_argument("--target", type=float, default=0.9, help="central accuracy")
    parser.add_argument(
        "--rounds", type=int, default=30, help="rounds of all clients at most; other ways as many trainings"
    )
    parser.add_argument("--buffers", default="2,5,10", help="K, comma-separated")
    parser.add_argument("--seeds", type=int, default=3)
    flags = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    most = flags.rounds * flags.clients
    ways: dict[str, Mapping[str, Value]] = {
        "rounds of all": {"num_server_rounds": flags.rounds},
        "rounds of half": {"num_server_rounds": 2 * flags.rounds, "fraction_train": 0.5},
    }
    for buffer in map(int, flags.buffers.split(",")):
        ways[f"fedbuff, K = {buffer}"] = {"mode": "fedbuff", "num_server_rounds": most // buffer, "buffer_size": buffer}
    curves: dict[str, list[list[tuple[float, float, int]]]] = {name: [] for name in ways}
    for seed in range(1, flags.seeds + 1):
        for name, own in ways.items():
            config = Config(
                dataset=flags.dataset, data_dir=flags.data_dir, num_partitions=flags.clients, seed=seed,
                clients=f"slow={flags.slow}", partitioner=flags.partitioner, fraction_evaluate=0.0, checkpoint_every=0,
                **own,
            )  # fmt: skip
            curves[name].append(curve(config))
    whole = [reached(points, flags.target)[0] for points in curves["rounds of all"]]
    table = {}
    print(f"{'':<16}{'seconds':>10}{'fewer':>9}{'trainings':>11}{'accuracy then':>15}")
    for name, of_seeds in curves.items():
        until = [reached(points, flags.target) for points in of_seeds]
        then = [accuracy_at(points, seconds) for points, seconds in zip(of_seeds, whole, strict=True)]
        seconds, trainings = fmean(each for each, _ in until), fmean(count for _, count in until)
        ratio = fmean(whole) / seconds  # of the means: a mean of ratios would be the luckiest seed's
        if seconds == NEVER:
            print(f"{name:<16}{'never':>10}{'':>9}{'':>11}{fmean(then):>15.4f}")  # with one seed or more
        else:
            print(f"{name:<16}{seconds:>10.1f}{ratio:>8.2f}x{trainings:>11.0f}{fmean(then):>15.4f}")
        simulated = [None if each == NEVER else each for each, _ in until]
        table[name] = {"simulated": simulated, "trainings": [count for _, count in until], "accuracy": then}
    print(json.dumps({"asynchronous": table}))


if __name__ == "__main__":
    main()
