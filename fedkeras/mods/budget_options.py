"""What both kinds of differential privacy, `--mods dp` and `dp-sgd`, take as options, and within which limits."""

import math

LEAST_NOISE, MOST_EPSILON = 0.1, 100.0
"""Beyond these nobody is protected, and the accountant takes minutes and gigabytes to say how little; a client takes no
order to add less."""
WEAK = 10.0
"""An epsilon above which a run says that it protects hardly anybody."""


def require_budget(delta: float, epsilon: float, noise_multiplier: float, study: bool) -> None:
    """Raise ValueError, in one line, unless delta and a budget or a noise are said; 0: that one is not."""
    require_number("delta", delta, 0, 1)
    if epsilon != 0:
        require_number("epsilon", epsilon, 0, MOST_EPSILON)
    if noise_multiplier != 0:
        require_number("noise-multiplier", noise_multiplier, LEAST_NOISE, math.inf)
    if not epsilon and not noise_multiplier:
        raise ValueError("say epsilon, and the noise is computed, or noise-multiplier, and epsilon is")
    if not isinstance(study, bool):
        raise ValueError(f"study must be true or false, not {study}")


def require_number(name: str, value: float | str, above: float, below: float, what: str = "") -> None:
    """Raise ValueError for an option that is no number between these two, which are left out; `what`: other words."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not above < value < below:
        between = f"above {above}" if below == math.inf else f"between {above} and {below}"
        raise ValueError(f"{name} must be {what or between}, not {value}")
