"""What a comparison was asked for: kept in its compare.json, and not to be changed half-way."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fedkeras.atomic import replace_file
from fedkeras.compare.arms import DEFAULT, Arm, names_of, parse_arms
from fedkeras.config import Config, flag
from fedkeras.errors import UserError
from fedkeras.reports.resuming import MAY_CHANGE

FILE = "compare.json"
DIFFERENT_KEYS = ("num-server-rounds",)
"""What may change when a run goes on, yet not when a comparison does: all its parts are trained alike."""

NOT_HERE = {
    "--arms names what is trained": ("strategy", "split"),
    "the folder is --out": ("run-dir", "name"),
    "the same --out again goes on": ("resume",),
    "--processes says how many processes train": ("spawn",),
    "all processes are on this machine": (
        "host", "port", "passphrase-file", "tls-cert", "tls-key", "tls-client-ca", "insecure",
    ),
    "a model handed out with its data is trained by server.py": (
        "data-source", "target", "share", "mode", "method", "folds", "kfold-return", "validation", "patience",
        "collect-only",
    ),
    "another app has a training of its own": ("app", "app-config"),
    "arms are compared on the central test set": ("central-evaluation",),
    "each client is tested on all it holds out; for none of it, --test-fraction 0": ("fraction-evaluate",),
}  # fmt: skip
"""Why -> flags of server.py that are refused."""


@tyro.conf.configure(tyro.conf.OmitArgPrefixes)
@dataclass(frozen=True)
class Settings:
    """Is federated worth it? Trains on the same data, model, partitions, epochs and seeds in several ways.

    The other flags are server.py's. The data set may come first: `compare motionsense --data-dir DIR`.
    """

    arms: str = DEFAULT
    """What to train, comma-separated: centralised, local, any --strategy, split-sequential, -splitfed, -shared."""
    repeats: int = 1
    """Seeds: --seed, and the following ones; the spread over them is in the table from two on."""
    out: str = ""
    """The comparison's folder; unset: runs/<time>-compare-<dataset>. The same again goes on where it stopped."""
    processes: int = 0
    """Processes that train at once, each of --threads-per-client threads; 0: one a core."""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)

    @property
    def parsed_arms(self) -> tuple[Arm, ...]:
        """The arms. Raises UserError."""
        return parse_arms(self.arms)

    @property
    def seeds(self) -> range:
        """The first is --seed."""
        return range(self.config.seed, self.config.seed + self.repeats)

    def check(self) -> None:
        """Raise UserError for what makes no sense, without looking at data or models."""
        if self.repeats < 1:
            raise UserError(f"--repeats must be at least 1, not {self.repeats}")
        if self.processes < 0:
            raise UserError(f"--processes must be at least 0, not {self.processes}")
        mine, default = self.config.to_run_config(), Config().to_run_config()
        for why, names in NOT_HERE.items():
            for name in names:
                if mine[name] != default[name]:
                    raise UserError(f"--{name} is not for compare: {why}")
        if not self.config.checkpoint_every:
            raise UserError("--checkpoint-every 0 is not for compare: what is interrupted could not go on")
        kinds = [arm.kind for arm in self.parsed_arms]
        if self.config.strategy_args and kinds.count("federated") != 1:
            raise UserError("--strategy-args needs exactly one strategy in --arms: they would be every strategy's")
        if "split" not in kinds:
            for name in ("split-at", "split-dtype", "in-flight", "split-noise", "split-nopeek"):
                if mine[name] != default[name]:
                    raise UserError(f"--{name} means nothing without split learning in --arms")

    def save(self, folder: Path) -> None:
        """Write compare.json in one step."""
        table = {"arms": names_of(self.parsed_arms), "repeats": self.repeats, "processes": self.processes}
        text = json.dumps(table | {"config": self.config.to_run_config()}, indent=2)
        replace_file(folder / FILE, f"{text}\n".encode())


def saved(folder: Path) -> Settings | None:
    """The settings of the comparison in this folder; None if there is none. Raises UserError if it is damaged."""
    try:
        table = json.loads((folder / FILE).read_text())
        config = Config.from_run_config(table["config"])
        return Settings(table["arms"], table["repeats"], str(folder), table["processes"], config)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / FILE} cannot be read ({error}); choose another --out") from error


def check_alike(before: Settings, now: Settings) -> None:
    """Raise UserError if going on would mix trainings that differ. Arms and repeats may be added to."""
    old, new = before.config.to_run_config(), now.config.to_run_config()
    where = Path(now.out) / FILE
    for name in old:
        if old[name] != new[name] and (name not in MAY_CHANGE or name in DIFFERENT_KEYS):
            raise UserError(f"--{name} is '{old[name]}' in {where}, not '{new[name]}': choose another --out")
    missing = [arm.name for arm in before.parsed_arms if arm not in now.parsed_arms]
    if missing:
        raise UserError(f"--arms lacks {', '.join(missing)}, which {where} has: arms can be added, not taken away")
    if now.repeats < before.repeats:
        raise UserError(f"--repeats is {before.repeats} in {where}: repeats can be added, not taken away")


def flags_of(config: Config) -> list[str]:
    """A configuration as server.py's flags: what is not the default."""
    words = []
    for one in dataclasses.fields(Config):
        value = getattr(config, one.name)
        if value == getattr(Config(), one.name):
            continue
        words.append(_word(flag(one.name), value))
    return words


def flags_to_resume(config: Config) -> list[str]:
    """What may have changed since a run was begun, as server.py's flags beside --resume; what is the default as well.

    Without it the server would keep what it was started with, whatever compare.json says by now.
    """
    fixed = {*DIFFERENT_KEYS, *(name for names in NOT_HERE.values() for name in names)}
    values = config.to_run_config()
    return [_word(name, values[name]) for name in MAY_CHANGE if name not in fixed]


def _word(name: str, value: object) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name}={value}"
