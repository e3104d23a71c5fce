"""One frozen dataclass: its fields are the flags of server.py, the keys of `flwr run -c` and the saved config.json.

A field is documented once, in the text below it. Both roads (command line and Flower's run configuration) end in
`Config.__post_init__`, which checks types and allowed values and names the flag in its message.
"""

import contextlib
import dataclasses
import io
import json
import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from fedkeras.errors import UserError

T = typing.TypeVar("T")
Value = bool | int | float | str


SERVERS_OWN = (
    "data-dir", "host", "port", "spawn", "passphrase-file", "tls-cert", "tls-key", "tls-client-ca", "insecure",
    "max-message-mb", "app", "app-config", "run-dir", "name", "tensorboard", "mlflow", "checkpoint-every",
    "keep-checkpoints", "resume",
)  # fmt: skip
"""Keys that clients are not told: paths, ports and secrets of the server's machine."""


@dataclass(frozen=True)
class Bounds:
    """Allowed range of a number; `above` and `below` are exclusive, `low` and `high` inclusive."""

    low: float | None = None
    high: float | None = None
    above: float | None = None

    def __str__(self) -> str:
        words = [f"at least {self.low}"] if self.low is not None else []
        words += [f"above {self.above}"] if self.above is not None else []
        words += [f"at most {self.high}"] if self.high is not None else []
        return " and ".join(words)

    def allow(self, value: float) -> bool:
        """True if `value` lies within (a NaN never does)."""
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and value == value
            and abs(value) != float("inf")
        )


Count = Annotated[int, Bounds(low=1)]
CountOrZero = Annotated[int, Bounds(low=0)]
Fraction = Annotated[float, Bounds(low=0.0, high=1.0)]
Positive = Annotated[float, Bounds(above=0.0)]
Seconds = Annotated[float, Bounds(low=0.0)]


