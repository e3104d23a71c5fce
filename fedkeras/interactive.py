"""`python server.py --interactive`: asks for what a run needs, shows the command that says the same, and starts it."""

import dataclasses
import getpass
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedkeras.config import Config, flag, read_value
from fedkeras.errors import UserError
from fedkeras.runtime.passphrase import VARIABLE

INTERACTIVE = "--interactive"


def always(_: Config) -> bool:
    """Asked in any case."""
    return True


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


def _trains(config: Config) -> bool:
    return not config.collect_only


BEFORE_THE_PASSPHRASE = (
    Question("host", "address to listen on (0.0.0.0: all of this machine's)"),
    Question("port", "port"),
    Question("collect_only", "only collect models that clients have trained already"),
    Question("model", "model file (.h5 or .keras)", _trains, _file),
    Question("num_partitions", "number of clients"),
)
AFTER_IT = (
    Question("data_source", "where the data are: server (handed out), client (each has its own), keras", _trains),
    Question("data_dir", "folder with the data's folders X and Y", lambda c: c.data_source == "server", _folder),
    Question("dataset", "data set, such as mnist", lambda c: c.data_source == "keras" and _trains(c)),
    Question("normaliser", "normaliser: none, scale, minmax, zscore", _trains),
    Question("mode", "federated (rounds) or collect (train once, gather all models)", _trains),
    Question("method", "method: fit or kfold", lambda c: _trains(c) and c.mode == "collect"),
    Question("folds", "folds", lambda c: _trains(c) and c.mode == "collect" and c.method == "kfold"),
    Question("num_server_rounds", "rounds", lambda c: _trains(c) and c.mode == "federated"),
    Question("strategy", "strategy", lambda c: _trains(c) and c.mode == "federated"),
    Question("local_epochs", "epochs", _trains),
    Question("batch_size", "batch size", _trains),
    Question("optimizer", "optimizer (default: the model file's own)", _trains),
    Question("learning_rate", "learning rate", lambda c: _trains(c) and c.optimizer not in ("default", "compiled")),
    Question("seed", "seed", _trains),
    Question("target", "XY (predict Y from X) or XX (reconstruct X)", _trains),
)


def ask_if_told() -> Config | None:
    """The answers, if `--interactive` is among this command's flags; the other flags are the defaults."""
    args = sys.argv[1:]
    if INTERACTIVE not in args:
        return None
    args.remove(INTERACTIVE)
    return ask(Config.from_flags(args))


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
        _ask_passphrase()
    for question in AFTER_IT:
        config = _put(question, config)
    print(f"\nthe same without questions:\n\n    {command_of(config)}\n")
    if not _ask_yes("start"):
        raise KeyboardInterrupt
    return config


def command_of(config: Config) -> str:
    """The command line that gives this configuration; the passphrase is not in it."""
    words = ["python", "server.py"]
    for field in dataclasses.fields(Config):
        value = getattr(config, field.name)
        if value == field.default:
            continue
        name = flag(field.name)
        words += [f"--{'' if value else 'no-'}{name}"] if isinstance(value, bool) else [f"--{name}", str(value)]
    before = f"{VARIABLE}=... " if VARIABLE in os.environ and not config.passphrase_file else ""
    return before + shlex.join(words)


def _put(question: Question, config: Config) -> Config:
    """Ask until the answer will do."""
    if not question.when(config):
        return config
    default = getattr(config, question.field)
    shown = {True: "yes", False: "no"}.get(default, default) if isinstance(default, bool) else default
    while True:
        text = _line(f"{question.text} [{shown}]: ") or str(shown)
        try:
            value = read_value(question.field, text)
            question.check(str(value))
            return dataclasses.replace(config, **{question.field: value})
        except UserError as error:
            print(f"  {error}")


def _ask_passphrase() -> None:
    while True:
        first = _hidden("passphrase that clients must know (empty: none): ")
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
