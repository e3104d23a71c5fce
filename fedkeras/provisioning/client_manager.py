"""The clients of a server-led run: who has joined is given what it needs before it takes part.

Before the first round all are waited for, since all share how the data are scaled and numbered. Later nobody is: a
client that failed a round, or has come back, is offered what it lacks, and its answers are taken when they come. It may
be busy with an earlier round for minutes, and the others go on meanwhile.
"""

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from flwr.serverapp import Grid

from fedkeras.callbacks import Callback, FinishedRound
from fedkeras.config import Config
from fedkeras.data.labels import shown
from fedkeras.errors import RunFailed, UserError
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.client_weights import ClientWeights
from fedkeras.federation.dispatcher import ClientRefused, Script, ScriptedTalks, talk
from fedkeras.federation.grids import federation_grid
from fedkeras.provisioning.agreement import DataDescription, agree
from fedkeras.provisioning.column_order import agree_on_columns, in_order
from fedkeras.provisioning.described_clients import SetNormaliser, counted_rows, note_choices, of_own_copy
from fedkeras.provisioning.description_check import Measure, sift
from fedkeras.provisioning.preprocessing import Preprocessing, check_test
from fedkeras.provisioning.server import (
    Provision,
    Provisioned,
    describe_shards,
    provision_client,
    send_preprocessing,
)
from fedkeras.reports import Choices, RunFolder
from fedkeras.reports.progress_table import ProgressTable

log = logging.getLogger("fedkeras")

AGAIN_SECONDS = 60.0
"""How long all may be silent where certain clients are waited for again."""

PROMPT_SECONDS = 0.5
"""How long all may be silent before the rounds go on without those that are offered it again: who is idle is faster."""

RETURN_SECONDS = 10.0
"""How long a client that left while it was provisioned has to come back, after its --reconnect-grace."""

LOOK_SECONDS = 0.1