@dataclass(frozen=True)
class Config:
    """Everything that decides a federated run. The server tells its clients all of it but the paths."""

    # What is learned, and from what
    dataset: str = "digits"
    """digits, mnist, femnist, motionsense, or your own source as package.module:function."""
    data_dir: str = ""
    """Where the files are on this machine; unset: ./dataset for data-source, else downloaded where it can be."""
    model: str = ""
    """A built-in name, a .keras or .h5 file, or package.module:function; unset: the data set's default model."""
    loss: str = ""
    """Any Keras loss by name; unset: the model's own (sparse_categorical_crossentropy for classifiers)."""
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    """What the layers compute in; weights are float32 either way."""

    # Server-led training: the server hands out the model file, and the data if asked
    data_source: Literal["", "server", "client", "keras"] = ""
    """Hand the model file out; the data are the server's (data-dir's X and Y), each client's own, or a data set's."""
    target: Literal["XY", "XX"] = "XY"
    """data-source: learn Y from X, or X from itself (autoencoders)."""
    share: str = ""
    """data-source server: who gets how much, as CID=WEIGHT, such as 0=2,1=1; who is not named counts 1."""
    mode: Literal["federated", "collect"] = "federated"
    """data-source: rounds as usual; or train once on each client and gather every model, log and table."""
    method: Literal["fit", "kfold"] = "fit"
    """collect: how a client trains: once, or once a fold."""
    folds: Annotated[int, Bounds(low=2)] = 5
    """kfold: number of folds."""
    kfold_return: Literal["best", "refit"] = "best"
    """kfold: the model of the best fold, or one trained again on all rows."""
    validation: Annotated[float, Bounds(low=0.0, high=0.9)] = 0.0
    """collect, fit: share of a client's examples that each epoch is tested on."""
    patience: CountOrZero = 0
    """collect: epochs without a better validation loss after which training stops; 0: never."""
    collect_only: bool = False
    """Train nothing: gather what clients started with --deliver still hold."""

    # How the examples are divided among clients
    num_partitions: Count = 3
    """Number of clients that hold data, cid 0 to N-1."""
    partitioner: Literal["iid", "dirichlet", "shards", "natural", "sizes"] = "iid"
    """iid: stratified parts; dirichlet: label skew; shards: k labels a client; natural: writers or subjects; sizes."""
    alpha: Positive = 0.5
    """Dirichlet concentration: small is skewed, large is even."""
    labels_per_client: Count = 2
    """Labels each client holds under the shards partitioner."""
    sizes: str = ""
    """Relative part sizes for the sizes partitioner, one a client, such as 4,2,1."""
    normaliser: Literal["default", "none", "scale", "minmax", "zscore"] = "default"
    """Fitted on training data, applied to all; default: what suits the data set."""
    test_fraction: Annotated[float, Bounds(low=0.0, high=0.9)] = 0.1
    """Share of each client's own part that is held out as its test set."""
    min_samples: CountOrZero = 0
    """femnist: leave out writers with fewer images than this."""
    window: Count = 128
    """motionsense: samples in a window (50 a second)."""
    stride: Count = 64
    """motionsense: samples from the start of one window to the next."""
    signals: str = ""
    """motionsense: comma-separated signals out of the twelve; unset: all."""
    test_split: Literal["trial", "subject"] = "trial"
    """motionsense: hold out the short trials 11-16, or whole subjects."""
    test_subjects: str = "19,20,21,22,23,24"
    """motionsense: the subjects held out under test-split subject."""

    # What the server does with updates
    strategy: str = "fedavg"
    """fedavg, fedmedian, fedprox, trimmed_mean, krum, fedavgm, fedadam, fedyogi, fedadagrad, or module:Class."""
    strategy_args: str = ""
    """The strategy's own options as key=value, comma-separated, such as eta=0.1,tau=0.001."""
    proximal_mu: Seconds = 0.1
    """fedprox: weight of the proximal term."""
    split: Literal["off", "sequential", "splitfed", "shared"] = "off"
    """Split learning: clients in turns; in parallel with a middle part each; in parallel on one middle part."""
    split_at: str = ""
    """split: where to cut, FIRST,SECOND: the last layers of the client's and the server's part; unset: the model's."""
    split_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """split: what activations and gradients are on the wire."""
    in_flight: Count = 1
    """split: batches that a client has under way at once; above 1, gradients are late by so many."""
    split_noise: Seconds = 0.0
    """split: standard deviation of the Gaussian noise on activations that leave a client."""
    split_nopeek: Seconds = 0.0
    """split: weight of NoPeek's distance correlation between examples and activations in the client's objective."""
    num_server_rounds: Count = 10
    """Rounds of federated training."""
    fraction_train: Annotated[float, Bounds(above=0.0, high=1.0)] = 1.0
    """Share of the clients that train in a round."""
    fraction_evaluate: Fraction = 1.0
    """Share of the clients that evaluate after a round; 0: none."""
    central_evaluation: bool = True
    """Evaluate the global model on the central test set after each round."""

    # What a client does in a round
    local_epochs: Count = 1
    """Epochs over a client's own data in a round."""
    batch_size: Count = 16
    """Examples in a step; the last, shorter batch counts as what it is."""
    optimizer: str = "default"
    """Any Keras optimizer by name, fresh in each round; default: sgd; data-source: compiled, the model file's own."""
    learning_rate: Positive = 0.1
    """The client optimizer's learning rate."""
    optimizer_args: str = ""
    """The optimizer's other options as key=value, comma-separated, such as momentum=0.9."""
    threads_per_client: Count = 1
    """TensorFlow threads a client; with seed and TensorFlow build it decides the bits of the result."""

    # Who must be there, and for how long the server waits
    min_available_nodes: CountOrZero = 0
    """Clients that must be connected before a round starts; 0: all num-partitions."""
    min_results: Count = 1
    """Valid answers a round needs; with fewer it is repeated."""
    max_retries: CountOrZero = 2
    """How often a round that got too few answers is repeated before the run fails."""
    node_timeout: Positive = 300.0
    """Seconds to wait for clients to connect before the run fails."""
    round_timeout: Positive = 3600.0
    """Seconds to wait for the answers of a round; who is late is counted as failed."""
    reconnect_grace: Seconds = 30.0
    """gRPC: seconds a client that lost its connection has to come back before its work counts as failed."""
    rest_after: CountOrZero = 3
    """Failures in a row after which a client rests, if there are others; 0: never."""
    rest_rounds: Count = 2
    """Rounds that such a client is left out of."""

    # What the run keeps, so that it can go on
    checkpoint_every: CountOrZero = 1
    """Rounds from one checkpoint to the next; 0: none."""
    keep_checkpoints: Count = 2
    """The newest checkpoints that are kept, beside the best one."""
    resume: str = ""
    """The folder of a run that ended early: go on where its newest checkpoint is, with its settings."""

    # Who may join, and what is encrypted
    passphrase_file: str = ""
    """File with the passphrase that clients must know; or set FEDKERAS_PASSPHRASE. Unset: anybody may join."""
    tls_cert: str = ""
    """The server's certificate chain (PEM): encrypt. `python -m fedkeras certs` makes one."""
    tls_key: str = ""
    """The private key of tls-cert (PEM)."""
    tls_client_ca: str = ""
    """Demand of clients a certificate of this authority (PEM)."""
    insecure: bool = False
    """Allow to listen beyond this machine without encryption."""

    # This process
    host: str = "127.0.0.1"
    """Address the gRPC server listens on; beyond loopback it needs TLS, or --insecure."""
    port: Annotated[int, Bounds(low=0, high=65535)] = 9080
    """Port the gRPC server listens on; 0: a free one."""
    max_message_mb: Count = 1024
    """Largest message that a client may send, in megabytes."""
    app: str = ""
    """Run another Flower app over this server: the folder of its pyproject.toml, or package.module:app."""
    app_config: str = ""
    """The other app's run configuration as key=value, comma-separated, over that of its pyproject.toml."""
    spawn: CountOrZero = 0
    """Start this many client processes on this machine, which share the partitions; 0: clients come by themselves."""
    seed: CountOrZero = 42
    """Decides initial weights, partitions, cohorts, orders and dropout."""
    run_dir: str = ""
    """Folder that gets one folder a run; unset: ./runs (under Flower's runtime: a folder of the user's)."""
    name: str = ""
    """Last part of the run folder's name; unset: data set and strategy."""
    tensorboard: bool = False
    """Write TensorBoard event files into the run's folder."""
    mlflow: bool = False
    """Log the run to MLflow: to MLFLOW_TRACKING_URI, else to mlflow.db in the folder of the runs."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _checked(field.name, getattr(self, field.name)))
        if self.min_available_nodes > self.num_partitions:
            raise UserError(
                f"--min-available-nodes is {self.min_available_nodes}, but there are only "
                f"{self.num_partitions} clients (--num-partitions)"
            )
        options(self.strategy_args, "strategy-args")
        options(self.optimizer_args, "optimizer-args")

    @classmethod
    def from_flags(
        cls, args: Sequence[str] | None = None, prog: str = "server.py", default: "Config | None" = None
    ) -> "Config":
        """Parse command-line flags; what is not given is as in `default`.

        Raises UserError; `--help` prints and exits with status 0.
        """
        try:
            return parse_flags(cls, args, prog, default)
        except UserError:
            _check_flags(sys.argv[1:] if args is None else args)  # says it as the run configuration would
            raise

    @classmethod
    def from_run_config(cls, table: Mapping[str, Value]) -> "Config":
        """Read Flower's run configuration, whose keys are the flags without dashes before them."""
        names = {flag(field.name): field.name for field in dataclasses.fields(cls)}
        for key in table:
            if key not in names:
                raise UserError(f"unknown key '{key}' in the run configuration; known are: {', '.join(names)}")
        return cls(**{names[key]: value for key, value in table.items()})

    def to_run_config(self) -> dict[str, Value]:
        """The same table as in pyproject.toml's [tool.flwr.app.config]."""
        return {flag(name): value for name, value in dataclasses.asdict(self).items()}

    def for_clients(self) -> dict[str, Value]:
        """What clients are told: the same table without what concerns the server's machine alone."""
        return {key: value for key, value in self.to_run_config().items() if key not in SERVERS_OWN}

    def require_absolute_paths(self) -> "Config":
        """Under Flower's runtime the working directory is Flower's, not the user's: refuse paths that depend on it."""
        for key in ("run-dir", "data-dir", "resume", "model"):
            value = self.to_run_config()[key]
            looks_like_path = key != "model" or value.endswith((".keras", ".h5"))
            if value and looks_like_path and not Path(value).is_absolute():
                raise UserError(
                    f"{key} is '{value}': under Flower's runtime give an absolute path, such as $PWD/{value}"
                )
        return self

    def save(self, path: Path) -> None:
        """Write config.json."""
        path.write_text(json.dumps(self.to_run_config(), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Config":
        """Read config.json."""
        return cls.from_run_config(json.loads(path.read_text()))


def flag(name: str) -> str:
    """`num_server_rounds` -> `num-server-rounds`."""
    return name.replace("_", "-")


def options(text: str, name: str) -> dict[str, Value]:
    """Parse `momentum=0.9,nesterov=true` into {"momentum": 0.9, "nesterov": True}.

    Raises UserError naming flag `--name`.
    """
    result: dict[str, Value] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        key, value = key.strip().replace("-", "_"), value.strip()
        if not equals or not key.isidentifier() or not value:
            raise UserError(f"--{name}: '{part}' is not of the form key=value, such as momentum=0.9")
        try:
            result[key] = json.loads(value.lower() if value.lower() in ("true", "false") else value)
        except ValueError:
            result[key] = value
        if not isinstance(result[key], Value):
            raise UserError(f"--{name}: '{value}' is neither a number, true, false nor a word")
    return result


def parse_flags(kind: type[T], args: Sequence[str] | None, prog: str, default: T | None = None) -> T:
    """Make any dataclass of flags from the command line by tyro; its boxed errors become one UserError line.

    What is not given is as in `default`, an instance; None: as the class says.
    """
    import tyro  # here and not above: a client under Ray never parses a command line

    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            # An absent default is not None to tyro, hence the table
            return tyro.cli(kind, prog=prog, args=args, **({} if default is None else {"default": default}))
    except SystemExit as stop:
        if not stop.code:
            raise
        lines = [line.strip("│ ") for line in box.getvalue().splitlines()[1:]]
        said = " ".join(lines[: next((i for i, line in enumerate(lines) if set(line) <= set("─╰╯")), None)])
        raise UserError(f"{said.rstrip('.')}; `{prog} --help` lists all flags") from None


_HINTS = typing.get_type_hints(Config, include_extras=True)
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def _check_flags(args: Sequence[str]) -> None:
    """Raise UserError for the first flag whose value the run configuration would refuse too, in the same words."""
    for arg, following in zip(args, [*args[1:], "--"], strict=True):
        word, equals, value = arg.partition("=")
        name, value = word.removeprefix("--").replace("-", "_"), value if equals else following
        if not word.startswith("--") or name not in _HINTS or (value.startswith("--") and not equals):
            continue
        if type(read_value(name, value)) is bool:
            raise UserError(f"--{flag(name)} takes no value: write --{flag(name)} or --no-{flag(name)}")


def read_value(name: str, text: str) -> Value:
    """A field's value from what somebody typed; yes and no are true and false. Raises UserError naming the flag."""
    kind, value = _HINTS[name], text
    kind = kind.__origin__ if typing.get_origin(kind) is Annotated else kind
    words = {"true": True, "yes": True, "false": False, "no": False}
    read = {bool: lambda text: words[text.lower()], int: int, float: float}.get(kind, str)
    with contextlib.suppress(ValueError, KeyError):
        value = read(text)
    return _checked(name, value)


def _checked(name: str, value: object) -> Value:
    """Return `value` in the field's type, or raise UserError naming the flag and what it takes."""
    hint, bounds = _HINTS[name], None
    if typing.get_origin(hint) is Annotated:
        hint, bounds = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise UserError(f"--{flag(name)} is '{value}'; allowed are: {', '.join(choices)}")
        return value
    if hint is float and type(value) is int:
        with contextlib.suppress(OverflowError):  # more than 308 digits
            value = float(value)
    if type(value) is not hint:
        raise UserError(f"--{flag(name)} must be {_WORDS[hint]}, not '{value}'")
    if bounds is not None and not bounds.allow(value):
        raise UserError(f"--{flag(name)} must be {bounds}, not {value}")
    return value
