"""One dataclass is the flags, the keys of `flwr run -c` and config.json: all roads lead to the same checks."""

import ast
import contextlib
import dataclasses
import io
import itertools
import json
import tomllib
import typing
from pathlib import Path

import pytest

import fedkeras.config
from fedkeras.config import Config, fields_of, flag, options, options_for_strategy
from fedkeras.errors import RunFailed, UserError, complain
from fedkeras.fields import ABSOLUTE, ANY, ANY_APP, MAY_CHANGE, OPTIONS, SERVER_ONLY, Bounds, setting_of

ROOT = Path(__file__).parents[1]
FIELDS = {field.name: field for field in dataclasses.fields(Config)}
HINTS = typing.get_type_hints(Config, include_extras=True)


def kind_of(name):
    """The field's type, its bounds (or None) and its choices (or ())."""
    hint = HINTS[name]
    if typing.get_origin(hint) is typing.Annotated:
        return typing.get_args(hint)[0], typing.get_args(hint)[1], ()
    if typing.get_origin(hint) is typing.Literal:
        return str, None, typing.get_args(hint)
    return hint, None, ()


def bad_values(name):
    """Values this field must refuse: wrong types, beyond its bounds, unknown choices."""
    kind, bounds, choices = kind_of(name)
    values = {bool: ["maybe", 1, 0.0], int: ["x", 1.5, True, ""], float: ["x", True, ""], str: [3, 1.5, True]}[kind]
    if choices:
        values = [bad for bad in (*values, "nonsense", "", choices[0].swapcase()) if bad not in choices]
    if kind is float:
        values = [*values, float("nan"), float("inf"), 10**400]
    if bounds is not None:
        step = 1 if kind is int else 0.01
        values += [bounds.low - step] if bounds.low is not None else []
        values += [bounds.high + step] if bounds.high is not None else []
        values += [bounds.above] if bounds.above is not None else []
    return values


def other_value(name):
    """A good value that is not the default; of numbers, the one at the edge of what is allowed."""
    kind, bounds, choices = kind_of(name)
    default = FIELDS[name].default
    if name in ("num_partitions", "min_available_nodes"):  # which must fit together
        return {"num_partitions": 4, "min_available_nodes": 3}[name]
    if choices:
        return choices[-1] if default != choices[-1] else choices[0]
    if kind is bool:
        return not default
    if kind is str:
        return {"strategy_args": "eta=0.5", "optimizer_args": "momentum=0.9"}.get(name, "/other/text")
    if bounds.high is not None:
        return bounds.high if bounds.high != default else default / 2
    return default + 1 if bounds.low is None else bounds.low if bounds.low != default else default + 1


OTHERS = {name: other_value(name) for name in FIELDS}
BAD = [(name, value) for name in FIELDS for value in bad_values(name)]


def as_flags(values):
    """The same values as a command line."""
    args = []
    for name, value in values.items():
        args += (
            [f"--{'' if value else 'no-'}{flag(name)}"]
            if value in (True, False) and kind_of(name)[0] is bool
            else [
                f"--{flag(name)}",
                str(value),
            ]
        )
    return args


def test_every_field_has_another_good_value():
    """Or the round trips below would show nothing."""
    for name, value in OTHERS.items():
        assert value != FIELDS[name].default, name


# Documentation


def test_every_field_is_documented_once_in_the_text_below_it():
    tree = ast.parse(Path(fedkeras.config.__file__).read_text())
    [body] = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Config"]
    documented = [
        field.target.id
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and len(text.value.value.split()) > 2
    ]
    assert documented == list(FIELDS)


def test_help_lists_every_flag_with_its_text():
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as stop:
        Config.from_flags(["--help"])
    assert stop.value.code == 0
    for name in FIELDS:
        assert f"--{flag(name)}" in out.getvalue()
    assert "what suits data set and model" in " ".join(out.getvalue().split())


# Round trips


