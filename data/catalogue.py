"""From --dataset to a source: a built-in one by name, a file or folder by path, your own as package.module:function."""

import importlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from fedkeras.config import Config
from fedkeras.data.source import Source, check_source
from fedkeras.errors import UserError

FILES = {".npz": "npz", ".csv": "table_source", ".xlsx": "table_source", ".parquet": "table_source"}
"""The page that reads a file, by the ending of its name."""

BUILT_IN = {name: f"fedkeras.data.{name}" for name in ("digits", "mnist", "femnist", "motionsense", "synthetic")}


# A process has one configuration: a node of fifty clients opens the files once. Pixels stay on disk (memory-mapped)
# or are held as bytes, so keeping the source costs little.
@lru_cache(maxsize=1)
def open_source(config: Config) -> Source:
    """The source that `config.dataset` names.

    Opening reads labels and owners; the examples themselves are read when they are needed, where the format allows.
    Raises UserError for an unknown name, missing files, or files that are not what they should be.
    """
    name = config.dataset
    if built_in := built_in_name(name):
        # by name and not at the top: digits must not pay for pandas
        source = importlib.import_module(BUILT_IN[built_in]).load(config)
    elif kind := kind_of_file(name, config.data_dir):
        source = importlib.import_module(f"fedkeras.data.{kind}").load(config)
    elif name.startswith("keras:"):
        source = importlib.import_module("fedkeras.data.keras_sets").load(config)
    elif ":" in name:
        source = _named_function(name)(config)
    else:
        raise UserError(
            f"--dataset is '{name}'; give {', '.join(BUILT_IN)}, a path to a file that ends in "
            f"{', '.join(FILES)}, to a folder, or package.module:function"
        )
    return check_source(source, name)


def built_in_name(dataset: str) -> str:
    """The built-in source that is meant, without options: `synthetic` of `synthetic:alpha=1`; none: an empty word."""
    name = dataset.partition(":")[0] if dataset.startswith("synthetic:") else dataset
    return name if name in BUILT_IN else ""


def kind_of(dataset: str, data_dir: str = "") -> str:
    """What a default model goes by: the built-in source's name, or the page that reads a file's kind; else ""."""
    return built_in_name(dataset) or kind_of_file(dataset, data_dir)


def is_file(dataset: str, data_dir: str = "") -> bool:
    """Whether --dataset names a file or folder of somebody's own."""
    return bool(kind_of_file(dataset, data_dir))


def kind_of_file(dataset: str, data_dir: str = "") -> str:
    """The page that reads what --dataset names, if it is the path of a file, or of a folder that is there; else ""."""
    if kind := FILES.get(Path(dataset).suffix.lower()):
        return kind
    folder = (Path(data_dir) / dataset if data_dir else Path(dataset)).expanduser()
    if built_in_name(dataset) or dataset.startswith("keras:") or not folder.is_dir():
        return ""
    return "xy_folder" if (folder / "X").is_dir() else "image_folder"


def _named_function(name: str) -> Callable[[Config], Source]:
    """The function that `package.module:function` names."""
    module_name, _, function_name = name.partition(":")
    if not all(word.isidentifier() for word in module_name.split(".")):
        raise UserError(f"--dataset {name}: '{module_name}' is not a module's name")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(
            f"--dataset {name}: cannot import '{module_name}' ({error}); "
            "start from the folder that holds it, install it, or name its folder in PYTHONPATH"
        ) from None
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UserError(f"--dataset {name}: '{module_name}' has no function '{function_name}'")
    return function


def needs_no_files(dataset: str) -> bool:
    """Whether the data set is there wherever fedkeras is installed."""
    return built_in_name(dataset) in ("digits", "synthetic")
