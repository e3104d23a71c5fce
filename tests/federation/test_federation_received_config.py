"""What a server's run configuration and messages name is a claim: no import, no opened file, no path comes of it.

Every way is walked with hostile values under an audit hook of Python's, and the places where a name could become code
or an opened file stand in a list.
"""

import ast
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict

from fedkeras import client
from fedkeras.built_in_names import DATA_SETS, MODELS, MODS, WORKFLOWS
from fedkeras.client_config import ClientConfig, join_command, join_notes
from fedkeras.config import Config, flag
from fedkeras.data.catalogue import BUILT_IN as SOURCES
from fedkeras.data.keras_sets import SETS
from fedkeras.errors import UserError
from fedkeras.federation.received_config import received_config
from fedkeras.fields import SERVER_ONLY, setting_of, takes
from fedkeras.flags import parse_flags
from fedkeras.flower.identity import SERVER_NODE_ID, act_as, node_id_of
from fedkeras.models.zoo import BUILT_IN as ZOO
from fedkeras.mods.chain import BUILT_IN as CHAIN
from fedkeras.named_code import Permission, permission_of
from fedkeras.workflows.base import BUILT_IN as WAYS
from fedkeras.workflows.base import CHOSEN_BY_FLAGS

ROOT = Path(__file__).resolve().parents[2]
TEXTS = [field for field in fields(Config) if (found := takes(Config, field.name)).kind is str and not found.choices]
WORDS = {
    "loss", "sample_weight", "sizes", "signals", "test_subjects", "strategy", "strategy_args", "optimizer",
    "optimizer_args", "share", "split_at", "label_column", "feature_columns", "classes", "image_size",
}  # fmt: skip
"""Fields of text that become neither code nor a path on a client: names that are looked up, and numbers."""


def taken(own: Permission = Permission(), node: dict | None = None, **told: object) -> Config:  # noqa: B008 - frozen
    return received_config(Config().for_clients() | told, node or {}, own)


def test_the_names_of_what_is_built_in_are_those_of_the_registries() -> None:
    assert {*MODELS} == {*ZOO} and {*MODS} == {*CHAIN}
    assert {*WORKFLOWS} == {*WAYS} - {*CHOSEN_BY_FLAGS}
    assert {*DATA_SETS} == {*SOURCES, "synthetic:", *(f"keras:{name}" for name in SETS)}


def test_each_text_of_the_configuration_says_what_a_client_may_do_with_it() -> None:
    """A new field is the server's own, needs a permission, or is a word: its author decides, and says it here."""
    kinds = {field.name for field in TEXTS if setting_of(field).foreign}
    servers = {field.name for field in TEXTS if SERVER_ONLY in setting_of(field).scopes}
    assert {field.name for field in TEXTS} == kinds | servers | WORDS
    assert not kinds & servers and not (kinds | servers) & WORDS


NAMED = [
    ("dataset", "evil:f", "code for dataset, evil:f", "--dataset evil:f"),
    ("dataset", "digits:f", "code for dataset, digits:f", "--dataset digits:f"),
    ("dataset", "/srv/evil.npz", "a file for dataset, /srv/evil.npz", "--dataset /srv/evil.npz"),
    ("dataset", "keras:imdb", "code for dataset, keras:imdb", "--dataset keras:imdb"),
    ("model", "evil:f", "code for model, evil:f", "--model evil:f"),
    ("model", r"C:\x\evil.keras", r"a file for model, C:\x\evil.keras", r"--model C:\x\evil.keras"),
    ("mods", "stragglers;evil:M:x=1", "code for mods, evil:M", "--allow mods=evil:M"),
    ("mode", "evil:W", "code for workflows, evil:W", "--allow workflows=evil:W"),
]


@pytest.mark.parametrize(("key", "name", "what", "remedy"), NAMED)
def test_a_name_that_is_not_built_in_needs_the_clients_permission(key: str, name: str, what: str, remedy: str) -> None:
    with pytest.raises(UserError) as refused:
        taken(**{key: name})
    line = str(refused.value)
    assert what in line and f"started with {remedy}, or with --trust-code" in line and "\n" not in line
    assert getattr(taken(Permission.parse("", trust_code=True), **{key: name}), key) == name
    given = parse_flags(ClientConfig, remedy.split(), "client.py").permission
    assert getattr(taken(given, **{key: name}), key) == name
    with pytest.raises(UserError, match="the server names"):
        taken(given, **{key: name.replace("evil", "worse").replace(":f", ":g").replace("imdb", "reuters")})


