"""`fedkeras simulate [flags of server.py]`: `flwr run .` with what it alone leaves to find out.

That is: as many virtual clients as partitions and one CPU each (Flower's defaults are 2 and 2); the
environment that is already installed (Flower makes a new one with uv for each run, minutes with TensorFlow); absolute
paths; and a SuperLink of its own, which ends with the run, where Flower's stays and may serve another checkout's code.
"""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedkeras import lifeline
from fedkeras.checkout import ROOT, is_checkout, program, typed, version
from fedkeras.commands.guarded import guarded
from fedkeras.commands.process_tree import end_tree
from fedkeras.commands.simulation_ray import plan_of
from fedkeras.config import EVALUATION, SECURITY, SERVER_LED, Config, Value, fields_of, flag
from fedkeras.data.catalogue import kind_of_file
from fedkeras.errors import RunFailed, UserError
from fedkeras.federation import round_clock
from fedkeras.federation.client_speeds import with_absolute_path
from fedkeras.fields import FlagGroup, embedded, setting
from fedkeras.flags import parse_flags
from fedkeras.reports import DIVERGED, RunFolder, check_extras, live, no_result, resuming
from fedkeras.workflows.base import workflow_of
from fedkeras.workflows.flag_checks import check_flags

PROG = program("simulate")
SAID = "server.py: "
"""How server.py begins the line in which it says what went wrong."""
START_SECONDS = 60.0
END_SECONDS = 5.0
"""Given to Flower and Ray to end by themselves; by then everything of the run is written, or it was interrupted."""

_NOISE = re.compile(
    "|".join(
        [
            r"WARNING: All log messages before absl",
            r"[IWE]\d{4} [\d:.]+ +\d+ \w+\.cc",
            r"To enable the following instructions: .*, in other operations, rebuild TensorFlow",
            r"FutureWarning: Tip: In future versions of Ray|^  warnings\.warn\($",
            r"DeprecationWarning: __array__ implementation doesn't accept a copy keyword|^  return np\.array\(x\)$",
            r"Manually terminating ClientAppActor",
            r"default simulated SuperNodes changed|To change federation size|flwr federation simulation-config",
            r"^Using SuperLink: local|^Successfully started run|^Successfully installed",
            r"Starting logstream for run_id|Starting Flower Simulation|Federation `.*simulated SuperNodes",
        ]
    )
)
"""Lines that TensorFlow, Ray and Flower print at every start and that say nothing about this run."""


OF_OUR_SERVER = (
    "host", "port", "max_message_mb", "spawn", "release", "app", "app_config", "reconnect_grace",
    *fields_of(group=SECURITY),
    *fields_of(group=SERVER_LED),
    *fields_of(group=EVALUATION),
)  # fmt: skip
"""Fields of Config that mean nothing here: Flower moves the messages, and all clients are of this machine."""


RAY = FlagGroup("Ray", "Where the clients run, and how many at once.")


@dataclass(frozen=True)
class SimulateFlags:
    """Run server and clients in Flower's simulation on Ray, here or on a cluster; the other flags are server.py's."""

    ray_address: str = setting("", RAY)
    """HOST:PORT of a Ray cluster's head, or auto: the one this machine is in; unset: a Ray of this run's own, here."""
    config: Config = embedded(Config, hidden=OF_OUR_SERVER)


