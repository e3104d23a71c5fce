"""`fedkeras report RUN_DIR...`: a run's report, also of one that broke off, or several compared."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from fedkeras.audit import section as audit_section
from fedkeras.checkout import program, typed
from fedkeras.config import Config
from fedkeras.errors import UserError, complain
from fedkeras.flags import parse_flags
from fedkeras.mods.chain import BUILT_IN as BUILT_IN_MODS
from fedkeras.mods.chain import ModChain, make_mods
from fedkeras.named_code import Permission, parse_specs
from fedkeras.reports import ReportSection, RunFolder, write_comparison, write_report
from fedkeras.reports.local_page import write_local_page
from fedkeras.reports.resuming import config_of
from fedkeras.reports.run import is_local, read_run
from fedkeras.workflows.base import BUILT_IN, Workflow, what_the_server_saw, workflow_name, workflow_of

PROG = program("report")


@dataclass(frozen=True)
class ReportFlags:
    """Write one HTML page: of one run all that its folder holds, of several their curves and what differs."""

    run_dirs: Annotated[Positional[tuple[str, ...]], arg(metavar="RUN_DIR [RUN_DIR ...]")]
    """Folders of runs, such as runs/20260131-142233-digits-fedavg."""
    out: str = ""
    """The page; unset: report.html in the run's folder, or comparison.html here."""
    allow: str = ""
    """workflows=package.module:Class, or mods=...: let this, which the run's folder names, add its own sections."""


def main(args: Sequence[str]) -> int:
    """Write the page, print its path, and return the exit status."""
    try:
        flags = parse_flags(ReportFlags, list(args), PROG)
        folders = [Path(name) for name in flags.run_dirs]
        if not folders:
            raise UserError(f"name the folder of a run, or of several; `{typed('runs')}` lists them")
        if flags.out and not flags.out.lower().endswith((".html", ".htm")):
            raise UserError(f"--out is '{flags.out}'; give a file that ends in .html")
        if len(folders) == 1:
            folder, wanted = RunFolder(folders[0]), Path(flags.out) if flags.out else None
            if is_local(folder.config_table()):
                out = write_local_page(folder, wanted)
            else:
                read_run(folder.path)  # a run that cannot be read is refused once, and not by each section
                out = write_report(folder, wanted, own_sections(folder, Permission.parse(flags.allow)))
        else:
            out = write_comparison(folders, Path(flags.out or "comparison.html"))
    except UserError as error:
        return complain(PROG, error)
    print(out)
    return 0


def own_sections(folder: RunFolder, permission: Permission) -> Sequence[ReportSection]:
    """What the run's way to train and its mods add to its report; none, and it is said, where they cannot be asked.

    A run's folder may come from somebody else: code that it names is imported only if it is permitted.
    """
    if not folder.config_path.exists():
        return ()  # the page itself says that there are no settings
    try:
        config = config_of(json.loads(folder.config_path.read_text()))
    except (OSError, ValueError, UserError):
        return ()  # what is wrong with the file stands in the page too; its version may be another
    workflow, mods = _workflow(config, permission), _mods(config, permission)
    sections: list[ReportSection] = []
    for what, whose in ((f"the sections of --mode {workflow_name(config)}", workflow), (_of(config.mods), mods)):
        try:
            sections += [] if whose is None else whose.report_sections(folder)
        except UserError as error:
            print(f"{PROG}: without {what}: {error}", file=sys.stderr)
    if workflow is not None and mods is not None:
        sections.append(what_the_server_saw(config, workflow, mods))
    return [*sections, *_of_audit(folder)]


def _of(mods: str) -> str:
    return f"sections of --mods {mods}"


def _workflow(config: Config, permission: Permission) -> Workflow | None:
    name = workflow_name(config)
    what = f"the sections of --mode {name}"
    if name not in BUILT_IN and not permission.allows("workflows", name):
        print(f"{PROG}: without {what}; --allow workflows={name} adds them", file=sys.stderr)
        return None
    try:
        return workflow_of(config)
    except UserError as error:
        print(f"{PROG}: without {what}: {error}", file=sys.stderr)
        return None


def _mods(config: Config, permission: Permission) -> ModChain | None:
    for spec in parse_specs(config.mods, "mods"):
        if spec.name not in BUILT_IN_MODS and not permission.allows("mods", spec.name):
            print(f"{PROG}: without {_of(spec.name)}; --allow mods={spec.name} adds them", file=sys.stderr)
            return None
    try:
        return make_mods(config.mods)
    except UserError as error:
        print(f"{PROG}: without {_of(config.mods)}: {error}", file=sys.stderr)
        return None


def _of_audit(folder: RunFolder) -> Sequence[ReportSection]:
    try:
        return audit_section.of(folder.path)
    except UserError as error:
        print(f"{PROG}: without the section of the audit: {error}", file=sys.stderr)
        return ()
