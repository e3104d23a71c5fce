"""`fedkeras aggregate part_*.keras --out global.keras`: combine model files that were trained apart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from fedkeras import models
from fedkeras.atomic import check_writable
from fedkeras.checkout import program
from fedkeras.commands.tested_models import (
    Notes,
    TestSet,
    agreed_scaling,
    test_set_of_data_set,
    test_set_of_file,
    tested,
)
from fedkeras.config import Config, options
from fedkeras.errors import UserError, complain
from fedkeras.fields import FlagGroup, setting
from fedkeras.flags import parse_flags
from fedkeras.models.file_child import faults_of
from fedkeras.models.training_note import TrainingNote, read_note, write_note
from fedkeras.reports.headline import figure
from fedkeras.strategy_names import OFFLINE
from fedkeras.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    import keras

PROG = program("aggregate")
MU = 0.01
MEANS = ("fedavg", "fedprox")
"""Strategies whose result is the parts' mean, which --base can hold near a global model."""
HELD = "(mean + mu base) / (1 + mu), which is not FedProx' term"


RESULT = FlagGroup("result", "How the parts become one model, and where it goes.")
TEST = FlagGroup("test", "How good the parts and the result are.")


@dataclass(frozen=True)
class AggregateFlags:
    """Combine model files (.keras, .h5) of one architecture into one, and say how good each of them is."""

    files: Annotated[Positional[tuple[str, ...]], arg(metavar="FILE [FILE ...]")]
    """The parts: models of one architecture, each trained on its own data."""
    out: str = setting("", RESULT)
    """Where the result goes: .keras or .h5, compiled as the first part was; with compare a folder, if it is kept."""
    compare: str = setting("", RESULT)
    """Strategies side by side, comma-separated, such as fedavg,fedmedian,trimmed_mean: one table, with the parts."""
    strategy: str = setting("fedavg", RESULT, names=OFFLINE)
    """How the parts are combined, by a name or as module:Class."""
    strategy_args: str = setting("", RESULT)
    """The strategy's own options as key=value, comma-separated, such as beta=0.2."""
    weights: str = setting("", RESULT)
    """Examples of each part, one a file, such as 12000,12000; unset: as all files say, else they count the same."""
    base: str = setting("", RESULT)
    """The global model from which the parts started: the result is held near it, by --proximal-mu."""
    proximal_mu: float = setting(MU, RESULT)
    """base: how near; the result is (mean + mu base) / (1 + mu). It is not FedProx' term, which belongs to training."""
    test: str = setting("", TEST)
    """Test the parts and the result on x_test and y_test of this .npz file, such as test.npz of `data --write`."""
    evaluate: str = setting("", TEST)
    """Test the parts and the result on the test set of this data set, named as for server.py's --dataset."""
    data_dir: str = setting("", TEST)
    """Where that data set's files are."""
    normaliser: str = setting("default", TEST)
    """How its values were scaled for training: none, scale, minmax, zscore; default: as model or test files say."""
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
    paths = [Path(file).expanduser() for file in flags.files]
    _check_files(flags, paths)
    if flags.compare:
        _compare(flags, paths)
        return
    out = _check_out(flags, paths)
    given = _given(flags.weights, len(paths))
    from fedkeras.federation.offline_aggregation import NOTES, check_strategy, combine, held_near

    strategy = check_strategy(flags.strategy, options(flags.strategy_args, "strategy-args"))
    notes = _notes(flags, paths)
    counts = _counts(given, notes)
    test = _test_set(flags, paths, notes)
    import_tensorflow()
    model, parts = _load(paths, flags.trust_code, to_test=test is not None)
    trained = models.trainable_names(model)
    new = combine(strategy, parts, counts or [1] * len(paths), trained)
    if flags.base:
        new = held_near(new, _base(flags, model), flags.proximal_mu, trained)
        print(f"held near {flags.base} with mu {flags.proximal_mu:g}: {HELD}")
    models.set_weights(model, new)
    _compile_as(model, paths[0], flags.trust_code)
    models.save(model, out)
    if out.suffix == ".keras" and (note := _note_of_result(notes, counts)):
        write_note(out, note)
    if flags.strategy in NOTES:
        print(NOTES[flags.strategy])
    known = [str(count) for count in counts] if counts else ["-"] * len(paths)
    rows = [*zip(map(str, paths), known, parts.values(), strict=True)]
    _print_table([*rows, (str(out), str(sum(counts)) if counts else "-", new)], model, test, flags.loss)


def _compare(flags: AggregateFlags, paths: list[Path]) -> None:
    """--compare: several strategies side by side."""
    from fedkeras.commands.strategy_comparison import Base, compare, make_folder, read_strategies

    if flags.strategy != "fedavg":
        raise UserError("--compare names the strategies; leave out --strategy")
    if not (flags.test or flags.evaluate):
        raise UserError("--compare tests what it compares: name a test set by --test FILE.npz, or --evaluate")
    given = _given(flags.weights, len(paths))
    strategies = read_strategies(flags.compare, options(flags.strategy_args, "strategy-args"), bool(flags.base))
    notes = _notes(flags, paths)
    counts, test = _counts(given, notes), _test_set(flags, paths, notes)
    folder = make_folder(flags.out)
    import_tensorflow()
    model, parts = _load(paths, flags.trust_code, to_test=True)
    base = Base(Path(flags.base), _base(flags, model), flags.proximal_mu) if flags.base else None
    compare(strategies, parts, counts, model, test, flags.loss, base, folder, _note_of_result(notes, counts))


