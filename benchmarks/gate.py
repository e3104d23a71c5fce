"""Lets a benchmark hold several runs at the start of a round and let one of them go on for some rounds, in turn.

So the variants are timed within the same minutes on a machine whose speed drifts. A gate is a folder of small files.
"""

import time
from collections.abc import Iterable
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid

from fedkeras.strategies.fedavg import FedAvg

LOOK_SECONDS = 0.002


class Gate:
    """The run's side: `wait(round)` at the beginning of each round, and of the one that would follow the last."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._log = (self._folder / "passed").open("a")

    def wait(self, server_round: int) -> None:
        """Note that the last round has ended, wait until this one may begin, note that it has."""
        self._write("arrived", server_round)
        allowed = self._folder / "allowed"
        while int(allowed.read_text() or 0) < server_round:
            time.sleep(LOOK_SECONDS)
        self._write("released", server_round)

    def _write(self, what: str, server_round: int) -> None:
        self._log.write(f"{what} {server_round} {time.monotonic()}\n")
        self._log.flush()


class GateKeeper:
    """The benchmark's side."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder, self._allowed = folder, 0
        self._put()

    def _put(self) -> None:
        fresh = self._folder / "allowed.new"
        fresh.write_text(str(self._allowed))
        fresh.replace(self._folder / "allowed")

    def open(self, rounds: int) -> None:
        """Allow so many more rounds."""
        self._allowed += rounds
        self._put()

    def has_arrived(self) -> bool:
        """True when the allowed rounds are over and the run stands at the gate."""
        return self._allowed + 1 in self._times().get("arrived", {})

    def seconds(self, first: int) -> list[float]:
        """Seconds of each finished round from `first` on."""
        times = self._times()
        arrived, released = times.get("arrived", {}), times.get("released", {})
        return [arrived[r + 1] - released[r] for r in sorted(released) if r >= first and r + 1 in arrived]

    def _times(self) -> dict[str, dict[int, float]]:
        times: dict[str, dict[int, float]] = {}
        path = self._folder / "passed"
        for line in path.read_text().splitlines() if path.exists() else []:
            words = line.split()
            if len(words) == 3:
                times.setdefault(words[0], {})[int(words[1])] = float(words[2])
        return times


class Gated(FedAvg):
    """FedAvg that waits at a gate: `--strategy benchmarks.gate:Gated --strategy-args gate=FOLDER`."""

    def __init__(self, gate: str) -> None:
        self._gate = Gate(gate)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """FedAvg's messages, when the gate opens."""
        self._gate.wait(server_round)
        return super().configure_train(server_round, arrays, config, grid)
