"""`python server.py --interactive`: asks for what a run needs, shows the command that says the same, and starts it."""

import getpass
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedkeras.address import is_loopback
from fedkeras.checkout import program, typed
from fedkeras.config import PROCESS, Config, flag
from fedkeras.errors import UserError
from fedkeras.fields import Value, embedded, read_value, setting
from fedkeras.flags import parse_flags
from fedkeras.reports import resuming
from fedkeras.runtime.passphrase import VARIABLE

INTERACTIVE = "--interactive"


@dataclass(frozen=True)
class ServerFlags:
    """Wait for clients, train with them, and leave a folder with all that came of it."""

    config: Config = embedded(Config)
    interactive: bool = setting(False, PROCESS)
    """Ask for what a run needs, question by question, and show the command that says the same."""


def from_flags() -> Config:
    """server.py's configuration: from its command line, or from a person's answers with `--interactive`.

    With --interactive the other flags are the defaults. Raises UserError, and KeyboardInterrupt if in the end it is not
    to be started.
    """
    args = sys.argv[1:]
    if INTERACTIVE in args and not {"-h", "--help"} & {*args}:
        return ask(_read([word for word in args if word != INTERACTIVE], program("server"), None))
    return resuming.from_flags(args, program("server"), _read)


def _read(args: Sequence[str] | None, prog: str, default: Config | None) -> Config:
    return parse_flags(ServerFlags, args, prog, None if default is None else ServerFlags(default)).config


def always(_: Config) -> bool:
    """For a question that is asked in any case."""
    return True


def where(**wanted: Value) -> Callable[[Config], bool]:
    """For a question that is asked where these fields have these values by then."""
    return lambda config: all(getattr(config, name) == value for name, value in wanted.items())


@dataclass(frozen=True)
class Question:
    """One field of Config; `when` looks at the answers so far, `check` at this one (it raises UserError)."""

    field: str
    text: str
    when: Callable[[Config], bool] = always
    check: Callable[[str], None] = lambda value: None


def _file(path: str) -> None:
    if not Path(path).is_file():
        raise UserError(f"there is no file {path}")


def _folder(path: str) -> None:
    if not Path(path).is_dir():
        raise UserError(f"there is no folder {path}")


def _mode(name: str) -> None:
    if name not in ("federated", "collect") and ":" not in name:
        raise UserError(f"--mode is '{name}'; allowed are: federated, collect, or a workflow as package.module:Class")


def _has_rate(config: Config) -> bool:
    return TRAINS(config) and config.optimizer not in ("default", "compiled")


TRAINS = where(collect_only=False)
COLLECTS = where(collect_only=False, mode="collect")
FEDERATED = where(collect_only=False, mode="federated")

BEFORE_THE_PASSPHRASE = (
    Question("host", "address to listen on (0.0.0.0: all of this machine's)"),
    Question("port", "port"),
    Question("collect_only", "only collect models that clients have trained already"),
    Question("model", "model file (.h5 or .keras)", TRAINS, _file),
    Question("num_partitions", "number of clients"),
)
AFTER_THE_PASSPHRASE = (
    Question("data_source", "where the data are: server (handed out), client (each has its own), keras", TRAINS),
    Question("data_dir", "folder with the data's folders X and Y", where(data_source="server"), _folder),
    Question("dataset", "data set, such as mnist", where(data_source="keras", collect_only=False)),
    Question("normaliser", "normaliser: none, scale, minmax, zscore", TRAINS),
    Question("mode", "federated (rounds) or collect (train once, gather all models)", TRAINS, _mode),
    Question("method", "method: fit or kfold", COLLECTS),
    Question("folds", "folds", where(collect_only=False, mode="collect", method="kfold")),
    Question("num_server_rounds", "rounds", FEDERATED),
    Question("strategy", "strategy", FEDERATED),
    Question("local_epochs", "epochs", TRAINS),
    Question("batch_size", "batch size", TRAINS),
    Question("optimizer", "optimizer (default: the model file's own)", TRAINS),
    Question("learning_rate", "learning rate", _has_rate),
    Question("seed", "seed", TRAINS),
    Question("target", "XY (predict Y from X) or XX (reconstruct X)", TRAINS),
)


def ask(defaults: Config) -> Config:
    """The configuration from a person's answers, `defaults` in brackets.

    A passphrase goes into this process's environment. Raises UserError where nobody is at the terminal, and
    KeyboardInterrupt if in the end it is not to be started.
    """

    print("Enter takes what is in brackets; Ctrl-C ends it all.\n")
    config = defaults
    for question in BEFORE_THE_PASSPHRASE:
        config = _put(question, config)
    if not config.passphrase_file:
        _ask_passphrase(needed=not is_loopback(config.host) and not (config.tls_client_ca or config.insecure))
    for question in AFTER_THE_PASSPHRASE:
        config = _put(question, config)
    print(f"\nthe same without questions:\n\n    {command_of(config)}\n")
    if not _ask_yes("start"):
        raise KeyboardInterrupt
    return config


def command_of(config: Config) -> str:
    """The command line that gives this configuration; the passphrase is not in it."""
    words = []
    for field in config.changed():
        value, name = getattr(config, field), flag(field)
        words += [f"--{'' if value else 'no-'}{name}"] if isinstance(value, bool) else [f"--{name}", str(value)]
    before = f"{VARIABLE}=... " if VARIABLE in os.environ and not config.passphrase_file else ""
    return before + typed("server", *words)


def _put(question: Question, config: Config) -> Config:
    """Ask until the answer will do."""
    if not question.when(config):
        return config
    default = getattr(config, question.field)
    shown = {True: "yes", False: "no"}.get(default, default) if isinstance(default, bool) else default
    while True:
        text = _line(f"{question.text} [{shown}]: ") or str(shown)
        try:
            value = read_value(Config, question.field, text)
            question.check(str(value))
            return replace(config, **{question.field: value})
        except UserError as error:
            print(f"  {error}")


def _ask_passphrase(needed: bool) -> None:
    while True:
        first = _hidden(f"passphrase that clients must know{'' if needed else ' (empty: none)'}: ")
        if not first and needed:
            print("  others can reach this server: without a passphrase anybody could join")
            continue
        if not first:
            return
        if first == _hidden("the same again: "):
            os.environ[VARIABLE] = first
            return
        print("  the two are not the same")


def _ask_yes(text: str) -> bool:
    while True:
        answer = _line(f"{text} [yes]: ").lower() or "yes"
        if answer in ("y", "yes", "n", "no"):
            return answer.startswith("y")
        print("  yes or no?")


def _line(prompt: str) -> str:
    try:
        return input(prompt).strip()
    except EOFError:
        raise UserError("--interactive needs somebody at a terminal who answers") from None


def _hidden(prompt: str) -> str:
    try:
        return getpass.getpass(prompt)
    except EOFError:
        raise UserError("--interactive needs somebody at a terminal who answers") from None
