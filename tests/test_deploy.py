"""deploy/: the containers' commands are commands of this version, and work as processes; no image runs as root."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from fedkeras.client_config import ClientConfig
from fedkeras.flags import parse_flags
from fedkeras.interactive import ServerFlags

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
FLAGS = {"server": ServerFlags, "client": ClientConfig}
sys.path.insert(0, str(ROOT / "tests" / "runtime"))
from processes import starting  # noqa: E402


def services() -> dict[str, dict]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]


def unit_commands() -> list[list[str]]:
    text = "".join(path.read_text() for path in DEPLOY.glob("*.service"))
    return [shlex.split(line)[1:] for line in re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)]


@pytest.mark.parametrize(
    "command", [*(each["command"] for each in services().values()), *unit_commands()], ids=" ".join
)
def test_every_command_is_one_of_this_version(command: list[str]) -> None:
    flags = parse_flags(FLAGS[command[0]], command[1:], "deploy", None)
    if command[0] == "client":
        flags.check()


def test_containers_are_not_roots_and_hold_no_secret() -> None:
    last = (DEPLOY / "Dockerfile").read_text().rpartition("FROM ")[2]
    assert re.search(r"^USER fedkeras$", last, re.MULTILINE) and "passphrase" not in last
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {"deploy/passphrase", "deploy/certs", ".git", "runs"} <= set(ignored)
    for name, service in services().items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["secrets"] == ["passphrase"], name
        assert set(service.get("depends_on", [])) <= set(services())


@pytest.mark.slow
def test_they_train_as_processes(tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_text("a passphrase of a few words")
    here = {
        "/run/secrets/passphrase": str(tmp_path / "passphrase"),
        "/runs": str(tmp_path / "runs"),
        "0.0.0.0": "127.0.0.1",
    }
    with starting(tmp_path) as start:
        run = services()
        words = [here.get(word, word) for word in run["server"]["command"]]
        server = start(sys.executable, "-m", "fedkeras", *words, "--port", 0, "--num-server-rounds", 2)
        server.said("listening on ")
        here["server:9080"] = server.out.split()[2]
        clients = [
            start(sys.executable, "-m", "fedkeras", *(here.get(word, word) for word in run[f"client-{cid}"]["command"]))
            for cid in range(3)
        ]
        assert [process.ended() for process in (server, *clients)] == [0] * 4, server.err
