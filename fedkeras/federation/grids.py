"""A Grid as workflows use it: Flower's interface, and beside it what a grid can do, declared and not guessed.

Ours (`runtime.own_grid.OwnGrid`) can wait for a reply, give messages up and say which node is which client. Flower's
cannot: `FlowerGrid` polls, forgets, and asks each node once. What belongs into every message of a run (the digest of
the code, under Flower's runtimes) is stamped here, so that nobody has to carry it along.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from fedkeras.config import Value
from fedkeras.errors import RunFailed, one_line
from fedkeras.federation.records import of_kind
from fedkeras.flower import ray_place
from fedkeras.flower.internals import Run, is_simulation
from fedkeras.runtime.own_grid import Ending, HoldersTable, OwnGrid

IDENTIFY = f"{MessageType.QUERY}.identify"
"""Message type that a ClientApp answers with its `partition-id`; Flower tells a server random node ids only."""

IDENTIFY_SECONDS = 120.0
"""How long Flower's nodes have to say which partition they have."""

SIMULATION_POLL_SECONDS = 0.02
"""How often Flower's own grid, which cannot wait for a reply, is asked for one in a simulation. Flower's loop asks
every 0.1 s."""

POLL_SECONDS, MOST_POLL_SECONDS, POLL_GROWTH = 0.1, 0.25, 1.5
"""The same of a SuperLink, where a question is a request and a look into its database, and SuperNodes come for their
messages every 3 s: after the first pause a longer one, and so on."""


class GridView(Grid):
    """Another grid, passed on; a subclass changes what it wants to."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are connected."""
        return self._grid.get_node_ids()

    def set_run(self, run: Run) -> None:
        """Passed on."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """Passed on."""
        return self._grid.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A new message; Flower prefers its constructor."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Passed on."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Passed on."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Passed on."""
        return self._grid.send_and_receive(messages, timeout=timeout)


class CohortGrid(GridView):
    """A grid that has only the cohort's nodes, in the order given (the order of cid): what a strategy is shown."""

    def __init__(self, grid: Grid, node_ids: Iterable[int]) -> None:
        super().__init__(grid)
        self._node_ids = list(node_ids)

    def get_node_ids(self) -> Iterable[int]:
        """The cohort."""
        return list(self._node_ids)


class FederationGrid(GridView):
    """One of our own grids. `message_config` goes into the configuration of every message that is pushed."""

    keeps_processes = True
    """A client's process lasts from one message to the next, so that it can keep things."""

    def __init__(self, grid: OwnGrid, message_config: Mapping[str, Value] | None = None) -> None:
        super().__init__(grid)
        self._own, self._message_config = grid, dict(message_config or {})

    @property
    def places(self) -> Mapping[str, int]:
        """{machine of a Ray cluster: replies that were made there}; empty where that is not known."""
        return {}

    @property
    def is_simulation(self) -> bool:
        """Flower's simulation has as many nodes as it was started with: no other will come."""
        return is_simulation(self._grid)

    @property
    def patient(self) -> bool:
        """Clients run inside of it, one after the other: nobody is late, whatever the clock says."""
        return self._own.patient

    def stamp(self, values: Mapping[str, Value]) -> None:
        """From now on these go into the configuration of every message as well."""
        self._message_config |= values

    def cids(self, patience: float = IDENTIFY_SECONDS) -> dict[int, int]:
        """Connected nodes as {node id: cid}. Raises RunFailed where the run cannot go on.

        `patience` are the seconds that nodes have which must be asked first.
        """
        return self._own.cids()

    def holders(self) -> HoldersTable:
        """Who holds which client id, for a checkpoint."""
        return self._own.holders()

    def set_endings(self, endings: Mapping[int, Ending]) -> None:
        """The run has ended well; by cid, how for the clients that had no part in it."""
        self._own.set_endings(endings)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages, each with the run's message_config in it."""
        messages = list(messages)
        return self.push_within(messages, [None] * len(messages))

    def push_within(self, messages: Sequence[Message], reply_limits: Sequence[int | None]) -> Iterable[str]:
        """The same; the reply to each may have so many bytes of arrays (None: any number)."""
        if self._message_config:
            for content in {id(message.content): message.content for message in messages}.values():
                _config_of(content).update(self._message_config)
        return self._push(messages, reply_limits)

    def wait_for_replies(self, message_ids: Iterable[str], timeout: float) -> list[Message]:
        """The replies to these messages that are there: at least one, or none after `timeout` seconds."""
        return self._own.wait_for_replies(message_ids, timeout)

    def abandon(self, message_ids: Iterable[str]) -> None:
        """Wait for these no longer."""
        self._own.abandon(message_ids)

    def _push(self, messages: Sequence[Message], reply_limits: Sequence[int | None]) -> Iterable[str]:
        return self._own.push_within(messages, reply_limits)


