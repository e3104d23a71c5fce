"""Strategies by name."""

import dataclasses
import inspect
from collections.abc import Mapping

from flwr.serverapp.strategy import Strategy

from fedkeras.config import Config, options_for_strategy
from fedkeras.errors import UserError
from fedkeras.federation.base_strategy import BaseStrategy
from fedkeras.named_code import find_class, parse_specs
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


def with_mods(config: Config) -> Config:
    """The configuration with the mods that its strategy needs (`mods` in its class), innermost, unless it has them.

    Raises UserError if there is no such strategy.
    """
    kind = find_class(canonical(config.strategy), Strategy, BUILT_IN, "strategy")
    named = parse_specs(config.mods, "mods")
    missing = [
        spec
        for spec in parse_specs(getattr(kind, "mods", ""), "strategy")
        if spec.name not in [each.name for each in named]
    ]
    return dataclasses.replace(config, mods="; ".join(map(str, (*named, *missing)))) if missing else config


def for_run(config: Config) -> Strategy:
    """The configured strategy, told what it needs of the configuration. Raises UserError."""
    strategy = load(config.strategy, options_of(config))
    if isinstance(strategy, BaseStrategy):
        strategy.prepare(config)
    return strategy


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
