"""What was collected as one model: the strategy's aggregate of the clients' model files, weighted by their examples."""

import logging
from collections.abc import Mapping
from pathlib import Path

from fedkeras import models, offline
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.quietly import import_tensorflow
from strategies import options_of

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
    except UserError as error:
        log.warning("there is no aggregate of the collected models: %s", error)
        return None
    return sum(array.size for array in models.get_weights(first).values())
