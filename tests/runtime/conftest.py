"""What the tests of the runtime share: a starter of processes, a grid with toy clients, whole runs made once."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from processes import HERE, Process, Starter, starting, until

from fedkeras.flower.identity import node_id_of
from fedkeras.runtime.grpc_grid import GrpcGrid

ROUNDS = 3


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    """Starts processes in the test's folder; they are killed when the test ends."""
    with starting(tmp_path) as starter:
        yield starter


@pytest.fixture
def grid() -> Iterator[GrpcGrid]:
    """A listening grid of 50 partitions; a client whose connection is lost is gone."""
    told = {"dataset": "digits", "num-partitions": 50}
    with GrpcGrid("127.0.0.1", 0, 50, told, reconnect_grace=0) as listening:
        yield listening


@pytest.fixture
def toy(start: Starter, grid: GrpcGrid):
    """Starts a toy client that serves the given cids and waits until the grid knows it."""

    def started(*cids: int) -> Process:
        process = start.toy(grid.address, ",".join(map(str, cids)))
        until(lambda: set(cids) <= set(grid.cids().values()), f"clients {cids}")
        return process

    return started


def question(cid: int, action: str = "echo", content: RecordDict | None = None, **config: object) -> Message:
    """A message to client `cid`."""
    content = content if content is not None else RecordDict({"config": ConfigRecord(config)})
    return Message(content, node_id_of(cid), f"query.{action}")


@pytest.fixture(name="question")
def question_fixture():
    """The function that makes messages for toy clients."""
    return question


@pytest.fixture
def ask(grid: GrpcGrid):
    """Sends one question and returns its reply."""

    def asked(cid: int, action: str = "echo", content: RecordDict | None = None, **config: object) -> Message:
        (reply,) = grid.send_and_receive([question(cid, action, content, **config)], timeout=60)
        return reply

    return asked


def three_clients(starter: Starter, script: Path | None = None) -> SimpleNamespace:
    """server.py and three clients, each a process, from start to end."""
    server, address = starter.server("--num-server-rounds", ROUNDS)
    if script is None:
        clients = [starter.client(address, cid) for cid in range(3)]
    else:
        clients = [starter.python(script, "--server", address, "--cid", cid) for cid in range(3)]
    statuses = [process.ended() for process in (server, *clients)]
    return SimpleNamespace(server=server, clients=clients, statuses=statuses, folder=starter.run_folder())


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The plain run: `python server.py` and three `python client.py --cid N`."""
    with starting(tmp_path_factory.mktemp("three-clients")) as starter:
        yield three_clients(starter)


@pytest.fixture(scope="session")
def delayed_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The same with clients that answer late, the first cid last."""
    with starting(tmp_path_factory.mktemp("delayed")) as starter:
        yield three_clients(starter, HERE / "late_client.py")


@pytest.fixture(scope="session")
def spawned_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The same with `--spawn 2`: one process serves cid 0 and 2, the other cid 1."""
    with starting(tmp_path_factory.mktemp("spawned")) as starter:
        server, _ = starter.server("--num-server-rounds", ROUNDS, "--spawn", 2)
        status = server.ended()
        yield SimpleNamespace(server=server, statuses=[status], folder=starter.run_folder())


@pytest.fixture(scope="session")
def local_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The same with all clients in one process, over InProcessGrid."""
    with starting(tmp_path_factory.mktemp("local")) as starter:
        process = starter.python(HERE / "in_process.py", "--num-server-rounds", ROUNDS)
        status = process.ended()
        yield SimpleNamespace(server=process, statuses=[status], folder=starter.run_folder())
