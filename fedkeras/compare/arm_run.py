"""result.json: what one finished part, an arm with one seed, came to. A part that has one is never trained again.

One figure from predictions: the mean over classes of F1, by scikit-learn.
"""

import dataclasses
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fedkeras.atomic import replace_file
from fedkeras.compare.arms import Arm
from fedkeras.config import Config
from fedkeras.errors import UserError

FILE = "result.json"
POINT = ("round", "accuracy", "loss", "lowest", "highest")


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


@dataclass(frozen=True)
class ArmResult:
    """Figures of a part. All but `own` are on the central test set; None: there is none, or it is no number.

    `local` has one model a client: its accuracy, macro F1 and loss are means over clients. `central` then is each
    client's model on the central test set, and empty elsewhere; `own` is each client's held-out part, tested with the
    model the arm gives that client. `curve` has a line a round, for `local` with the lowest and the highest accuracy of
    a client. `seconds`: the median round's time on the clock, times the rounds; `training_seconds`: what the clients
    computed in training, all together.
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
    curve: list[dict] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write result.json in one step."""
        text = json.dumps(_plain(dataclasses.asdict(self)), indent=1, allow_nan=False)
        replace_file(folder / FILE, f"{text}\n".encode())


def read_result(folder: Path) -> ArmResult | None:
    """The part's result; None if it is not finished. Raises UserError for a damaged one."""
    path = folder / FILE
    try:
        return ArmResult(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it, and its part is trained again") from error


def clock(rounds: Sequence[float]) -> float:
    """Seconds of all rounds together, once everything runs: the first one imports and compiles, some may be disturbed.

    So it is the median round's, times their number.
    """
    return statistics.median(rounds) * len(rounds) if rounds else 0.0


def _plain(value: object) -> object:
    """JSON knows neither NaN nor numpy's numbers."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def macro_f1(labels: np.ndarray, predicted: np.ndarray | None) -> float | None:
    """The unweighted mean over the classes there are in either; None without predictions, as of no classifier."""
    if predicted is None:
        return None
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predicted, average="macro", zero_division=0))