def test_defaults_are_the_same_on_all_roads(tmp_path):
    Config().save(tmp_path / "config.json")
    assert Config() == Config.from_flags([]) == Config.from_run_config({}) == Config.load(tmp_path / "config.json")


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_on_each_road(name, tmp_path):
    """Flag, run configuration and config.json give the value back, in its type, and leave the others alone."""
    value = OTHERS[name]
    expected = dataclasses.replace(Config(), **{name: value})
    assert Config.from_flags(as_flags({name: value})) == expected
    assert Config.from_run_config({flag(name): value}) == expected
    expected.save(tmp_path / "config.json")
    loaded = Config.load(tmp_path / "config.json")
    assert loaded == expected
    assert type(getattr(loaded, name)) is type(value) is kind_of(name)[0]


def test_all_fields_at_once(tmp_path):
    config = Config.from_flags(as_flags(OTHERS))
    assert dataclasses.asdict(config) == OTHERS
    config.save(tmp_path / "config.json")
    assert list(json.loads((tmp_path / "config.json").read_text())) == [flag(name) for name in FIELDS]
    assert Config.load(tmp_path / "config.json") == config
    assert Config.from_run_config(config.to_run_config()) == config


def test_a_whole_number_is_a_number():
    assert Config.from_run_config({"learning-rate": 1}) == Config.from_flags(["--learning-rate", "1"])
    assert type(Config(learning_rate=1).learning_rate) is float


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 1
    assert hash(Config()) == hash(Config.from_flags([]))  # client.py keeps one model a configuration


def test_the_table_in_pyproject_is_the_dataclass():
    """`flwr run` knows no other keys, and its defaults must not differ from those of `python server.py`."""
    app = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    assert app["config"] == Config().to_run_config()
    for key, value in Config().to_run_config().items():
        assert type(app["config"][key]) is type(value), key


# Bad input


@pytest.mark.parametrize(("name", "value"), BAD, ids=[f"{name}={str(value)[:12]}" for name, value in BAD])
def test_bad_input_is_one_line_that_names_the_flag(name, value):
    with pytest.raises(UserError) as error:
        Config.from_run_config({flag(name): value})
    text = str(error.value)
    assert text.startswith(f"--{flag(name)} ")
    assert "\n" not in text
    assert error.value.status == 2
    kind, bounds, choices = kind_of(name)
    if choices:
        assert all(choice in text for choice in choices)
    elif type(value) is kind:
        assert str(bounds) in text


SAYABLE = [
    (name, value)
    for name, value in BAD
    if not (kind_of(name)[0] is str and not kind_of(name)[2])  # any text is a text
    and not (kind_of(name)[0] is float and value == 10**400)  # on a command line it is read as infinity
]


@pytest.mark.parametrize(("name", "value"), SAYABLE, ids=[f"{name}={str(value)[:12]}" for name, value in SAYABLE])
@pytest.mark.parametrize("joined", [False, True], ids=["two words", "one word"])
def test_both_roads_say_the_same_about_the_same_bad_value(name, value, joined):
    args = [f"--{flag(name)}={value}"] if joined else [f"--{flag(name)}", str(value)]
    with pytest.raises(UserError) as flags_road:
        Config.from_flags(["--tensorboard", "--batch-size", "3", *args])
    with pytest.raises(UserError) as table_road:
        Config.from_run_config({flag(name): value})
    assert str(flags_road.value) == str(table_road.value)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--sed", "3"], "--sed"),
        (["3"], "3"),
        (["--seed"], "--seed"),
        (["--tensorboard", "true"], "--tensorboard takes no value: write --tensorboard or --no-tensorboard"),
        (["--central-evaluation=False"], "write --central-evaluation or --no-central-evaluation"),
        (["--num_server_rounds", "x"], "--num-server-rounds must be a whole number, not 'x'"),
        (["--seed", "1", "--partitioner", "even"], "--partitioner is 'even'; allowed are: iid, dirichlet"),
    ],
)
def test_a_mistyped_command_line_is_one_line(args, words):
    with pytest.raises(UserError) as error:
        Config.from_flags(args)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert "│" not in str(error.value)


