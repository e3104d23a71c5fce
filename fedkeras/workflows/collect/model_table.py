"""What was collected as lines to print, and what the clients' own figures are of, in a sentence."""

from collections.abc import Mapping

from fedkeras.config import Config
from fedkeras.reports.headline import figure
from fedkeras.workflows.collect.outbox import LocalResult

OWN = ("loss", "accuracy", "val-loss", "val-accuracy", "cv-loss", "cv-accuracy")
"""Figures of a client's own training that are shown: of the rows trained on; of validation rows; of k-fold's folds."""


def table(
    config: Config, results: Mapping[str, LocalResult], tested: Mapping[str, Mapping[str, float]], aggregated: bool
) -> list[str]:
    """What was collected as lines to print: each model's own figures, and those on the server's test set.

    `results` and `tested` go by the names of the models' folders.
    """
    own = [name for name in OWN if any(name in result.figures for result in results.values())]
    central = [name for name in ("loss", "accuracy") if any(name in figures for figures in tested.values())]
    lines = [_cells("model", "examples", *own, *(f"test {name}" for name in central))]
    for name, result in results.items():
        known = [figure(result.figures.get(key)) for key in own]
        count = str(int(result.figures["num-examples"]))
        lines.append(_cells(f"client {name}", count, *known, *_of(tested, name, central)))
    if aggregated:
        count = str(sum(int(result.figures["num-examples"]) for result in results.values()))
        lines.append(_cells("aggregate", count, *("-" for _ in own), *_of(tested, "aggregate", central)))
        how = "alike" if config.client_weights == "uniform" else "by examples"
        lines.append(f"aggregate: {config.strategy} of {len(results)} models, weighted {how}; in model.keras")
    if meaning := meaning_of_figures(config, results):
        lines.append(meaning)
    return ["", *lines]


def meaning_of_figures(config: Config, results: Mapping[str, LocalResult]) -> str:
    """What the clients' val- and cv- figures are of, in a sentence; "" where there are none."""
    names = {name for result in results.values() for name in result.figures}
    if "cv-loss" in names:
        model = "; a client's model is that of the fold with the lowest such loss, and that choice flatters the fold"
        return "cv: mean over the folds, each tested once on the rows it held out" + model * (
            config.kfold_return == "best"
        )
    if "val-loss" in names:
        chosen = " by which the best epoch was chosen (--patience), so these figures flatter it and are no test"
        return "val: on the validation rows" + (chosen if config.patience else ", after the last epoch")
    return ""


def _of(tested: Mapping[str, Mapping], name: str, central: list[str]) -> list[str]:
    return [figure(tested.get(name, {}).get(key)) for key in central]


def _cells(first: str, *rest: str) -> str:
    return f"{first:<12}" + "".join(f"{cell:>14}" for cell in rest)
