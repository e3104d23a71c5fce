"""`fedkeras train --dataset part-0.npz`: one part alone, with curves, a classification report and a model file."""

import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fedkeras import atomic, data, models, reports, scaling
from fedkeras.callbacks import Row
from fedkeras.checkout import look_in_working_directory, program
from fedkeras.cids import ALL
from fedkeras.config import DATA, LEARNING, LOCAL, Config, fields_of
from fedkeras.errors import RunFailed, UserError, complain
from fedkeras.factory import metrics_of, model_name, optimizer_said
from fedkeras.fields import OPTIONS, Bounds, Value, embedded, setting
from fedkeras.flags import parse_flags
from fedkeras.models.training_note import TrainingNote, write_note
from fedkeras.reports import RunFolder, create_run_folder
from fedkeras.reports.curves import EPOCHS, plot_curves
from fedkeras.reports.headline import figure
from fedkeras.reports.history import History
from fedkeras.reports.local_page import write_local_page
from fedkeras.reports.predictions import classification_table, read_predictions, write_predictions
from fedkeras.reports.run import LOCAL as LOCAL_MODE
from fedkeras.reports.run_folder import new_folder

if TYPE_CHECKING:
    from fedkeras.learning import TrainingResult
    from fedkeras.local_training import LocalTraining

PROG = program("train")
WIDTH = 80
ALONE = -1
DEAL = ("partitioner", "alpha", "labels_per_client", "shards_per_client", "sizes")
"""Fields of Config that, beside the number of clients, say how a data set is divided."""
USED = ({*fields_of(group=LEARNING), *fields_of(group=DATA), *fields_of(group=LOCAL)} - {"mode"}) | {
    "run_dir",
    "name",
    "private",
}
DEFAULT = Config(local_epochs=5, num_partitions=1)
COLUMNS = ("epoch", "loss", "accuracy", "test loss", "test acc.", "held out", "seconds")


@dataclass(frozen=True)
class TrainFlags:
    """Train one model by itself: on an .npz file, such as a part that `data --write` made, or on a data set.

    With --cid it is one client's part of a data set, with the same figures as that client's in `compare`'s arm `local`.
    The flags are server.py's; --local-epochs are all epochs, and optimizer and its state go on from one to the next.
    """

    config: Config = embedded(Config, hidden={*fields_of()} - USED)
    cid: Annotated[int, Bounds(low=ALONE)] = setting(ALONE, OPTIONS)
    """Train this client's part, as --num-partitions and --partitioner deal it; -1: all of the data set."""
    out: str = setting("", OPTIONS)
    """The folder for model, curves and report, which must be new; unset: runs/<time>-<data set>-local."""


def main(args: Sequence[str]) -> int:
    """Train, print what came of it, and return the exit status."""
    args = list(args)
    if args and not args[0].startswith("-"):
        args.insert(0, "--dataset")
    reports.show_warnings()
    look_in_working_directory()
    try:
        flags = parse_flags(TrainFlags, args, PROG, TrainFlags(DEFAULT))
        with atomic.private(flags.config.private):
            train(flags)
    except UserError as error:
        return complain(PROG, error)
    except KeyboardInterrupt:
        print(f"\n{PROG}: interrupted; there is no model", flush=True)
        return 130
    return 0


def train(flags: TrainFlags) -> RunFolder:
    """Do what the command does; returns the folder that it leaves. Raises UserError."""
    given = flags.config
    given.refuse({*fields_of()} - USED, "is not for train, which trains one model by itself")
    config = _whose(given, flags.cid)
    client = str(max(flags.cid, 0))
    model, started = model_name(config), time.perf_counter()
    # A row an epoch is a round of one epoch: the optimizer goes on from round to round in any case
    training = _training(replace(config, num_server_rounds=config.local_epochs, local_epochs=1), client)
    folder = _folder(flags, config)
    chosen = _chosen(config, training)
    folder.write_chosen(chosen)
    for name, text in {"model": model, "trained on": _trained_on(config, flags.cid, training), **chosen}.items():
        print(textwrap.fill(f"{name}: {text}", WIDTH, subsequent_indent="  ", break_long_words=False), flush=True)
    rows = _epochs(training, History(folder.history_path), client)
    seconds = time.perf_counter() - started
    models.save(training.learner.model, folder.model_path)
    normaliser = training.normaliser
    numbers = (each.tolist() for each in (normaliser.shift, normaliser.spread))
    write_note(folder.model_path, TrainingNote(training.num_examples, normaliser.name, *numbers))
    tested_on = _write_predictions(training, folder, client)
    ended = "finished" if reports.diverged_since(rows) is None else reports.DIVERGED
    own = {"strategy": LOCAL_MODE, "model": model, "examples": training.num_examples, "tested_on": tested_on}
    own["trained_on"] = _trained_on(config, flags.cid, training)
    folder.write_summary(reports.summarise(config, rows, seconds, ended) | own)
    plot_curves(folder.history_path, folder.curves_path, EPOCHS)
    plot_curves(folder.history_path, folder.curves_path.with_suffix(".svg"), EPOCHS)
    write_local_page(folder)
    _print_ending(folder, tested_on, _learns_amounts(config))
    if ended == reports.DIVERGED:
        raise RunFailed(f"the loss is not finite since epoch {reports.diverged_since(rows)}: the model is no result")
    return folder