def test_flags_are_read_from_the_command_line_by_default(monkeypatch):
    monkeypatch.setattr("sys.argv", ["server.py", "--seed", "7"])
    assert Config.from_flags().seed == 7
    monkeypatch.setattr("sys.argv", ["server.py", "--seed", "seven"])
    with pytest.raises(UserError, match="--seed must be a whole number, not 'seven'"):
        Config.from_flags()


def test_an_unknown_key_names_the_known_ones():
    with pytest.raises(
        UserError, match=r"unknown key 'num_server_rounds' in the run configuration; known are: dataset"
    ):
        Config.from_run_config({"num_server_rounds": 3})


def test_more_nodes_than_there_are_clients_cannot_be_waited_for():
    with pytest.raises(
        UserError, match=r"--min-available-nodes is 4, but there are only 3 clients \(--num-partitions\)"
    ):
        Config(min_available_nodes=4)
    assert Config(min_available_nodes=4, num_partitions=4).min_available_nodes == 4


@pytest.mark.parametrize("name", ["strategy_args", "optimizer_args"])
def test_options_are_checked_at_the_start(name):
    with pytest.raises(UserError, match=f"--{flag(name)}: 'momentum' is not of the form key=value"):
        Config(**{name: "momentum"})


# key=value options


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        (" , ", {}),
        ("eta=0.1,tau=1e-3", {"eta": 0.1, "tau": 0.001}),
        (" momentum = 0.9 , nesterov=True", {"momentum": 0.9, "nesterov": True}),
        ("num-selected=3", {"num_selected": 3}),
        ('centered=false,name=word,quoted="3"', {"centered": False, "name": "word", "quoted": "3"}),
        ("path=a=b", {"path": "a=b"}),
        ("beta=-1", {"beta": -1}),
    ],
)
def test_options(text, expected):
    found = options(text, "strategy-args")
    assert found == expected
    assert [type(value) for value in found.values()] == [type(value) for value in expected.values()]


@pytest.mark.parametrize(
    "text", ["eta", "=3", "eta=", "1x=3", "a b=3", "eta=[1]", 'eta={"a":1}', "eta=null", "eta=0.1;b"]
)
def test_bad_options_name_the_flag(text):
    if text == "eta=0.1;b":
        assert options(text, "strategy-args") == {"eta": "0.1;b"}  # a word; the strategy will refuse it
        return
    with pytest.raises(UserError, match=r"^--strategy-args: "):
        options(text, "strategy-args")


# What fields say of themselves


def test_every_field_has_a_group():
    for name, field in FIELDS.items():
        assert setting_of(field).group.name and setting_of(field).group.purpose, name
        assert setting_of(field).group is not OPTIONS, name


CONNECTION = "host port max_message_mb spawn gpus_per_client passphrase_file tls_cert tls_key tls_client_ca insecure"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            fields_of(SERVER_ONLY),
            f"data_dir {CONNECTION} stop_after app app_config run_dir name tensorboard mlflow private checkpoint_every "
            "keep_checkpoints resume release decimal thousands trust_code max_result_mb metrics_port metrics_host "
            "evaluate evaluate_round evaluate_clients clients round_deadline late deadline_grace over_select",
        ),
        (
            fields_of(MAY_CHANGE),
            f"data_dir {CONNECTION} num_server_rounds stop_after min_available_nodes min_results max_retries "
            "node_timeout round_timeout reconnect_grace checkpoint_every keep_checkpoints tensorboard mlflow "
            "private release trust_code metrics_port metrics_host deadline_grace",
        ),
        (fields_of(ANY_APP), f"data_dir {CONNECTION} app app_config num_partitions reconnect_grace run_dir name"),
        (fields_of(ABSOLUTE), "dataset data_dir model resume run_dir evaluate"),
        (fields_of(workflow="split"), "split_at split_dtype in_flight split_noise split_nopeek"),
        (fields_of(workflow="collect"), "method folds kfold_return validation patience max_result_mb"),
        (fields_of(workflow="server-led"), "target share method"),
        (fields_of(strategy="fedprox"), "proximal_mu"),
        (fields_of(strategy=ANY), "proximal_mu"),
        (fields_of(strategy="fedavg"), ""),
        (fields_of(SERVER_ONLY, ANY_APP, ABSOLUTE), "data_dir run_dir"),
        (fields_of(), " ".join(FIELDS)),
    ],
)
def test_lists_of_fields_are_what_they_should_be(found, expected):
    """Each was kept by hand once: who adds a field looks here whether it is in the right ones."""
    assert sorted(found) == sorted(expected.split())
    assert list(found) == [name for name in FIELDS if name in found]


