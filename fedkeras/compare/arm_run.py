"""An arm run: an arm with one seed. It leaves its result in result.json; with a result it is not trained again."""

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import numpy as np

from fedkeras.atomic import replace_file
from fedkeras.compare.arms import Arm
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.reports.run_folder import Json

FILE = "result.json"


@dataclass(frozen=True)
class ArmRun:
    """An arm with one seed, and the folder in which it is trained."""

    arm: Arm
    seed: int
    folder: Path
    config: Config

    @property
    def title(self) -> str:
        """As it is shown."""
        return f"{self.arm.name}, seed {self.seed}"


class CurvePoint(TypedDict, total=False):
    """A round's figures on the central test set, as they stand in result.json.

    None: there is none, or it is no number. Only `local` has `lowest` and `highest`, the accuracies of clients' models.
    """

    round: int
    accuracy: float | None
    loss: float | None
    lowest: float
    highest: float


@dataclass(frozen=True)
class ArmResult:
    """The figures of an arm run. All but `own` are on the central test set; None: there is none, or it is no number.

    `local` has one model a client: its accuracy, macro F1 and loss are means over clients. `central` then is the
    accuracy of each client's model on the central test set, and empty elsewhere; `own` is the accuracy on each client's
    held-out examples of the model that the arm gives this client; both by cid. `curve` has a point a round. `seconds`:
    the median round's time on the clock, times the rounds; `training_seconds`: what the clients computed in training,
    all together. `bytes_up` and `bytes_down`: arrays sent to and by the server, over all rounds. `test_examples`: how
    many the central test set has; `own_examples`: how many each client has held out. `personal`: clients end with
    models of their own, which `own` is of; `new`: those of clients that were not there in training, by cid.
    `guess`: what a model has that names the central test set's commonest label always; `attack_success`: the share of
    attacked test examples that end where a backdoor wants them.
    """

    arm: str
    kind: str
    seed: int
    accuracy: float | None
    macro_f1: float | None
    loss: float | None
    seconds: float
    training_seconds: float | None
    bytes_up: int | None
    bytes_down: int | None
    own: dict[str, float] = field(default_factory=dict)
    central: dict[str, float] = field(default_factory=dict)
    curve: list[CurvePoint] = field(default_factory=list)
    test_examples: int | None = None
    own_examples: dict[str, int] = field(default_factory=dict)
    personal: bool = False
    new: dict[str, float] = field(default_factory=dict)
    guess: float | None = None
    attack_success: float | None = None

    @property
    def own_accuracy(self) -> float | None:
        """The share of all clients' held-out examples that is right by the model that the arm gives each client.

        None where it has no figures by client, or does not say how many examples they are of.
        """
        return self.own_accuracy_of(self.own)

    def own_accuracy_of(self, clients: Iterable[str]) -> float | None:
        """The same over some clients alone."""
        cids = [cid for cid in self.own if cid in set(clients)]
        if not cids or any(cid not in self.own_examples for cid in cids):
            return None
        right = math.fsum(self.own[cid] * self.own_examples[cid] for cid in cids)
        return right / sum(self.own_examples[cid] for cid in cids)

    def write(self, folder: Path) -> None:
        """Write result.json in one step. Raises UserError if the disk refuses."""
        text = json.dumps(_plain(dataclasses.asdict(self)), indent=1, allow_nan=False)
        replace_file(folder / FILE, f"{text}\n".encode())


def common_clients(results: Iterable[ArmResult]) -> dict[int, set[str]]:
    """By seed, the clients that every arm with figures by client has tested: who is new to one arm is in another."""
    found: dict[int, set[str]] = {}
    for one in results:
        if one.own:
            found[one.seed] = found.get(one.seed, {*one.own}) & one.own.keys()
    return found


def read_result(folder: Path) -> ArmResult | None:
    """The result in an arm run's folder; None if the run is not finished. Raises UserError for a damaged one."""
    path = folder / FILE
    try:
        return ArmResult(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it, and its arm run is trained again") from error


def clock(rounds: Sequence[float]) -> float:
    """Seconds of all rounds together once everything runs: the median round's, times their number.

    The first round imports and compiles, and some may be disturbed: their sum would measure that.
    """
    return statistics.median(rounds) * len(rounds) if rounds else 0.0


def macro_f1(labels: np.ndarray, predicted: np.ndarray | None) -> float | None:
    """The mean of F1, by scikit-learn, over the classes that occur in either, unweighted.

    `labels` and `predicted` are class numbers, (examples,). None without predictions: the model is no classifier.
    """
    if predicted is None:
        return None
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predicted, average="macro", zero_division=0))


def _plain(value: Json) -> Json:
    """JSON knows neither NaN nor numpy's numbers."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
