"""The nodes of a server-led run: who has joined is given what it needs before it counts as being there."""

import logging
import time
from collections.abc import Iterable, Mapping

from flwr.serverapp import Grid

from fedkeras.config import Config
from fedkeras.errors import RunFailed, UserError
from fedkeras.handout import agreeing, lead, settlement
from fedkeras.handout.lead import Given
from fedkeras.handout.progress import Progress
from fedkeras.handout.settlement import Settlement
from fedkeras.reports import RunFolder
from strategies.answers import Outcome
from strategies.dialogue import talk
from strategies.nodes import Nodes
from strategies.watching import UNWATCHED, Watch

log = logging.getLogger("fedkeras")

AGAIN_SECONDS = 60.0
"""How long a client that failed in a round may take to say what it lacks; it may still be busy with that round."""

RETURN_SECONDS = 10.0
"""How long a client that left while it was given something has to come back, after its --reconnect-grace."""

LOOK_SECONDS = 0.1


class LedNodes:
    """In the place of `Nodes`: `wait` returns clients that have model, data and settlement.

    A client that failed a round may be another process by now, and is asked again what it lacks. Raises UserError under
    Flower's own runtimes, whose nodes keep nothing between two messages.
    """

    def __init__(
        self, grid: Grid, config: Config, given: Given, folder: RunFolder, tell: Mapping | None, progress: Progress,
        watch: Watch = UNWATCHED,
    ) -> None:  # fmt: skip
        if not hasattr(grid, "cids"):
            raise UserError("--data-source needs our own runtime: `python server.py` and `python client.py`")
        self._grid, self._config, self._given, self._tell = grid, config, given, tell or {}
        self._folder, self.progress = folder, progress
        self._nodes = Nodes(grid, config, watch)
        self._ready: set[int] = set()
        self._first = True
        self.rows: dict[int, int] = {}
        """Examples of each client that are trained on."""
        self.settlement: Settlement | None = settlement.load(folder.path) if config.resume else None

    def wait(self) -> dict[int, int]:
        """{cid: node id} of clients that can begin, ascending in cid. Raises RunFailed."""
        if not self._first:
            return self._wait()
        self.progress.expect(range(self._config.num_partitions))
        with self.progress:
            return self._wait()

    def _wait(self) -> dict[int, int]:
        failures: dict[int, str] = {}
        nodes = self._nodes.wait()
        for _ in range(1 + (self._config.max_retries if self._first else 0)):
            if missing := {cid: node for cid, node in nodes.items() if cid not in self._ready}:
                failures = self._give(missing)
            if not failures:
                break
            nodes = self._wait_for(failures)
        for cid, reason in failures.items():
            left_out = f"; its {len(part)} examples are left out" if (part := self._given.parts.get(cid)) else ""
            log.warning("client %d does not take part: %s%s", cid, reason, left_out)
        self._first = False
        ready = {cid: node for cid, node in nodes.items() if cid in self._ready}
        if len(ready) < max(1, self._config.min_available_nodes):
            said = "; ".join(f"client {cid}: {reason}" for cid, reason in list(failures.items())[:3])
            raise RunFailed(f"{len(ready)} clients can begin; {said}")
        return ready

    def _wait_for(self, cids: Iterable[int]) -> dict[int, int]:
        """Give clients that have left a while to come back: here they need not have failed a whole round."""
        deadline = time.monotonic() + RETURN_SECONDS
        while not set(cids) <= set(nodes := self._nodes.wait()) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        return nodes

    def round_finished(self, outcome: Outcome) -> None:
        """A callback: who failed is asked again what it lacks."""
        self.ask_again(outcome.failures)

    def ask_again(self, cids: Iterable[int]) -> None:
        """Ask these clients again what they lack, before they count as being there."""
        self._ready -= set(cids)

    def _give(self, cohort: dict[int, int]) -> dict[int, str]:
        config, settled = self._config, self.settlement.digest if self.settlement else ""
        timeout = config.round_timeout if self._first else min(config.round_timeout, AGAIN_SECONDS)

        def script(cid: int) -> lead.Script:
            return lead.hand_out(cid, self._given, settled, self._tell, self.progress.say)

        with self.progress:
            described, failures = talk(self._grid, cohort, script, timeout)
            new = {cid: one for cid, one in described.items() if one is not None}
            if new and self.settlement is None:
                self.settlement = agreeing.agree(config, new, self._given.model)
                agreeing.check_test(self._given.test or {}, self.settlement)
                settlement.save(self.settlement, self._folder.path)
            self.rows.update({cid: one.rows for cid, one in new.items()})
            told, untold = talk(
                self._grid,
                {cid: cohort[cid] for cid in new},
                lambda cid: lead.settle(self.settlement, self._tell),
                timeout,
            )
            self._ready |= set(told) | (set(described) - set(new))
            for cid in cohort:
                failed = cid in failures or cid in untold
                self.progress.say(cid, "failed" if failed else "ready")
        return failures | untold
