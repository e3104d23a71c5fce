"""The synthetic devices of the FedProx paper: 60 numbers, ten classes, a linear rule of its own on each device.

T. Li, A. K. Sahu, M. Zaheer, M. Sanjabi, A. Talwalkar, V. Smith, "Federated Optimization in Heterogeneous Networks",
MLSys 2020, arXiv:1812.06127, section 5.1 and appendix C.1. Device k has the rule y = argmax(W_k x + b_k), where each
entry of W_k and b_k is drawn from N(u_k, 1) and u_k from N(0, alpha); its x is drawn from N(v_k, S), S diagonal with
S_jj = j^-1.2, each entry of v_k from N(B_k, 1) and B_k from N(0, beta); as in the authors' code alpha and beta are
standard deviations. `iid`: one rule for all, inputs around 0. Devices hold 50 examples and more, by a log-normal law
with a long tail.

The paper says that alpha governs how much the devices' rules differ. By its own formulas it does not: u_k is added to
all ten columns of W_k and entries of b_k, so to all ten scores of an x alike, and the largest stays the largest. Rules
differ as much under alpha = 0; what grows from (0, 0) to (1, 1) is how far apart the inputs lie. A test shows it.
"""

import numpy as np

from fedkeras.config import Config, Value, options
from fedkeras.data.source import ArraySource
from fedkeras.errors import UserError
from fedkeras.randomness import generator

FEATURES, CLASSES = 60, 10
FEWEST = 50
"""Examples that a device has at least, training and test together."""
DEFAULTS: dict[str, Value] = {"alpha": 1.0, "beta": 1.0, "iid": False, "devices": 30, "draw": 0}


def load(config: Config) -> ArraySource:
    """The devices that `config.dataset` describes: `synthetic:alpha=0.5,beta=0.5`. Raises UserError for its options.

    A tenth of each device's examples makes the central test set. The examples depend on `draw` and not on the run's
    seed, so that runs of several seeds learn from the same ones; `alpha` and `beta` mean nothing with `iid=true`.
    """
    chosen = _options(config.dataset)
    rng = generator(chosen["draw"], "synthetic", "iid" if chosen["iid"] else f"{chosen['alpha']:g},{chosen['beta']:g}")
    sizes = FEWEST + rng.lognormal(4.0, 2.0, chosen["devices"]).astype(int)
    parts = list(_iid(rng, sizes) if chosen["iid"] else _skewed(rng, sizes, chosen["alpha"], chosen["beta"]))
    owner = np.repeat(np.arange(len(sizes)), sizes)
    x, y = np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])
    # A device's examples are independent draws, so its last tenth is as good as any.
    position = np.concatenate([np.arange(size) for size in sizes])
    trains = position < (9 * sizes // 10)[owner]
    return ArraySource(
        "synthetic",
        (x[trains], y[trains]),
        (x[~trains], y[~trains]),
        [str(number) for number in range(CLASSES)],
        groups=owner[trains],
        provenance=f"made here after Li et al. (MLSys 2020, arXiv:1812.06127): {_described(chosen)}",
    )


def _iid(rng: np.random.Generator, sizes: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    weights, bias = rng.normal(size=(FEATURES, CLASSES)), rng.normal(size=CLASSES)
    return [_examples(rng, size, np.zeros(FEATURES), weights, bias) for size in sizes]


def _skewed(
    rng: np.random.Generator, sizes: np.ndarray, alpha: float, beta: float
) -> list[tuple[np.ndarray, np.ndarray]]:
    made = []
    for size in sizes:
        rule, place = rng.normal(0.0, alpha), rng.normal(0.0, beta)
        centre = rng.normal(place, 1.0, FEATURES)
        weights, bias = rng.normal(rule, 1.0, (FEATURES, CLASSES)), rng.normal(rule, 1.0, CLASSES)
        made.append(_examples(rng, size, centre, weights, bias))
    return made


def _examples(
    rng: np.random.Generator, size: int, centre: np.ndarray, weights: np.ndarray, bias: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    spread = np.arange(1, FEATURES + 1) ** -0.6  # a standard deviation: the variance is j^-1.2
    x = rng.normal(centre, spread, (size, FEATURES))
    return x.astype(np.float32), np.argmax(x @ weights + bias, axis=1)


def _options(dataset: str) -> dict[str, Value]:
    given = options(dataset.partition(":")[2], "dataset synthetic")
    if unknown := given.keys() - DEFAULTS.keys():
        raise UserError(f"--dataset synthetic has no option '{min(unknown)}'; it has {', '.join(DEFAULTS)}")
    chosen = DEFAULTS | given
    for name in ("alpha", "beta"):
        if isinstance(chosen[name], bool) or not isinstance(chosen[name], int | float) or not 0 <= chosen[name] < 1e6:
            raise UserError(f"--dataset synthetic: {name} is a number of 0 or more, not '{chosen[name]}'")
    for name, least in (("devices", 1), ("draw", 0)):
        if type(chosen[name]) is not int or chosen[name] < least:
            raise UserError(f"--dataset synthetic: {name} is a whole number from {least}, not '{chosen[name]}'")
    if not isinstance(chosen["iid"], bool):
        raise UserError(f"--dataset synthetic: iid is true or false, not '{chosen['iid']}'")
    return chosen


def _described(chosen: dict[str, Value]) -> str:
    kind = "iid" if chosen["iid"] else f"alpha {chosen['alpha']:g}, beta {chosen['beta']:g}"
    return f"{chosen['devices']} devices, {kind}, draw {chosen['draw']}"
