"""An app that knows nothing of us, run by `--app` in real processes: the figures of a plain computation, and of Flower.

The app is tests/apps/sklearn_app, as `flwr new` would lay it out.
"""

import importlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from processes import ROOT, Starter

from fedkeras.commands import simulate

APP = ROOT / "tests" / "apps" / "sklearn_app"
CLIENTS, ROUNDS, EPOCHS, PENALTY = 3, 4, 6, 0.02
CONFIG = {"num-server-rounds": ROUNDS, "min-nodes": CLIENTS, "solver.local-epochs": EPOCHS, "solver.penalty": PENALTY}


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The app's own functions, to compute with them what should come out."""
    monkeypatch.syspath_prepend(str(APP))
    return importlib.import_module("sklearn_app.task")


@pytest.fixture
def app_config(tmp_path: Path) -> str:
    """`--app-config` for this test's report."""
    return ",".join(f"{key}={value}" for key, value in {**CONFIG, "report": tmp_path / "report.json"}.items())


def plain(task: ModuleType) -> list[dict]:
    """Federated averaging as one loop without Flower: the server's loss and accuracy by round."""
    parts = [task.load_partition(cid, CLIENTS) for cid in range(CLIENTS)]
    shares = np.array([len(y) for _, y in parts]) / sum(len(y) for _, y in parts)
    assert shares == pytest.approx([1 / 4, 1 / 4, 1 / 2], abs=0.01)  # or else a mean without weights would pass
    weights, rounds = task.initial_weights(), []
    for _ in range(ROUNDS):
        trained = [task.train(weights, x, y, EPOCHS, PENALTY) for x, y in parts]
        weights = [sum(share * each[layer] for share, each in zip(shares, trained, strict=True)) for layer in (0, 1)]
        rounds.append((*task.evaluate(weights, *task.load_test()), weights))
    return rounds


def check(report: dict, task: ModuleType) -> None:
    """The report holds what the plain loop computes, and every node has a state of its own that lasts."""
    assert report["run-config"].items() >= {**CONFIG, "solver.verbose": False}.items()
    for number, (loss, accuracy, _) in enumerate(plain(task), start=1):
        got = report["server"][str(number)]
        assert (got["loss"], got["accuracy"]) == (pytest.approx(loss, rel=1e-6), accuracy), number
        # Each node has trained once in each round, and been tested once in each round before.
        counted = report["training"][str(number)]
        assert counted == {"times-trained": pytest.approx(number), "messages": pytest.approx(2 * number - 1)}
    for got, expected in zip(report["weights"], plain(task)[-1][2], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)
    assert report["server"][str(ROUNDS)]["accuracy"] > 0.94


@pytest.mark.slow
def test_an_app_of_scikit_learn_gives_the_figures_of_a_plain_loop(
    start: Starter, tmp_path: Path, task: ModuleType, app_config: str
) -> None:
    """One process serves two partitions: with one state for both, the counters would run twice as fast."""
    server, address = start.server("--app", APP, "--num-partitions", CLIENTS, "--app-config", app_config)
    clients = [start.client(address, cids, "--app", APP) for cids in ("0,2", "1")]
    assert [process.ended() for process in (server, *clients)] == [0, 0, 0], server.err + clients[0].err
    check(json.loads((tmp_path / "report.json").read_text()), task)
    assert server.out.splitlines()[2:] == ["sklearn_app begins", "sklearn_app ends"]  # its lifespan
    assert [client.err for client in clients] == ["", ""]
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_spawned_processes_keep_the_state_of_each_partition(
    start: Starter, tmp_path: Path, task: ModuleType, app_config: str
) -> None:
    """Our own app's spawned processes share all partitions; here each partition must stay with one."""
    server, _ = start.server("--app", APP, "--num-partitions", CLIENTS, "--app-config", app_config, "--spawn", 2)
    assert server.ended() == 0, server.err
    check(json.loads((tmp_path / "report.json").read_text()), task)


@pytest.mark.slow
def test_when_all_clients_have_gone_the_app_ends(start: Starter) -> None:
    """Flower's own loop would wait for them for ever."""
    server, _ = start.server("--app", APP, "--spawn", 1, "--app-config", "num-server-rounds=100000,min-nodes=3")
    children = Path(f"/proc/{server.popen.pid}/task/{server.popen.pid}/children")
    if not children.exists():
        pytest.skip("this system does not say which processes are whose children")
    server.said("sklearn_app begins")
    for pid in children.read_text().split():
        subprocess.run(["kill", "-KILL", pid], check=True)
    assert server.ended() == 3
    assert server.err.splitlines()[-1] == "server.py: all spawned client processes have ended, with status -9"
    assert "Traceback" not in server.err


