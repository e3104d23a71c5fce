"""Of whom the sums of a round were opened, on the server's disk before they are: a line of JSON each.

In a round that is done again clients send what they have sent before, so a second sum tells the difference between the
two. What the round's next attempt must know, the process that goes on after `kill -9` must know too.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from fedkeras.errors import UserError

NAME = "secure_sums_opened.jsonl"


class Openings:
    """The sums of the rounds after `done`, those of a process before this one among them; `path` None: in memory."""

    def __init__(self, path: Path | None = None, done: int = 0) -> None:
        """Raises UserError for a damaged file. A torn last line was of a sum that was not opened."""
        self._path = path
        self._of_round: dict[int, list[frozenset[int]]] = {}
        lines = [] if path is None or not path.is_file() else path.read_text().split("\n")[:-1]
        for line in lines:
            try:
                entry = json.loads(line)
                server_round, clients = int(entry["round"]), frozenset(map(int, entry["clients"]))
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path} cannot be read: {error}") from error
            if server_round > done:
                self._of_round.setdefault(server_round, []).append(clients)

    def of(self, server_round: int) -> Sequence[frozenset[int]]:
        """Of whom each sum of this round was that has been opened by now."""
        return tuple(self._of_round.get(server_round, ()))

    @property
    def rounds(self) -> list[int]:
        """The rounds of which a sum was opened, ascending."""
        return sorted(self._of_round)

    def note(self, server_round: int, clients: frozenset[int]) -> None:
        """A sum is about to be opened. Raises UserError if the disk does not take it: it must not be, then."""
        if self._path is not None:
            try:
                with self._path.open("a") as file:
                    file.write(json.dumps({"round": server_round, "clients": sorted(clients)}) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise UserError(f"{self._path} cannot be written: {error.strerror or error}") from error
        self._of_round.setdefault(server_round, []).append(clients)
