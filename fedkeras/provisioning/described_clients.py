"""The clients of a run whose data set's scaling, or classes' weights, must be learned from what all of them hold.

Before the first round each connected client is asked to describe its own training examples, never one of them, and the
server merges the descriptions in the order of cid. What comes of it goes into the configuration of every later message:
so a client that joins late, has been started anew, or (under Flower's runtimes) is a new process for each message has
it too, and nothing need be kept for it. A run that is resumed, or tested again, keeps what it began with.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from fedkeras import data
from fedkeras.callbacks import Callback
from fedkeras.config import Config
from fedkeras.data import scaling
from fedkeras.data.labels import balanced_weights
from fedkeras.data.normalise import Normaliser, fit
from fedkeras.errors import RunFailed
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.client_weights import ClientWeights
from fedkeras.federation.dispatcher import Script, talk
from fedkeras.federation.grids import FederationGrid
from fedkeras.federation.requests import ClientContext, ClientRequest
from fedkeras.provisioning.agreement import DataDescription, agree, description_in
from fedkeras.provisioning.description_check import Measure, sift
from fedkeras.provisioning.preprocessing import Preprocessing
from fedkeras.provisioning.protocol import DESCRIPTION_BYTES, ask
from fedkeras.reports import Choices, RunFolder

log = logging.getLogger("fedkeras")

PREPROCESSING = "preprocessing"
"""Key of a message's configuration."""

SetNormaliser = Callable[[Normaliser], None]
"""Told by what the server is to scale its own test set."""


class DescribedClientManager(ClientManager):
    """A `ClientManager` whose first `wait` asks the clients, if there is something to ask them.

    What they agree on is saved in `folder` (None: nowhere) and noted in `choices`; `knows_source` says that the server
    can open the data set, and so see whether anything must be asked.
    """

    def __init__(
        self, grid: FederationGrid, config: Config, folder: RunFolder | None, callbacks: Callback | None = None,
        *, choices: Choices, knows_source: bool = False, set_normaliser: SetNormaliser = lambda normaliser: None,
        client_weights: ClientWeights | None = None,
    ) -> None:  # fmt: skip
        super().__init__(grid, config, callbacks)
        self._client_weights = client_weights or ClientWeights(config)
        self._folder, self._choices, self._knows_source = folder, choices, knows_source
        self._refused: dict[int, str] = {}
        self._set_normaliser = set_normaliser
        self._done = not must_ask(config, knows_source)
        earlier = Path(config.evaluate) if config.evaluate else folder.path if folder and config.resume else None
        before = Preprocessing.load(earlier) if earlier is not None else None
        if before is not None and not self._done:
            self._use(before)

    def wait(self, wanted: Collection[int] = ()) -> dict[int, int]:
        """As `ClientManager.wait`, with the clients asked. Raises RunFailed."""
        nodes = super().wait(wanted)
        if not self._done and self._knows_source:
            self._decide(*of_own_copy(self._config))
        elif not self._done:
            self._ask_all(nodes)
        nodes = {cid: node for cid, node in nodes.items() if cid not in self._refused}
        if not nodes:
            cid, reason = next(iter(self._refused.items()))
            raise RunFailed(f"nobody is left to train with; client {cid}: {reason}")
        if self._config.client_weights == "known":
            self._register({cid: node for cid, node in nodes.items() if not self._client_weights.knows(cid)})
        return nodes

    def _register(self, nodes: Mapping[int, int]) -> None:
        """Ask clients of whose examples nothing is known how many they have, before they are used."""
        if not nodes:
            return
        found, failures = talk(self._grid, nodes, lambda cid: _describe(), self._config.round_timeout)
        for cid, one in found.items():
            self._client_weights.register(cid, one.examples)
        for cid, reason in failures.items():
            log.warning("client %d does not say how many examples it has: %s", cid, reason)

    def _ask_all(self, nodes: Mapping[int, int]) -> None:
        found, failures = talk(self._grid, nodes, lambda cid: _describe(), self._config.round_timeout)
        if not found:
            cid, reason = next(iter(failures.items()))
            raise RunFailed(f"no client can describe its data; client {cid}: {reason}")
        good, self._refused = sift(found, Measure(classes=False))
        for cid, one in good.items():
            self._client_weights.register(cid, one.examples)
        for cid, reason in sorted(failures.items()):
            log.warning("client %d has no part in the scaling, nor in the classes' weights: %s", cid, reason)
        for cid, reason in sorted(self._refused.items()):
            log.warning("client %d does not take part, for what it says of its data: %s", cid, reason)
            self._callback.on_client_failure(cid, reason)
        self._decide(agree(self._config, good, None, counted_rows(self._client_weights, good)), good)

    def _decide(self, agreed: Preprocessing, descriptions: Mapping[int, DataDescription]) -> None:
        if self._folder is not None:
            agreed.save(self._folder.path)
        note_choices(self._choices, self._config, agreed, descriptions)
        self._use(agreed)

    def _use(self, preprocessing: Preprocessing) -> None:
        self._done = True
        self._grid.stamp({PREPROCESSING: preprocessing.to_json()})
        if preprocessing.normaliser.name != "none":
            self._set_normaliser(preprocessing.normaliser)


