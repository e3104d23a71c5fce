"""What a sweep was asked for: kept in its sweep.json, and not to be changed half-way."""

import json
from dataclasses import dataclass
from pathlib import Path

from fedkeras.atomic import replace_file
from fedkeras.compare.settings import MAY_DIFFER
from fedkeras.compare.settings import NOT_HERE as NOT_IN_A_COMPARISON
from fedkeras.config import RULES, RULES_NUMBER, Config, fields_of, flag
from fedkeras.errors import UserError
from fedkeras.fields import FlagGroup, embedded, setting
from fedkeras.reports.resuming import check_rules, config_of
from fedkeras.sweep.search_space import Space, parse_search

FILE = "sweep.json"
NOT_HERE = {
    "a sweep searches federated training": ("split", *fields_of(workflow="split")),
    "privacy that every trial spends is not accounted for, and secure aggregation hides what is searched for": (
        "mods",
    ),
    **{why: names for why, names in NOT_IN_A_COMPARISON.items() if not why.startswith("--arms names")},
}
"""Why -> fields of Config that are refused."""
REFUSED = frozenset(name for names in NOT_HERE.values() for name in names)
OWN = ("search", "trials", "pruning")

SWEEP = FlagGroup("sweep", "What is searched, how often, and where it goes.")


@dataclass(frozen=True)
class SweepSettings:
    """Which hyperparameters? Search them on the clients' held-out parts, and test the best one centrally, once.

    The data set may come first: `sweep digits --search learning-rate=log:1e-3..1`. The other flags are server.py's.
    """

    search: str = setting("learning-rate=log:1e-3..1", SWEEP)
    """Fields and their values, comma-separated: A..B, log:A..B, or A/B/C."""
    trials: int = setting(20, SWEEP)
    """Trainings, those that are pruned included; with the same --out more can be asked for."""
    pruning: bool = setting(True, SWEEP)
    """Stop a trial whose clients' accuracy is below the median of earlier trials after the same round."""
    out: str = setting("", SWEEP)
    """The sweep's folder; unset: runs/<time>-sweep-<dataset>. The same again goes on where it stopped."""
    processes: int = setting(0, SWEEP)
    """Client processes of the trial that is trained; 0: one a core."""
    config: Config = embedded(Config, hidden=REFUSED)

    @property
    def space(self) -> Space:
        """What --search says. Raises UserError."""
        return parse_search(self.search)

    def check(self) -> None:
        """Raise UserError for what makes no sense, without looking at data or models."""
        if self.trials < 1:
            raise UserError(f"--trials must be at least 1, not {self.trials}")
        if self.processes < 0:
            raise UserError(f"--processes must be at least 0, not {self.processes}")
        for why, names in NOT_HERE.items():
            self.config.refuse(names, f"is not for sweep: {why}")
        self.config.refuse(self.space, "is searched: leave it out, or leave it out of --search")
        if not self.config.test_fraction:
            raise UserError("--test-fraction 0: a sweep chooses on what the clients hold out")
        if not self.config.checkpoint_every:
            raise UserError("--checkpoint-every 0 is not for sweep: what is interrupted could not go on")

    def save(self, folder: Path) -> None:
        """Write sweep.json in one step."""
        own = {name: getattr(self, name) for name in OWN}
        text = json.dumps(own | {"config": self.config.to_run_config(), RULES: RULES_NUMBER}, indent=2)
        replace_file(folder / FILE, f"{text}\n".encode())


def saved(folder: Path) -> SweepSettings | None:
    """The settings of the sweep in this folder; None if there is none. Raises UserError if it is damaged."""
    try:
        table = json.loads((folder / FILE).read_text())
        check_rules(table)
        own = {name: table[name] for name in OWN}
        return SweepSettings(**own, out=str(folder), config=config_of(table["config"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, UserError) as error:
        raise UserError(f"{folder / FILE} cannot be read ({error}); choose another --out") from error


def check_alike(before: SweepSettings, now: SweepSettings) -> None:
    """Raise UserError if going on would mix trainings that differ. Trials may be added."""
    where = Path(now.out) / FILE
    for name in fields_of():
        old, new = getattr(before.config, name), getattr(now.config, name)
        if old != new and name not in MAY_DIFFER:
            raise UserError(f"--{flag(name)} is '{old}' in {where}, not '{new}': choose another --out")
    for name in ("search", "pruning"):
        if getattr(before, name) != getattr(now, name):
            raise UserError(f"--{name} is '{getattr(before, name)}' in {where}: choose another --out")
    if now.trials < before.trials:
        raise UserError(f"--trials is {before.trials} in {where}: trials can be added, not taken away")
