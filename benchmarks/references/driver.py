"""The runs of a reference: one run folder each, in one process, all clients in it, one run after the other.

`OUT/SETTING/seed-N/` holds the run's folder. What is there is read and not run again; a run that was cut short goes on
after its newest checkpoint, and more rounds go on where fewer ended. So the same command, started again after Ctrl-C or
`kill -9`, does what is left. A folder that holds a run of other settings is refused.
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.references.experiment import Curve, Point, Setting
from fedkeras import client, server
from fedkeras.config import Config, fields_of
from fedkeras.errors import UserError
from fedkeras.fields import MAY_CHANGE
from fedkeras.reports import RunFolder, read_rows
from fedkeras.reports.resuming import saved_config

CHECKPOINTS = 20
"""Checkpoints that a run makes on its way: what an interruption can cost is a twentieth of it."""


def config_of(setting: Setting, seed: int, rounds: int, threads: int) -> Config:
    """The configuration of one run."""
    return replace(
        setting.config,
        seed=seed,
        num_server_rounds=rounds,
        threads_per_client=threads,
        checkpoint_every=max(1, rounds // CHECKPOINTS),
        keep_checkpoints=1,
        name="run",
    )


def run(setting: Setting, seed: int, rounds: int, out: Path, threads: int = 1) -> Curve:
    """The curve of `setting` under `seed`, of `rounds` rounds; what of it is done already is not done again."""
    config, parent = config_of(setting, seed, rounds, threads), place(out, setting, seed)
    folder = existing(parent, config)
    if folder is None:
        folder = server.in_process(config, client.app, parent)
    elif not _ended(folder, rounds):
        folder = server.in_process(replace(config, resume=str(folder.path)), client.app, parent)
    return curve(folder, seed, rounds)


def place(out: Path, setting: Setting, seed: int) -> Path:
    """Where the run's folder is, or will be."""
    return out / setting.name / f"seed-{seed}"


def existing(parent: Path, config: Config) -> RunFolder | None:
    """The newest run there. Raises UserError if it is one of other settings than `config`."""
    found = sorted(path.parent for path in parent.glob("*/config.json"))
    if not found:
        return None
    folder = RunFolder(found[-1])
    saved, free = saved_config(folder), {*fields_of(MAY_CHANGE), "resume", "name"}
    for field in dataclasses.fields(Config):
        was, wanted = getattr(saved, field.name), getattr(config, field.name)
        if field.name not in free and was != wanted:
            raise UserError(
                f"{folder.path} was run with {field.name} {was}, and is now wanted with {wanted}: "
                "give another --out, or remove that folder"
            )
    return folder


def curve(folder: RunFolder, seed: int, rounds: int) -> Curve:
    """The figures of a run's history, up to `rounds`."""
    points: dict[int, dict[str, float]] = {}
    seconds = 0.0
    for row in read_rows(folder.history_path):
        if row["round"] > rounds or row["client"] not in ("all", "server"):
            continue
        point = points.setdefault(row["round"], {"round": row["round"]})
        if row["client"] == "server":
            point |= {name: row[name] for name in ("accuracy", "loss")}
        elif row["phase"] == "evaluate":
            point["train_loss"] = row["loss"]
        seconds += row["seconds"]
    whole = [point for _, point in sorted(points.items()) if "accuracy" in point]
    return Curve(seed, whole, seconds)


def read(setting: Setting, seed: int, rounds: int, out: Path) -> Curve | None:
    """What there is of a run, finished or not; None: nothing."""
    found = sorted(path.parent for path in place(out, setting, seed).glob("*/history.csv"))
    if not found:
        return None
    there = curve(RunFolder(found[-1]), seed, rounds)
    return there if there.points else None


def seeds_of(setting: Setting, out: Path) -> list[int]:
    """Seeds of which there is a folder."""
    return sorted(int(path.name.removeprefix("seed-")) for path in (out / setting.name).glob("seed-*"))


def _ended(folder: RunFolder, rounds: int) -> bool:
    """Whether the run came to its end and has as many rounds as wanted, or has ended itself before."""
    try:
        summary = json.loads(folder.summary_path.read_text())
        wanted = saved_config(folder).num_server_rounds
    except (OSError, ValueError):
        return False
    return summary["status"] == "finished" and (summary["rounds"] >= rounds or summary["rounds"] < wanted)


@contextlib.contextmanager
def timed(say: Callable[[str], None], what: str) -> Iterator[None]:
    """Say what begins, and how long it took."""
    say(f"{what} ...")
    started = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - started:.0f} s")


def points_as_csv(name: str, found: Curve) -> list[str]:
    """Lines of rounds.csv: setting, seed, round, accuracy, loss, train_loss."""

    def text(point: Point, key: str) -> str:
        return f"{point[key]:.6g}" if key in point else ""

    return [
        ",".join([name, str(found.seed), str(int(point["round"])), *(text(point, key) for key in COLUMNS[3:])])
        for point in found.points
    ]


COLUMNS = ("setting", "seed", "round", "accuracy", "loss", "train_loss")