def test_what_belongs_to_the_servers_machine_is_not_taken_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"data-dir": "/etc", "resume": "/root", "run-dir": "/", "tls-key": "/k", "trust-code": True, "port": 1}
    assert taken(**told) == Config()
    assert taken(**{flag(field.name): object() for field in fields(Config) if SERVER_ONLY in setting_of(field).scopes})
    assert taken(node={"data-dir": "/mine"}, **told) == Config(data_dir="/mine")
    monkeypatch.setattr("fedkeras.federation.received_config.in_simulation", lambda: True)  # all is one person's
    assert taken(Permission(everything=True), **told).data_dir == "/etc"


def test_a_clients_own_file_is_meant_by_its_name_and_opened_where_it_lies_here() -> None:
    own = permission_of({"allow": "", "dataset": "/home/anna/my.npz", "model": "models/m.keras"})
    assert taken(own, dataset="D:\\srv\\my.npz").dataset == "/home/anna/my.npz"
    assert taken(own, model="/srv/m.keras").model == "models/m.keras"
    with pytest.raises(UserError, match=r"a file for model, my\.npz"):
        taken(own, model="my.npz")
    with pytest.raises(UserError, match=r"a file for dataset, /srv/other\.npz"):
        taken(own, dataset="/srv/other.npz")
    assert taken(model="/srv/m.keras", **{"data-source": "client"}).model == ""  # it is handed out


def test_a_client_that_names_its_data_set_trains_on_no_other() -> None:
    node = {"allow": "", "dataset": "my.npz", "model": "mine:make"}
    own = permission_of(node)
    with pytest.raises(UserError, match=r"started with --dataset my\.npz, and the server's run has --dataset digits"):
        taken(own, node)
    with pytest.raises(UserError, match="started with --model mine:make, and the server's run has --model unset"):
        taken(own, node, dataset="/srv/my.npz")
    assert taken(own, node, dataset="/srv/my.npz", model="mine:make").model == "mine:make"
    assert taken(own, node, **{"data-source": "server", "model": "m.keras"}).dataset == "digits"


def test_a_number_of_threads_is_bounded() -> None:
    with pytest.raises(UserError, match="100000 threads"):
        taken(**{"threads-per-client": 100_000})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (Config(), "--server 127.0.0.1:9"),
        (Config(insecure=True), "--server 127.0.0.1:9 --insecure"),
        (Config(dataset="mine:f", model="/srv/m.keras"), "--dataset mine:f --model /srv/m.keras"),
        (Config(mods="stragglers;mine:M:x=1;mine:N"), "--allow mods=mine:M --allow mods=mine:N"),
        (Config(mode="mine:W", data_dir="/d"), "--data-dir DIR --allow workflows=mine:W"),
        (Config(model="/srv/m.keras", data_source="server", data_dir="d"), "--server 127.0.0.1:9"),
    ],
)
def test_the_servers_join_line_has_what_a_client_must_permit(config: Config, words: str) -> None:
    line = join_command(config, "127.0.0.1:9")
    assert line.endswith(words), line
    given = parse_flags(ClientConfig, line.split()[2:], "client.py")
    node = {"allow": ",".join(given.allow)} | {k: v for k in ("dataset", "model") if (v := getattr(given, k))}
    received_config(config.for_clients(), node, permission_of(node))  # and with it nothing is refused
    own = Config(
        dataset="/server/test.csv", partitioner="own"
    )  # each client's own file, which the server does not name
    assert join_command(own, "127.0.0.1:9").endswith(" --server 127.0.0.1:9 --data DATA")
    assert join_notes(own, "127.0.0.1:9", False) == ["DATA is each client's own file or folder"]
    assert join_command(config, "0.0.0.0:9").split("--server ")[1].startswith("HOST:9")


class Touched:
    """What Python opened, listed or imported of a forbidden folder, while it was `watching`."""

    def __init__(self) -> None:
        self.forbidden, self.seen = "", []

    def __call__(self, event: str, args: tuple) -> None:
        if self.forbidden and event.partition(".")[0] in ("open", "os", "import", "exec", "shutil", "glob", "pathlib"):
            text = " ".join(str(arg) for arg in args[: 1 if event == "import" else None])
            if (self.forbidden in text or "evil" in text) and text != self.forbidden:  # which any import looks through
                self.seen.append((event, text[:200]))


