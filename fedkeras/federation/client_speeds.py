"""How fast simulated clients are: `--clients slow=lognormal:sigma=1.0`, seconds that depend on no machine.

F. Lai, Y. Dai, S. Singapuram, J. Liu, X. Zhu, H. Madhyastha, M. Chowdhury, "FedScale: Benchmarking Model and System
Performance of Federated Learning at Scale", ICML 2022, arXiv:2105.11367: a client's time is its steps times the seconds
that its device needs for one, and its messages' bytes through its link. FedScale draws devices from traces of phones;
here a client's factor is drawn from a distribution, or stands in a file.

    seconds = local steps x `step` x factor(cid)  +  8 x (bytes up + bytes down) / (`mbit` x 10^6)

A factor of 2 is a client of half the speed. It is a function of (seed, cid), and holds for the whole run: a slow device
stays a slow one. Testing takes no simulated time, nor does the server's own work.
"""

import csv
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fedkeras.config import Config, Value
from fedkeras.errors import UserError
from fedkeras.named_code import parse_spec
from fedkeras.randomness import generator

STEP = 0.1
"""Seconds that a step takes on a client of factor 1, unless `step` says otherwise."""
ROUNDING = 1e-9
"""Share of a deadline by which floating point may be wrong about it."""

Draw = Callable[..., float]
"""(random numbers, options) -> a factor."""


def none(rng: np.random.Generator) -> float:
    """All clients are alike."""
    return 1.0


def lognormal(rng: np.random.Generator, sigma: float = 1.0) -> float:
    """exp(sigma z): half of the clients are slower than 1; at sigma 1 one of six takes 2.7 times as long, or more."""
    if not 0 <= sigma <= 5:
        raise ValueError(f"sigma must be from 0 to 5, not {sigma}")
    return math.exp(sigma * float(rng.standard_normal()))


def halfnormal(rng: np.random.Generator, sd: float = 1.0) -> float:
    """1 + sd |z|: nobody is faster than 1, and most are not much slower."""
    if not 0 <= sd <= 1000:
        raise ValueError(f"sd must be from 0 to 1000, not {sd}")
    return 1.0 + sd * abs(float(rng.standard_normal()))


def uniform(rng: np.random.Generator, low: float = 1.0, high: float = 4.0) -> float:
    """Evenly between the two."""
    if not 0 < low <= high:
        raise ValueError(f"low must be above 0 and no more than high, not {low} and {high}")
    return float(rng.uniform(low, high))


DISTRIBUTIONS: Mapping[str, Draw] = {
    "lognormal": lognormal, "uniform": uniform, "halfnormal": halfnormal, "none": none,
}  # fmt: skip


@dataclass(frozen=True)
class Device:
    """What one client has: by what factor its steps take longer, and the speed of its link (0: takes no time)."""

    factor: float
    mbit: float = 0.0


@dataclass(frozen=True)
class ClientSpeeds:
    """Seconds that each client's work takes, without a clock."""

    seed: int
    draw: Draw = none
    options: Mapping[str, float] = field(default_factory=dict)
    step: float = STEP
    """Seconds of a step at factor 1."""
    mbit: float = 0.0
    """Megabits a second, up and down alike, of clients that no file says it of; 0: messages take no time."""
    devices: Mapping[int, Device] | None = None
    """By cid, where a file says it."""

    @classmethod
    def of(cls, config: Config) -> "ClientSpeeds | None":
        """The run's; None: real clocks. Raises UserError for --clients that cannot be read, or lacks a client."""
        return _parsed(config.clients, config.seed, config.num_partitions) if config.clients else None

    def device(self, cid: int) -> Device:
        """What this client has."""
        if self.devices is not None:
            return self.devices[cid]
        return Device(self.draw(generator(self.seed, "client-speed", cid), **self.options), self.mbit)

    def seconds_per_step(self, cid: int) -> float:
        """Of this client's own steps."""
        return self.step * self.device(cid).factor

    def seconds_of_bytes(self, cid: int, num_bytes: int) -> float:
        """What messages of so many bytes take on this client's link."""
        mbit = self.device(cid).mbit
        return 8e-6 * num_bytes / mbit if mbit else 0.0

    def seconds(self, cid: int, steps: int, num_bytes: int = 0) -> float:
        """What so many steps take this client, and its messages of so many bytes in both directions together."""
        return steps * self.seconds_per_step(cid) + self.seconds_of_bytes(cid, num_bytes)

    def steps_within(self, cid: int, seconds: float, num_bytes: int = 0) -> int:
        """The most whole steps that this client can do, and send, within so many seconds; 0: not even one."""
        per_step, left = self.seconds_per_step(cid), seconds - self.seconds_of_bytes(cid, num_bytes)
        steps = max(0, math.floor(left / per_step))
        # The quotient is rounded: 0.3 / 0.1 is below 3, and what `seconds` says of the steps is what counts.
        while in_time(self.seconds(cid, steps + 1, num_bytes), seconds):
            steps += 1
        while steps and not in_time(self.seconds(cid, steps, num_bytes), seconds):
            steps -= 1
        return steps


