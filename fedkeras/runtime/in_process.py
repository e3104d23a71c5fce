"""All clients in this process, one after the other: for tests, notebooks and debugging with breakpoints."""

from collections.abc import Collection, Iterable

from flwr.app import ConfigRecord, Message, RecordDict

from fedkeras.flower.identity import cid_of, node_id_of
from fedkeras.flower.internals import ErrorCode
from fedkeras.runtime.client_app import App, Settings, answer, new_context
from fedkeras.runtime.own_grid import OwnGrid


class InProcessGrid(OwnGrid):
    """Runs `app` for each message when its reply is waited for. Arrays are handed over, not copied: they are bytes."""

    patient = True

    def __init__(
        self,
        app: App,
        num_partitions: int,
        run_config: Settings,
        node_config: Settings | None = None,
        connected: Collection[int] | None = None,
    ) -> None:
        """`connected`: the client ids of those that have joined; None: all of them."""
        super().__init__()
        self._app = app
        self._waiting: dict[str, Message] = {}
        self._contexts = {
            cid: new_context(cid, num_partitions, self.run.run_id, run_config, node_config or {})
            for cid in (range(num_partitions) if connected is None else sorted(connected))
        }

    def cids(self) -> dict[int, int]:
        """All clients that have joined, which are always connected."""
        return {node_id_of(cid): cid for cid in self._contexts}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Note the messages; the app runs when a reply is waited for."""
        message_ids = []
        for message in messages:
            message_id = self._register(message)
            if cid_of(message.metadata.dst_node_id) in self._contexts:
                self._waiting[message_id] = message
            else:
                self._mailbox.fail(message_id, ErrorCode.NODE_UNAVAILABLE, "is not connected")
            message_ids.append(message_id)
        return message_ids

    def wait_for_replies(self, message_ids: Iterable[str], timeout: float) -> list[Message]:
        """Run the next of these messages; `timeout` cannot interrupt it."""
        ready = next((message_id for message_id in self._waiting if message_id in set(message_ids)), None)
        if ready is not None:
            message = self._waiting.pop(ready)
            context = self._contexts[cid_of(message.metadata.dst_node_id)]
            self._mailbox.deliver(answer(self._app, _own_copy(message), context))
        return self._mailbox.take(message_ids)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Run all of these messages that have not run yet; return their replies."""
        wanted = list(message_ids)
        while any(message_id in self._waiting for message_id in wanted):
            yield from self.wait_for_replies(wanted, 0)
        yield from self._mailbox.take(wanted)

    def abandon(self, message_ids: Iterable[str]) -> None:
        """Messages that have not run yet never will."""
        for message_id in message_ids:
            self._waiting.pop(message_id, None)
        super().abandon(message_ids)


def _own_copy(message: Message) -> Message:
    """The message with config records of its own: a strategy gives all nodes the same, and an app may write to it."""
    content = {
        name: ConfigRecord(dict(entry)) if isinstance(entry, ConfigRecord) else entry
        for name, entry in message.content.items()
    }
    return Message(RecordDict(content), metadata=message.metadata)
