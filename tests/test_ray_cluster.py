"""A simulation on a Ray cluster: what is asked of the machines before, and that clients run on all of them."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, MetricRecord, RecordDict

from fedkeras.commands import simulate, simulation_ray
from fedkeras.commands.process_tree import end_tree
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.flower import ray_place
from fedkeras.flower.internals import act_as
from fedkeras.flower.ray_cluster import RayNode, nodes_of, require_room
from fedkeras.reports import RunFolder
from fedkeras.reports.checkpoints import newest_checkpoint

SLOW_MACHINE = 240.0
FLAGS = ["--num-partitions", "4", "--num-server-rounds", "2", "--model", "logistic_regression", "--seed", "7"]
ONE_PROCESS = """
import sys
from pathlib import Path
from fedkeras import client, server
from fedkeras.config import Config
server.in_process(Config.from_flags(sys.argv[1:], "server.py", None), client.app, Path("runs"))
"""

# What is asked before


def test_clients_fit_machine_by_machine():
    """Two machines of three CPUs take two clients of two CPUs, not three."""
    nodes = [RayNode("a", 3.0, 1.0), RayNode("b", 3.0, 0.0)]
    assert require_room("h:1", nodes, 2, 0) == 2
    assert require_room("h:1", nodes, 1, 0) == 6
    assert require_room("h:1", nodes, 1, 0.5) == 2, "half a GPU each, and b has none"
    with pytest.raises(UserError, match=r"a client needs 4 CPUs and 0\.5 GPUs, and no machine has that \(a: 3 CPUs"):
        require_room("h:1", nodes, 4, 0.5)
    with pytest.raises(UserError, match=r"--ray-address h:1: on b there is no fedkeras"):
        require_room("h:1", [nodes[0], RayNode("b", 3.0, 0.0, "there is no fedkeras")], 1, 0)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nowhere", "--ray-address is 'nowhere'; give HOST:PORT"),
        (":6379", "give HOST:PORT"),
        ("127.0.0.1:x", "give HOST:PORT"),
        ("127.0.0.1:99999", "nothing answers there"),
    ],
)
def test_an_address_that_is_none_is_refused_at_once(address, said):
    with pytest.raises(UserError, match=re.escape(said)):
        nodes_of(address)


def test_an_address_where_nothing_listens_is_refused_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(UserError, match=f"--ray-address 127.0.0.1:{port}: nothing answers there"):
            nodes_of(f"127.0.0.1:{port}")


def test_without_an_address_a_run_has_a_ray_of_its_own_and_rays_own_variable_counts(monkeypatch):
    """Ray alone would join a cluster that happens to run on this machine."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    plan = simulation_ray.plan_of("", 0.0, Config())
    assert (plan.address, plan.federation) == ("local", "client-resources-num-cpus=1")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:77")
    asked = []
    monkeypatch.setattr(simulation_ray, "nodes_of", lambda *given: asked.append(given) or [RayNode("a", 3.0, 1.0)])
    plan = simulation_ray.plan_of("", 0.25, Config(model="/m.keras", data_dir="/d", dataset="mnist"))
    assert asked == [("127.0.0.1:77", [Path("/d"), Path("/m.keras")])]
    assert plan.federation == "client-resources-num-cpus=1 client-resources-num-gpus=0.25"
    assert "simulating 3 clients, 3 at once, on the Ray cluster at 127.0.0.1:77 (RAY_ADDRESS): a: 3 CPUs" in plan.said
    assert simulation_ray.plan_of("h:1", 0.0, Config(threads_per_client=2)).cpus == 2


def test_the_flags_are_the_commands_own(capsys):
    with pytest.raises(UserError, match="gpus-per-client must be at least"):
        simulate.main(["--gpus-per-client=-1"])
    with pytest.raises(UserError, match="--ray-address is 'here'"):
        simulate.main(["--ray-address", "here"])


# Where a client ran


def reply(**records):
    act_as(1, 1)
    asked = Message(RecordDict(), 2, "train")
    return Message(RecordDict(records), reply_to=asked)