class ProvisionedClientManager:
    """In the place of `ClientManager`: `wait` returns clients that have the model, data and preprocessing.

    What they lack of `provision` they are sent meanwhile, which `progress` shows; the preprocessing is saved in
    `folder`, and what it was learned from is noted in `choices`; `agreed` is called with it first. Raises UserError
    under Flower's own runtimes, whose nodes keep nothing between two messages.
    """

    def __init__(
        self, grid: Grid, config: Config, provision: Provision, folder: RunFolder, progress: ProgressTable,
        callbacks: Callback | None = None, agreed: Callable[[Preprocessing], None] = lambda preprocessing: None,
        choices: Choices | None = None,
        set_normaliser: SetNormaliser = lambda normaliser: None, client_weights: ClientWeights | None = None,
        knows_source: bool = False,
    ) -> None:  # fmt: skip
        grid = federation_grid(grid)
        if not grid.keeps_processes:
            raise UserError("--data-source needs our own runtime: `python server.py` and `python client.py`")
        self._grid, self._config, self._provision = grid, config, provision
        self._folder, self.progress = folder, progress
        self._connected = ClientManager(grid, config, callbacks)
        self._callbacks, self._choices = callbacks or Callback(), choices or Choices()
        self._agreed, self._client_weights = agreed, client_weights or ClientWeights(config)
        self._offers = ScriptedTalks(grid, math.inf)  # who is busy answers later; the grid answers for who is gone
        self._ready: set[int] = set()
        self._failures: dict[int, str] = {}
        self._described: dict[int, DataDescription] = {}
        # With k-fold a client describes each fold's part, which is drawn where the model is trained.
        self._asks_nobody = bool(provision.shards) or (knows_source and config.method == "fit")
        self._first = True
        self._choices, self._set_normaliser = choices or Choices(), set_normaliser
        self.preprocessing: Preprocessing | None = None
        if config.resume and (before := Preprocessing.load(folder.path)) is not None:
            self._use(before)

    def wait(self, wanted: Collection[int] = ()) -> dict[int, int]:
        """{cid: node id} of clients that can begin, ascending in cid. Raises RunFailed.

        After the first time, who is connected and busy is not waited for, unless fewer than a round needs are left, or
        it is among `wanted`.
        """
        if not self._first:
            return self._wait_again(set(wanted))
        self.progress.expect(range(self._config.num_partitions))
        with self.progress:
            return self._wait_first()

    def offer_again(self, failed: Collection[int]) -> None:
        """Offer these clients again what they may lack: until they have answered, they are not ready."""
        self._ready -= set(failed)

    def _wait_first(self) -> dict[int, int]:
        failures: dict[int, str] = {}
        nodes = self._connected.wait()
        for _ in range(1 + self._config.max_retries):
            if missing := {cid: node for cid, node in nodes.items() if cid not in self._ready}:
                failures = self._provision_all(missing)
            if not failures:
                break
            nodes = self._wait_for_return(failures)
        self._note_failures(failures)
        self._first = False
        return self._ready_of(nodes, max(1, self._config.min_available_nodes))

    def _provision_all(self, cohort: Mapping[int, int]) -> dict[int, str]:
        """Send the cohort what it lacks, and wait for all of it; returns why some have failed.

        The first time, the descriptions of all data make the preprocessing: the server's own of what it hands out, else
        the clients'.
        """
        timeout = self._config.round_timeout
        if self.preprocessing is None and self._provision.shards:
            descriptions = describe_shards(self._config, self._provision)
            self._decide(self._agree(descriptions, facts=True), descriptions)
        elif self.preprocessing is None and self._asks_nobody:
            self._decide(*of_own_copy(self._config))

        def provide(cid: int) -> Script[Provisioned]:
            return provision_client(
                cid, self._provision, self.preprocessing, self.progress.say, asks=not self._asks_nobody
            )

        with self.progress:
            provisioned, failures = talk(self._grid, cohort, provide, timeout)
            new = {cid: one.description for cid, one in provisioned.items() if one.description is not None}
            if new and self.preprocessing is None:
                new, odd = sift(new, self._measure())
                self._decide(self._agree(new), new)
            else:
                odd = {cid: reason for cid, one in new.items() if (reason := self._fault(cid, one))}
            failures |= odd
            self._take(cid_and_one for cid_and_one in new.items() if cid_and_one[0] not in odd)
            lacking = [cid for cid, one in provisioned.items() if not one.ready and cid not in odd]
            sent, unsent = talk(
                self._grid,
                {cid: cohort[cid] for cid in lacking},
                lambda cid: send_preprocessing(self.preprocessing),
                timeout,
            )
            self._ready |= set(sent) | {cid for cid, one in provisioned.items() if one.ready}
            for cid in cohort:
                failed = cid in failures or cid in unsent
                self.progress.say(cid, "failed" if failed else "ready")
        return failures | unsent

    def _decide(self, agreed: Preprocessing, descriptions: Mapping[int, DataDescription]) -> None:
        """Use, keep and say what was made of these descriptions."""
        check_test(self._provision.test or {}, agreed)
        self._agreed(agreed)
        agreed.save(self._folder.path)
        note_choices(self._choices, self._config, agreed, descriptions)
        self._use(agreed)

    def _measure(self) -> Measure:
        """What clients' descriptions are held against beside each other."""
        provision, own = self._provision, self._config.data_source == "client"
        shape = () if provision.test is None else provision.test["x"].shape[1:]
        return Measure(provision.columns, shape, provision.model.outputs, classes=own)

    def _fault(self, cid: int, description: DataDescription) -> str | None:
        """What is wrong with the description of a client that comes when the others have agreed."""
        for phase, count in description.examples.items():
            if count and (fault := self._client_weights.fault(phase, cid, count)):
                return fault
        others = {other: one for other, one in self._described.items() if other != cid}
        try:
            return sift({**others, cid: description}, self._measure())[1].get(cid)
        except RunFailed as error:
            return str(error)

    def _take(self, descriptions: Iterable[tuple[int, DataDescription]]) -> None:
        """These fit: they are what others are held against, and what their clients say of their examples holds."""
        for cid, one in descriptions:
            self._described[cid] = one
            self._client_weights.register(cid, one.examples)

    def _agree(self, descriptions: Mapping[int, DataDescription], facts: bool = False) -> Preprocessing:
        """What all clients share, of their descriptions, or (`facts`) the server's own of the rows it hands out.

        Raises RunFailed where these do not fit together.
        """
        provision = self._provision
        try:
            own = self._config.data_source == "client"
            found = {cid: one.columns for cid, one in descriptions.items()} if own else {}
            columns, notes = agree_on_columns(found, provision.columns)
            ordered = {
                cid: dataclasses.replace(one, statistics=in_order(one.statistics, one.columns.x, columns.x))
                for cid, one in descriptions.items()
            }
        except UserError as error:
            raise RunFailed(f"the clients' data do not fit together: {error}") from error
        if provision.test is not None and columns.x and len(columns.x) > 1:
            if not provision.test_columns.x:
                notes["X_test's columns without names"] = "they are taken to have the order of X's"
            elif provision.test_columns.x != columns.x:
                notes["X_test's columns"] = "they are put into the order of X's, by their names"
        rows = None if facts else counted_rows(self._client_weights, descriptions)
        agreed = dataclasses.replace(agree(self._config, ordered, provision.model.outputs, rows), columns=columns)
        if agreed.labels and isinstance(agreed.labels.names[0], str):
            notes["labels"] = f"{len(agreed.labels)} classes: {shown(agreed.labels.names)}"
        for name, text in notes.items():
            self._choices.note(name, text)
        return agreed

    def _use(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing
        if preprocessing.normaliser.name != "none":
            self._set_normaliser(preprocessing.normaliser)

    def _wait_for_return(self, cids: Iterable[int]) -> dict[int, int]:
        """Give clients that have left a while to come back: here they need not have failed a whole round."""
        deadline = time.monotonic() + RETURN_SECONDS
        while not set(cids) <= set(nodes := self._connected.wait()) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        return nodes

    def _wait_again(self, wanted: set[int]) -> dict[int, int]:
        """Who is ready; `--min-available-nodes` is about who is connected, and `ClientManager` has seen to it."""
        config, failures = self._config, {}

        def enough() -> bool:
            ready = nodes.keys() & self._ready
            return len(ready) >= max(1, config.min_results) and not (wanted & nodes.keys()) - ready

        for _ in range(1 + config.max_retries):
            nodes = self._wait_for_return(failures)
            failures = self._take_answers(0.0)
            new = {cid: nodes[cid] for cid in nodes.keys() - self._ready - self._offers.with_whom()}
            for cid in sorted(new):
                self._offers.begin(cid, new[cid], self._offer(cid))
            with self.progress if new or not enough() else contextlib.nullcontext():
                failures |= self._take_answers(PROMPT_SECONDS if new else 0.0)
                failures |= self._take_answers(AGAIN_SECONDS if wanted else config.node_timeout, enough)
            failures = {cid: reason for cid, reason in failures.items() if cid not in self._ready}
            self._note_failures(failures)
            if enough() or not failures:
                break
        return self._ready_of(nodes, 1)

    def _offer(self, cid: int) -> Script[None]:
        """Send a client what it lacks, now that there is a preprocessing."""
        ready, description = yield from provision_client(
            cid, self._provision, self.preprocessing, self.progress.say, asks=not self._asks_nobody
        )
        if description is not None:
            if fault := self._fault(cid, description):
                raise ClientRefused(fault)
            self._take([(cid, description)])
        if not ready:
            yield from send_preprocessing(self.preprocessing)

    def _take_answers(self, silence: float, enough: Callable[[], bool] = lambda: False) -> dict[int, str]:
        """Take what clients answer to offers, until `enough` or a silence of so many seconds; why some have failed."""
        failures: dict[int, str] = {}
        heard = True
        while heard and not enough():
            heard = bool(self._offers.with_whom()) and self._offers.listen(silence)
            silence = max(silence, PROMPT_SECONDS)  # who has begun to answer is not busy
            done, failed = self._offers.ended()
            self._ready |= set(done)
            failures |= failed
            for cid in done:
                self._failures.pop(cid, None)
                self.progress.say(cid, "ready")
            for cid in failed:
                self.progress.say(cid, "failed")
        return failures

    def _note_failures(self, failures: Mapping[int, str]) -> None:
        """Log each reason once."""
        for cid, reason in failures.items():
            shard = self._provision.shards.get(cid)
            left_out = f"; its {len(shard)} examples are left out" if shard else ""
            if self._failures.get(cid) != reason:
                log.warning("client %d does not take part: %s%s", cid, reason, left_out)
                self._callbacks.on_client_failure(cid, reason)
            self._failures[cid] = reason

    def _ready_of(self, nodes: Mapping[int, int], needed: int) -> dict[int, int]:
        """Those of `nodes` that are ready. Raises RunFailed if they are too few, with what is known of the others."""
        ready = {cid: node for cid, node in nodes.items() if cid in self._ready}
        if len(ready) < needed:
            silent = f"does not answer within {self._config.node_timeout:g} s (--node-timeout)"
            reasons = {cid: self._failures.get(cid, silent) for cid in nodes if cid not in ready}
            shown = "; ".join(f"client {cid}: {reason}" for cid, reason in list(reasons.items())[:3])
            raise RunFailed(f"{len(ready)} clients can begin; {shown}")
        return ready


class OfferAgain(Callback):
    """After each round, who failed in it is offered again what it may lack: it may be another process by now."""

    def __init__(self, clients: ProvisionedClientManager) -> None:
        self._clients = clients

    def on_round_end(self, result: FinishedRound) -> bool:
        self._clients.offer_again(result.failures)
        return False
