"""What is looked at before an answer is taken: an address, a port, a file, a folder, a name. Each raises UserError."""

import difflib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from fedkeras import data
from fedkeras.address import require_free
from fedkeras.built_in_names import DATA_SETS, MODELS, OPTIMIZERS, is_one_of
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation import registry
from fedkeras.interactive.choices import plain
from fedkeras.models.requirements import require_trainable_file
from fedkeras.strategy_names import STRATEGIES


def address(host: str, _: Config) -> None:
    """A server of this machine can listen there."""
    if host.count(":") == 1:
        raise UserError(f"give the address alone, such as {host.partition(':')[0]}: the port is asked for next")
    require_free(host, 0)


def port(number: int, config: Config) -> None:
    """Nobody else listens there, and this user may."""
    require_free(config.host, number)


def model(name: str, config: Config) -> None:
    """A file with a model that can be trained here, of which the configuration is read and nothing built; or a name."""
    if not name and config.hands_out_model:
        raise UserError("--data-source hands a model file out: name one")
    if name and not is_one_of(name, MODELS) and ":" not in name:
        require_trainable_file(Path(name).expanduser())


def folder(path: str, _: Config) -> None:
    """It is there; empty: none is given."""
    if path and not Path(path).expanduser().is_dir():
        raise UserError(f"there is no folder {path}")


def tables(path: str, config: Config) -> None:
    """It has a folder X with files in it."""
    folder(path, config)
    x = Path(path).expanduser() / "X"
    if not x.is_dir() or not any(x.iterdir()):
        raise UserError(f"{path} has no folder X with files in it (.npz, .csv, .xlsx; targets lie in a folder Y)")


def data_set(name: str, _: Config) -> None:
    """A built-in one, a file that is there, or a function, which is looked at in the end."""
    if data.is_file(name):
        if not Path(name).expanduser().exists():
            raise UserError(f"there is no file {name}")
    elif ":" not in name and not is_one_of(name, DATA_SETS):
        raise UserError(f"there is no data set '{name}'{_meant(name, DATA_SETS)}; give a number, a name or a file")


def label_column(name: str, config: Config) -> None:
    """The table has it, or one that is taken for it; the table is read."""
    data.open_source(replace(config, label_column=name))


def optimizer(name: str, _: Config) -> None:
    """One of Keras', as `named_optimizer` writes it."""
    if name not in ("default", "compiled", *OPTIMIZERS):
        raise UserError(f"Keras has no optimizer '{name}'{_meant(name, OPTIMIZERS)}: {', '.join(OPTIMIZERS)}")


def named_optimizer(text: str) -> str:
    """Keras' name of it in lower case, from any spelling (`Adam W`); what is unknown stays as it is."""
    return next((name for name in OPTIMIZERS if plain(name) == plain(text)), text)


def strategy(name: str, _: Config) -> None:
    """One of ours, or a class that can be imported; its options are looked at in the end."""
    if name not in STRATEGIES and ":" not in name:
        other = "; or package.module:Class"
        raise UserError(f"there is no strategy '{name}'{_meant(name, STRATEGIES)}: {', '.join(STRATEGIES)}{other}")
    if ":" in name:
        registry.load(name)


def named_strategy(text: str) -> str:
    """Our name of it, from any spelling (`Fed-Avg`, `Trimmed Mean`); what is unknown stays as it is."""
    return next((name for name in STRATEGIES if plain(name) == plain(text)), text)


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(plain(name), list(known), 1)
    return f" (is {close[0]} meant?)" if close else ""
