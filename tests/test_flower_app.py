"""Finding and loading another Flower app: its settings, and one line for each thing that can be wrong with it."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedkeras.config import Config
from fedkeras.errors import RunFailed, UserError
from fedkeras.flower import other_app, settings
from fedkeras.runtime.in_process import InProcessGrid

ROOT = Path(__file__).resolve().parents[1]
APP = ROOT / "tests" / "apps" / "sklearn_app"
MADE = ("data", "strategies", "server", "client", "one", "two", "sklearn_app")
"""Modules that the tests make, under these names."""
DEFAULTS = {"rounds": 3, "lr": 0.1, "name": "a", "on": False, "solver.kind": "b"}


@pytest.fixture(autouse=True)
def _imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test imports from its folder is forgotten afterwards, and what it made us forget is there again."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    importlib.invalidate_caches()  # of folders in which a file has just been made
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in MADE}
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in MADE]:
        del sys.modules[name]
    sys.modules.update(before)


def made(folder: Path, pyproject: str = "", **modules: str) -> str:
    """An app's folder, as `--app` takes it."""
    components = '[tool.flwr.app.components]\nserverapp = "one:server"\nclientapp = "one:client"\n'
    head = '[project]\nname = "x"\nversion = "1"\n[tool.flwr.app]\npublisher = "x"\n'
    (folder / "pyproject.toml").write_text(pyproject or head + components)
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    return str(folder)


def refused(spec: str, overrides: str = "") -> str:
    """What is said of a ServerApp that cannot be loaded."""
    with pytest.raises(UserError) as raised:
        other_app.load_server_app(spec, overrides)
    return str(raised.value)


def test_an_app_by_its_folder_has_the_table_of_its_pyproject() -> None:
    _, run_config = other_app.load_server_app(str(APP), "num-server-rounds=7,solver.penalty=1")
    assert run_config == {
        "num-server-rounds": 7, "min-nodes": 2, "report": "", "solver.penalty": 1.0, "solver.local-epochs": 5,
        "solver.verbose": False,
    }  # fmt: skip
    assert type(run_config["solver.penalty"]) is float


