"""Which questions there are, in the order in which a person thinks of them; between the two lists, the passphrase.

Where does the server listen; does it train, and what; with how many; how is trained; on which data, scaled how; once on
each client, or in rounds; what is learned.
"""

from collections.abc import Sequence
from pathlib import Path

from fedkeras import data
from fedkeras.address import own_address
from fedkeras.built_in_names import DATA_SETS, OPTIMIZERS
from fedkeras.config import Config
from fedkeras.interactive import checks, model_files
from fedkeras.interactive.choices import Choice
from fedkeras.interactive.question import Answer, Question, where
from fedkeras.models.file_info import SUFFIXES
from fedkeras.strategy_names import STRATEGIES

TRAINS = where(collect_only=False)
ROUNDS = where(collect_only=False, mode="federated")
FOLDER = "dataset"
HAVE_FILES = ("mnist", "femnist", "motionsense")
"""Data sets whose files are looked for in a folder, or downloaded."""


def _hands_out(config: Config) -> bool:
    return TRAINS(config) and config.model.endswith(SUFFIXES)


def _uses_data_set(config: Config) -> bool:
    return TRAINS(config) and config.uses_catalogue


def _is_table(config: Config) -> bool:
    """One of the person's own; arrays in a file have names already."""
    return _uses_data_set(config) and data.is_file(config.dataset) and not config.dataset.endswith(".npz")


def _own_optimizer(config: Config) -> str:
    """That of the model file, which trains if none is named; empty where there is none."""
    return model_files.compiled_optimizer(config.model) if config.model.endswith(SUFFIXES) else ""


def _has_rate(config: Config) -> bool:
    if config.optimizer == "default":
        return TRAINS(config) and not _own_optimizer(config)
    return TRAINS(config) and config.optimizer != "compiled"


# Where, whether, what, and with how many


def _addresses(_: Config) -> Sequence[Choice]:
    own = own_address()
    several = [
        Choice("127.0.0.1", {"host": "127.0.0.1"}, "for clients on this machine", ("localhost", "this machine")),
        Choice("0.0.0.0", {"host": "0.0.0.0"}, "for clients on other machines too", ("all", "any")),
    ]
    return [*several, *([Choice(own, {"host": own}, "the same, by this address alone")] if own else [])]


def _models(_: Config) -> Sequence[Choice]:
    files = [
        Choice(path, {"model": path}, model_files.described(path), (Path(path).name, Path(path).stem))
        for path in model_files.found()
    ]
    built_in = Choice("built-in", {"model": "", "data_source": ""}, "no file: the model that suits a data set by name")
    return [*files, built_in]


def _first_model(_: Config) -> Answer:
    usable = next(filter(model_files.is_usable, model_files.found()), "")
    return {"model": usable} if usable else {}


BEFORE_THE_PASSPHRASE = (
    Question(
        "address", "address", "Address to listen on; another one can be typed", "host", _addresses,
        check=checks.address, tidy=lambda text: text.strip("[]"),
    ),
    Question("port", "port (0: any free one)", field="port", check=checks.port),
    Question(
        "purpose", "train or collect", "What this server is for",
        choices=lambda config: [
            Choice("train", {"collect_only": False}, "clients train, and the server makes one model of theirs"),
            Choice("collect", {"collect_only": True}, "take models that clients hold already", ("only collect",)),
        ],
    ),
    Question(
        "model", "model", f"Model file, .keras or .h5, from the folder {model_files.FOLDER} or by its path", "model",
        _models, TRAINS, checks.model, suggest=_first_model, paths=True,
    ),
    Question("clients", "number of clients", field="num_partitions"),
)  # fmt: skip


# How is trained


def _optimizer_hint(config: Config) -> str:
    own = _own_optimizer(config)
    default = f"the model file's own, {own}" if own else "sgd"
    return f"Optimizers: default ({default}), {', '.join(OPTIMIZERS)}"


def _rate(config: Config) -> Answer:
    """Keras' own, where an optimizer is named whose steps are not sgd's."""
    adaptive = config.optimizer not in ("default", "compiled", "sgd")
    return {"learning_rate": OPTIMIZERS.get(config.optimizer, 0.1)} if adaptive else {}


# On which data


SOURCES = (
    Choice("server", {"data_source": "server"}, "files here; each client is handed its share of the rows"),
    Choice("client", {"data_source": "client"}, "each client has files of its own, which stay there", ("clients",)),
    Choice("keras", {"data_source": "keras"}, "a data set by name (digits, ...); each client loads its part"),
)


def _likely_source(_: Config) -> Answer:
    return {"data_source": "server" if (Path(FOLDER) / "X").is_dir() else "keras"}


