"""Strategies by name."""

import inspect
from collections.abc import Mapping

from flwr.serverapp.strategy import Strategy

from fedkeras.config import Config, options_for_strategy
from fedkeras.errors import UserError
from fedkeras.named_code import find_class
from fedkeras.strategy_names import STRATEGIES, canonical

BUILT_IN = {name: page.path for name, page in STRATEGIES.items()}
"""Name -> package.module:Class."""
TAKE_ALL = {
    "fraction_train": 1.0,
    "fraction_evaluate": 1.0,
    "min_train_nodes": 1,
    "min_evaluate_nodes": 1,
    "min_available_nodes": 1,
}
"""Flower's strategies sample by themselves. The round loop shows them the cohort alone, so they take all they see."""


def options_of(config: Config) -> dict[str, object]:
    """The configured strategy's own options, those of its flags among them. Raises UserError."""
    page = STRATEGIES.get(canonical(config.strategy))
    return {name: getattr(config, name) for name in (page.takes if page else ())} | options_for_strategy(config)


def load(spec: str, args: Mapping[str, object] | None = None) -> Strategy:
    """Make the strategy named `spec`, a name of the table above or `package.module:Class`, with its options `args`.

    A name of the table may be spelled with - or _.

    Raises UserError if there is no such strategy, or if it does not take these options.
    """
    kind = find_class(canonical(spec), Strategy, BUILT_IN, "strategy")
    if inspect.isabstract(kind):
        raise UserError(f"--strategy {spec} does not define {', '.join(sorted(kind.__abstractmethods__))}")
    args = args or {}
    try:
        strategy = kind(**args)
    except (TypeError, ValueError) as error:
        own = [name for name in inspect.signature(kind).parameters if name not in TAKE_ALL]
        raise UserError(f"--strategy-args: {error} ({spec} takes: {', '.join(own) or 'no options'})") from error
    # Set afterwards: a subclass of Flower's need not take them, and then would wait for a second node for ever.
    for name, value in TAKE_ALL.items():
        if hasattr(strategy, name) and name not in args:
            setattr(strategy, name, value)
    return strategy
