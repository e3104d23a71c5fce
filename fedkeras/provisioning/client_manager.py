"""The nodes of a server-led run: who has joined is given what it needs before it takes part.

Before the first round all are waited for, since all must agree on how the data are scaled and numbered. Later nobody
is: a client that failed a round, or has come back, is offered what it lacks, and its answers are taken when they come.
It may be busy with an earlier round for minutes, and the others go on meanwhile.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping

from flwr.serverapp import Grid

from fedkeras.callbacks import Callback
from fedkeras.config import Config
from fedkeras.errors import RunFailed, UserError
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.dispatcher import Script, ScriptedTalks, talk
from fedkeras.federation.round_result import RoundResult
from fedkeras.provisioning import preprocessing, server
from fedkeras.provisioning.preprocessing import Preprocessing
from fedkeras.provisioning.server import Provision
from fedkeras.reports import RunFolder
from fedkeras.reports.progress_table import ProgressTable

log = logging.getLogger("fedkeras")

AGAIN_SECONDS = 60.0
"""How long all may be silent where certain clients are waited for again."""

PROMPT_SECONDS = 0.5
"""How long all may be silent before the rounds go on without those that are asked again: who is idle is faster."""

RETURN_SECONDS = 10.0
"""How long a client that left while it was given something has to come back, after its --reconnect-grace."""

LOOK_SECONDS = 0.1


class ProvisionedClientManager:
    """In the place of `ClientManager`: `wait` returns clients that have model, data and settlement.

    A client that failed a round may be another process by now, and is asked again what it lacks. Raises UserError under
    Flower's own runtimes, whose nodes keep nothing between two messages.
    """

    def __init__(
        self, grid: Grid, config: Config, given: Provision, folder: RunFolder, tell: Mapping | None,
        progress: ProgressTable,
        watch: Callback | None = None,
    ) -> None:  # fmt: skip
        if not grid.keeps_processes:
            raise UserError("--data-source needs our own runtime: `python server.py` and `python client.py`")
        self._grid, self._config, self._given, self._tell = grid, config, given, tell or {}
        self._folder, self.progress = folder, progress
        self._nodes = ClientManager(grid, config, watch)
        self._again = ScriptedTalks(
            grid, math.inf
        )  # who is busy answers when it can; who is gone is answered for by the grid
        self._ready: set[int] = set()
        self._unable: dict[int, str] = {}
        self._first = True
        self.rows: dict[int, int] = {}
        """Examples of each client that are trained on."""
        self.settlement: Preprocessing | None = preprocessing.load(folder.path) if config.resume else None

    def wait(self, wanted: Iterable[int] = ()) -> dict[int, int]:
        """{cid: node id} of clients that can begin, ascending in cid. Raises RunFailed.

        After the first time, who is connected and busy is not waited for, unless fewer than a round needs are left, or
        it is among `wanted`.
        """
        if not self._first:
            return self._wait_again(set(wanted))
        self.progress.expect(range(self._config.num_partitions))
        with self.progress:
            return self._wait_first()

    def _wait_first(self) -> dict[int, int]:
        failures: dict[int, str] = {}
        nodes = self._nodes.wait()
        for _ in range(1 + self._config.max_retries):
            if missing := {cid: node for cid, node in nodes.items() if cid not in self._ready}:
                failures = self._give(missing)
            if not failures:
                break
            nodes = self._wait_for(failures)
        self._say_unable(failures)
        self._first = False
        return self._able(nodes, max(1, self._config.min_available_nodes))

    def _wait_again(self, wanted: set[int]) -> dict[int, int]:
        """Who is ready; `--min-available-nodes` is about who is connected, and `ClientManager` has seen to it."""
        config, failures = self._config, {}

        def enough() -> bool:
            ready = nodes.keys() & self._ready
            return len(ready) >= max(1, config.min_results) and not (wanted & nodes.keys()) - ready

        for _ in range(1 + config.max_retries):
            nodes = self._wait_for(failures)
            failures = self._hear(0.0)
            new = {cid: nodes[cid] for cid in nodes.keys() - self._ready - self._again.with_whom()}
            for cid in sorted(new):
                self._again.begin(cid, new[cid], self._offer(cid))
            with self.progress if new or not enough() else contextlib.nullcontext():
                failures |= self._hear(PROMPT_SECONDS if new else 0.0)
                failures |= self._hear(AGAIN_SECONDS if wanted else config.node_timeout, enough)
            failures = {cid: reason for cid, reason in failures.items() if cid not in self._ready}
            self._say_unable(failures)
            if enough() or not failures:
                break
        return self._able(nodes, 1)

    def _offer(self, cid: int) -> Script[None]:
        """Give a client what it lacks, now that all have agreed."""
        described = yield from server.hand_out(cid, self._given, self.settlement.digest, self._tell, self.progress.say)
        if described is not None:
            yield from server.settle(self.settlement, self._tell)
            self.rows[cid] = described.rows

    def _hear(self, patience: float, enough: Callable[[], bool] = lambda: False) -> dict[int, str]:
        """Take what clients answer that were asked again, until all are silent for so long; why some have failed."""
        failures: dict[int, str] = {}
        heard = True
        while heard and not enough():
            heard = bool(self._again.with_whom()) and self._again.listen(patience)
            patience = max(patience, PROMPT_SECONDS)  # who has begun to answer is not busy
            told, failed = self._again.ended()
            self._ready |= set(told)
            failures |= failed
            for cid in told:
                self._unable.pop(cid, None)
                self.progress.say(cid, "ready")
            for cid in failed:
                self.progress.say(cid, "failed")
        return failures

    def _able(self, nodes: Mapping[int, int], needed: int) -> dict[int, int]:
        """Those of `nodes` that are ready. Raises RunFailed if they are too few, with what is known of the others."""
        ready = {cid: node for cid, node in nodes.items() if cid in self._ready}
        if len(ready) < needed:
            silent = f"does not answer within {self._config.node_timeout:g} s (--node-timeout)"
            reasons = {cid: self._unable.get(cid, silent) for cid in nodes if cid not in ready}
            said = "; ".join(f"client {cid}: {reason}" for cid, reason in list(reasons.items())[:3])
            raise RunFailed(f"{len(ready)} clients can begin; {said}")
        return ready

    def _say_unable(self, failures: Mapping[int, str]) -> None:
        for cid, reason in failures.items():
            left_out = f"; its {len(part)} examples are left out" if (part := self._given.parts.get(cid)) else ""
            if self._unable.get(cid) != reason:
                log.warning("client %d does not take part: %s%s", cid, reason, left_out)
            self._unable[cid] = reason

    def _wait_for(self, cids: Iterable[int]) -> dict[int, int]:
        """Give clients that have left a while to come back: here they need not have failed a whole round."""
        deadline = time.monotonic() + RETURN_SECONDS
        while not set(cids) <= set(nodes := self._nodes.wait()) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        return nodes

    def round_finished(self, outcome: RoundResult) -> None:
        """A callback: who failed is asked again what it lacks."""
        self.ask_again(outcome.failures)

    def ask_again(self, cids: Iterable[int]) -> None:
        """Ask these clients again what they lack, before they count as being there."""
        self._ready -= set(cids)

    def _give(self, cohort: dict[int, int]) -> dict[int, str]:
        config, settled = self._config, self.settlement.digest if self.settlement else ""
        timeout = config.round_timeout

        def script(cid: int) -> Script:
            return server.hand_out(cid, self._given, settled, self._tell, self.progress.say)

        with self.progress:
            described, failures = talk(self._grid, cohort, script, timeout)
            new = {cid: one for cid, one in described.items() if one is not None}
            if new and self.settlement is None:
                self.settlement = preprocessing.agree(config, new, self._given.model.outputs)
                preprocessing.check_test(self._given.test or {}, self.settlement)
                preprocessing.save(self.settlement, self._folder.path)
            self.rows.update({cid: one.rows for cid, one in new.items()})
            told, untold = talk(
                self._grid,
                {cid: cohort[cid] for cid in new},
                lambda cid: server.settle(self.settlement, self._tell),
                timeout,
            )
            self._ready |= set(told) | (set(described) - set(new))
            for cid in cohort:
                failed = cid in failures or cid in untold
                self.progress.say(cid, "failed" if failed else "ready")
        return failures | untold
