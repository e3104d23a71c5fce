"""Of which runs a secure sum can be had, and which would tell of single clients beside it."""

from typing import TYPE_CHECKING

from flwr.app import MessageType

from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.sampling import cohort_size
from fedkeras.mods import releases
from fedkeras.mods.secure_aggregation import parameters
from fedkeras.mods.secure_aggregation.encoding import Quantised
from fedkeras.named_code import parse_specs

if TYPE_CHECKING:
    from fedkeras.mods.secure_aggregation.mod import SecureAggregation

NAME = "secure-aggregation"
BESIDE = (NAME, "stragglers", "dp-sgd")
"""Mods that may be named together; of others nobody knows what they do to an update, or tell of it."""
ACCEPTED = ("figures", "own files")
"""Releases to which there is an answer: what clients measure is added up as updates are, and of their own files, whose
form and classes the server names, nothing is described where scaling and class weights are not learned from them."""


def check(config: Config, mod: "SecureAggregation") -> None:
    """Raise UserError, in one line, for a run that this mod does not go with."""
    names = [spec.name for spec in parse_specs(config.mods, "mods")]
    if "dp" in names:
        raise UserError(
            f"--mods dp does not go with {NAME}: the server must clip each client's update, which it would not "
            "see; dp-sgd does"
        )
    if others := [name for name in names if name not in BESIDE]:
        why = "nobody knows what that one tells of an update"
        raise UserError(f"--mods {NAME} does not go with {others[0]}: {why}")
    releases.refuse(config, NAME, ACCEPTED)
    config.refuse(("max_client_weight",), f"is for counts that the server sees; under {NAME} say max-examples")
    for phase, clients in cohorts(config).items():
        if clients < mod.min_clients:
            flag = "--fraction-evaluate 0" if phase == MessageType.EVALUATE else "--fraction-train, --num-partitions"
            raise UserError(
                f"--mods {NAME}: {clients} clients {phase} in a round, and a sum is of {mod.min_clients} at least "
                f"(min-clients): see {flag}"
            )
        try:
            parameters.choose(clients, mod.max_dropout, mod.colluding)
            quantised(config, mod.clip, clients, mod.max_examples or 1).check()
        except ValueError as error:
            raise UserError(f"--mods {NAME}: {error}") from error


def cohorts(config: Config) -> dict[str, int]:
    """{MessageType.TRAIN or EVALUATE: clients in a round}, of what is done in rounds at all."""
    fractions = {MessageType.TRAIN: config.fraction_train, MessageType.EVALUATE: config.fraction_evaluate}
    return {kind: cohort_size(config.num_partitions, share) for kind, share in fractions.items() if share > 0}


def quantised(config: Config, clip: float, clients: int, most: int) -> Quantised:
    """How updates are told in sums of so many clients, of whom each counts for `most` examples at most."""
    weight = 1 if config.client_weights == "uniform" else most
    return Quantised(clip=clip, max_weight=weight, clients=clients, rounding="nearest")
