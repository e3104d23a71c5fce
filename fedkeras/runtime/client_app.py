"""How a runtime calls a client's app: with a Context, for a reply; an exception in it becomes an error reply.

Our own runtimes call every app, ours or another's, by `answer`, so an exception's text reaches the server's log.
Flower's runtimes would put a sentence of their own in its place: under them, an app that wants its exceptions named has
`error_replies` as its outermost mod.
"""

from collections.abc import Callable, Mapping

from flwr.app import Context, Error, Message, RecordDict, UserConfigValue

from fedkeras.errors import describe
from fedkeras.flower.identity import node_id_of
from fedkeras.flower.internals import ErrorCode

App = Callable[[Message, Context], Message]
"""A ClientApp, or anything that is called as one."""

Settings = Mapping[str, UserConfigValue]
"""A run's configuration or a node's own, as Flower hands it to an app: true or false, numbers and text by key."""


def new_context(cid: int, num_partitions: int, run_id: int, run_config: Settings, node_config: Settings) -> Context:
    """The Context of client `cid`, as Flower's simulation makes it."""
    own = {**node_config, "partition-id": cid, "num-partitions": num_partitions}
    return Context(run_id, node_id_of(cid), own, RecordDict(), dict(run_config))


def answer(app: App, message: Message, context: Context) -> Message:
    """The app's reply; an exception in it becomes an error reply with the exception as its reason."""
    try:
        reply = app(message, context)
        if not isinstance(reply, Message):
            raise TypeError(f"the ClientApp returned {type(reply).__name__}, not a Message")
        if reply.metadata.reply_to_message_id != message.metadata.message_id:
            raise ValueError("the ClientApp returned a message that is no reply: make it with reply_to=message")
    except Exception as error:  # noqa: BLE001 - whatever a client's code raises is that client's failure for this round
        return error_reply(error, message)
    return reply


def error_replies(message: Message, context: Context, call_next: App) -> Message:
    """A mod for Flower's ClientApp: what the app and the mods within raise becomes an error reply, in every runtime."""
    return answer(call_next, message, context)


def error_reply(error: Exception, message: Message) -> Message:
    """The error reply to `message` that names the exception a node's code raised."""
    return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, describe(error)), reply_to=message)