def must_ask(config: Config, knows_source: bool) -> bool:
    """Whether clients must describe their data, or may have to: what cannot be seen here is asked."""
    if config.class_weight != "none":
        return True
    decided = scaling.format_decides(config)
    if decided is None and knows_source:
        decided = scaling.fixed_normaliser(data.open_source(config), config) is not None
    return not decided


def of_own_copy(config: Config) -> tuple[Preprocessing, dict[int, DataDescription]]:
    """What all share, and the descriptions that it is made of, by this process's own copy of the data set."""
    cids, source = range(config.num_partitions), data.open_source(config)
    fitted = scaling.fixed_normaliser(source, config) is None
    weights = None
    if config.class_weight == "balanced":
        weights = balanced_weights(data.label_counts(config, cids).tolist())
    normaliser = data.pooled_normaliser(config) if fitted else fit("none", None)
    about = {}
    for cid in cids:
        statistics = [data.client_statistics(config, cid)] if fitted else []
        about[cid] = DataDescription(len(data.own_rows(config, cid)[0]), statistics, None)
    return Preprocessing(normaliser, None, class_weights=weights), about


def counted_rows(client_weights: ClientWeights, descriptions: Mapping[int, DataDescription]) -> dict[int, int]:
    """What counts of the rows that clients say they have, by cid; a claim that is cut down is said."""
    weighting = client_weights.cap({cid: one.rows for cid, one in descriptions.items()})
    for cid, rows in weighting.claims.items():
        log.warning(
            "client %d says it has %d rows, and counts for %d in what all share, since the median client has %d "
            "(--max-client-weight)",
            *(cid, rows, weighting.counts[cid], weighting.median),
        )
    return dict(weighting.counts)


def note_choices(
    choices: Choices, config: Config, agreed: Preprocessing, descriptions: Mapping[int, DataDescription]
) -> None:
    """Say once what was learned from the clients' rows, and from how many."""
    if agreed.normaliser.name != "none":
        told = [one.rows for one in descriptions.values() if one.statistics]
        untold = len(descriptions) - len(told)
        few = f"; {untold} had too few rows for statistics that do not give them away" if untold else ""
        text = f"{agreed.normaliser.name} by statistics of {sum(told)} training rows of {len(told)} clients{few}"
        choices.note("scaled", text)
    if agreed.class_weights is not None:
        names = agreed.labels.names if agreed.labels else range(len(agreed.class_weights))
        pairs = [f"{name}: {weight:.4g}" for name, weight in zip(names, agreed.class_weights, strict=True)]
        nobody = [str(name) for name, weight in zip(names, agreed.class_weights, strict=True) if not weight]
        said = f" (no client has an example of {_listed(nobody)}: weight 0)" if nobody else ""
        rows = sum(one.rows for one in descriptions.values())
        choices.note("class weights", f"{_listed(pairs)}, by {rows} training rows of {len(descriptions)} clients{said}")


def shared(client: ClientContext) -> Preprocessing | None:
    """What the server's message says that all clients share; None where it says nothing."""
    return shared_in(client.sent) if isinstance(client, ClientRequest) else None


def shared_in(values: Mapping[str, object]) -> Preprocessing | None:
    """The same, of a message's small values."""
    text = values.get(PREPROCESSING)
    return None if text is None else Preprocessing.from_json(str(text))


def _describe() -> Script[DataDescription]:
    answer = yield ask("describe", reply_limit=DESCRIPTION_BYTES)
    return description_in(answer)


def _listed(words: Collection[str]) -> str:
    shown = list(words)[:12]
    return ", ".join(shown) + (", ..." if len(words) > len(shown) else "")
