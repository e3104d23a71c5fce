"""What a study was asked for: kept in its study.json, and not to be changed half-way."""

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
from fedkeras.study.grid import (
    NOBODY,
    Cell,
    cells_of,
    parse_attacks,
    parse_conditions,
    parse_defences,
    parse_fractions,
)

FILE = "study.json"
NOT_HERE = {
    "--defences names the strategies": ("strategy", "strategy_args", "split", *fields_of(workflow="split")),
    **{why: names for why, names in NOT_IN_A_COMPARISON.items() if not why.startswith("--arms")},
}
"""Why -> fields of Config that are refused."""
REFUSED = frozenset(name for names in NOT_HERE.values() for name in names)

STUDY = FlagGroup("study", "Who attacks, who defends, how often, and where it goes.")


@dataclass(frozen=True)
class StudySettings:
    """Which defence withstands which attack? Train every pair on the same data, model and seeds.

    The data set may come first: `study digits --attacks none,alie`. The other flags are server.py's.
    """

    attacks: str = setting(f"{NOBODY},sign-flip,alie", STUDY)
    """Attacks, comma-separated, with their options behind a colon; none is always there."""
    defences: str = setting("fedavg,fedmedian,trimmed_mean:beta=m,multikrum:num-byzantine=f", STUDY)
    """Strategies with their options; f is the most malicious clients of a cohort, m the largest of --malicious."""
    malicious: str = setting("0.2", STUDY)
    """Fractions of all clients that are malicious, comma-separated, each rounded down to whole clients."""
    conditions: str = setting("", STUDY)
    """How clients are, by semicolons, such as "partitioner=iid; partitioner=dirichlet,alpha=0.1; +stragglers"."""
    repeats: int = setting(1, STUDY)
    """Seeds: --seed, and the following ones. One judges nothing, two or three show large differences only."""
    broken: float = setting(0.5, STUDY)
    """A defence is broken where less than this share of its accuracy above a guess is left."""
    out: str = setting("", STUDY)
    """The study's folder; unset: runs/<time>-study-<dataset>. The same again goes on where it stopped."""
    processes: int = setting(0, STUDY)
    """Client processes of the run that is trained; 0: one a core."""
    config: Config = embedded(Config, hidden=REFUSED)

    @property
    def seeds(self) -> range:
        """The first is --seed."""
        return range(self.config.seed, self.config.seed + self.repeats)

    @property
    def cells(self) -> list[Cell]:
        """In the order of the table. Raises UserError."""
        fractions = parse_fractions(self.malicious)
        defences = parse_defences(self.defences, self.config, fractions[-1])
        return cells_of(defences, parse_attacks(self.attacks), fractions, parse_conditions(self.conditions))

    def check(self) -> None:
        """Raise UserError for what makes no sense, without looking at data or models."""
        if self.repeats < 1:
            raise UserError(f"--repeats must be at least 1, not {self.repeats}")
        if self.processes < 0:
            raise UserError(f"--processes must be at least 0, not {self.processes}")
        if not 0 < self.broken < 1:
            raise UserError(f"--broken must be between 0 and 1, not {self.broken:g}")
        for why, names in NOT_HERE.items():
            self.config.refuse(names, f"is not for study: {why}")
        if not self.config.checkpoint_every:
            raise UserError("--checkpoint-every 0 is not for study: what is interrupted could not go on")
        fractions = parse_fractions(self.malicious)
        for fraction in fractions:
            if fraction and int(fraction * self.config.num_partitions) < 1:
                raise UserError(
                    f"--malicious {fraction:g} of {self.config.num_partitions} clients is none: raise it, or "
                    "--num-partitions"
                )
        if all(cell.nobody for cell in self.cells):
            raise UserError("nobody is malicious: name an attack in --attacks, and a fraction above 0 in --malicious")

    def save(self, folder: Path) -> None:
        """Write study.json in one step."""
        own = {name: getattr(self, name) for name in OWN}
        text = json.dumps(own | {"config": self.config.to_run_config(), RULES: RULES_NUMBER}, indent=2)
        replace_file(folder / FILE, f"{text}\n".encode())


OWN = ("attacks", "defences", "malicious", "conditions", "repeats", "broken", "processes")


def saved(folder: Path) -> StudySettings | None:
    """The settings of the study in this folder; None if there is none. Raises UserError if it is damaged."""
    try:
        table = json.loads((folder / FILE).read_text())
        check_rules(table)
        own = {name: table[name] for name in OWN}
        return StudySettings(**own, out=str(folder), config=config_of(table["config"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, UserError) as error:
        raise UserError(f"{folder / FILE} cannot be read ({error}); choose another --out") from error


def check_alike(before: StudySettings, now: StudySettings) -> None:
    """Raise UserError if going on would mix trainings that differ. Cells and repeats may be added."""
    where = Path(now.out) / FILE
    for name in fields_of():
        old, new = getattr(before.config, name), getattr(now.config, name)
        if old != new and name not in MAY_DIFFER:
            raise UserError(f"--{flag(name)} is '{old}' in {where}, not '{new}': choose another --out")
    if missing := [cell for cell in before.cells if cell not in now.cells]:
        raise UserError(
            f"{missing[0].arm.name} is in {where} and would be no longer: cells can be added, not taken away (the "
            "largest of --malicious decides what f and m of --defences stand for)"
        )
    if now.repeats < before.repeats:
        raise UserError(f"--repeats is {before.repeats} in {where}: repeats can be added, not taken away")