TOUCHED = Touched()
"""An audit hook stays for as long as the process does: one for all."""
sys.addaudithook(TOUCHED)


@pytest.fixture
def forbidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of good files, which would be opened and imported without an error if a client went there."""
    folder = tmp_path / "evil"
    (folder / "X").mkdir(parents=True)
    (folder / "evil.py").write_text("def f(*args, **kwargs): raise SystemExit\nclass M: pass\n")
    x, y = np.zeros((20, 8, 8), np.uint8), np.arange(20) % 10
    np.savez(folder / "evil.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    (folder / "evil.keras").write_bytes(b"PK")
    (folder / "X" / "x.csv").write_text("1,2\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDKERAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda n: None)  # this process has begun with others
    monkeypatch.setattr(TOUCHED, "seen", [])
    monkeypatch.setattr(TOUCHED, "forbidden", str(folder))
    yield folder
    TOUCHED.forbidden = ""
    assert "evil" not in sys.modules


WAYS_TO_TRAIN = (
    {}, {"data-source": "server"}, {"data-source": "client"}, {"data-source": "keras", "mode": "collect"},
    {"split": "sequential"},
)  # fmt: skip


def asked(kind: str, run_config: dict, sent: dict, arrays: ArrayRecord | None = None, **own: object) -> Message:
    act_as(SERVER_NODE_ID, 1)
    content = RecordDict({"config": ConfigRecord(sent), "arrays": arrays or ArrayRecord({})})
    message = Message(content, node_id_of(0), kind)
    context = Context(1, node_id_of(0), {"partition-id": 0, "allow": "", **own}, RecordDict(), run_config)
    return client.answer(message, context)


def values(folder: Path) -> list[str]:
    paths = [folder / "evil.npz", folder / "evil.keras", folder, folder / "X"]
    return ["evil:f", "evil:M:x=1", "evil", *map(str, paths), f"file://{folder}/evil.npz", "../evil/evil.npz"]


def test_no_key_of_a_run_configuration_makes_a_client_import_or_open(forbidden: Path) -> None:
    """Keys that are refused cost nothing; the others are walked to where data and model are made."""
    for field, value in itertools.product(TEXTS, values(forbidden)):
        told = Config().for_clients() | {flag(field.name): value}
        foreign, servers = setting_of(field).foreign, SERVER_ONLY in setting_of(field).scopes
        context = Context(1, node_id_of(0), {"partition-id": 0, "allow": ""}, RecordDict(), told)
        if foreign:
            with pytest.raises(UserError, match="the server names"):
                client.prepare([context])
            assert asked("train", told, {"server-round": 1}).has_error()
        elif servers:
            assert taken(**told) == Config()
        elif value == "evil:f" or field.name in ("sample_weight", "loss"):
            asked("query.describe", told, {"server-round": 1})
            asked("query.initial_weights", told, {"server-round": 1})
    assert TOUCHED.seen == []


def test_no_value_of_a_message_makes_a_client_import_or_open(forbidden: Path) -> None:
    """Each handler, each value that one of them reads, in ways to train that read them."""
    keys = (
        "run",
        "key",
        "name",
        "model",
        "rows",
        "suffix",
        "layout",
        "digest",
        "preprocessing",
        "objective",
        "data-set",
    )
    numbers = {"server-round": 1, "first": 0, "count": 1, "model-bytes": 9, "rows-bytes": 9, "compressed": False}
    (forbidden.parent / "own" / "X").mkdir(parents=True)
    own = {"data-dir": str(forbidden.parent / "own")}
    for way, value in itertools.product(WAYS_TO_TRAIN, ["evil:f", str(forbidden / "evil.keras"), "../evil"]):
        told = Config().for_clients() | way
        kinds = client._handlers(Config(**{key.replace("-", "_"): text for key, text in way.items()}), Permission())
        for kind in (*kinds, "query.evil"):
            reply = asked(kind, told, dict.fromkeys(keys, value) | numbers, **own)
            assert reply.has_error() or kind == "query.pending", (kind, way, value)
    digest = {"model": "0" * 64, "rows": "0" * 64}
    for suffix, layout in [("/../evil.keras", "{}"), (".keras", json.dumps({f"../{forbidden}/x": ["<f4", [1]]}))]:
        offer = {**digest, **numbers, "suffix": suffix, "layout": layout}
        assert asked("query.offer", Config().for_clients() | {"data-source": "server"}, offer).has_error()
    told, sent = Config().for_clients(), {"server-round": 1, "objective": "evil:f"}
    weights = asked("query.initial_weights", told, {}).content["arrays"]
    assert "started with --allow objectives=evil:f" in asked("train", told, sent, weights).error.reason
    assert TOUCHED.seen == []


def test_the_hook_sees_what_a_client_would_do(forbidden: Path) -> None:
    """That the two tests above can fail: the same client, started with --trust-code."""
    told = Config().for_clients() | {"dataset": str(forbidden / "evil.npz")}
    assert received_config(told, {}, Permission.parse("", trust_code=True)).dataset.endswith("evil.npz")
    asked("query.describe", told, {}, **{"trust-code": True})
    assert any(event == "open" and "evil.npz" in text for event, text in TOUCHED.seen)
    TOUCHED.seen.clear()
    asked("query.describe", Config().for_clients() | {"dataset": "evil:nothing"}, {}, **{"trust-code": True})
    assert any(event == "open" and text.startswith(str(forbidden / "evil.py")) for event, text in TOUCHED.seen)
    del sys.modules["evil"]


PLACES = {
    "data/cache.py": "its own files",
    "data/catalogue.py": "--dataset",
    "data/keras_sets.py": "of a list",
    "data/npz.py": "--dataset",
    "data/readers/idx.py": "--data-dir",
    "data/readers/images.py": "--dataset, --data",
    "data/readers/motionsense_files.py": "--data-dir",
    "data/readers/npz_table.py": "--data-dir",
    "data/readers/parquet_table.py": "--dataset, --data, --data-dir",
    "data/readers/sheet_xml.py": "--data-dir",
    "data/readers/weight_column.py": "--data-dir",
    "fedkeras/__main__.py": "the command line",
    "fedkeras/audit/planted.py": "its own files",
    "fedkeras/checkout.py": "its own modules",
    "fedkeras/commands/completion.py": "its own modules",
    "fedkeras/federation/reply_order.py": "its own spool",
    "fedkeras/federation/strategy_state.py": "written, never read",
    "fedkeras/flower/client_app.py": "its own modules",
    "fedkeras/flower/code_digest.py": "a bundle, to be compared, never run",
    "fedkeras/flower/other_app.py": "--app, of the command line",
    "fedkeras/learning/__init__.py": "its own modules",
    "fedkeras/models/__init__.py": "its own modules",
    "fedkeras/models/building.py": "--model",
    "fedkeras/models/compile_config.py": "what trusted_code has let through",
    "fedkeras/models/file_check.py": "--model, or a file that was handed out or delivered",
    "fedkeras/models/file_info.py": "--model, or a file that was handed out or delivered",
    "fedkeras/models/files.py": "--model, or a file that was handed out or delivered",
    "fedkeras/models/input_kind.py": "--model, or a file that was handed out or delivered",
    "fedkeras/models/legacy_h5.py": "--model, or a file that was handed out or delivered",
    "fedkeras/models/training_note.py": "--model, or a file that was handed out or delivered",
    "fedkeras/named_code.py": "--mods, --mode, objectives",
    "fedkeras/provisioning/download_cache.py": "its own files",
    "fedkeras/provisioning/preprocessing.py": "a folder of the server's own",
    "fedkeras/reports/predictions.py": "a run's folder",
    "fedkeras/workflows/evaluate/recorded_model.py": "a run's folder",
    "fedkeras/workflows/split/server.py": "of a list",
}
"""Files in which a name becomes a module, or a file's content more than bytes, and who has named it."""
CALLS = {
    "import_module", "__import__", "exec", "eval", "load_model", "deserialize_keras_object", "File", "ZipFile",
    "memmap", "np.load", "pickle.load", "pickle.loads", "pickle.dump", "pickle.dumps", "run_path", "run_module",
    "spec_from_file_location", "ParquetFile", "pillow.open",
}  # fmt: skip


def test_the_places_where_a_name_becomes_code_or_a_file_is_taken_apart_are_known() -> None:
    files = [*(ROOT / "fedkeras").rglob("*.py"), *(ROOT / "data").rglob("*.py"), ROOT / "server.py", ROOT / "client.py"]
    found = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in CALLS or name.rpartition(".")[2] in CALLS:
                    found.add(path.relative_to(ROOT).as_posix())
    assert found == {*PLACES}
