"""`fedkeras aggregate part_*.keras --out global.keras`: combine model files that were trained apart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from fedkeras import models
from fedkeras.atomic import check_writable
from fedkeras.checkout import program
from fedkeras.config import Config, options
from fedkeras.errors import UserError, complain
from fedkeras.fields import REQUIRED, FlagGroup, setting
from fedkeras.flags import parse_flags
from fedkeras.models.file_child import faults_of
from fedkeras.strategy_names import OFFLINE
from fedkeras.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    import keras

    from fedkeras.learning.results import TrainingResult

PROG = program("aggregate")
MU = 0.01
MEANS = ("fedavg", "fedprox")
"""Strategies whose result is the parts' mean, which --base can hold near a global model."""


RESULT = FlagGroup("result", "How the parts become one model, and where it goes.")
TEST = FlagGroup("test", "How good the parts and the result are.")


@dataclass(frozen=True)
class AggregateFlags:
    """Combine model files (.keras, .h5) of one architecture into one, and say how good each of them is."""

    files: Annotated[Positional[tuple[str, ...]], arg(metavar="FILE [FILE ...]")]
    """The parts: models of one architecture, each trained on its own data."""
    out: str = setting(REQUIRED, RESULT)
    """Where the result goes: .keras or .h5. It is compiled as the first part was."""
    strategy: str = setting("fedavg", RESULT, names=OFFLINE)
    """How the parts are combined, by a name or as module:Class."""
    strategy_args: str = setting("", RESULT)
    """The strategy's own options as key=value, comma-separated, such as beta=0.2."""
    weights: str = setting("", RESULT)
    """Examples that each part was trained on, one a file, such as 12000,12000; unset: all count the same."""
    base: str = setting("", RESULT)
    """The global model from which the parts started: the result is held near it, by --proximal-mu."""
    proximal_mu: float = setting(MU, RESULT)
    """base: how near; the result is (mean + mu base) / (1 + mu). It is not FedProx' term, which belongs to training."""
    evaluate: str = setting("", TEST)
    """Test the parts and the result on the test set of this data set, named as for server.py's --dataset."""
    data_dir: str = setting("", TEST)
    """Where that data set's files are."""
    normaliser: str = setting("default", TEST)
    """How its values were scaled when the parts were trained: default, none, scale, minmax or zscore."""
    loss: str = setting("", TEST)
    """Loss to evaluate with; unset: the first part's own."""
    trust_code: bool = setting(False, RESULT)
    """Load files that hold Python code, such as Lambda layers: it is run."""
    force: bool = setting(False, RESULT)
    """Replace --out if it is there."""


def main(args: Sequence[str]) -> int:
    """Combine, save, print the table, and return the exit status."""
    try:
        aggregate(parse_flags(AggregateFlags, list(args), PROG))
    except UserError as error:
        return complain(PROG, error)
    return 0


def aggregate(flags: AggregateFlags) -> None:
    """Do what the command does. Everything that can be wrong is looked for before the first file is loaded."""
    paths = [Path(file) for file in flags.files]
    if not paths:
        raise UserError("there is nothing to combine; name the model files")
    out, counts = _check_out(flags, paths), _counts(flags.weights, len(paths))
    from fedkeras.federation.offline_aggregation import NOTES, check_strategy, combine, held_near

    strategy = check_strategy(flags.strategy, options(flags.strategy_args, "strategy-args"))
    if not flags.trust_code and (faults := [fault for fault in faults_of(paths).values() if fault]):
        raise UserError(faults[0])
    test = _test_set(flags, paths[0]) if flags.evaluate else None
    import_tensorflow()
    model, parts = _load(paths, flags.trust_code, to_test=bool(flags.evaluate))
    trained = models.trainable_names(model)
    new = combine(strategy, parts, counts, trained)
    if flags.base:
        new = held_near(new, _base(flags, model), flags.proximal_mu, trained)
    models.set_weights(model, new)
    _compile_as(model, paths[0], flags.trust_code)
    models.save(model, out)
    if flags.strategy in NOTES:
        print(NOTES[flags.strategy])
    known = ["-" if not flags.weights else str(count) for count in counts]
    total = str(sum(counts)) if flags.weights else "-"
    rows = [*zip(map(str, paths), known, parts.values(), strict=True), (str(out), total, new)]
    _print_table(rows, model, test, flags.loss)


def _check_out(flags: AggregateFlags, paths: list[Path]) -> Path:
    out = Path(flags.out)
    if out.suffix not in (".keras", ".h5"):
        raise UserError(f"--out is '{flags.out}'; its name must end in .keras or .h5")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}")
    for path in paths:
        if not path.is_file():
            raise UserError(f"there is no model file {path}")
        if out.exists() and out.samefile(path):
            raise UserError(f"--out {out} is one of the parts; give another name")
    twice = next((path for i, path in enumerate(paths) if any(path.samefile(other) for other in paths[:i])), None)
    if twice is not None:
        raise UserError(f"{twice} is named twice; each part counts once (give it more with --weights)")
    if flags.base and flags.strategy not in MEANS:
        raise UserError(f"--base holds a mean near a model: take --strategy {' or '.join(MEANS)}")
    if flags.base and not Path(flags.base).is_file():
        raise UserError(f"--base: there is no model file {flags.base}")
    if not 0 <= flags.proximal_mu < math.inf:
        raise UserError(f"--proximal-mu must be a number of at least 0, not {flags.proximal_mu}")
    if flags.proximal_mu != MU and not flags.base:
        raise UserError(
            "--proximal-mu holds the result near --base; name the global model from which the parts started"
        )
    if out.exists() and not flags.force:
        raise UserError(f"--out {out} exists; --force replaces it")
    check_writable(out)
    return out


