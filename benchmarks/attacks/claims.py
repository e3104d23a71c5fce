"""Clients that lie about how much they have, what it looks like, how well they do, and how much they hold."""

import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from processes import Process, Starter, starting

from benchmarks.attacks.outcome import Outcome
from fedkeras.reports.history import read_rows

LIAR = Path(__file__).with_name("liar.py")
MODEL = """
import keras
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(3, "softmax")])
model.save("iris.keras")
"""


def examples_where_the_server_dealt(folder: Path) -> Outcome:
    """10^12 examples under FedAvg, and noise for an update: the server knows its part, and refuses it by name."""
    summary, status = _digits(folder, "examples")
    held = "says it has 1000000000000 examples to train, and its part of the data has" in _log(folder)
    return Outcome(held and status == 0 and summary["accuracy"] > 0.8, f"accuracy {summary['accuracy']:.3f}")


def examples_that_nobody_knows(folder: Path) -> Outcome:
    """The same of data that the server cannot know: the claim is cut down, and the run says who decides."""
    summary, status = _iris(folder, "examples")
    warnings = " ".join(summary.get("warnings", ()))
    held = "client 3 says it has 1000000000000 examples to train, and counts for" in warnings
    held = held and "client 3 carries" in warnings
    return Outcome(held and status == 0, f"accuracy {summary['accuracy']:.3f}, with a warning beside it")


def examples_and_alike_weights(folder: Path) -> Outcome:
    """The same under a strategy that withstands liars, with all clients counted alike: nothing is the liar's."""
    summary, status = _iris(folder, "examples", "--client-weights", "uniform", "--strategy", "fedmedian")
    return Outcome(status == 0 and summary["accuracy"] > 0.8, f"accuracy {summary['accuracy']:.3f}")


def figures_under_krum(folder: Path) -> Outcome:
    """10^12 examples and an accuracy of 1 under krum: the printed figures are the others'."""
    summary, status = _iris(folder, "examples", "--no-central-evaluation", "--strategy", "krum", "--seed", 3)
    rows = _rows(folder, "evaluate")
    mean = {row["round"]: row["accuracy"] for row in rows if row["client"] == "all"}
    honest = {row["round"]: [] for row in rows}
    for row in rows:
        if row["client"] not in ("3", "all"):
            honest[row["round"]].append(row["accuracy"])
    held = status == 0 and all(min(own) <= mean[number] <= max(own) for number, own in honest.items())
    return Outcome(held, f"best accuracy {summary['best_accuracy']:.3f} in round {summary['best_round']}")


def figures(folder: Path) -> Outcome:
    """Three liars at once: an accuracy of 7, ninety new metrics a round, and formulas for their names."""
    summary, status = _iris(folder, "accuracy,names,formula", "--no-central-evaluation")
    columns = {name for row in _rows(folder) for name in row}
    [path] = (folder / "runs").glob("*/history.csv")
    cells = path.read_text().replace('"', "").replace("\n", ",").split(",")
    live = [cell for cell in cells if cell[:1] in ("=", "+", "@") or (cell[:1] == "-" and not _is_number(cell))]
    told = "metric 'accuracy' is 7, and a share of the examples is from 0 to 1" in _log(folder)
    told = told and _log(folder).count("of the clients' metrics are left out") == 1
    held = told and not live and len(columns) <= 40 and summary["best_accuracy"] <= 1
    return Outcome(held and status == 0, f"{len(columns)} columns, {len(live)} formulas after 4 rounds")


def descriptions(folder: Path) -> Outcome:
    """Five liars at once: each is refused by name, and the model of the others is as good as ever."""
    lies = ("statistics", "labels", "many-labels", "shape", "columns")
    summary, status = _iris(folder, ",".join(lies))
    log, accuracy = _log(folder), summary.get("accuracy") or 0.0
    unnamed = [cid for cid in range(6, 11) if f"client {cid} does not take part" not in log]
    return Outcome(not unnamed and status == 0 and accuracy > 0.8, f"accuracy {accuracy:.3f} without the liars")


