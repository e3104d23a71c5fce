"""The strategies that have a short name: where each is, and where its name is taken.

`--help`, the registry and offline aggregation read this table; documents are tested against it. So a page under
strategies/ that is to have a name is the page and a line here.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class StrategyPage:
    """`path` is package.module:Class; `offline`: whether it combines model files without a global model to move.

    `takes`: settings of the run that are options of its own too, unless --strategy-args says otherwise.
    """

    path: str
    offline: bool = True
    takes: tuple[str, ...] = ()


STRATEGIES = {
    "fedavg": StrategyPage("fedkeras.strategies.fedavg:FedAvg"),
    "fedmedian": StrategyPage("fedkeras.strategies.fedmedian:FedMedian"),
    "fedprox": StrategyPage("fedkeras.strategies.fedprox:FedProx"),
    "trimmed_mean": StrategyPage("fedkeras.strategies.trimmed_mean:TrimmedMean"),
    "krum": StrategyPage("fedkeras.strategies.krum:Krum"),
    "multikrum": StrategyPage("fedkeras.strategies.multikrum:MultiKrum"),
    "bulyan": StrategyPage("fedkeras.strategies.bulyan:Bulyan"),
    "geometric_median": StrategyPage("fedkeras.strategies.geometric_median:GeometricMedian"),
    "centered_clipping": StrategyPage("fedkeras.strategies.centered_clipping:CenteredClipping", offline=False),
    "norm_bound": StrategyPage("fedkeras.strategies.norm_bound:NormBound", offline=False),
    "scaffold": StrategyPage("fedkeras.strategies.scaffold:Scaffold", offline=False),
    "fednova": StrategyPage("fedkeras.strategies.fednova:FedNova", offline=False),
    "fedavgm": StrategyPage("fedkeras.strategies.fedavgm:FedAvgM", offline=False),
    "fedadam": StrategyPage("fedkeras.strategies.fedopt:FedAdam", offline=False),
    "fedyogi": StrategyPage("fedkeras.strategies.fedopt:FedYogi", offline=False),
    "fedadagrad": StrategyPage("fedkeras.strategies.fedopt:FedAdagrad", offline=False),
    "qfedavg": StrategyPage("fedkeras.strategies.qfedavg:QFedAvg", offline=False, takes=("learning_rate",)),
}
OFFLINE = tuple(name for name, page in STRATEGIES.items() if page.offline)
"""The names that `fedkeras aggregate` takes."""


def canonical(name: str) -> str:
    """The name as it stands in the table, where `name` is another spelling of it: trimmed-mean is trimmed_mean."""
    spelled = name.replace("-", "_")
    return spelled if spelled in STRATEGIES else name
