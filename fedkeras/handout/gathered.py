"""What was collected as one model: the strategy's aggregate of the clients' model files, weighted by their examples."""

import logging
from collections.abc import Mapping
from pathlib import Path

from fedkeras import models, offline
from fedkeras.config import Config
from fedkeras.errors import UserError, describe
from fedkeras.handout.results import Result
from fedkeras.quietly import import_tensorflow
from fedkeras.reports.terminal import figure
from strategies import options_of

OWN = ("loss", "accuracy", "val-loss", "val-accuracy")
"""Figures of a client's own training that are shown."""

log = logging.getLogger("fedkeras")


def aggregate(config: Config, parts: Mapping[Path, int], out: Path) -> int | None:
    """Write the aggregate of `parts`, {model file: examples}, to `out`; return its number of weights.

    None, and a line in the log that says why, if these files make no one model.
    """
    import_tensorflow()
    from fedkeras.models.architecture import difference

    try:
        strategy = offline.check_strategy(config.strategy, options_of(config))
        first, weights = None, {}
        for path in parts:
            model = models.load(path)
            first = first or model
            if (found := difference(first, model)) is not None:
                raise UserError(f"{path} is of another architecture: {found}")
            weights[str(path)] = models.get_weights(model)
        models.set_weights(first, offline.combine(strategy, weights, list(parts.values())))
        models.save(first, out)
    except Exception as error:  # noqa: BLE001 - whatever a client's file makes of Keras, the models have been collected
        log.warning("there is no aggregate of the collected models: %s", describe(error))
        return None
    return sum(array.size for array in models.get_weights(first).values())


def table(config: Config, results: Mapping[str, Result], tested: Mapping[str, Mapping], aggregated: bool) -> list[str]:
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
        lines.append(f"aggregate: {config.strategy} of {len(results)} models, weighted by examples; in model.keras")
    return ["", *lines]


def _of(tested: Mapping[str, Mapping], name: str, central: list[str]) -> list[str]:
    return [figure(tested.get(name, {}).get(key)) for key in central]


def _cells(first: str, *rest: str) -> str:
    return f"{first:<12}" + "".join(f"{cell:>14}" for cell in rest)
