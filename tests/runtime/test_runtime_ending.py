"""How programs end when they cannot go on: Ctrl-C, SIGTERM, a port in use, a server that fails with its own clients."""

import contextlib
import json
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from processes import Starter, until

from fedkeras.config import Config
from fedkeras.reports.history import read_rows
from fedkeras.runtime import spawn

LONG = ("--num-server-rounds", 1000, "--num-partitions", 1, "--no-central-evaluation")


def one_line(text: str) -> str:
    (line,) = text.splitlines()
    return line


@pytest.mark.parametrize("ending", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_server_interrupted_in_mid_run_leaves_a_readable_folder(start: Starter, ending: signal.Signals) -> None:
    server, address = start.toy_server(*LONG)
    client = start.toy(address, 0, "--seconds", 0.05)
    server.said("\n    2 ")
    server.popen.send_signal(ending)
    assert server.ended(30) == 130
    first, last = server.complaints
    assert first.startswith("server.py: finishing round ") and last == "server.py: interrupted"
    folder = start.run_folder()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert Config.load(folder / "config.json").num_server_rounds == 1000
    rows = read_rows(folder / "history.csv")
    assert summary["rounds"] == max(row["round"] for row in rows) >= 2
    assert client.ended(30) == 3
    assert "the server was interrupted" in one_line(client.err)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_server_interrupted_while_it_waits_for_clients(start: Starter, ending: signal.Signals) -> None:
    server, _ = start.server(*LONG)
    server.popen.send_signal(ending)
    assert server.ended(30) == 130
    assert one_line(server.err) == "server.py: interrupted"


def test_a_client_interrupted_in_mid_run(start: Starter) -> None:
    """Ctrl-C at one client: one line and status 130 there; the server, which has no other, names it and waits."""
    server, address = start.server(*LONG)
    client = start.client(address, 0)
    server.said("\n    2 ")
    client.popen.send_signal(signal.SIGINT)
    assert client.ended(30) == 130
    assert one_line(client.err) == "client: interrupted"
    log = start.run_folder() / "run.log"
    until(lambda: "client 0 is gone" in log.read_text(), "the server's word on it", 20)
    assert server.popen.poll() is None


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_client_interrupted_in_the_middle_of_its_epochs(start: Starter, ending: signal.Signals) -> None:
    """A round's epochs are one call of a graph, here of minutes, in which Python runs nothing else in that thread."""
    server, address = start.server(*LONG, "--local-epochs", 10_000)
    client = start.client(address, 0)
    client.said("ready")
    time.sleep(3)
    client.popen.send_signal(ending)
    assert client.ended(10) == 130
    assert one_line(client.err) == "client: interrupted"
    until(lambda: "client 0 leaves: it was interrupted" in server.err, "the server's word on it", 20)


def test_a_client_interrupted_while_it_waits_for_a_server(start: Starter) -> None:
    """TensorFlow is being imported at that time, which neither hides the line nor spoils the status."""
    client = start.client("127.0.0.1:1", 0)
    client.said("waiting for the server")
    client.popen.send_signal(signal.SIGINT)
    assert client.ended(30) == 130
    assert one_line(client.err) == "client: interrupted"


def test_a_port_in_use(start: Starter) -> None:
    first, address = start.server()
    second = start.python(Path(__file__).resolve().parents[2] / "server.py", "--port", address.split(":")[1])
    assert second.ended(30) == 2
    line = one_line(second.err)
    assert line.startswith(f"server.py: cannot listen on {address}: the port is in use")
    assert second.out == ""
    assert first.popen.poll() is None


def test_a_client_that_may_not_join_ends_with_a_line(start: Starter) -> None:
    """While TensorFlow is still being imported."""
    _, address = start.server()
    client = start.client(address, 7)
    assert client.ended() == 2
    assert one_line(client.err).startswith("client.py: the server refused this client: --cid 7 does not exist")


@pytest.mark.slow
def test_a_data_dir_that_does_not_exist(start: Starter) -> None:
    images, labels = np.zeros((20, 28, 28), np.uint8), np.arange(20, dtype=np.uint8) % 10
    npz = start.folder / "mnist.npz"
    np.savez(npz, x_train=images, y_train=labels, x_test=images, y_test=labels)
    server, address = start.server("--dataset", "mnist", "--num-partitions", 1, "--data-dir", start.folder)
    client = start.client(address, 0, "--data-dir", start.folder / "nowhere")
    status = client.ended()
    assert server.popen.poll() is None, server.err
    assert status == 2
    assert "nowhere" in one_line(client.err)


def belongs_to(start: Starter) -> list[str]:
    """Processes that run in the test's folder: what the server spawned inherits it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").resolve() == start.folder.resolve():
                found.append(process.name)
    return found


BROKEN = """
from fedkeras.strategies.fedavg import FedAvg

class Broken(FedAvg):
    def configure_train(self, *args):
        raise ValueError("no such option")
"""


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for child processes in Linux's /proc")
@pytest.mark.parametrize("ending", ["fails", signal.SIGTERM])
def test_spawned_clients_end_with_a_server_that_does_not_finish(start: Starter, ending: object) -> None:
    """It fails over its strategy, or is sent SIGTERM, when it has started them."""
    flags = ("--spawn", 2, "--num-server-rounds", 1000)
    if ending == "fails":
        (start.folder / "broken.py").write_text(BROKEN)
        flags += ("--strategy", "broken:Broken")
    server, _ = start.server(*flags)
    if ending != "fails":
        spawned = until(lambda: children(server.popen.pid), "spawned clients")
        server.popen.send_signal(ending)
        assert server.ended(60) == 130
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in spawned), "the end of the spawned clients", 5)
    else:
        assert server.ended(60) == 3
    assert "Traceback" not in server.err
    until(lambda: not belongs_to(start), "no process of this test's folder is left", 5)


def test_spawned_clients_are_ended_and_not_waited_for_when_something_fails() -> None:
    """Even if they never found a server: left alone, they would look for it for a minute."""
    started = time.monotonic()
    ended = []
    with (
        pytest.raises(ValueError, match="something"),
        spawn.clients(Config(spawn=2, num_partitions=4), 1, ended.append, True) as processes,
    ):
        assert [process.poll() for process in processes] == [None, None]
        raise ValueError("something")
    assert time.monotonic() - started < spawn.GRACE_SECONDS
    assert all(process.returncode for process in processes)
    until(lambda: ended, "word that nobody is left", 5)


def test_what_only_clients_can_find_wrong_ends_the_run_soon(start: Starter) -> None:
    """A client says why it goes; once all spawned ones are gone, the server waits for nobody."""
    own = ["--no-central-evaluation", "--dataset", "mnist", "--data-dir", "/nowhere"]  # of which a server needs nothing
    server, _ = start.server("--spawn", 2, *own)
    assert server.ended(90) == 3
    assert "leaves: --data-dir /nowhere is not a folder" in server.err
    assert "Traceback" not in server.err
    assert "to come back" not in (start.run_folder() / "run.log").read_text(), "who has said goodbye is not waited for"
    assert server.err.splitlines()[-1].startswith(("server.py: ", "client.py: "))


def test_spawned_clients_are_started_with_what_the_server_permits() -> None:
    """Code that the person at the server trusts is trusted by the clients that the server starts, and no other."""
    config, allow = Config(spawn=2, num_partitions=4), "mods=mine:Clip,objectives=mine:Own"
    plain, permitted = spawn.client_flags(config, 1, "", False), spawn.client_flags(config, 1, allow, True)
    assert plain == ["--server", "127.0.0.1:1", "--sent-log", "none"]
    assert permitted == [*plain[:2], "--allow", allow, *plain[2:], "--trust-code"]
    assert spawn.client_flags(replace(config, insecure=True), 1, "", False) == [*plain, "--insecure"]


def test_the_processes_of_a_run_that_is_not_shareable_share_no_partition() -> None:
    """Nor of another app, which may keep something in context.state, nor as many processes as partitions share any."""
    config = Config(spawn=2, num_partitions=5)
    assert spawn.partition_flags(config, True) == [["--cid", "0-4", "--shared"]] * 2
    own = [["--cid", "0,2,4"], ["--cid", "1,3"]]
    assert spawn.partition_flags(config, False) == own
    assert spawn.partition_flags(replace(config, app="folder"), True) == own
    assert spawn.partition_flags(replace(config, num_partitions=2), True) == [["--cid", "0"], ["--cid", "1"]]


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("10.1.2.3", "10.1.2.3")],
)
def test_spawned_clients_go_where_the_server_listens(host: str, address: str) -> None:
    assert spawn.address_here(host) == address