def _whose(config: Config, cid: int) -> Config:
    """The configuration that deals out what is trained on: one client's part, or all. Raises UserError."""
    if cid != ALONE:
        if cid >= config.num_partitions:
            raise UserError(
                f"--cid {cid} needs --num-partitions of at least {cid + 1}, which says among how many clients the data "
                "set is divided"
            )
        return config
    why = "divides a data set: --cid says whose part it is"
    config.refuse(DEAL, why)
    if config.num_partitions > 1:
        raise UserError(f"--num-partitions {config.num_partitions} {why}")
    has_test = bool(len(data.open_source(config).test_labels()))
    # What has a test set of its own need hold out nothing more
    as_given = config.test_fraction != Config().test_fraction
    return config if as_given or not has_test else replace(config, test_fraction=0.0)


def _training(config: Config, client: str) -> "LocalTraining":
    from fedkeras.local_training import LocalTraining

    try:
        return LocalTraining(config, client)
    except ValueError as error:
        raise UserError(f"--dataset {config.dataset}: the data do not fit the model: {error}") from error


def _folder(flags: TrainFlags, config: Config) -> RunFolder:
    saved = replace(config, mode=LOCAL_MODE)
    if not flags.out:
        name = config.name or f"{Path(config.dataset).stem.replace(':', '-')}-{LOCAL_MODE}"
        return create_run_folder(Path(config.run_dir or "runs"), name, saved)
    folder = RunFolder(new_folder(flags.out))
    folder.write_config(saved)
    return folder


def _chosen(config: Config, training: "LocalTraining") -> Mapping[str, str]:
    """Scaling, loss and optimizer, each with its reason where no flag said it."""
    source, reason = data.open_source(training.config), scaling.scaling_of(config).reason
    if source.normaliser is training.normaliser:
        reason = "as the file says"
    elif not reason and data.learns_scaling(training.config):
        reason = f"learned from these {training.num_examples} examples alone"
    chosen = {**source.chosen, "scaling": f"{training.normaliser.said}{f' ({reason})' if reason else ''}"}
    if training.learner.chosen.said:
        chosen["loss"] = training.learner.chosen.said
    if said := optimizer_said(config):
        chosen["optimizer"] = said
    return chosen


def _trained_on(config: Config, cid: int, training: "LocalTraining") -> str:
    whose = "" if cid == ALONE else f", the part of client {cid} of {config.num_partitions}"
    return f"{training.num_examples} examples of {config.dataset}{whose}"


def _epochs(training: "LocalTraining", history: History, client: str) -> list[Row]:
    """Train, and keep and print a line an epoch; returns the rows."""
    absent = set() if training.held_out() else {"held out"}
    if _learns_amounts(training.config):
        absent |= {"accuracy", "test acc."}
    titles = [title for title in COLUMNS if title not in absent]
    print("  ".join(f"{title:>9}" for title in titles), flush=True)
    rows: list[Row] = []
    for done in training.rounds():
        started = time.perf_counter()
        own = training.held_out().get(int(client))
        own_seconds = time.perf_counter() - started
        new = [_row(done.number, "train", ALL, done.trained, done.training_seconds)]
        new += [_row(done.number, "evaluate", ALL, own, own_seconds)] if own else []
        new += [_row(done.number, "evaluate", "server", done.tested, done.test_seconds)] if done.tested else []
        history.append(new)
        rows += new
        tested = (figure(getattr(done.tested, name, None)) for name in ("loss", "accuracy"))
        held_out = figure((own.accuracy if own.accuracy is not None else own.loss) if own else None)
        known = (figure(done.trained.loss), figure(done.trained.accuracy), *tested, held_out)
        cells = dict(zip(COLUMNS, (str(done.number), *known, f"{done.training_seconds:.1f}"), strict=True))
        print("  ".join(f"{cells[title]:>9}" for title in titles), flush=True)
    return rows


def _learns_amounts(config: Config) -> bool:
    return data.open_source(config).targets is not None


def _row(number: int, phase: str, client: str, result: "TrainingResult", seconds: float) -> dict[str, Value]:
    values = metrics_of(result, seconds)
    count = values.pop("num-examples")
    return {"round": number, "phase": phase, "client": client, "num_examples": int(count), **values}


def _write_predictions(training: "LocalTraining", folder: RunFolder, client: str) -> str:
    """predictions.npz of the test set, else of what was held out; on what, in words: "" if there is nothing."""
    found = training.predictions()
    own = None if found else training.held_out_predictions(int(client))
    if not (found or own):
        return ""
    write_predictions(folder.predictions_path, *(found or own))
    return f"the {len((found or own)[0])} {'examples of the test set' if found else 'held-out examples'}"


def _print_ending(folder: RunFolder, tested_on: str, amounts: bool) -> None:
    predictions = read_predictions(folder.predictions_path)
    if amounts:
        print("\nno classification report: the model learns amounts")
    elif predictions is None:
        print("\nno classification report: there is no test set, or the model is no classifier of it")
    else:
        print(f"\nclassification report, {tested_on}:", *classification_table(predictions), sep="\n")
    print(f"\nhistory: {folder.history_path}", f"report: {folder.report_path}", f"model: {folder.model_path}", sep="\n")
