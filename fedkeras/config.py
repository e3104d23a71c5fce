"""One frozen dataclass: its fields are the flags of server.py, the keys of `flwr run -c` and the saved config.json.

A field is documented once, in the text below it, and says once where it belongs: the group that `--help` shows it in,
and where it matters (`fedkeras.fields`). Both roads (command line and Flower's run configuration) end in
`Config.__post_init__`, which checks types and allowed values and names the flag in its message.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from fedkeras.atomic import replace_file
from fedkeras.built_in_names import DATA_SETS, MODELS, MODS, WORKFLOWS
from fedkeras.cids import parse_cids
from fedkeras.errors import UserError
from fedkeras.fields import (
    ABSOLUTE,
    ANY_APP,
    MAY_CHANGE,
    SERVER_ONLY,
    Bounds,
    Count,
    CountOrZero,
    FlagGroup,
    Foreign,
    Fraction,
    NonNegative,
    Positive,
    Scope,
    Seconds,
    Value,
    checked,
    flag,
    setting,
    setting_of,
)
from fedkeras.flags import parse_flags
from fedkeras.strategy_names import STRATEGIES

LEARNING = FlagGroup("learning", "What is learned, from which data set, and in which way.")
DATA = FlagGroup("data", "How the examples are divided among the clients, scaled and held out.")
STRATEGY = FlagGroup("strategy", "What the server does in a round: who takes part, and how updates become one model.")
LOCAL = FlagGroup("local training", "What a client does in a round.")
WAITING = FlagGroup("waiting and failure", "Whom the server waits for, how long, and what follows a failure.")
TIME = FlagGroup("time", "How long a round may take, and a simulated clock in the place of the real one.")
CHECKPOINTS = FlagGroup("checkpoint", "What a run keeps, so that it can go on.")
REPORTS = FlagGroup("file and report", "The run's folder, and what is written into it besides history and report.")
SECURITY = FlagGroup("security", "Who may join, and what is encrypted.")
PROCESS = FlagGroup("process", "This process: where it listens, and what it starts.")
SERVER_LED = FlagGroup(
    "server-led training", "The server hands out a model file, and the data if wanted: with --data-source."
)
EVALUATION = FlagGroup("evaluation", "Nothing is trained: a run's model is tested again. All else is as in that run.")
ASYNCHRONOUS = FlagGroup(
    "asynchronous", "With --mode fedbuff: nobody waits for a slow client, and a version stands for a round."
)
SPLIT = FlagGroup(
    "split learning", "Head and tail of the model stay with the clients, its body with the server: with --split."
)


@dataclass(frozen=True)
class Config:
    """Everything that decides a federated run. Clients get all of it but what is the server's own."""

    # What is learned, from which data set, and in which way
    dataset: str = setting("digits", LEARNING, ABSOLUTE, foreign=Foreign("dataset", DATA_SETS))
    """digits, mnist, femnist, motionsense, synthetic; your own file or folder; or package.module:function."""
    data_dir: str = setting("", DATA, SERVER_ONLY, MAY_CHANGE, ANY_APP, ABSOLUTE)
    """Where the files are on this machine; unset: ./dataset for data-source, else downloaded where it can be."""
    model: str = setting("", LEARNING, ABSOLUTE, foreign=Foreign("model", MODELS))
    """A built-in name, a .keras or .h5 file, or package.module:function; unset: the data set's default model."""
    trust_code: bool = setting(False, LEARNING, SERVER_ONLY, MAY_CHANGE)
    """Load this server's own model file even if it brings code: here, and in clients that this command starts."""
    loss: str = setting("", LEARNING)
    """A Keras loss, or NAME:from_logits=true; unset: the model's own, else what its last layer and targets need."""
    precision: Literal["float32", "mixed_bfloat16"] = setting("float32", LEARNING)
    """What the layers compute in; weights are float32 either way."""
    mode: str = setting("federated", LEARNING, foreign=Foreign("workflows", WORKFLOWS))
    """federated: in rounds; fedbuff: asynchronously; collect: once on each client, to gather; or module:Class."""
    seed: CountOrZero = setting(42, LEARNING)
    """Decides initial weights, partitions, cohorts, orders and dropout."""

    # How the examples are divided among clients, scaled and held out
    num_partitions: Count = setting(3, DATA, ANY_APP)
    """Number of clients that hold data, cid 0 to N-1."""
    partitioner: Literal["iid", "dirichlet", "shards", "mcmahan", "natural", "sizes", "own"] = setting("iid", DATA)
    """iid: stratified; dirichlet: skewed; shards: k labels; mcmahan: k shards; natural: writers; sizes; own: none."""
    alpha: Positive = setting(0.5, DATA, only="partitioner=dirichlet")
    """Dirichlet concentration: small is skewed, large is even."""
    labels_per_client: Count = setting(2, DATA, only="partitioner=shards")
    """Labels each client holds under the shards partitioner."""
    shards_per_client: Count = setting(2, DATA, only="partitioner=mcmahan")
    """Equal shards of the examples sorted by label that each client holds under the mcmahan partitioner."""
    sizes: str = setting("", DATA, only="partitioner=sizes")
    """Relative part sizes for the sizes partitioner, one a client, such as 4,2,1."""
    normaliser: Literal["default", "none", "scale", "minmax", "zscore"] = setting("default", DATA)
    """Fitted on training data, applied to all; default: what suits data set and model."""
    label_column: str = setting("", DATA)
    """The column of a table that is learned; unset: the one called label, target, class or y."""
    feature_columns: str = setting("", DATA)
    """The columns that it is learned from, in their order, comma-separated; unset: all others."""
    classes: str = setting("", DATA)
    """Names of the classes of your own file, in their order, comma-separated; unset: those that occur in it."""
    image_size: str = setting("", DATA)
    """Height and width of images in a folder, such as 64x64 (64x64x1: grey, x3: colours); unset: as they are."""
    task: Literal["", "classification", "regression"] = setting("", DATA)
    """What the labels of your own file are: classes, or amounts; unset: what they look like, or asked for."""
    sample_weight: str = setting("", DATA)
    """The array or column that weighs training examples; unset: an .npz file's array sample_weight; none: none."""
    test_fraction: Annotated[float, Bounds(low=0.0, high=0.9)] = setting(0.1, DATA)
    """Share of each client's own part that is held out as its test set."""
    min_samples: CountOrZero = setting(0, DATA, only="dataset=femnist")
    """femnist: leave out writers with fewer images than this."""
    window: Count = setting(128, DATA, only="dataset=motionsense")
    """motionsense: samples in a window (50 a second)."""
    stride: Count = setting(64, DATA, only="dataset=motionsense")
    """motionsense: samples from the start of one window to the next."""
    signals: str = setting("", DATA, only="dataset=motionsense")
    """motionsense: comma-separated signals out of the twelve; unset: all."""
    test_split: Literal["trial", "subject"] = setting("trial", DATA, only="dataset=motionsense")
    """motionsense: hold out the short trials 11-16, or whole subjects."""
    test_subjects: str = setting("19,20,21,22,23,24", DATA, only="test_split=subject")
    """motionsense: the subjects held out under test-split subject."""

    # What the server does in a round
    num_server_rounds: Count = setting(10, STRATEGY, MAY_CHANGE)
    """Rounds of federated training."""
    stop_after: CountOrZero = setting(0, STRATEGY, SERVER_ONLY, MAY_CHANGE)
    """End after this many rounds without a better loss, and keep the best round's model; 0: do all rounds."""
    strategy: str = setting("fedavg", STRATEGY, names=STRATEGIES)
    """What the server makes of the clients' weights, by a name or as module:Class."""
    strategy_args: str = setting("", STRATEGY)
    """The strategy's own options as key=value, comma-separated, such as eta=0.1,tau=0.001."""
    proximal_mu: NonNegative = setting(0.01, STRATEGY, strategy="fedprox")
    """fedprox: weight of the proximal term."""
    client_weights: Literal["examples", "uniform", "known"] = setting("examples", STRATEGY)
    """examples: as many as the server dealt, else as a client says; uniform: all alike; known: said before round 1."""
    max_client_weight: Annotated[float, Bounds(low=1.0)] = setting(50.0, STRATEGY)
    """Most that a client's own word counts for, in medians of the clients of a round."""
    mods: str = setting("", STRATEGY, foreign=Foreign("mods", MODS))
    """What is put around the training: name:option=value,...; several separated by semicolons, the outermost first."""
    fraction_train: Annotated[float, Bounds(above=0.0, high=1.0)] = setting(1.0, STRATEGY)
    """Share of the clients that train in a round."""
    fraction_evaluate: Fraction = setting(1.0, STRATEGY)
    """Share of the clients that evaluate after a round; 0: none."""
    central_evaluation: bool = setting(True, STRATEGY)
    """Evaluate the global model on the central test set after each round."""

    # What a client does in a round
    local_epochs: Count = setting(1, LOCAL)
    """Epochs over a client's own data in a round."""
    batch_size: Count = setting(16, LOCAL)
    """Examples in a step; the last, shorter batch counts as what it is."""
    optimizer: str = setting("default", LOCAL)
    """Any Keras optimizer by name, fresh in each round; default: sgd; data-source: compiled, the model file's own."""
    learning_rate: Positive = setting(0.1, LOCAL)
    """The client optimizer's learning rate."""
    optimizer_args: str = setting("", LOCAL)
    """The optimizer's other options as key=value, comma-separated, such as momentum=0.9."""
    class_weight: Literal["none", "balanced"] = setting("none", LOCAL)
    """balanced: the loss of rare classes counts more: n / (k n_c), by all clients' training rows together."""
    threads_per_client: Count = setting(1, LOCAL)
    """TensorFlow threads a client; with seed and TensorFlow build it decides the bits of the result."""

    # Who must be connected, how long the server waits, and what follows a failure
    min_available_nodes: CountOrZero = setting(0, WAITING, MAY_CHANGE)
    """Clients that must be connected before a round starts; 0: all num-partitions."""
    min_results: Count = setting(1, WAITING, MAY_CHANGE)
    """Valid replies that a round needs; with fewer it is repeated."""
    max_retries: CountOrZero = setting(2, WAITING, MAY_CHANGE)
    """How often a round that got too few replies is repeated before the run fails."""
    node_timeout: Positive = setting(300.0, WAITING, MAY_CHANGE)
    """Seconds to wait for clients to connect before the run fails."""
    round_timeout: Positive = setting(3600.0, WAITING, MAY_CHANGE)
    """Seconds to wait for the replies of a round; a client that is late counts as failed."""
    reconnect_grace: Seconds = setting(30.0, WAITING, MAY_CHANGE, ANY_APP)
    """gRPC: seconds a client that lost its connection has to come back before its work counts as failed."""
    rest_after: CountOrZero = setting(3, WAITING)
    """Failures in a row after which a client is suspended, if there are others; 0: never."""
    rest_rounds: Count = setting(2, WAITING)
    """Rounds for which a client stays suspended."""

    # How long a round may take, and by which clock
    clients: str = setting("", TIME, SERVER_ONLY)
    """A simulated clock: slow=lognormal:sigma=1, uniform, halfnormal, none, or slow=FILE.csv; unset: the real one."""
    round_deadline: Seconds = setting(0.0, TIME, SERVER_ONLY)
    """Seconds that clients have in a round; 0: as long as they take, up to round-timeout."""
    late: Literal["partial", "drop"] = setting("partial", TIME, SERVER_ONLY)
    """Who would be late: partial: stops at its last whole batch in time and sends what it has; drop: is left out."""
    deadline_grace: Seconds = setting(5.0, TIME, SERVER_ONLY, MAY_CHANGE)
    """By the real clock: seconds after round-deadline in which a client's answer may still arrive."""
    over_select: Annotated[float, Bounds(low=1.0, high=10.0)] = setting(1.0, TIME, SERVER_ONLY)
    """Ask so many times the cohort to train, and go on with the first of them that answer, as many as a cohort has."""

    # What the run keeps, so that it can go on
    checkpoint_every: CountOrZero = setting(1, CHECKPOINTS, SERVER_ONLY, MAY_CHANGE)
    """Rounds from one checkpoint to the next; 0: none."""
    keep_checkpoints: Count = setting(2, CHECKPOINTS, SERVER_ONLY, MAY_CHANGE)
    """The newest checkpoints that are kept, beside the best one."""
    resume: str = setting("", CHECKPOINTS, SERVER_ONLY, ABSOLUTE)
    """The folder of a run that ended early: go on where its newest checkpoint is, with its settings."""

    # Where the run's folder is, and what is written into it besides
    run_dir: str = setting("", REPORTS, SERVER_ONLY, ANY_APP, ABSOLUTE)
    """Folder that gets one folder a run; unset: ./runs (under Flower's runtime: a folder of the user's)."""
    name: str = setting("", REPORTS, SERVER_ONLY, ANY_APP)
    """Last part of the run folder's name; unset: data set and strategy."""
    tensorboard: bool = setting(False, REPORTS, SERVER_ONLY, MAY_CHANGE)
    """Write TensorBoard event files into the run's folder."""
    mlflow: bool = setting(False, REPORTS, SERVER_ONLY, MAY_CHANGE)
    """Log the run to MLflow: to MLFLOW_TRACKING_URI, else to mlflow.db in the folder of the runs."""

    metrics_port: Annotated[int, Bounds(low=0, high=65535)] = setting(0, REPORTS, SERVER_ONLY, MAY_CHANGE)
    """Port at which Prometheus is given the run's figures, such as 9090; 0: none."""
    metrics_host: str = setting("127.0.0.1", REPORTS, SERVER_ONLY, MAY_CHANGE)
    """Address of metrics-port; beyond loopback, whoever can reach it may read the figures."""

    private: bool = setting(False, REPORTS, SERVER_ONLY, MAY_CHANGE)
    """Nobody else on this machine may read what the run writes: folders get mode 0700, files 0600."""

    # Who may join, and what is encrypted
    passphrase_file: str = setting("", SECURITY, SERVER_ONLY, MAY_CHANGE, ANY_APP)
    """File with the passphrase that clients must know; or set FEDKERAS_PASSPHRASE. Unset: anybody may join."""
    tls_cert: str = setting("", SECURITY, SERVER_ONLY, MAY_CHANGE, ANY_APP)
    """The server's certificate chain (PEM), made with `python -m fedkeras certs`; unset: one made as it starts."""
    tls_key: str = setting("", SECURITY, SERVER_ONLY, MAY_CHANGE, ANY_APP)
    """The private key of tls-cert (PEM)."""
    tls_client_ca: str = setting("", SECURITY, SERVER_ONLY, MAY_CHANGE, ANY_APP)
    """Demand of clients a certificate of this authority (PEM)."""
    insecure: bool = setting(False, SECURITY, SERVER_ONLY, MAY_CHANGE, ANY_APP)
    """Plaintext without tls-cert, though others could change it; listen beyond this machine though anybody may join."""

    # This process
    host: str = setting("127.0.0.1", PROCESS, SERVER_ONLY, MAY_CHANGE, ANY_APP)
    """Address the gRPC server listens on; beyond loopback a passphrase or tls-client-ca is needed, or --insecure."""
    port: Annotated[int, Bounds(low=0, high=65535)] = setting(9080, PROCESS, SERVER_ONLY, MAY_CHANGE, ANY_APP)
    """Port the gRPC server listens on; 0: a free one."""
    max_message_mb: Count = setting(1024, PROCESS, SERVER_ONLY, MAY_CHANGE, ANY_APP)
    """Largest message that a client may send, in megabytes."""
    spawn: CountOrZero = setting(0, PROCESS, SERVER_ONLY, MAY_CHANGE, ANY_APP)
    """Start this many client processes on this machine, which share the partitions; 0: clients come by themselves."""
    gpus_per_client: NonNegative = setting(0.0, PROCESS, SERVER_ONLY, MAY_CHANGE, ANY_APP)
    """GPUs of each client process that is started: at 0.25 four share one; 0: they take turns, under Ray see none."""
    release: str = setting("", PROCESS, SERVER_ONLY, MAY_CHANGE)
    """With resume: client ids, such as 3 or 0-9, that are no longer held by whoever joined under them first."""
    app: str = setting("", PROCESS, SERVER_ONLY, ANY_APP)
    """Run another Flower app over this server: the folder of its pyproject.toml, or package.module:app."""
    app_config: str = setting("", PROCESS, SERVER_ONLY, ANY_APP)
    """The other app's run configuration as key=value, comma-separated, over that of its pyproject.toml."""

    # Server-led training: the server hands out the model file, and the data if wanted
    data_source: Literal["", "server", "client", "keras"] = setting("", SERVER_LED)
    """Hand the model file out; the data are the server's (data-dir's X and Y), each client's own, or a data set's."""
    target: Literal["XY", "XX"] = setting("XY", SERVER_LED, workflows=("server-led",))
    """Learn Y from X, or X from itself (autoencoders)."""
    share: str = setting("", SERVER_LED, workflows=("server-led",))
    """data-source server: who gets how much, as CID=WEIGHT, such as 0=2,1=1; a client not named counts 1."""
    decimal: Literal["", ".", ","] = setting("", DATA, SERVER_ONLY)
    """The decimal mark in this machine's text files; unset: found from all their lines, or asked for."""
    thousands: Literal["", ".", ",", "'", "_", "space"] = setting("", DATA, SERVER_ONLY)
    """What stands between thousands in this machine's text files; unset: nothing does."""
    method: Literal["fit", "kfold"] = setting("fit", SERVER_LED, workflows=("server-led", "collect"))
    """collect: how a client trains: once, or once a fold."""
    folds: Annotated[int, Bounds(low=2)] = setting(5, SERVER_LED, workflows=("collect",), only="method=kfold")
    """kfold: number of folds."""
    kfold_return: Literal["best", "refit"] = setting("best", SERVER_LED, workflows=("collect",), only="method=kfold")
    """kfold: the model of the fold with the lowest held-out loss, or one trained again on all rows."""
    validation: Annotated[float, Bounds(low=0.0, high=0.9)] = setting(0.0, SERVER_LED, workflows=("collect",))
    """collect: share of what is trained on that each epoch is tested on instead; unset: 0.2 in kfold with patience."""
    patience: CountOrZero = setting(0, SERVER_LED, workflows=("collect",))
    """collect: epochs without a better validation loss (else training loss) after which training stops; 0: never."""
    max_result_mb: Count = setting(2048, SERVER_LED, SERVER_ONLY, workflows=("collect",))
    """collect: most that one client may deliver in a run, all its results together, in megabytes."""
    collect_only: bool = setting(False, SERVER_LED)
    """Train nothing: gather what clients started with --deliver still hold."""

    # A run's model, tested again
    evaluate: str = setting("", EVALUATION, SERVER_ONLY, ABSOLUTE)
    """The folder of a run: test its model on the clients' held-out examples and the central test set."""
    evaluate_round: str = setting("final", EVALUATION, SERVER_ONLY)
    """Which model of it: final, best, or the number of a round that has a checkpoint."""
    evaluate_clients: str = setting("all", EVALUATION, SERVER_ONLY)
    """Which clients test it: all, none, or client ids such as 0-9 or 0,2,5."""

    # Split learning: head and tail of the model stay with the clients, the body with the server
    split: Literal["off", "sequential", "splitfed", "shared"] = setting("off", SPLIT)
    """off; sequential: one client after another; splitfed: all at once, a body each; shared: all at once, one body."""
    split_at: str = setting("", SPLIT, workflows=("split",))
    """Where to cut, FIRST,SECOND: the last layers of the client's head and the server's body; unset: the model's."""
    split_dtype: Literal["float32", "float16", "bfloat16"] = setting("float32", SPLIT, workflows=("split",))
    """What activations and gradients are on the wire."""
    in_flight: Count = setting(1, SPLIT, workflows=("split",))
    """Batches that a client has under way at once; above 1, gradients are late by so many."""
    split_noise: NonNegative = setting(0.0, SPLIT, workflows=("split",))
    """Standard deviation of the Gaussian noise on activations that leave a client."""
    split_nopeek: NonNegative = setting(0.0, SPLIT, workflows=("split",))
    """Weight of NoPeek's distance correlation between examples and activations in the client's objective."""

    # Asynchronous rounds: K updates, from whomever they come, make a new version of the global model
    buffer_size: CountOrZero = setting(0, ASYNCHRONOUS, workflows=("fedbuff",))
    """Updates that make a new version; 0: half of the concurrency, at most 10."""
    concurrency: CountOrZero = setting(0, ASYNCHRONOUS, workflows=("fedbuff",))
    """Clients that train at once; 0: all of them."""
    staleness_exponent: NonNegative = setting(0.5, ASYNCHRONOUS, workflows=("fedbuff",))
    """a of 1/(1+tau)^a, by which an update counts that began tau versions ago; 0: all alike."""
    max_staleness: CountOrZero = setting(0, ASYNCHRONOUS, workflows=("fedbuff",))
    """An update that began more versions ago than this is left out; 0: none is."""
    server_learning_rate: Positive = setting(1.0, ASYNCHRONOUS, workflows=("fedbuff",))
    """What the mean update is multiplied by, under fedavg and fedprox; other strategies have options of their own."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, checked(Config, field.name, getattr(self, field.name)))
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
        return parse_flags(cls, args, prog, default)

    def released(self) -> list[int]:
        """The client ids of `release`, ascending. Raises UserError."""
        try:
            return parse_cids(self.release) if self.release else []
        except ValueError:
            why = "give a number like 3, a range like 0-9, or 0,2,5"
            raise UserError(f"--release is '{self.release}'; {why}") from None

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
        """What is sent to clients: the same table without what concerns the server's machine alone."""
        own = {flag(name) for name in fields_of(SERVER_ONLY)}
        return {key: value for key, value in self.to_run_config().items() if key not in own}

    @property
    def uses_catalogue(self) -> bool:
        """True if the examples are those of --dataset; else they are tables that the server or each client has."""
        return self.data_source not in ("server", "client")

    @property
    def uses_clients_tables(self) -> bool:
        """True if the examples are tables that each client has, and the server hands out the model alone."""
        return self.data_source == "client"

    @property
    def deals(self) -> bool:
        """True if a data set is divided among the clients; else each brings a file of its own to rounds."""
        return self.partitioner != "own"

    @property
    def hands_out_model(self) -> bool:
        """True if --model is a file of the server's that clients are given; else each makes the model that it names."""
        return bool(self.data_source)

    @property
    def only_takes_deliveries(self) -> bool:
        """True if nothing is trained: clients hand over what they hold (client.py --deliver)."""
        return self.collect_only

    def changed(self, names: Iterable[str] | None = None) -> list[str]:
        """Those of the fields `names` (None: of all) that are not at their default."""
        asked = DEFAULTS.keys() if names is None else {*names}
        return [name for name, default in DEFAULTS.items() if name in asked and getattr(self, name) != default]

    def refuse(self, names: Iterable[str], why: str) -> None:
        """Raise UserError for the first of the fields `names` that is not at its default: "--its-flag WHY"."""
        for name in self.changed(names):
            raise UserError(f"--{flag(name)} {why}")

    def with_defaults(self, names: Iterable[str]) -> "Config":
        """A copy with these fields at their defaults."""
        return dataclasses.replace(self, **{name: DEFAULTS[name] for name in names})

    def require_absolute_paths(self) -> "Config":
        """Under Flower's runtime the working directory is Flower's, not the user's: refuse paths that depend on it."""
        for name in fields_of(ABSOLUTE):
            value = getattr(self, name)
            looks_like_path = value.endswith(OF_FILES.get(name, ""))
            if name == "dataset" and self.data_dir:
                continue  # it lies there
            if value and looks_like_path and not Path(value).is_absolute():
                raise UserError(
                    f"{flag(name)} is '{value}': under Flower's runtime give an absolute path, such as $PWD/{value}"
                )
        return self

    def save(self, path: Path) -> None:
        """Write the settings as JSON, in one step. Raises UserError if the disk refuses."""
        replace_file(path, f"{json.dumps(self.to_run_config(), indent=2)}\n".encode())

    @classmethod
    def load(cls, path: Path) -> "Config":
        """Read config.json."""
        return cls.from_run_config(settings_in(json.loads(path.read_text())))


