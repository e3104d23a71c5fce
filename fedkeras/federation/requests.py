"""A message as a client's handlers see it: the run's configuration, who is meant, what came, and how to answer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict

from fedkeras.config import Config
from fedkeras.federation.received_config import received_config
from fedkeras.federation.records import of_kind
from fedkeras.named_code import Permission, in_simulation, permission_of

DOWNLOAD_MB = 10_000
"""Where the node's own settings do not say it."""

Handler = Callable[["ClientRequest"], Message]
"""Answers a message; what it raises becomes an error reply with the reason in one line."""


@dataclass(frozen=True)
class ClientContext:
    """One client in one run. `resolve` gives the configuration what only the model can say (`fedkeras.scaling`)."""

    context: Context
    resolve: Callable[[Config], Config] = field(default=lambda config: config, kw_only=True)

    @cached_property
    def config(self) -> Config:
        """The run's configuration, as this client takes it. Raises UserError for a name it does not permit."""
        own = {**self.context.node_config, "trust-code": self.trusts_code}
        return self.resolve(received_config(self.context.run_config, own, self.permission))

    @property
    def cid(self) -> int:
        """The client that is meant."""
        return int(self.context.node_config["partition-id"])

    @property
    def trusts_code(self) -> bool:
        """Started with --trust-code: a model file may bring code of its own. In a simulation the server's flag."""
        told = in_simulation() and self.context.run_config.get("trust-code", False)
        return bool(self.context.node_config.get("trust-code", told))

    @property
    def download_bytes(self) -> int:
        """The most that servers' hand-outs may take on this disk; as much again, results that wait to be delivered."""
        return int(self.context.node_config.get("max-download-mb", DOWNLOAD_MB)) * 1_000_000

    @property
    def is_guest(self) -> bool:
        """Whether this is a client.py that somebody has started at a server of somebody else's, as far as is known."""
        return "allow" in self.context.node_config and not self.permission.everything

    @property
    def permission(self) -> Permission:
        """Which names of code in the server's messages may be used here."""
        return permission_of(self.context.node_config)


@dataclass(frozen=True)
class ClientRequest(ClientContext):
    """One message to one client."""

    message: Message

    @property
    def content(self) -> RecordDict:
        """The message's records."""
        return self.message.content

    @property
    def sent(self) -> ConfigRecord:
        """The message's small values; empty if there are none."""
        found = of_kind(self.content, ConfigRecord)
        return found["config"] if "config" in found else next(iter(found.values()), ConfigRecord())

    @property
    def arrays(self) -> ArrayRecord:
        """The message's arrays. Raises ValueError if there are none."""
        found = of_kind(self.content, ArrayRecord)
        if not found:
            raise ValueError("the message has no arrays")
        return found["arrays"] if "arrays" in found else next(iter(found.values()))

    def reply(self, **records: ArrayRecord | ConfigRecord | MetricRecord) -> Message:
        """The answer with these records."""
        return self.reply_with(RecordDict(records))

    def reply_with(self, content: RecordDict) -> Message:
        """The answer with this content."""
        return Message(content, reply_to=self.message)


@dataclass(frozen=True)
class ContentHandler:
    """A handler made of a function that gives the reply's content."""

    content_of: Callable[[ClientRequest], RecordDict]

    def __call__(self, request: ClientRequest) -> Message:
        """The reply."""
        return request.reply_with(self.content_of(request))