def test_what_is_changed_and_what_is_refused():
    config = Config(seed=1, split_at="a,b", tensorboard=True)
    assert config.changed() == ["seed", "tensorboard", "split_at"]
    assert config.changed(["tensorboard", "seed", "name"]) == ["seed", "tensorboard"]
    assert config.changed([]) == Config().changed() == []
    with pytest.raises(UserError, match=r"^--split-at means nothing here$"):
        config.refuse(fields_of(workflow="split"), "means nothing here")
    config.refuse(fields_of(workflow="collect"), "means nothing here")
    assert config.with_defaults(["seed", "name"]) == Config(split_at="a,b", tensorboard=True)


def test_options_of_a_strategy():
    assert options_for_strategy(Config()) == {}
    assert options_for_strategy(Config(proximal_mu=0.5)) == {}
    assert options_for_strategy(Config(strategy="fedprox", proximal_mu=0.5)) == {"proximal_mu": 0.5}
    both = Config(strategy="fedprox", proximal_mu=0.5, strategy_args="proximal_mu=0.25,x=1")
    assert options_for_strategy(both) == {"proximal_mu": 0.25, "x": 1}


# What clients are sent


def test_clients_are_told_everything_but_what_is_the_servers_own():
    config = Config(**OTHERS)
    told = config.for_clients()
    assert set(config.to_run_config()) - set(told) == {flag(name) for name in fields_of(SERVER_ONLY)}
    for key in ("data-dir", "run-dir", "host", "port", "name"):
        assert key not in told
    understood = Config.from_run_config(told)
    assert understood.data_dir == ""
    assert understood.learning_rate == config.learning_rate


@pytest.mark.parametrize(
    "fields",
    [
        {"run_dir": "runs"},
        {"data_dir": "../data"},
        {"data_dir": "~/data"},
        {"model": "my.keras"},
        {"model": "a/b.h5"},
        {"dataset": "a.csv"},
    ],
)
def test_relative_paths_are_refused_under_flowers_runtime(fields):
    [(name, value)] = fields.items()
    with pytest.raises(UserError, match=f"{flag(name)} is '{value}': .* absolute path"):
        Config(**fields).require_absolute_paths()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"run_dir": "/tmp/runs"},
        {"model": "/my.keras"},
        {"model": "mnist_cnn"},
        {"model": "my.module:build"},
        {"dataset": "a.csv", "data_dir": "/data"},
    ],
)
def test_absolute_paths_and_names_pass(fields):
    config = Config(**fields)
    assert config.require_absolute_paths() is config


# Bounds and errors


@pytest.mark.parametrize(
    ("bounds", "text", "inside", "outside"),
    [
        (Bounds(low=1), "at least 1", [1, 2], [0, float("nan"), float("inf")]),
        (Bounds(low=0, high=1), "at least 0 and at most 1", [0, 0.5, 1], [-0.1, 1.1, float("nan")]),
        (Bounds(above=0), "above 0", [1e-9], [0, -1, float("inf"), float("nan")]),
    ],
)
def test_bounds(bounds, text, inside, outside):
    assert str(bounds) == text
    assert all(bounds.allow(value) for value in inside)
    assert not any(bounds.allow(value) for value in outside)


@pytest.mark.parametrize(("error", "status"), [(UserError("no such\n  thing"), 2), (RunFailed("no such\n  thing"), 3)])
def test_complaints_are_one_line_on_stderr_with_a_status(error, status, capsys):
    assert complain("server.py", error) == status
    assert capsys.readouterr() == ("", "server.py: no such thing\n")
