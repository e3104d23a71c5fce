"""Who takes part in a round, and the Grid that shows a strategy only those."""

from collections.abc import Iterable, Sequence

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedkeras.flower.internals import Run
from fedkeras.randomness import generator


def sample(
    available: Iterable[int], num_partitions: int, fraction: float, seed: int, server_round: int, purpose: str
) -> list[int]:
    """Client ids of the cohort, ascending: a function of (seed, round, purpose), not of who connected first.

    All `num_partitions` clients are put in a random order, and the first max(1, round(fraction * num_partitions)) that
    are available are taken; so one client's absence brings in the next and leaves the rest of the cohort as it was.
    """
    order = sampling_order(available, num_partitions, seed, server_round, purpose)
    return sorted(order[: cohort_size(num_partitions, fraction)])


def cohort_size(num_partitions: int, fraction: float) -> int:
    """How many clients a round asks: the rounded share of all, and at least one."""
    return max(1, round(fraction * num_partitions))


def sampling_order(
    available: Iterable[int], num_partitions: int, seed: int, server_round: int, purpose: str
) -> list[int]:
    """The available clients in the random order in which they are taken: all clients' order, without the absent."""
    order = generator(seed, "cohort", purpose, server_round).permutation(num_partitions)
    present = set(available)
    return [int(cid) for cid in order if cid in present]


class CohortGrid(Grid):
    """A view of another Grid that has only the cohort's nodes, in the order given (the order of cid)."""

    def __init__(self, grid: Grid, node_ids: Sequence[int]) -> None:
        self._grid, self._node_ids = grid, list(node_ids)

    def get_node_ids(self) -> Iterable[int]:
        """The cohort."""
        return list(self._node_ids)

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