def in_time(seconds: float, deadline: float) -> bool:
    """Whether it is no later than the deadline, but for rounding: three steps of 0.1 s, as floats, are above 0.3 s."""
    return seconds <= deadline * (1 + ROUNDING)


def with_absolute_path(clients: str) -> str:
    """The same --clients where the working directory is another one: Flower's."""
    name, equals, rest = clients.partition("=")
    file, suffix, options = rest.partition(".csv")
    return f"{name}={Path(file).expanduser().absolute()}{suffix}{options}" if equals and suffix else clients


@functools.lru_cache(maxsize=8)
def _parsed(text: str, seed: int, clients: int) -> ClientSpeeds:
    form = "give slow=lognormal, uniform, halfnormal or none, or slow=FILE.csv, such as slow=lognormal:sigma=1.0"
    name, equals, rest = text.partition("=")
    if name.strip() != "slow" or not equals or not rest.strip():
        raise UserError(f"--clients is '{text}'; {form}")
    file, _, options = rest.partition(".csv")
    if file != rest:
        spec = parse_spec(f"file{options}", "clients")
        return _speeds(seed, None, spec.options, _devices(Path(f"{file}.csv".strip()), clients))
    spec = parse_spec(rest, "clients")
    if spec.name not in DISTRIBUTIONS:
        raise UserError(f"--clients is '{text}'; {form}")
    return _speeds(seed, DISTRIBUTIONS[spec.name], spec.options, None)


def _speeds(
    seed: int, draw: Draw | None, options: Mapping[str, Value], devices: Mapping[int, Device] | None
) -> ClientSpeeds:
    """Raises UserError for options that are none, or out of range: before the first round, and not in it."""
    for key, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(f"--clients: {key} must be a number, not '{value}'")
    own = {key: float(value) for key, value in options.items() if key not in ("step", "mbit")}
    speeds = ClientSpeeds(seed, draw or none, own, float(options.get("step", STEP)), float(options.get("mbit", 0.0)))
    if speeds.step <= 0 or speeds.mbit < 0:
        raise UserError("--clients: step, the seconds of a step, must be above 0, and mbit not below 0")
    try:
        speeds.device(0)
    except TypeError:
        raise UserError(f"--clients: {', '.join(own)}: slow={draw.__name__} takes no such option") from None
    except ValueError as error:
        raise UserError(f"--clients: {error}") from None
    if devices is None:
        return speeds
    own_links = {cid: device if device.mbit else Device(device.factor, speeds.mbit) for cid, device in devices.items()}
    return dataclasses.replace(speeds, devices=own_links)


def _devices(path: Path, clients: int) -> Mapping[int, Device]:
    """A file with the columns cid and slow, and mbit if wanted. Raises UserError unless it says it of all clients."""
    found: dict[int, Device] = {}
    try:
        with path.expanduser().open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if missing := {"cid", "slow"} - {*(reader.fieldnames or ())}:
                raise UserError(f"--clients: {path} lacks the column {', '.join(sorted(missing))}")
            for row in reader:
                device = Device(float(row["slow"]), float(row.get("mbit") or 0.0))
                if not (0 < device.factor < math.inf and 0 <= device.mbit < math.inf):
                    raise ValueError("slow must be above 0, mbit not below 0")
                if (cid := int(row["cid"])) in found:
                    raise ValueError(f"client {cid} stands there twice")
                found[cid] = device
    except OSError as error:
        raise UserError(f"--clients: cannot read {path.absolute()}: {error.strerror or error}") from None
    except (ValueError, TypeError, csv.Error) as error:
        raise UserError(f"--clients: {path}, line {reader.line_num}: {error}") from None
    if absent := [cid for cid in range(clients) if cid not in found]:
        raise UserError(f"--clients: {path} says nothing of client {absent[0]}; there are {clients} (--num-partitions)")
    return found
