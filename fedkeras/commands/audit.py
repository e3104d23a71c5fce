"""`fedkeras audit RUN`, or `fedkeras audit digits [flags of server.py]`: attacks on a run, and how large epsilon is.

With the name of a data set a run is trained first, with all clients in this process. Attacks that need canaries train
again, with canaries among the clients or among their examples, in the same way.
"""

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedkeras import atomic, reports
from fedkeras.audit import picture, record, section
from fedkeras.audit.attack import APPLICABLE, ATTACKS, Attack, chosen_attacks, parse_attacks
from fedkeras.audit.finding import REFUTED, Finding
from fedkeras.audit.subject import Subject
from fedkeras.checkout import program
from fedkeras.commands.report import own_sections
from fedkeras.config import EVALUATION, PROCESS, SECURITY, SERVER_LED, Config, fields_of
from fedkeras.errors import UserError, complain
from fedkeras.fields import MAY_CHANGE, FlagGroup, embedded, flag, setting
from fedkeras.flags import parse_flags
from fedkeras.named_code import EVERYTHING
from fedkeras.reports import RunFolder, held
from fedkeras.reports.resuming import check_rules, config_of
from fedkeras.reports.text_table import terminal_width

PROG = program("audit")
REFUTED_STATUS = 4
"""The exit status of an audit that has refuted what the run claims."""
AUDIT = FlagGroup("audit", "Which attacks are made, and how sure they must be.")
NOT_HERE = (
    "mode", "split", *fields_of(workflow="split"),
    "resume", "spawn", "release", "stop_after", "collect_only", "metrics_port", "metrics_host", "tensorboard", "mlflow",
    *fields_of(group=SECURITY), *fields_of(group=EVALUATION), *fields_of(group=SERVER_LED), *fields_of(group=PROCESS),
)  # fmt: skip
"""Fields of Config that mean nothing where all clients are in one process and train in federated rounds."""


@dataclass(frozen=True)
class AuditFlags:
    """Attack a run, and say with confidence how large its epsilon is at least, beside what it claims.

    `audit RUN` attacks a run's model. `audit digits --mods dp:epsilon=2,delta=1e-3 ...` trains one here first; the
    data set's name comes first, the other flags are server.py's. Exit status: 0, or 4 if a claim is refuted.
    """

    attacks: str = setting(APPLICABLE, AUDIT, names=tuple(ATTACKS))
    """applicable: all that mean something for the run; or names with options, separated by semicolons."""
    checkpoint: str = setting("final", AUDIT)
    """Which of RUN's models: final, best, or the number of a round that has a checkpoint."""
    confidence: float = setting(0.95, AUDIT)
    """How sure each lower bound must be."""
    out: str = setting("", AUDIT)
    """Folder for audit.json and pictures; unset: the run's own, whose report gets a section."""
    config: Config = embedded(Config, hidden=NOT_HERE)


def main(args: Sequence[str]) -> int:
    """Attack, print the table, and return the exit status."""
    try:
        flags, run = read(list(args))
        if not 0.5 < flags.confidence < 1:
            raise UserError(f"--confidence must be above 0.5 and below 1, not {flags.confidence}")
        attacks = parse_attacks(flags.attacks)
        with atomic.private(flags.config.private, run):
            out = _out_folder(flags.out)
            folder = RunFolder(run) if run else train(flags.config)
            return audit(flags, attacks, folder, out or folder.path)
    except UserError as error:
        return complain(PROG, error)
    except KeyboardInterrupt:
        print(f"{PROG}: interrupted", file=sys.stderr)
        return 130


def read(args: list[str]) -> tuple[AuditFlags, Path | None]:
    """The flags, over the settings of RUN if the first word is a run's folder; and that folder. Raises UserError."""
    run = None
    if args and not args[0].startswith("-"):
        if (Path(args[0]) / "config.json").is_file():
            run = Path(args.pop(0))
        else:
            args.insert(0, "--dataset")
    if run is None:
        flags = parse_flags(AuditFlags, args, PROG)
        flags.config.refuse(
            NOT_HERE, "is not for audit: all clients are in this process, and train in federated rounds"
        )
        if not flags.config.deals:
            raise UserError("--partitioner own: an audit needs all clients' examples on this machine")
        if flags.checkpoint != "final":
            raise UserError("--checkpoint is for a run that was recorded: name its folder first")
        return flags, None
    saved = _settings_of(RunFolder(run))
    flags = parse_flags(AuditFlags, args, PROG, AuditFlags(config=saved))
    for name in fields_of():
        if name not in fields_of(MAY_CHANGE) and getattr(flags.config, name) != getattr(saved, name):
            raise UserError(f"--{flag(name)} is the run's own and cannot be changed: audit a data set with it instead")
    return flags, run


def train(config: Config) -> RunFolder:
    """A run with all clients in this process. Raises UserError."""
    from fedkeras import client, server

    print(
        f"training: {config.num_server_rounds} rounds with {config.num_partitions} clients in this process", flush=True
    )
    folder = server.in_process(config, client.app)
    print(folder.path, flush=True)
    return folder


def audit(flags: AuditFlags, attacks: Sequence[Attack] | None, folder: RunFolder, out: Path) -> int:
    """Make the attacks (None: all that apply), write what they found, and print it."""
    with held(folder) if out == folder.path else contextlib.nullcontext():
        subject = Subject(
            flags.config, folder, out, flags.checkpoint, flags.confidence, lambda line: print(line, flush=True)
        )
        findings = [found for attack in chosen_attacks(attacks, subject) for found in attack.run(subject)]
        path = record.write(out, folder.path, findings)
        drawn = picture.draw(findings, out)
        if out == folder.path:
            reports.write_report(folder, None, own_sections(folder, EVERYTHING))
    _show(findings)
    print("", *filter(None, (path, drawn)), sep="\n")
    return REFUTED_STATUS if any(finding.verdict == REFUTED for finding in findings) else 0


def _show(findings: Sequence[Finding]) -> None:
    print("", *section.text(findings, terminal_width()), sep="\n")
    for finding in findings:
        print(f"\n{finding.title}: the attacker sees {finding.sees}")
        for name, value in finding.figures.items():
            print(f"  {name}: {value:.4g}" if isinstance(value, float) else f"  {name}: {value}")
        for note in finding.notes:
            print(f"  {note}")


def _settings_of(folder: RunFolder) -> Config:
    table = folder.config_table()
    try:
        check_rules(table)
        return config_of(table)
    except UserError as error:
        raise UserError(f"{folder.config_path}: {error}") from error


def _out_folder(name: str) -> Path | None:
    if not name:
        return None
    try:
        Path(name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {name}: {error.strerror or error}; choose another --out") from error
    return Path(name)
