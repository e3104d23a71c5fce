"""What reaches the server from clients' examples beside their updates, by the settings of a run.

A protection of the updates is worth what it is worth beside these. A mod that protects says which of them it has an
answer to (fixed beforehand, protected, or of no matter to what it promises); the others are refused in one line before
a client is asked anything.

What a message of each kind holds is in docs/privacy.md, and a test walks the messages of every way to train.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from fedkeras.config import TIME, Config, fields_of
from fedkeras.data import scaling
from fedkeras.errors import UserError
from fedkeras.strategy_names import canonical


@dataclass(frozen=True)
class Release:
    """Something that is made of clients' examples and leaves them. `present(config)`: whether a run has it."""

    name: str
    words: str
    """What is refused and why: what follows "--mods NAME does not go with"."""
    present: Callable[[Config], bool]


RELEASES = (
    Release(
        "descriptions",
        "--data-source: what its clients describe reaches the model unprotected",
        lambda config: config.hands_out_model,
    ),
    Release(
        "own files",
        "--partitioner own: the labels that clients bring reach the others unprotected",
        lambda config: not config.deals,
    ),
    Release(
        "client tests",
        "tests on clients, whose figures are not protected; `fedkeras evaluate RUN --clients none`",
        lambda config: bool(config.evaluate) and config.evaluate_clients != "none",
    ),
    Release(
        "class weights",
        "--class-weight balanced, whose weights are counted from the clients' labels",
        lambda config: config.class_weight != "none",
    ),
    Release(
        "counts",
        "--client-weights known, by which clients say how many examples they have before they are asked to train",
        lambda config: config.client_weights == "known",
    ),
    Release(
        "figures",
        "--fraction-evaluate: what clients measure is not protected, and not sent",
        lambda config: "fraction_evaluate" in config.changed() and config.fraction_evaluate > 0,
    ),
    Release(
        "time",
        "--clients, --round-deadline or --over-select: how fast a client is, and so how much it has, decides whether "
        "and how much it counts",
        lambda config: bool(config.changed(fields_of(group=TIME))),
    ),
    Release(
        "initial losses",
        "--strategy qfedavg: its clients say their loss before training, which is not protected",
        lambda config: canonical(config.strategy) == "qfedavg",
    ),
    Release(
        "scaling",
        "scaling that is learned from the clients' examples; take --normaliser none, or scale by the range that the "
        "format has",
        lambda config: not scaling.format_decides(config),
    ),
)
"""In the order in which they are looked for."""


def refuse(config: Config, mod: str, accepted: Collection[str] = ()) -> None:
    """Raise UserError for the first release of this run that is not among the `accepted` names.

    `mod` is the name in --mods. Accept only what the mod has an answer to: a release that is new here is then refused
    by every mod until somebody has thought of it.
    """
    for release in RELEASES:
        if release.name not in accepted and release.present(config):
            raise UserError(f"--mods {mod} does not go with {release.words}")