OF_FILES = {"model": (".keras", ".h5"), "dataset": (".npz", ".csv", ".xlsx", ".parquet")}
"""Endings of what are paths among the values of fields that take names, too."""

DEFAULTS: Mapping[str, Value] = {field.name: field.default for field in dataclasses.fields(Config)}
"""Field -> default."""


RULES = "rules"
"""The key of config.json that holds RULES_NUMBER."""
CHOSEN = "chosen"
"""The key of config.json for what no setting said: {what: what was chosen, and why}."""
RULES_NUMBER = 2
"""Counts the changes of what the same settings mean (how rows are dealt out and scaled, which loss is chosen).

A run that was begun under other rules cannot be resumed. 1: versions that wrote no number.
"""
RULES_SINCE = "0.2.0"
"""The version of fedkeras that made the rules of this number."""


def settings_in(table: Mapping[str, Value]) -> dict[str, Value]:
    """The settings in config.json, without what stands beside them."""
    return {key: value for key, value in table.items() if key not in (RULES, CHOSEN)}


def chosen_in(table: Mapping[str, Value]) -> dict[str, str]:
    """What a run has chosen by itself, in config.json: {what: what was chosen, and why}."""
    chosen = table.get(CHOSEN)
    return {str(name): str(text) for name, text in chosen.items()} if isinstance(chosen, dict) else {}


def fields_of(
    *scopes: Scope, group: FlagGroup | None = None, workflow: str = "", strategy: str = ""
) -> tuple[str, ...]:
    """Names of Config's fields that have all of these, in the order of the class: `fields_of(workflow="split")`.

    `fields.ANY` stands for any workflow, or any strategy.
    """
    return tuple(
        field.name for field in dataclasses.fields(Config) if setting_of(field).has(scopes, group, workflow, strategy)
    )


def options_for_strategy(config: Config) -> dict[str, Value]:
    """The options of the configured strategy: the fields that are its own, and --strategy-args. Raises UserError."""
    own = {name: getattr(config, name) for name in fields_of(strategy=config.strategy)}
    return own | options(config.strategy_args, "strategy-args")


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