def test_an_app_by_its_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Found in the working directory; the attribute is `app` if it is not said."""
    monkeypatch.chdir(tmp_path)
    made(
        tmp_path, one="from flwr.clientapp import ClientApp\nclass holder:\n    app = ClientApp()\napp = ClientApp()\n"
    )
    assert other_app.load_client_app("one") is sys.modules["one"].app
    assert other_app.load_client_app("one:holder.app") is sys.modules["one"].holder.app


SERVER = "from flwr.serverapp import ServerApp\nserver = ServerApp()\n"
WRONG = [
    ({}, "--app: there is no module one in {folder}, nor is it installed"),
    ({"one": "import sys\nimport nothing_like_it"}, "Error: No module named 'nothing_like_it' ({folder}/one.py:2)"),
    ({"one": "import two", "two": "\n\n1 / 0"}, "be imported: ZeroDivisionError: division by zero ({folder}/two.py:3)"),
    ({"one": "import json\n\njson.loads('x')"}, "column 1 (char 0) ({folder}/one.py:3)"),
    ({"one": "x = (1,\ny = 2 3\n"}, "({folder}/one.py:"),
    ({"one": "import sys\nsys.exit('no GPU')"}, "one cannot be imported: SystemExit: no GPU ({folder}/one.py:2)"),
    ({"one": "client = 3"}, "module one ({folder}/one.py) has no 'server'"),
    ({"one": "server = 3"}, "--app: one:server is no ServerApp, but of type int"),
    ({"one": SERVER}, "the ServerApp one:server has no main function: decorate one with @app.main()"),
]  # fmt: skip


@pytest.mark.parametrize(("modules", "said"), WRONG)
def test_what_is_wrong_with_an_apps_code(tmp_path: Path, modules: dict[str, str], said: str) -> None:
    line = refused(made(tmp_path, **modules))
    assert line.startswith("--app: ")
    assert said.format(folder=tmp_path) in line


@pytest.mark.parametrize(
    ("pyproject", "said"),
    [
        ("[project]\nname = 'x'\nversion = '1'\n", "Missing [tool.flwr.app] section"),
        ("[tool.flwr.app]\npublisher = 'x'\n[project]\nname = 'x'\nversion = '1'\n", "Missing [tool.flwr.app.comp"),
        ("[tool.flwr.app.components]\nclientapp = 'a:b'\n", 'Property "serverapp" missing'),
        ("[tool.flwr.app.components]\nagentapp = 'a:b'\n[tool.flwr.app]\npublisher = 'x'\n[project]\nname = 'x'\n"
         "version = '1'\n", "names no 'serverapp' in [tool.flwr.app.components]"),
        ("[tool", "pyproject.toml: "),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_pyproject(tmp_path: Path, pyproject: str, said: str) -> None:
    line = refused(made(tmp_path, pyproject))
    assert line.startswith(f"--app: {tmp_path / 'pyproject.toml'}")
    assert said in line


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("/nowhere/app", "--app: there is no folder /nowhere/app; give that of the app's pyproject.toml, or"),
        ("no where", "there is no folder no where"),
        ("{folder}", "{folder} has no pyproject.toml; for a module write package.module:app"),
        ("one.two:", "--app is 'one.two:'; after the colon belongs the app's name: one.two:app"),
        ("nothing_like_it:app", "there is no module nothing_like_it in "),
    ],
)
def test_what_is_no_app_at_all(tmp_path: Path, spec: str, said: str) -> None:
    assert said.format(folder=tmp_path) in refused(spec.format(folder=tmp_path))


JSON = "Expecting value: line 1 column 1 (char 0)"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("pass", ""),
        ("sys.exit(0)", ""),
        ("sys.exit(4)", "the app ended itself with sys.exit(4)"),
        ("raise RunFailed('nobody is left')", "nobody is left"),
        ("json.loads('')", f"the app failed: JSONDecodeError: {JSON} ({{folder}}/one.py:7)"),
    ],
)  # fmt: skip
def test_how_an_app_may_end(tmp_path: Path, body: str, said: str) -> None:
    """What it raises is a failed run in one line; its traceback is kept only where there is one of its own."""
    one = f"{SERVER}import json, sys\nfrom fedkeras.errors import RunFailed\n@server.main()\ndef main(grid, context):\n"
    app, run_config = other_app.load_server_app(made(tmp_path, one=f"{one}    {body}\n"), "")
    grid, log = InProcessGrid(None, 1, {}), tmp_path / "runs" / "x.log"
    if not said:
        other_app.run(app, grid, run_config, log)
    else:
        with pytest.raises(RunFailed) as raised:
            other_app.run(app, grid, run_config, log)
        assert str(raised.value).startswith(said.format(folder=tmp_path))
    assert log.exists() == ("the app failed" in said)


def test_an_app_of_the_older_kind_needs_no_main(tmp_path: Path) -> None:
    """A ServerApp with a server_fn is Flower's to run; only one with nothing in it is refused."""
    old = "from flwr.serverapp import ServerApp\nserver = ServerApp(server_fn=lambda context: None)\n"
    other_app.load_server_app(made(tmp_path, one=old), "")


def test_modules_of_ours_do_not_stand_in_for_the_apps_own(tmp_path: Path) -> None:
    """Flower's quickstarts have modules such as server.py and data.py; ours are already imported when theirs come."""
    ours = [importlib.import_module(f"fedkeras.{name}") for name in ("data", "data.partition", "server", "strategies")]
    assert all(importlib.import_module(name) in ours for name in ("data", "server"))  # under their short names too
    one = f"{SERVER}import data, server as theirs, strategies\n@server.main()\ndef main(grid, context): ...\n"
    other_app.load_server_app(made(tmp_path, one=one, data="", server=""), "")
    assert sys.modules["data"].__file__ == str(tmp_path / "data.py")
    assert sys.modules["server"].__file__ == str(tmp_path / "server.py")
    assert sys.modules["strategies"] is sys.modules["fedkeras.strategies"]  # it has none of its own
    for module in ours:
        assert sys.modules[module.__name__] is module


def test_overrides_take_the_type_of_what_they_override() -> None:
    text = "rounds=5, lr=1 name=7,on=TRUE solver.kind='x, y'"
    expected = {"rounds": 5, "lr": 1.0, "name": "7", "on": True, "solver.kind": "x, y"}
    got = settings.run_config(DEFAULTS, text)
    assert got == expected
    assert [type(value) for value in got.values()] == [int, float, str, bool, str]
    assert settings.run_config(DEFAULTS, "") == DEFAULTS


