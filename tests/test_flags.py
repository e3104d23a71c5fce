"""Any dataclass of settings as a command line: groups in the help, what is not shown, errors in one line."""

import dataclasses
import importlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parent / "runtime"))

import pytest
from pseudo_terminal import Terminal

from fedkeras import interactive
from fedkeras.checkout import program
from fedkeras.client_config import ClientConfig
from fedkeras.commands import COMMANDS
from fedkeras.config import Config, fields_of, flag
from fedkeras.errors import UserError
from fedkeras.fields import OPTIONS, REQUIRED, Count, FlagGroup, embedded, setting, setting_of
from fedkeras.flags import documentation, parse_flags

ROOT = Path(__file__).resolve().parents[1]
FRUIT = FlagGroup("fruit", "What is eaten.")
TREE = FlagGroup("server-led tree", "Where it grows.")


@dataclass(frozen=True)
class Basket:
    """What is carried home."""

    apples: Count = setting(3, FRUIT)
    """How many apples there are."""
    kind: Literal["", "red", "green"] = setting("", FRUIT)
    """Their colour, if it
    matters."""
    tree: str = setting("", TREE)
    """Which tree they are of."""
    basket_dir: str = setting("", FRUIT)
    """Where they lie."""


@dataclass(frozen=True)
class Market:
    """Sell a basket, or several."""

    price: float = setting(REQUIRED, FRUIT)
    """Money for all of them."""
    basket: Basket = embedded(Basket, hidden=["tree"])
    open: bool = setting(True, OPTIONS)
    """Whether somebody is there."""


def shown(capsys, kind, args=("--help",), default=None) -> str:
    """The help."""
    with pytest.raises(SystemExit) as stop:
        parse_flags(kind, args, "market", default)
    assert stop.value.code == 0
    return capsys.readouterr().out


def entries(text: str) -> list[str]:
    """Flags that have a line of their own."""
    return re.findall(r"^.{0,2}(--[a-z][a-z-]*)", text, re.MULTILINE)


def test_help_is_in_groups_each_with_what_it_is_for(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    text = shown(capsys, Basket)
    text = text[text.index("What is carried home.") :]
    parts = [text.index(part) for part in ("fruit options", "What is eaten.", "--apples INT")]
    parts += [text.index(part) for part in ("--kind {red,green}", "--basket-dir", "server-led tree options", "--tree")]
    assert parts == sorted(parts)
    assert "How many apples there are. (default: 3)" in text
    assert "Their colour, if it matters. (default: unset)" in text and "''" not in text


def test_what_is_hidden_is_read_and_not_shown(capsys):
    assert entries(shown(capsys, Market)) == ["--open", "--price", "--apples", "--kind", "--basket-dir"]
    assert entries(shown(capsys, Market, ["--tree", "x", "-h"])) == entries(shown(capsys, Market))
    made = parse_flags(Market, ["--tree", "x", "--price", "2", "--no-open"], "market")
    assert made == Market(2.0, Basket(tree="x"), open=False)
    with pytest.raises(UserError, match=r"^Unrecognized options: --tre, x; `market --help` lists all flags$"):
        parse_flags(Market, ["--price", "2", "--tre", "x"], "market")


def test_what_is_not_given_is_as_in_the_default(capsys):
    default = Market(1.5, Basket(7, "red", "old", "there"), open=False)
    assert parse_flags(Market, [], "market", default) == default
    made = parse_flags(Market, ["--apples", "4"], "market", default)
    assert made == dataclasses.replace(default, basket=Basket(4, "red", "old", "there"))
    text = shown(capsys, Market, default=default)
    assert "(default: 7)" in text and "(default: red)" in text and "(default: 1.5)" in text


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--price", "2", "--aples", "3"], "Unrecognized options: --aples, 3. Perhaps you meant --apples; "),
        (["--price", "2", "--dir", "x"], "Unrecognized options: --dir, x. Perhaps you meant --basket-dir; "),
        (
            ["--price", "2", "--prise", "2", "--apple", "3"],
            "Unrecognized options: --prise, 2, --apple, 3. Perhaps you meant --apples or --price; ",
        ),
        (["--price", "dear"], "--price must be a number, not 'dear'"),
        (["--price", "2", "--apples", "0"], "--apples must be at least 1, not 0"),
        (["--price", "2", "--apples", "x"], "--apples must be a whole number, not 'x'"),
        (["--price", "2", "--kind", "blue"], "--kind is 'blue'; allowed are: red, green"),
        (["--price", "2", "--open", "yes"], "--open takes no value: write --open or --no-open"),
        ([], "Missing from market: --price FLOAT Money for all of them. (required); "),
    ],
)
def test_what_cannot_be_read_is_one_line(args, line, monkeypatch):
    for columns in ("30", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        with pytest.raises(UserError) as error:
            parse_flags(Market, args, "market")
        assert str(error.value).startswith(line) or columns == "30"
        assert "\n" not in str(error.value) and "│" not in str(error.value) and "For full" not in str(error.value)


@pytest.mark.parametrize("size", [(40, 120), (40, 30)])
def test_a_mistyped_flag_on_a_terminal(tmp_path, size):
    """Where tyro would draw in colours, and in boxes as narrow as the terminal."""
    terminal = Terminal(tmp_path, ROOT / "server.py", "--sed", 3, "--interactiv", size=size)
    terminal.wait("lists all flags")
    assert terminal.process.wait(30) == 2
    assert terminal.shown.strip() == (
        "server.py: Unrecognized options: --sed, 3, --interactiv. Perhaps you meant --interactive or --seed; "
        "`server.py --help` lists all flags"
    )
    terminal.close()


# Every command


@pytest.mark.parametrize("kind", [Config, ClientConfig, interactive.ServerFlags])
def test_every_flag_is_in_a_group(kind):
    for field in dataclasses.fields(kind):
        assert field.name == "config" or setting_of(field).group.purpose, field.name
        assert field.name == "config" or len(documentation(kind)[field.name].split()) > 2, field.name


def test_the_servers_help_has_all_groups_in_their_order(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["server.py", "--help"])
    with pytest.raises(SystemExit):
        interactive.from_flags()
    text = capsys.readouterr().out
    groups = list(dict.fromkeys(setting_of(field).group for field in dataclasses.fields(Config)))
    places = [text.index(f" {group.name} options ") for group in groups]
    assert len(groups) == 14 and places == sorted(places)
    assert sorted(entries(text)) == sorted([*(f"--{flag(name)}" for name in fields_of()), "--interactive"])
    assert all(" ".join(group.purpose.split()[:3]) in text for group in groups)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_without_empty_defaults(command, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["python"])  # the two programs set what they read
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(f"fedkeras.commands.{command}").main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and f"{program(command)} " in text.splitlines()[0]
    assert "(default: )" not in text and "(default: '')" not in text


@pytest.mark.parametrize(
    ("command", "absent"),
    [
        ("data", ["strategy", "batch_size", "port", "normaliser", "split", "run_dir", "mode", "resume"]),
        ("simulate", ["port", "host", "tls_cert", "spawn", "data_source", "collect_only", "app", "reconnect_grace"]),
        ("demo", ["port", "host", "spawn", "app", "app_config", "interactive"]),
    ],
)
def test_flags_that_a_command_does_not_use_are_not_shown(command, absent, capsys):
    with pytest.raises(SystemExit):
        importlib.import_module(f"fedkeras.commands.{command}").main(["--help"])
    found = entries(capsys.readouterr().out)
    assert not {*found} & {f"--{flag(name)}" for name in absent}
    assert {"--dataset", "--data-dir", "--num-partitions", "--seed"} <= {*found}