def main(args: Sequence[str]) -> int:
    """Run the simulation; returns 0 if it finished. Raises UserError, RunFailed."""
    flags = parse_flags(SimulateFlags, args, PROG)
    config = _absolute(resuming.from_flags(args, PROG, _read))
    if config.evaluate:
        raise UserError(f"a run is tested again without Ray: {typed('evaluate', config.evaluate)}")
    if resuming.already_finished(config):
        return 0
    if importlib.util.find_spec("ray") is None:
        raise UserError(
            f"Ray is missing: there is none for Python 3.13 on Windows; use `{typed('server', '--spawn', 2)}`"
        )
    check_extras(config)
    check_flags(workflow_of(config), config)  # what needs no model is said now, and not by Ray in half a minute
    round_clock.refuse_turns(config, "in a simulation clients take turns")
    plan = plan_of(flags.ray_address, config.gpus_per_client, config)
    config = replace(config, gpus_per_client=0.0)  # Ray is told, and the server has no processes to deal them out to
    if config.resume:
        resuming.keep_settings(config)
    with _ended_by_sigterm(), _home() as home:
        print(plan.said, flush=True)
        relay = home / "live"
        with (
            live.following(relay, config.num_partitions, config.num_server_rounds),
            superlink(home, {live.RELAY: str(relay), **plan.environment}) as environment,
        ):
            federation = f"num-supernodes={config.num_partitions} {plan.federation}"
            overrides = home / "run.toml"
            overrides.write_text(_toml(_overrides(config)))
            command = [_program("flwr"), "run", str(app_folder(home)), "--stream", "--run-config", str(overrides)]
            folder = _show([*command, "--federation-config", federation], environment, Path(config.run_dir))
    return _verdict(folder)


def _overrides(config: Config) -> dict[str, Value]:
    """What the server app gets: all that is no default; of a run to resume its folder, where the rest stands."""
    return {"resume": config.resume} if config.resume else changed(config)


def changed(config: Config) -> dict[str, Value]:
    """The run configuration's keys that differ from pyproject.toml's defaults."""
    return {flag(name): getattr(config, name) for name in config.changed()}


def _read(args: Sequence[str] | None, prog: str, default: Config | None) -> Config:
    return parse_flags(SimulateFlags, args, prog, None if default is None else SimulateFlags(config=default)).config


def app_folder(home: Path) -> Path:
    """What `flwr run` is given: the checkout; of an installed package a folder in `home` that names its two apps.

    Flower's processes have the packages of this environment, so nothing but the table need be in the bundle.
    """
    if is_checkout():
        return ROOT
    tables = {
        "project": {
            "name": "fedkeras",
            "version": version(),
            "description": "fedkeras as installed",
            "license": "Apache-2.0",
        },
        "tool.flwr.app": {"publisher": "fedkeras"},
        "tool.flwr.app.components": {"serverapp": "fedkeras.server:app", "clientapp": "fedkeras.client:app"},
        "tool.flwr.app.config": Config().to_run_config(),
    }
    folder = home / "fedkeras-app"
    folder.mkdir()
    (folder / "pyproject.toml").write_text("".join(f"[{name}]\n{_toml(table)}\n" for name, table in tables.items()))
    return folder