DATA_SET_NOTES = {
    "digits": "1,797 small images; nothing to download",
    "mnist": "70,000 images of digits",
    "femnist": "handwriting by writers",
    "motionsense": "phones' motion, six activities",
    "synthetic": "made up; nothing to download",
}


def _data_sets(_: Config) -> Sequence[Choice]:
    return [
        Choice(name, {"dataset": name}, DATA_SET_NOTES.get(name, "as Keras downloads it"), (name.rpartition(":")[2],))
        for name in DATA_SETS
        if not name.endswith(":")
    ]


NONE = Choice("None", {"normaliser": "none"}, "as the data are", ("no",))
NORMALISERS = (
    Choice("Simple Feature Scaling", {"normaliser": "scale"}, "x / largest magnitude", ("scale", "simple")),
    Choice("Min-Max", {"normaliser": "minmax"}, "(x - min) / (max - min)", ("min max scaling",)),
    Choice("Z-Score", {"normaliser": "zscore"}, "(x - mean) / standard deviation", ("standard score",)),
    NONE,
)
DATA_SETS_OWN = Choice("default", {"normaliser": "default"}, "what suits data set and model")


def _normalisers(config: Config) -> Sequence[Choice]:
    """Tables are scaled on request only, so that for them the default is none."""
    return (*NORMALISERS, DATA_SETS_OWN) if config.uses_catalogue else NORMALISERS


# Once on each client, or in rounds


def _trains_by_a_method_of_ours(config: Config) -> bool:
    """Not by a workflow that --mode names."""
    return _hands_out(config) and (where(mode="federated")(config) or where(mode="collect")(config))


METHODS = (
    Choice("Fit", {"mode": "collect", "method": "fit"}, "once on all of a client's rows; the models are collected"),
    Choice(
        "K-Fold", {"mode": "collect", "method": "kfold"}, "once a fold, cross-validated; the models are collected",
        ("cross-validation",),
    ),
    Choice(
        "Rounds", {"mode": "federated", "method": "fit"}, "again and again, each time from the mean of all",
        ("federated",),
    ),
)  # fmt: skip


AFTER_THE_PASSPHRASE = (
    Question("epochs", "epochs (of a client, in a round if there are rounds)", field="local_epochs", when=TRAINS),
    Question("batch size", "batch size", field="batch_size", when=TRAINS),
    Question(
        "optimizer", "optimizer", field="optimizer", when=TRAINS, check=checks.optimizer,
        tidy=checks.named_optimizer, hint=_optimizer_hint,
    ),
    Question("learning rate", "learning rate", field="learning_rate", when=_has_rate, suggest=_rate),
    Question("seed", "seed", field="seed", when=TRAINS),
    Question("data source", "data source", "Where the data are", choices=lambda config: SOURCES, when=_hands_out,
             suggest=_likely_source),
    Question(
        "data folder", "folder with the data's folders X and Y", field="data_dir", check=checks.tables, paths=True,
        when=where(collect_only=False, data_source="server"),
        suggest=lambda config: {"data_dir": FOLDER},
    ),
    Question("data set", "data set", "Which data; also a file of your own, or package.module:function", "dataset",
             _data_sets, _uses_data_set, checks.data_set, paths=True),
    Question(
        "label column", "column that is learned", field="label_column", when=_is_table, check=checks.label_column,
        hint=lambda config: "none: the column that is called label, target, class or y.",
    ),
    Question(
        "data set's folder", "folder with its files (none: downloaded)", field="data_dir", check=checks.folder,
        when=lambda config: _uses_data_set(config) and config.dataset in HAVE_FILES, paths=True,
    ),
    Question(
        "normaliser", "normaliser", "How numbers are scaled, by what all clients' training rows are like",
        choices=_normalisers, when=TRAINS,
        suggest=lambda config: {} if config.uses_catalogue else {"normaliser": "none"},
    ),
    Question(
        "method", "method", "How clients train", choices=lambda config: METHODS,
        when=_trains_by_a_method_of_ours,
    ),
    Question("folds", "folds", field="folds",
             when=where(collect_only=False, mode="collect", method="kfold")),
    Question("rounds", "rounds", field="num_server_rounds", when=ROUNDS),
    Question(
        "strategy", "strategy", field="strategy", when=TRAINS, check=checks.strategy, tidy=checks.named_strategy,
        hint=lambda config: f"Strategies, by which one model is made of the clients': {', '.join(STRATEGIES)}",
    ),
    Question("proximal term", "weight mu of the proximal term", field="proximal_mu",
             when=where(collect_only=False, mode="federated", strategy="fedprox")),
    Question(
        "target", "XY or XX", "What is learned",
        choices=lambda config: [
            Choice("XY", {"target": "XY"}, "Y from X"),
            Choice("XX", {"target": "XX"}, "X from itself: an autoencoder", ("X",)),
        ],
        when=_hands_out,
    ),
)  # fmt: skip
