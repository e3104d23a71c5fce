"""What a comparison was asked for: kept in its compare.json, and not to be changed half-way."""

import json
from dataclasses import dataclass
from pathlib import Path

from fedkeras.atomic import replace_file
from fedkeras.compare.arms import DEFAULT, Arm, names_of, parse_arms, with_those_beside
from fedkeras.config import EVALUATION, RULES, RULES_NUMBER, SECURITY, SERVER_LED, Config, fields_of, flag
from fedkeras.errors import UserError
from fedkeras.fields import ANY, MAY_CHANGE, FlagGroup, Value, embedded, setting
from fedkeras.reports.resuming import check_rules, config_of

FILE = "compare.json"
MAY_DIFFER = tuple(name for name in fields_of(MAY_CHANGE) if name != "num_server_rounds")
"""What may change when a comparison goes on. All its parts are trained alike, so the rounds may not."""

NOT_HERE = {
    "--arms names what is trained": ("strategy", "split"),
    "the folder is --out": ("run_dir", "name"),
    "the same --out again goes on": ("resume",),
    "a comparison trains": fields_of(group=EVALUATION),
    "--processes says how many processes train": ("spawn",),
    "all processes are on this machine": ("host", "port", "release", *fields_of(group=SECURITY)),
    "a model handed out with its data is trained by server.py": ("mode", *fields_of(group=SERVER_LED)),
    "another app has a training of its own": ("app", "app_config"),
    "several runs go on at once": ("metrics_port", "metrics_host"),
    "all arms do the same number of rounds": ("stop_after",),
    "arms are compared by rounds, and what is asynchronous has none (benchmarks.asynchronous compares by seconds)": (
        fields_of(workflow="fedbuff")
    ),
    "arms are compared on the central test set": ("central_evaluation",),
    "each client is tested on all it holds out; for none of it, --test-fraction 0": ("fraction_evaluate",),
}
"""Why -> fields of Config that are refused."""
REFUSED = frozenset(name for names in NOT_HERE.values() for name in names)

COMPARISON = FlagGroup("comparison", "What is compared, how often, and where it goes.")


@dataclass(frozen=True)
class Settings:
    """Is federated worth it? Train on the same data, model and seeds in several ways.

    The data set may come first: `compare motionsense --data-dir DIR`. The other flags are server.py's.
    """

    arms: str = setting(DEFAULT, COMPARISON)
    """What to train, comma-separated: centralised, local, any --strategy, split-sequential, -splitfed, -shared; a
    strategy with its options, and mods behind plus signs: fedprox:proximal-mu=0.1,fedavg+compress:up=int8,topk=0.1."""
    repeats: int = setting(1, COMPARISON)
    """Seeds: --seed, and the following ones. One judges nothing, two or three show large differences only."""
    out: str = setting("", COMPARISON)
    """The comparison's folder; unset: runs/<time>-compare-<dataset>. The same again goes on where it stopped."""
    processes: int = setting(0, COMPARISON)
    """Processes that train at once, each of --threads-per-client threads; 0: one a core."""
    config: Config = embedded(Config, hidden=REFUSED)

    @property
    def parsed_arms(self) -> tuple[Arm, ...]:
        """The arms, and what models of clients' own are judged beside. Raises UserError."""
        return with_those_beside(parse_arms(self.arms), self.config.mods)

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
        for why, names in NOT_HERE.items():
            self.config.refuse(names, f"is not for compare: {why}")
        if not self.config.checkpoint_every:
            raise UserError("--checkpoint-every 0 is not for compare: what is interrupted could not go on")
        arms = self.parsed_arms
        for arm in arms:
            arm.check(self.config.mods)
        strategies = [arm for arm in arms if arm.kind == "federated"]
        if self.config.strategy_args and (len(strategies) != 1 or strategies[0].options):
            raise UserError(
                "--strategy-args needs exactly one strategy in --arms: they would be every strategy's; options of one "
                "arm stand behind its name, as trimmed_mean:beta=0.2"
            )
        for name in self.config.changed(fields_of(strategy=ANY)):
            if not any(name in fields_of(strategy=arm.way.name) and name not in arm.options for arm in strategies):
                raise UserError(f"--{flag(name)} changes nothing here: none of --arms is the strategy that it is for")
        if not any(arm.kind == "split" for arm in arms):
            self.config.refuse(fields_of(workflow="split"), "means nothing without split learning in --arms")

    def save(self, folder: Path) -> None:
        """Write compare.json in one step."""
        table = {"arms": names_of(self.parsed_arms), "repeats": self.repeats, "processes": self.processes}
        text = json.dumps(table | {"config": self.config.to_run_config(), RULES: RULES_NUMBER}, indent=2)
        replace_file(folder / FILE, f"{text}\n".encode())


def saved(folder: Path) -> Settings | None:
    """The settings of the comparison in this folder; None if there is none. Raises UserError if it is damaged."""
    try:
        table = json.loads((folder / FILE).read_text())
        check_rules(table)
        config = config_of(table["config"])
        return Settings(table["arms"], table["repeats"], str(folder), table["processes"], config)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, UserError) as error:
        raise UserError(f"{folder / FILE} cannot be read ({error}); choose another --out") from error


def check_alike(before: Settings, now: Settings) -> None:
    """Raise UserError if going on would mix trainings that differ. Arms and repeats may be added to."""
    where = Path(now.out) / FILE
    for name in fields_of():
        old, new = getattr(before.config, name), getattr(now.config, name)
        if old != new and name not in MAY_DIFFER:
            raise UserError(f"--{flag(name)} is '{old}' in {where}, not '{new}': choose another --out")
    missing = [arm.name for arm in before.parsed_arms if arm not in now.parsed_arms]
    if missing:
        raise UserError(f"--arms lacks {', '.join(missing)}, which {where} has: arms can be added, not taken away")
    if now.repeats < before.repeats:
        raise UserError(f"--repeats is {before.repeats} in {where}: repeats can be added, not taken away")


def flags_of(config: Config) -> list[str]:
    """A configuration as server.py's flags: what is not at its default."""
    return [_word(name, getattr(config, name)) for name in config.changed()]


def flags_to_resume(config: Config) -> list[str]:
    """What may have changed since a run was begun, as server.py's flags beside --resume; what is the default as well.

    Without it the server would keep what it was started with, whatever compare.json contains by now.
    """
    return [_word(name, getattr(config, name)) for name in MAY_DIFFER if name not in REFUSED]


def _word(name: str, value: Value) -> str:
    if isinstance(value, bool):
        return f"--{flag(name)}" if value else f"--no-{flag(name)}"
    return f"--{flag(name)}={value}"
