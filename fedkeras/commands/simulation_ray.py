"""Where `fedkeras simulate` lets its clients run: on a Ray of its own, here, or on the machines of a cluster."""

import os
from dataclasses import dataclass
from pathlib import Path

from fedkeras.config import Config
from fedkeras.data.catalogue import kind_of_file
from fedkeras.errors import UserError
from fedkeras.flower.ray_cluster import LOCAL, RayNode, nodes_of, require_room
from fedkeras.gpus import NEEDS_GPU, check_share, visible_gpus


@dataclass(frozen=True)
class RayPlan:
    """`address` is RAY_ADDRESS in the run's processes; a client takes so many `cpus` and `gpus`."""

    address: str
    cpus: int
    gpus: float
    said: str
    """One line for the terminal."""

    @property
    def environment(self) -> dict[str, str]:
        """What is set in the run's processes; that a GPU was promised is known to those of this machine alone."""
        promised = {NEEDS_GPU: f"{self.gpus:g}"} if self.gpus and self.address == LOCAL else {}
        return {"RAY_ADDRESS": self.address, **promised}

    @property
    def federation(self) -> str:
        """What `flwr run --federation-config` is told of it."""
        gpus = f" client-resources-num-gpus={self.gpus:g}" if self.gpus else ""
        return f"client-resources-num-cpus={self.cpus}{gpus}"


def plan_of(address: str, gpus: float, config: Config) -> RayPlan:
    """The plan for --ray-address and --gpus-per-client. Raises UserError for what the machines do not have.

    Without an address RAY_ADDRESS counts, as everywhere with Ray; without that too, a Ray of the run's own is started,
    even where a cluster runs on this machine, which Ray would join without a word.
    """
    check_share(gpus)
    given = address or os.environ.get("RAY_ADDRESS", "") or LOCAL
    many = f"simulating {config.num_partitions} clients"
    if given == LOCAL:
        cpus = min(config.threads_per_client, os.cpu_count() or 1)  # Ray waits for ever for a CPU more than there is
        if gpus:
            _require_gpus(nodes_of(LOCAL), gpus)
        unused = " (its GPUs are not used without --gpus-per-client)" if not gpus and visible_gpus() else ""
        return RayPlan(LOCAL, cpus, gpus, f"{many}{unused}: Flower and Ray start first, some 20 seconds")
    nodes = nodes_of(given, _paths(config))
    cpus = config.threads_per_client
    room = require_room(given, nodes, cpus, gpus)
    source = "" if address else " (RAY_ADDRESS)"
    machines = ", ".join(
        f"{node.name}: {node.cpus:g} CPUs" + f", {node.gpus:g} GPUs" * bool(node.gpus) for node in nodes
    )
    return RayPlan(given, cpus, gpus, f"{many}, {room} at once, on the Ray cluster at {given}{source}: {machines}")


def _require_gpus(nodes: list[RayNode], gpus: float) -> None:
    if not any(node.clients(1, gpus) for node in nodes):
        found = sum(node.gpus for node in nodes)
        raise UserError(f"--gpus-per-client is {gpus:g}, and Ray finds {found:g} GPUs on this machine: leave it out")


def _paths(config: Config) -> list[Path]:
    """What every machine reads for itself: files that the flags name, absolute by now."""
    own_model = config.model.endswith((".keras", ".h5"))
    own_file = bool(kind_of_file(config.dataset)) and not config.data_dir
    named = [(config.data_dir, bool(config.data_dir)), (config.model, own_model), (config.dataset, own_file)]
    return [Path(path) for path, is_file in named if is_file]