@pytest.mark.slow
def test_ctrl_c_while_the_app_waits(start: Starter) -> None:
    server, address = start.server("--app", APP)
    client = start.client(address, 0, "--app", APP)
    client.said("joined")
    server.popen.send_signal(signal.SIGTERM)  # a background process of a shell ignores SIGINT; the server takes both
    assert (server.ended(), client.ended()) == (130, 3)
    assert server.err.splitlines()[-1] == "server.py: interrupted"
    (line,) = client.err.splitlines()
    assert line == "client.py: the server ended the run: the server was interrupted"


FAILING = """
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
import numpy as np
import data
import strategies

server, client = ServerApp(), ClientApp()

@server.main()
def main(grid, context):
    import time
    while not list(grid.get_nodes()):
        time.sleep(0.1)
    (node,) = grid.get_nodes()
    content = RecordDict({"config": ConfigRecord({})})
    (reply,) = grid.send_and_receive([grid.create_message(content, "query.tell", node.node_id, "1")])
    told = dict(reply.content["config"])
    np.array([told, data.MINE, strategies.MINE, context.run_config]).reshape(5)  # numpy's exception, with what we know

@client.query("tell")
def tell(message, context):
    told = {**context.node_config, **context.run_config, "data": data.MINE}
    return Message(RecordDict({"config": ConfigRecord(told)}), reply_to=message)
"""


def test_an_app_by_module_its_settings_and_its_failure(start: Starter, tmp_path: Path) -> None:
    """The app's data.py is what `import data` means in it; its exception is one line, the traceback lies in a file."""
    (tmp_path / "failing.py").write_text(FAILING)
    (tmp_path / "data.py").write_text("MINE = 'my data'\n")
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "__init__.py").write_text("MINE = 'my strategies'\n")
    server, address = start.server("--app", "failing:server", "--app-config", "lr=0.5,name='a, b' on=true")
    own = ["--node-config", "device=cuda:1 shards=4", "--data-dir", "/srv/data"]
    client = start.client(address, 2, "--app", "failing:client", *own)
    assert server.ended() == 3, server.err
    (line,) = server.err.splitlines()
    place = FAILING.splitlines().index(next(line for line in FAILING.splitlines() if "reshape" in line)) + 1
    assert line.startswith("server.py: the app failed: ValueError: cannot reshape array of size 4 into shape (5,)")
    assert f"failing.py:{place})" in line
    (log,) = (tmp_path / "runs").iterdir()
    assert line.endswith(f"; its traceback is in {log.relative_to(tmp_path)}")
    assert log.read_text().startswith("Traceback (most recent call last):")
    assert client.ended() == 3
    assert "the server ended the run: the run failed: the app failed: ValueError" in client.err


TELLING = FAILING.replace("np.array([told", "print([told").replace("run_config]).reshape(5)", "run_config])")


def test_what_an_app_is_told(start: Starter, tmp_path: Path) -> None:
    (tmp_path / "telling.py").write_text(TELLING)
    (tmp_path / "data.py").write_text("MINE = 'my data'\n")
    (tmp_path / "strategies.py").write_text("MINE = 'my strategies'\n")
    server, address = start.server("--app", "telling:server", "--app-config", "lr=0.5,name='a, b' on=true")
    own = ["--node-config", "device=cuda:1 shards=4", "--data-dir", "/srv/data"]
    client = start.client(address, 2, "--app", "telling:client", *own)
    assert (server.ended(), client.ended()) == (0, 0), server.err + client.err
    run_config = {"lr": 0.5, "name": "a, b", "on": True}
    node_config = {"device": "cuda:1", "shards": 4, "data-dir": "/srv/data", "partition-id": 2, "num-partitions": 3}
    told = {**node_config, **run_config, "data": "my data"}
    assert server.out.splitlines()[2] == str([told, "my data", "my strategies", run_config])


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Where plain `flwr run` finds a SuperLink of ours."""
    with simulate.superlink(tmp_path / "home") as found:
        yield {**found, "FLWR_TELEMETRY_ENABLED": "0"}


@pytest.mark.slow
def test_flowers_own_runtime_gives_the_same(environment: dict[str, str], tmp_path: Path, task: ModuleType) -> None:
    """The same folder, unchanged, under `flwr run`: it is Flower's code, and ours adds nothing to what comes out."""
    table = " ".join(f"{key}={value}" for key, value in CONFIG.items()) + f' report="{tmp_path / "report.json"}"'
    command = [str(Path(sys.executable).parent / "flwr"), "run", str(APP), "--stream", "-c", table]
    command += ["--federation-config", f"num-supernodes={CLIENTS} client-resources-num-cpus=1"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    said = subprocess.run(command, env=environment, cwd=tmp_path, text=True, timeout=240, **streams).stdout
    assert (tmp_path / "report.json").exists(), said
    check(json.loads((tmp_path / "report.json").read_text()), task)