def test_a_reply_says_where_it_was_made_and_then_no_longer():
    told = reply(metrics=MetricRecord({"loss": 1.0}), place=ConfigRecord({"node": "10.0.0.1 (abc)"}))
    assert ray_place.taken(told) == "10.0.0.1 (abc)"
    assert list(told.content) == ["metrics"] and ray_place.taken(told) == ""
    assert ray_place.taken(reply(place=ConfigRecord({"node": 3}))) == ""
    assert ray_place.taken(reply(place=MetricRecord({"node": 3}))) == ""
    assert ray_place.taken(Message(Error(1, "no"), reply_to=Message(RecordDict(), 2, "train"))) == ""


def test_who_is_no_ray_worker_says_nothing_even_if_asked(monkeypatch):
    assert "place" not in ray_place.noted(reply(), asked=True).content
    for address, cluster in (("", False), ("local", False), ("auto", True), ("h:1", True)):
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert ray_place.wanted() == cluster


# The real thing


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A head and a second node on this machine, a CPU each; its address."""
    folder = Path("/tmp") / f"fkray{os.getpid()}"  # Ray's sockets lie there, and their paths must be short
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    ray = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--disable-usage-stats", "--num-cpus", "1"]
    ray += ["--object-store-memory", "100000000", "--node-ip-address", "127.0.0.1"]
    head = [*ray, "--head", "--port", address.split(":")[1], "--include-dashboard=false", "--temp-dir", str(folder)]
    log = (tmp_path_factory.mktemp("ray") / "log").open("w")
    streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT, "start_new_session": True}
    started = [subprocess.Popen(head, **streams)]
    try:
        deadline = time.monotonic() + SLOW_MACHINE
        while socket.socket().connect_ex(("127.0.0.1", int(address.split(":")[1]))) and time.monotonic() < deadline:
            time.sleep(0.2)
        started.append(subprocess.Popen([*ray, "--address", address], **streams))
        while len(nodes_of(address)) < 2:
            assert time.monotonic() < deadline, Path(log.name).read_text()
        yield address
    finally:
        for process in reversed(started):
            end_tree(process, 10.0)


def weights(parent: Path) -> dict[str, np.ndarray]:
    (run,) = (parent / "runs").iterdir()
    return newest_checkpoint(RunFolder(run)).weights


@pytest.mark.slow
def test_clients_run_on_both_machines_and_give_the_bits_of_one_process(cluster, tmp_path):
    places = {"ray": [sys.executable, "-m", "fedkeras", "simulate", *FLAGS, "--ray-address", cluster]}
    places["one"] = [sys.executable, "-c", ONE_PROCESS, *FLAGS]
    for name, command in places.items():
        (tmp_path / name).mkdir()
        done = subprocess.run(command, cwd=tmp_path / name, capture_output=True, text=True, timeout=SLOW_MACHINE)
        assert done.returncode == 0, done.stdout + done.stderr
        if name == "ray":
            said = done.stdout
    assert f"simulating 4 clients, 2 at once, on the Ray cluster at {cluster}: " in said
    (run,) = (tmp_path / "ray" / "runs").iterdir()
    nodes = json.loads((run / "summary.json").read_text())["ray_nodes"]
    assert len(nodes) == 2 and min(nodes.values()) >= 1
    assert sum(nodes.values()) == 1 + 2 * (4 + 4), "the first weights, and two rounds"
    assert "clients ran on: " in said
    expected = weights(tmp_path / "one")
    assert all(np.array_equal(array, expected[name]) for name, array in weights(tmp_path / "ray").items())
    missing = [*places["ray"], "--data-dir", str(tmp_path / "nowhere"), "--dataset", "mnist"]
    done = subprocess.run(missing, cwd=tmp_path, capture_output=True, text=True, timeout=SLOW_MACHINE)
    assert done.returncode == 2
    assert re.search(r"on \S+ \(\w{6}\) there is no .*nowhere: the data must lie", done.stderr), done.stderr