def _base(flags: AggregateFlags, model: "keras.Model") -> dict:
    """The global model's weights. Raises UserError if it is of another architecture."""
    from fedkeras.models.architecture import difference

    base = models.load(Path(flags.base), flags.trust_code)
    if (found := difference(model, base)) is not None:
        raise UserError(f"--base {flags.base} is not of the parts' architecture: {found}")
    print(
        f"held near {flags.base} with mu {flags.proximal_mu:g}: (mean + mu base) / (1 + mu), which is not FedProx' term"
    )
    return models.get_weights(base)


def _counts(text: str, files: int) -> list[int]:
    if not text:
        return [1] * files
    try:
        counts = [int(word) for word in text.split(",")]
    except ValueError:
        raise UserError(f"--weights is '{text}'; give whole numbers of examples, such as 12000,12000") from None
    if len(counts) != files:
        raise UserError(f"--weights gives {len(counts)} numbers, and there are {files} files; give one a file")
    if min(counts) < 1:
        raise UserError(f"--weights is '{text}'; every number of examples must be above 0")
    return counts


def _test_set(flags: AggregateFlags, model: Path) -> object:
    """The central test set, scaled as the model asks; read before the models: what is wrong with it is said first."""
    from fedkeras import data, scaling

    own = {"data_dir": flags.data_dir, "normaliser": flags.normaliser, "model": str(model)}
    config = Config(dataset=flags.evaluate, **own)
    if reason := scaling.scaling_of(config).reason:
        print(f"normaliser: {reason}")
    return data.load_test(scaling.resolved(config))


def _load(paths: list[Path], trust_code: bool, to_test: bool) -> tuple["keras.Model", dict[str, dict]]:
    """The first model, and the weights of all: one model at a time is held besides. Raises UserError.

    A model `to_test` must have one input and one output, as the test set has.
    """
    from fedkeras.models.architecture import config_difference, config_of, difference
    from fedkeras.models.file_info import read_config

    first, own, parts = None, None, {}
    for path in paths:
        if first is not None and path.suffix == ".keras":
            # as JSON, and before a model is made of what somebody else's file says
            found = config_difference(own, read_config(path).model)
            if found is not None:
                raise UserError(f"{path} is not of the same architecture as {paths[0]}: {found}")
        model = models.load(path, trust_code)
        first, own = first or model, own or config_of(model)
        for what in ("inputs", "outputs") if to_test else ():
            if len(several := getattr(model, what, None) or []) > 1:
                raise UserError(f"{path} has {len(several)} {what}: --evaluate tests models of one; leave it away")
        if (found := difference(first, model)) is not None:
            raise UserError(f"{path} is not of the same architecture as {paths[0]}: {found}")
        parts[str(path)] = models.get_weights(model)
    return first, parts


def _compile_as(model: "keras.Model", path: Path, trust_code: bool) -> None:
    """Give the result the first part's optimizer and metrics; where they cannot be made, it keeps its loss alone."""
    from fedkeras.models.compile_config import make_metrics, make_optimizer, training_config

    if not model.compiled:
        return
    try:
        own = training_config(path)
        optimizer = make_optimizer(own.optimizer, trust_code)
        metrics = list(make_metrics(own.metrics, trust_code))
    except UserError as error:
        print(f"{path}: {error}; the result is compiled with the loss alone")
        return
    if optimizer is not None:
        model.compile(optimizer=optimizer, loss=model.loss, metrics=["accuracy", *metrics] if own.accuracy else metrics)


def _print_table(rows: list[tuple], model: "keras.Model", test: object, loss: str) -> None:
    """A line a file; figures where there is a test set."""
    width = max(len(name) for name, _, _ in rows)
    print(f"{'file':<{width}}  {'examples':>9}" + (f"  {'loss':>8}  {'accuracy':>8}" if test else ""))
    outcomes = _outcomes([weights for _, _, weights in rows], model, test, loss) if test else [None] * len(rows)
    for (name, count, _), outcome in zip(rows, outcomes, strict=True):
        print(f"{name:<{width}}  {count:>9}" + (_figures(outcome) if outcome else ""))


def _outcomes(weights: list[dict], model: "keras.Model", test: object, loss: str) -> list["TrainingResult"]:
    from fedkeras.learning import Learner
    from fedkeras.models.file_info import as_input

    learner = Learner(model, loss=loss)
    try:
        placed = learner.place(as_input(learner.takes, test.x), test.y)
    except ValueError as error:
        raise UserError(f"--evaluate: the data do not fit the model: {error}") from error
    outcomes = []
    for some in weights:
        learner.set_weights(some)
        outcomes.append(learner.evaluate(*placed))
    return outcomes


def _figures(outcome: "TrainingResult") -> str:
    accuracy = "-" if outcome.accuracy is None else f"{outcome.accuracy:.4f}"
    return f"  {outcome.loss:>8.4f}  {accuracy:>8}"
