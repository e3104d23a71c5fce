"""A node's side of a message, however it travelled: the client's Context, its app's answer, its app's exceptions."""

from collections.abc import Callable, Mapping

from flwr.app import Context, Error, Message, RecordDict
from flwr.common.constant import ErrorCode

from fedkeras.errors import describe
from fedkeras.flower.identity import node_id_of

App = Callable[[Message, Context], Message]


def new_context(cid: int, num_partitions: int, run_id: int, run_config: Mapping, node_config: Mapping) -> Context:
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
        return failure(error, message)
    return reply


def failure(error: Exception, message: Message) -> Message:
    """The error reply to `message` that says what a node's code raised."""
    return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, describe(error)), reply_to=message)
