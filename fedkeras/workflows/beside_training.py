"""What reaches the server of clients' data beside the training itself, by a run's settings: for the report.

Descriptions before the first round (docs/data.md, docs/server-led.md), and what no way to train can hide.
"""

from fedkeras.config import Config
from fedkeras.data.scaling import format_decides
from fedkeras.reports.server_view import (
    CLASS_COUNTS,
    COUNTS,
    EACH,
    EXAMPLES,
    FIGURES,
    LABELS,
    NOBODY,
    PRESENCE,
    STATISTICS,
    Seen,
    Sight,
)

NEVER = "never sent"
OWN_COPY = "; but who can open this data set, as the server may, has all of them"


def seen_beside_training(config: Config) -> Sight:
    """Lines for examples, descriptions of them, and presence."""
    lines = {EXAMPLES: _examples(config)}
    if _describes_features(config):
        what = "mean, spread and extremes of each feature, before the first round"
        lines[STATISTICS] = Seen(f"{what}, where the data do not say how to scale themselves", _unless_known(config))
    if config.class_weight != "none":
        lines[CLASS_COUNTS] = Seen("how many examples of each class, before the first round", _unless_known(config))
    if config.uses_clients_tables or not config.deals:
        lines[LABELS] = Seen("names of its classes and columns, shape of an example")
    lines[PRESENCE] = Seen("when it is connected and answers, and from which address")
    return lines


def figures_seen(trains: bool = True) -> Sight:
    """Lines for what comes with a client's answers."""
    on = "training and test examples" if trains else "test examples"
    return {
        FIGURES: Seen(f"loss, accuracy and other metrics on {on}; seconds"),
        COUNTS: Seen(f"numbers of {on}"),
    }


def _examples(config: Config) -> Seen:
    if config.data_source == "server":
        return Seen("examples and labels", "all of them", "not protected: the server has them, and hands them out")
    dealt = config.uses_catalogue and config.deals
    return Seen("examples and labels", NOBODY, NEVER + OWN_COPY * dealt)


def _describes_features(config: Config) -> bool:
    if config.data_source == "server":
        return False
    if config.uses_clients_tables:
        return config.normaliser not in ("none", "default")
    return not format_decides(config)


def _unless_known(config: Config) -> str:
    dealt = config.uses_catalogue and config.deals
    return f"{EACH}, unless the server can open the data set" if dealt else EACH