def _check_files(flags: AggregateFlags, paths: list[Path]) -> None:
    """Raise UserError for parts that are not there, and for flags that do not go together."""
    if not paths:
        raise UserError("there is nothing to combine; name the model files")
    for path in paths:
        if not path.is_file():
            raise UserError(f"there is no model file {path}")
    twice = next((path for i, path in enumerate(paths) if any(path.samefile(other) for other in paths[:i])), None)
    if twice is not None:
        raise UserError(f"{twice} is named twice; each part counts once (give it more with --weights)")
    if flags.test and flags.evaluate:
        raise UserError("--test and --evaluate both name a test set: leave one of them out")
    if flags.base and not Path(flags.base).is_file():
        raise UserError(f"--base: there is no model file {flags.base}")
    if not 0 <= flags.proximal_mu < math.inf:
        raise UserError(f"--proximal-mu must be a number of at least 0, not {flags.proximal_mu}")
    if flags.proximal_mu != MU and not flags.base:
        raise UserError(
            "--proximal-mu holds the result near --base; name the global model from which the parts started"
        )


def _check_out(flags: AggregateFlags, paths: list[Path]) -> Path:
    out = Path(flags.out)
    if not flags.out:
        raise UserError("--out says where the result goes, a .keras or .h5 file")
    if out.suffix not in (".keras", ".h5"):
        raise UserError(f"--out is '{flags.out}'; its name must end in .keras or .h5")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}")
    if out.exists() and any(out.samefile(path) for path in paths):
        raise UserError(f"--out {out} is one of the parts; give another name")
    if flags.base and flags.strategy not in MEANS:
        raise UserError(f"--base holds a mean near a model: take --strategy {' or '.join(MEANS)}")
    if out.exists() and not flags.force:
        raise UserError(f"--out {out} exists; --force replaces it")
    check_writable(out)
    return out


def _notes(flags: AggregateFlags, paths: list[Path]) -> dict[Path, TrainingNote | None]:
    """What each file says of its training, if files are such that they may be opened. Raises UserError."""
    if not flags.trust_code and (faults := [fault for fault in faults_of(paths).values() if fault]):
        raise UserError(faults[0])
    notes = {path: read_note(path) for path in paths}
    agreed_scaling(notes)  # or no combination of them is a model
    return notes


def _base(flags: AggregateFlags, model: "keras.Model") -> dict:
    """The global model's weights. Raises UserError if it is of another architecture."""
    from fedkeras.models.architecture import difference

    base = models.load(Path(flags.base), flags.trust_code)
    if (found := difference(model, base)) is not None:
        raise UserError(f"--base {flags.base} is not of the parts' architecture: {found}")
    return models.get_weights(base)


def _given(text: str, files: int) -> list[int] | None:
    """--weights; None: it is not given. Raises UserError."""
    if not text:
        return None
    try:
        counts = [int(word) for word in text.split(",")]
    except ValueError:
        raise UserError(f"--weights is '{text}'; give whole numbers of examples, such as 12000,12000") from None
    if len(counts) != files:
        raise UserError(f"--weights gives {len(counts)} numbers, and there are {files} files; give one a file")
    if min(counts) < 1:
        raise UserError(f"--weights is '{text}'; every number of examples must be above 0")
    return counts


def _counts(given: list[int] | None, notes: Notes) -> list[int] | None:
    """The parts' examples: --weights, else what the files say, if all of them do; None: all count the same."""
    if given is not None:
        return given
    said = [note.examples for note in notes.values() if note is not None]
    if len(said) == len(notes):
        print("examples are as the files say; --weights says otherwise")
        return said
    if said:
        silent = next(str(path) for path, note in notes.items() if note is None)
        print(f"all parts count the same, for {silent} does not say its examples; --weights gives them")
    return None


def _note_of_result(notes: Notes, counts: list[int] | None) -> TrainingNote | None:
    """What the result's file says: the parts' scaling, and their examples together; None where one says nothing."""
    known = [note for note in notes.values() if note is not None]
    if (
        counts is None
        or len(known) < len(notes)
        or any(replace(note, examples=1) != replace(known[0], examples=1) for note in known)
    ):
        return None
    return replace(known[0], examples=sum(counts))


def _test_set(flags: AggregateFlags, paths: list[Path], notes: Notes) -> TestSet | None:
    """Read before the models: what is wrong with it is said first. None: none is wanted. Raises UserError."""
    if flags.test:
        return test_set_of_file(Path(flags.test).expanduser(), notes, flags.normaliser)
    if not flags.evaluate:
        return None
    own = {"data_dir": flags.data_dir, "normaliser": flags.normaliser, "model": str(paths[0])}
    return test_set_of_data_set(Config(dataset=flags.evaluate, **own), notes)


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
                raise UserError(f"{path} has {len(several)} {what}: --evaluate and --test test models of one")
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


def _print_table(rows: list[tuple], model: "keras.Model", test: TestSet | None, loss: str) -> None:
    """A line a file; figures where there is a test set."""
    found = None
    if test is not None:
        print(f"tested on {test.name}, {len(test.y)} examples", f"scaling: {test.scaling}", sep="\n")
        found = tested([(name, None, weights) for name, _, weights in rows], model, test, loss)
    width = max(len(name) for name, _, _ in rows)
    print(f"{'file':<{width}}  {'examples':>9}" + (f"  {'loss':>8}  {'accuracy':>8}" if found else ""))
    for place, (name, count, _) in enumerate(rows):
        figures = f"  {figure(found[place].loss):>8}  {figure(found[place].accuracy):>8}" if found else ""
        print(f"{name:<{width}}  {count:>9}{figures}")
