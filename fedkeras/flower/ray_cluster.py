"""A Ray cluster before a simulation is sent there: its machines, what they can take, and whether they have the code.

Ray ships neither code nor data of ours: each machine needs the same fedkeras, in the same Python and Ray, and the data
set's files under the same path. Flower would find out in the middle of a run, by tracebacks.

The cluster is asked by a process of its own (`python -m fedkeras.flower.ray_cluster ADDRESS PATH...` prints a line of
JSON), because a connection to Ray, once made, stays with its process.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedkeras.errors import UserError, one_line
from fedkeras.flower import code_digest

AUTO = "auto"
"""The cluster that this machine belongs to."""
LOCAL = "local"
"""A Ray of one's own, even where a cluster runs on this machine: Ray would silently join that one."""
CONNECT_SECONDS = 5.0
ASK_SECONDS = 60.0
TASK_SECONDS = 40.0


@dataclass(frozen=True)
class RayNode:
    """A machine of the cluster; `problem` is what keeps clients from running there, "" if nothing does."""

    name: str
    cpus: float
    gpus: float
    problem: str = ""

    def clients(self, cpus: float, gpus: float) -> int:
        """How many clients that need so much fit at once, as Flower counts them."""
        fit = int(self.cpus / cpus)
        return min(fit, int(self.gpus / gpus)) if gpus else fit


def nodes_of(address: str, paths: Sequence[Path] = ()) -> list[RayNode]:
    """The machines of the cluster at HOST:PORT, or AUTO. `paths` are files that each must have. Raises UserError."""
    if address not in (AUTO, LOCAL):
        _require_open(address)
    command = [sys.executable, "-m", "fedkeras.flower.ray_cluster", address, *map(str, paths)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_SECONDS)
    except subprocess.TimeoutExpired:
        raise UserError(f"--ray-address {address}: no Ray cluster has answered within {ASK_SECONDS:g} s") from None
    lines = done.stdout.splitlines()
    try:
        found = json.loads(lines[-1] if lines else "")
    except ValueError:
        last = one_line(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"status {done.returncode}")
        raise UserError(f"--ray-address {address}: the cluster could not be asked: {last}") from None
    if "error" in found:
        raise UserError(f"--ray-address {address}: {found['error']}")
    return [RayNode(**node) for node in found["nodes"]]


def require_room(address: str, nodes: Sequence[RayNode], cpus: float, gpus: float) -> int:
    """How many clients run there at once, each with so many CPUs and GPUs. Raises UserError if that is none."""
    if faulty := [node for node in nodes if node.problem]:
        raise UserError(f"--ray-address {address}: on {faulty[0].name} {faulty[0].problem}")
    room = sum(node.clients(cpus, gpus) for node in nodes)
    if not room:
        needs = f"{cpus:g} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
        has = "; ".join(f"{node.name}: {node.cpus:g} CPUs, {node.gpus:g} GPUs" for node in nodes)
        raise UserError(f"--ray-address {address}: a client needs {needs}, and no machine has that ({has})")
    return room


def _require_open(address: str) -> None:
    """Ray itself tries for half a minute, and then prints a page."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--ray-address is '{address}'; give HOST:PORT, as `ray start --head` says it, or {AUTO}")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"--ray-address {address}: nothing answers there ({why}); `ray start --head` starts a cluster and says its "
            "address"
        ) from None


def _survey(address: str, paths: Sequence[str]) -> dict:
    """Asks each machine by a task of no CPU. Runs in the process of its own."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    variables = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # as Flower has it for its workers
    try:
        ray.init(address, logging_level="ERROR", log_to_driver=False, runtime_env={"env_vars": variables})
    except ConnectionError as error:
        return {"error": f"there is no Ray cluster ({one_line(str(error))[:200]})"}
    except RuntimeError as error:
        return {"error": one_line(str(error))[:300]}
    here = code_digest.digest()
    task = ray.remote(_look)
    asked = []
    for node in ray.nodes():
        resources = node["Resources"]
        if node["Alive"] and resources.get("CPU", 0):  # a head may be there to lead alone
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": there}
            asked.append((node, task.options(**options).remote(here, list(paths))))
    nodes = []
    for node, answer in asked:
        try:
            problem = ray.get(answer, timeout=TASK_SECONDS)
        except Exception as error:  # noqa: BLE001 - whatever keeps a machine from answering is what is wrong with it
            problem = f"nothing can be run: {one_line(str(error).strip().splitlines()[-1])[:200]}"
        nodes.append({
            "name": f"{node['NodeManagerAddress']} ({node['NodeID'][:6]})",
            "cpus": node["Resources"].get("CPU", 0.0),
            "gpus": node["Resources"].get("GPU", 0.0),
            "problem": problem,
        })  # fmt: skip
    return {"nodes": nodes}


def _look(expected: str, paths: Sequence[str]) -> str:
    """On a machine of the cluster: what is missing there, "" if nothing is."""
    import importlib.util
    import pathlib

    if importlib.util.find_spec("fedkeras") is None:
        return "there is no fedkeras: install the same version there (`pip install fedkeras`)"
    from fedkeras.checkout import ROOT
    from fedkeras.flower import code_digest

    if code_digest.digest() != expected:
        return f"fedkeras is another one than here (in {ROOT}): install the same version there"
    missing = [path for path in paths if not pathlib.Path(path).exists()]
    return f"there is no {missing[0]}: the data must lie under the same path on every machine" if missing else ""


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        answer = _survey(sys.argv[1], sys.argv[2:])
    print(json.dumps(answer))