def test_without_a_table_values_are_what_they_look_like() -> None:
    text = """a=1,b=1.5,c=1e-3,d=true,e=word,f='5',g="x=y",h=/a/b:c"""
    expected = {"a": 1, "b": 1.5, "c": 0.001, "d": True, "e": "word", "f": "5", "g": "x=y", "h": "/a/b:c"}
    assert settings.run_config(None, text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochs=5", "the app's configuration has no key 'epochs'; it has rounds, lr, name, on, solver.kind"),
        ("rounds=five", "--app-config: rounds must be a whole number, not 'five'"),
        ("rounds=1.5", "rounds must be a whole number, not '1.5'"),
        ("lr=fast", "lr must be a number, not 'fast'"),
        ("on=1", "on must be true or false, not '1'"),
        ("rounds", "--app-config: 'rounds' is not of the form key=value"),
        ("lr=0.1,rounds=", "'rounds=' is not of the form key=value"),
        ("name='open", "'name='open' is not of the form key=value"),
    ],
)
def test_overrides_that_are_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=r"^--app-config: ") as raised:
        settings.run_config(DEFAULTS, text)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"app": "x", "num_server_rounds": 5}, "--num-server-rounds means nothing to another app"),
        ({"app": "x", "central_evaluation": False}, "--central-evaluation means nothing to another app"),
        ({"app": "x", "resume": "runs/x"}, "--resume means nothing to another app"),
        ({"app_config": "a=1"}, "--app-config is for another Flower app; name it with --app"),
    ],
)
def test_flags_that_would_be_ignored_are_refused(flags: dict, said: str) -> None:
    with pytest.raises(UserError) as raised:
        settings.check_flags(Config(**flags))
    assert said in str(raised.value)


def test_flags_of_the_runtime_are_for_any_app() -> None:
    settings.check_flags(Config(app="x", app_config="a=1", num_partitions=9, port=1, spawn=2, tls_cert="a"))
    settings.check_flags(Config(num_server_rounds=5))


def test_a_node_says_nothing_of_what_the_server_knows() -> None:
    assert settings.node_config("", "") == {}
    assert settings.node_config("a=1 b='2'", "/d") == {"a": 1, "b": "2", "data-dir": "/d"}
    for key in ("partition-id", "num-partitions"):
        with pytest.raises(UserError, match=f"--node-config cannot set {key}: --cid says"):
            settings.node_config(f"a=1 {key}=0", "")


@pytest.mark.parametrize(
    ("script", "flags", "said"),
    [
        ("server.py", ["--app", "/nowhere"], "--app: there is no folder /nowhere"),
        ("server.py", ["--app", APP, "--app-config", "lr=1"], "--app-config: the app's configuration has no key 'lr'"),
        ("server.py", ["--app", APP, "--batch-size", 3], "--batch-size means nothing to another app"),
        ("client.py", ["--cid", 0, "--app", "json:dumps"], "--app: json:dumps is no ClientApp, but of type function"),
        ("client.py", ["--cid", 0, "--app", APP, "--shared"], "--shared is not for --app: a partition's context.state"),
        ("client.py", ["--cid", 0, "--node-config", "a=1"], "--node-config is for another Flower app"),
    ],
)
def test_the_programs_say_it_in_one_line(tmp_path: Path, script: str, flags: list, said: str) -> None:
    command = [sys.executable, str(ROOT / script), *map(str, flags)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    (line,) = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout) == (2, "")
    assert line.startswith(f"{script}: {said}")
    assert list(tmp_path.iterdir()) == []


NAMES = ["sklearn_app.client_app", "tensorflow"]


def test_a_client_of_another_app_imports_no_tensorflow(tmp_path: Path) -> None:
    """It takes seconds and half a gigabyte, which an app of scikit-learn has no use for."""
    flags = ["--cid", "0", "--app", str(APP), "--max-wait", "0.1", "--server", "127.0.0.1:1"]
    script = (
        f"import sys, client; sys.argv[1:] = {flags}; print(client.main(), *map(sys.modules.__contains__, {NAMES}))"
    )
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.stdout.splitlines()[-1] == "2 True False", ended.stderr