def _toml(table: Mapping[str, Value]) -> str:
    """Lines of a TOML table: its booleans, numbers and texts are written as JSON's are."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())


@contextlib.contextmanager
def superlink(home: Path, more: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
    """Run a SuperLink for simulations on free ports; yields the environment in which `flwr` finds it.

    `more` is set in that environment, which is the run's as well.
    """
    http_port, control_port = _free_ports()
    environment = {
        **os.environ,
        **(more or {}),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),  # for Flower's tools
        "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), _users_folder()])),
        "FLWR_HOME": str(home),
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(http_port),
        "FLWR_LOCAL_CONTROL_API_PORT": str(control_port),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "KERAS_BACKEND": "tensorflow",  # here already: Flower and Ray come to import Keras before the app does
        "PYTHONWARNINGS": "ignore",
    }
    command = [_program("flower-superlink"), "--insecure", "--simulation", "--isolation", "subprocess"]
    command += ["--host", "127.0.0.1", "--port", str(http_port), "--control-api-address", f"127.0.0.1:{control_port}"]
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text('[superlink]\ndefault = "local"\n\n[superlink.local]\naddress = ":local:"\n')
    # A session of its own, so that Ctrl-C in the terminal reaches this process alone, which then ends the others. The
    # working directory is an empty one, because Ray's clients import from there before they look into the app's bundle.
    with (home / "superlink.log").open("w") as log:
        streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
        tied = lifeline.tied(environment)
        process = subprocess.Popen(guarded(command), cwd=home, start_new_session=True, **streams, **tied)
    try:
        _wait_until_open(http_port, process, home / "superlink.log")
        yield {**environment, "FEDKERAS_SUPERLINK": str(process.pid)}
    finally:
        end_tree(process, END_SECONDS)


def _users_folder() -> str:
    """Where `--model mine:make` is looked for, as in the other runtimes; not where another fedkeras lies, or none."""
    here = Path.cwd()
    return "" if (here / "fedkeras").exists() else str(here)


def _show(command: Sequence[str], environment: dict[str, str], runs: Path) -> Path | None:
    """Run `flwr run --stream` and pass on what it prints, without the noise. Returns the run's folder, if it says one.

    Raises RunFailed, or UserError where the run had not begun, with what server.py said of its failure.
    """
    said, folder = "", None
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        for line in run.stdout:
            if said:
                continue  # Flower's traceback of what has just been said in one line
            if line.startswith(SAID):
                said = line.removeprefix(SAID).strip()
            elif not _NOISE.search(line):
                print(line, end="", flush=True)
            if Path(line.strip()).parent == runs:
                folder = Path(line.strip())
    if said:
        raise RunFailed(said) if folder else UserError(said)
    if run.returncode:
        raise RunFailed(f"`flwr run` ended with status {run.returncode}")
    return folder


def _verdict(folder: Path | None) -> int:
    """Flower's own exit status is 0 for a failed run too: the run folder tells. A run ends by saying its folder."""
    if folder is None:
        raise RunFailed("the simulation ended before its run did; what Flower printed above says why")
    status = json.loads((folder / "summary.json").read_text())["status"]
    if status == DIVERGED:
        raise no_result(RunFolder(folder))
    if status != "finished":
        raise RunFailed(f"the run is {status}; see {folder / 'run.log'}")
    return 0


@contextlib.contextmanager
def _home() -> Iterator[Path]:
    """A folder for Flower's files of this run."""
    with tempfile.TemporaryDirectory(prefix="fedkeras-flwr-", ignore_cleanup_errors=True) as home:
        yield Path(home)


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM as Ctrl-C: without it the SuperLink, the simulation and Ray would stay."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _absolute(config: Config) -> Config:
    """Paths as they are meant here: Flower runs the app in a directory of its own. Raises UserError."""
    if not config.deals:
        raise UserError("--partitioner own is for clients that somebody starts: client.py --data FILE")
    own_model = config.model.endswith((".keras", ".h5"))
    own_file = bool(kind_of_file(config.dataset)) and not config.data_dir  # else it lies there
    run = str(Path(config.resume).absolute()) if config.resume else ""
    return replace(
        config,
        resume=run,
        run_dir=str(Path(run).parent if run else Path(config.run_dir or "runs").absolute()),
        data_dir=str(Path(config.data_dir).absolute()) if config.data_dir else "",
        model=str(Path(config.model).absolute()) if own_model else config.model,
        dataset=str(Path(config.dataset).absolute()) if own_file else config.dataset,
        clients=with_absolute_path(config.clients),
    )


def _program(name: str) -> str:
    """A command of Flower's in the environment that runs this."""
    path = shutil.which(name, path=str(Path(sys.executable).parent))
    if path is None:
        raise UserError(f"{name} is missing beside {sys.executable}: pip install 'flwr[simulation]'")
    return path


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def _wait_until_open(port: int, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            last = " ".join(log.read_text(errors="replace").split()[-40:])
            raise RunFailed(f"Flower's SuperLink ended at once with status {process.returncode}: {last}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.05)
    raise RunFailed(f"Flower's SuperLink did not open its port within {START_SECONDS:g} s")