class FlowerGrid(FederationGrid):
    """Any other grid: Flower's, in a simulation or on a SuperLink."""

    keeps_processes = False

    def __init__(self, grid: Grid, message_config: Mapping[str, Value] | None = None) -> None:
        GridView.__init__(self, grid)
        self._message_config = dict(message_config or {})
        self._known: dict[int, int] = {}
        self._places: Counter[str] = Counter()

    @property
    def places(self) -> Mapping[str, int]:
        """As the replies that were waited for have said."""
        return dict(sorted(self._places.items()))

    @property
    def patient(self) -> bool:
        """Flower's clients run elsewhere."""
        return False

    def cids(self, patience: float = IDENTIFY_SECONDS) -> dict[int, int]:
        """Each node is asked once, by a query that client.py answers. Raises RunFailed for a node that does not say."""
        connected = list(self._grid.get_node_ids())
        new = [node_id for node_id in connected if node_id not in self._known]
        messages = [Message(RecordDict({"config": ConfigRecord()}), node_id, IDENTIFY) for node_id in new]
        waiting = {message_id for message_id in self.push_messages(messages) if message_id}
        deadline = time.monotonic() + min(patience, IDENTIFY_SECONDS)
        while waiting and (left := deadline - time.monotonic()) > 0:
            for reply in self.wait_for_replies(waiting, left):
                waiting.discard(reply.metadata.reply_to_message_id)
                if reply.has_error():
                    raise RunFailed(f"a node does not say which partition it has: {one_line(reply.error.reason)}")
                table = next(iter(of_kind(reply.content, ConfigRecord).values()), ConfigRecord())
                if type(cid := table.get("partition-id")) is not int:
                    raise RunFailed(f"a node does not say which partition it has, but {cid!r}")
                self._known[reply.metadata.src_node_id] = cid
        return {node_id: self._known[node_id] for node_id in connected if node_id in self._known}

    def wait_for_replies(self, message_ids: Iterable[str], timeout: float) -> list[Message]:
        """Ask again and again until something is there."""
        wanted, deadline = list(message_ids), time.monotonic() + timeout
        pause, most = (SIMULATION_POLL_SECONDS,) * 2 if self.is_simulation else (POLL_SECONDS, MOST_POLL_SECONDS)
        while not (replies := list(self._grid.pull_messages(wanted))) and time.monotonic() < deadline:
            time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(POLL_GROWTH * pause, most)
        self._places.update(place for reply in replies if (place := ray_place.taken(reply)))
        return replies

    def abandon(self, message_ids: Iterable[str]) -> None:
        """Flower's grids know no such thing: a late reply stays where it is."""

    def holders(self) -> HoldersTable:
        """Flower's nodes are what Flower says."""
        return {}

    def set_endings(self, endings: Mapping[int, Ending]) -> None:
        """Flower's nodes are told nothing at the end."""

    def _push(self, messages: Sequence[Message], reply_limits: Sequence[int | None]) -> Iterable[str]:
        return self._grid.push_messages(messages)  # Flower's grids have a limit of their own, and one for all


def federation_grid(grid: Grid, message_config: Mapping[str, Value] | None = None) -> FederationGrid:
    """Any grid as workflows use it."""
    if isinstance(grid, FederationGrid):
        return grid
    kind = FederationGrid if isinstance(grid, OwnGrid) else FlowerGrid
    return kind(grid, message_config)


def _config_of(content: RecordDict) -> ConfigRecord:
    """The message's configuration, made where there is none."""
    found = of_kind(content, ConfigRecord)
    if not found:
        content["config"] = found["config"] = ConfigRecord()
    return found["config"] if "config" in found else next(iter(found.values()))
