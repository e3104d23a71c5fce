"""A client that runs other code than the server says so in one line, instead of training with it.

Flower's local SuperLink stays alive, and Ray's clients import from the folder it was started in before they look into
the app's bundle: a run from another checkout would else train with the old code and seem to succeed.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict

from fedkeras import client
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.grids import federation_grid
from fedkeras.federation.initial_weights import initial_arrays
from fedkeras.flower import code_digest
from fedkeras.runtime.in_process import InProcessGrid

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def other_checkout(tmp_path: Path) -> Path:
    """A copy of the code with one line more in a strategy."""
    for name in ("server.py", "client.py", "fedkeras", "strategies", "data"):
        source = ROOT / name
        for path in [source] if source.is_file() else source.rglob("*.py"):
            target = tmp_path / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return tmp_path


def digest_of(folder: Path) -> str:
    """The digest that a server in `folder` sends."""
    script = "import fedkeras.server; from fedkeras.flower import code_digest as c; print(c.ROOT); print(c.digest())"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    root, digest = done.stdout.split()
    assert Path(root) == folder.resolve()
    return digest


def test_a_client_with_other_code_than_the_server_names_its_folder(other_checkout: Path) -> None:
    """The server is the changed copy, the client this checkout; nothing is trained."""
    assert digest_of(other_checkout) == code_digest.digest()
    with (other_checkout / "strategies" / "fedavg.py").open("a") as file:
        file.write("# changed\n")
    tell = {"code-digest": digest_of(other_checkout)}
    config = Config(num_partitions=1)
    grid = federation_grid(InProcessGrid(client.app, 1, config.for_clients()), tell)
    with pytest.raises(UserError) as failed:
        initial_arrays(grid, config, ClientManager(grid, config))
    assert str(failed.value).startswith("no client can give the initial weights; client 0: this client runs other code")
    assert f"it was imported from {ROOT}. " in str(failed.value)
    assert "flower-superlink" in str(failed.value)


@pytest.mark.parametrize("name", ["client.py", "fedkeras/runtime/node.py", "data/digits.py", "strategies/krum.py"])
@pytest.mark.parametrize("change", ["edit", "remove", "rename"])
def test_the_digest_sees_every_change_of_what_a_client_runs(other_checkout: Path, name: str, change: str) -> None:
    before = code_digest.digest_of(other_checkout)
    path = other_checkout / name
    if change == "edit":
        path.write_bytes(path.read_bytes() + b"\n")
    elif change == "remove":
        path.unlink()
    else:
        path.rename(path.with_stem(path.stem + "_"))
    assert code_digest.digest_of(other_checkout) != before


def test_the_digest_is_the_same_on_another_system(other_checkout: Path) -> None:
    """Line ends may be Windows', files may be listed in another order, compiled files may lie about."""
    before = code_digest.digest_of(other_checkout)
    path = other_checkout / "client.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    (other_checkout / "data" / "__pycache__").mkdir()
    (other_checkout / "data" / "__pycache__" / "digits.cpython-311.pyc").write_bytes(b"compiled")
    assert code_digest.digest_of(other_checkout) == before


def test_a_server_that_sends_no_digest_is_believed() -> None:
    """Over gRPC client and server may well differ in versions; the versions are compared when a node joins."""
    code_digest.check(None)
    code_digest.check(code_digest.digest())


def test_a_supernode_without_a_partition_says_how_to_give_it_one() -> None:
    """Its --node-config was forgotten: the line must name it, not a KeyError."""
    grid = InProcessGrid(lambda message, context: client.app(message, forgetful(context)), 1, {})
    question = Message(RecordDict({"config": ConfigRecord()}), next(iter(grid.get_node_ids())), "query.identify")
    (reply,) = grid.send_and_receive([question])
    assert reply.error.reason.startswith("a SuperNode was started without its partition: add --node-config")


def forgetful(context: Context) -> Context:
    """The context of a SuperNode that was started without --node-config."""
    return Context(context.run_id, context.node_id, {}, context.state, context.run_config)