def endless_results(folder: Path) -> Outcome:
    """Two thousand results of half a megabyte for --collect-only: no more than --max-result-mb lies on the disk."""
    with starting(folder) as start:
        server, address = start.server("--collect-only", "--num-partitions", 1, "--max-result-mb", 10)
        liar = start.python(LIAR, "results", "--server", address, "--cid", 0, "--deliver")
        server.ended(120)
        liar.popen.kill()
        size = sum(path.stat().st_size for path in (folder / "runs").rglob("model.keras")) / 1e6
        told = "and a client may deliver 10 MB in a run (--max-result-mb)" in server.err + server.out + _log(folder)
    return Outcome(told and size <= 10, f"{size:.1f} MB on the disk")


ATTACKS = {
    "10^12 examples, where the server dealt the data": examples_where_the_server_dealt,
    "10^12 examples, where the server has no data": examples_that_nobody_knows,
    "10^12 examples, with all clients counted alike": examples_and_alike_weights,
    "the printed figures under krum": figures_under_krum,
    "an accuracy of 7, ninety new metrics a round, formulas for names": figures,
    "false statistics, labels, shape and columns": descriptions,
    "results without an end": endless_results,
}


def _digits(folder: Path, lie: str, *flags: object) -> tuple[dict, int]:
    """Four rounds of three honest clients, in one process, and a liar; the summary, and the server's exit status."""
    with starting(folder) as start:
        server, address = start.server("--num-partitions", 4, "--num-server-rounds", 4, "--batch-size", 8, *flags)
        return _played(start, server, address, folder, lie, ())


def _iris(folder: Path, lies: str, *flags: object) -> tuple[dict, int]:
    """The same with data of the clients' own, three kinds of flowers that are easily told; the model is handed out.

    Of several `lies`, with commas, each is a client's; there is always one more honest client than liars.
    """
    (folder / "iris.keras").write_bytes(_model())
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(3), 30)
    x = rng.normal(size=(90, 4)) * 0.5 + np.array([[1, 2, 3, 4], [3, 4, 1, 2], [5, 1, 5, 1]])[y]
    order = rng.permutation(90)
    for name, rows in {"own": order[:60], "test": order[60:]}.items():
        for side, table in {"X": x, "Y": y[:, None]}.items():
            path = folder / name / (side if name == "own" else f"{side}_test") / "part.csv"
            path.parent.mkdir(parents=True)
            header = "a,b,c,d" if side == "X" else "label"
            np.savetxt(path, table[rows], "%d" if side == "Y" else "%.4f", ",", header=header, comments="")
    with starting(folder) as start:
        clients = _honest(lies) + len(lies.split(","))
        server, address = start.server(
            "--num-partitions", clients, "--num-server-rounds", 4, "--local-epochs", 5, "--optimizer", "adam",
            "--learning-rate", 0.02, "--data-source", "client", "--model", "iris.keras", "--normaliser", "zscore",
            "--data-dir", "test", *flags,
        )  # fmt: skip
        return _played(start, server, address, folder, lies, ("--data-dir", folder / "own"))


@functools.cache
def _model() -> bytes:
    """The file of a small classifier."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", MODEL], cwd=folder, check=True, capture_output=True, timeout=120)
        return (Path(folder) / "iris.keras").read_bytes()


def _honest(lies: str) -> int:
    """How many honest clients there are."""
    return max(3, len(lies.split(",")) + 1)


def _played(
    start: Starter, server: Process, address: str, folder: Path, lies: str, own: tuple[object, ...]
) -> tuple[dict, int]:
    """Honest clients in one process, and after them the liars; the summary, and the server's status."""
    honest = _honest(lies)
    start.client(address, f"0-{honest - 1}", *own)
    for number, lie in enumerate(lies.split(",")):
        start.python(LIAR, lie, "--server", address, "--cid", honest + number, *own)
    status = server.ended(150)
    [path] = (folder / "runs").glob("*/summary.json")
    return json.loads(path.read_text()), status


def _log(folder: Path) -> str:
    return "".join(path.read_text(errors="replace") for path in (folder / "runs").rglob("run.log"))


def _rows(folder: Path, phase: str = "") -> list[dict]:
    [path] = (folder / "runs").glob("*/history.csv")
    return [row for row in read_rows(path) if not phase or row["phase"] == phase]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
