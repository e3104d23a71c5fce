"""Flower's Runtime API, by which a SuperNode hands its messages to an executor: all of Flower that a warm one needs.

A SuperNode started with `--isolation process` keeps each message as a task until an executor claims it. The steps here
are those of Flower's own two programs, `flower-superexec` (claims) and `flwr-clientapp` (pulls, answers, pushes), for
a process that stays. Flower promises nothing about these names, so this file is used with the versions of Flower that
it was tried with (`fedkeras.flower.versions`); docs/compatibility.md is the list to go through for a newer one.
"""

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

import httpx
from flwr.app import Context, Error, Message
from flwr.app.message import remove_content_from_message
from flwr.common.constant import ErrorCode, SubStatus
from flwr.common.serde import context_from_proto, context_to_proto, message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullAppMessagesRequest,
    PullTaskInputRequest,
    PushAppMessagesRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.address import resolve_bind_address
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectPushError,
    pull_and_inflate_object_from_tree,
    push_objects,
)
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.cli.flower_supernode import _parse_args_run_supernode

from fedkeras.flower.internals import act_as, set_message_id

PULL_BACKOFF_SECONDS = 0.1
"""A task is there before its message, and the message before its arrays: how soon they are asked for again.

Flower's executor waits a second, and its SuperNode has all of them within a few hundredths.
"""

MESSAGE_SECONDS = 30.0
"""How long a task may be there without its message. Its claim is worth as long, unless a heartbeat renews it."""

_CLAIMED_BY = "/flwr.proto.Runtime/AcquireTask"
"""The call that a SuperNode with a secret wants to be signed."""


class TaskLost(Exception):
    """The SuperNode takes no answer to this task any more, or is not there; why, in words."""


@dataclass(frozen=True)
class ApiAddress:
    """Where a SuperNode's Runtime API is: host:port, and with TLS the file of the authority that vouches for it."""

    address: str
    root_certificates: str = ""

    def client(self, *interceptors: RuntimeTokenHttpInterceptor | SuperExecAuthHttpInterceptor) -> RuntimeHttpClient:
        """A connection. It tries nothing twice: what fails says so at once."""
        certificates = Path(self.root_certificates).read_bytes() if self.root_certificates else None
        version = RuntimeVersionHttpInterceptor(component_name="flwr-clientapp")
        return RuntimeHttpClient.from_server_address(
            self.address, certificates is None, certificates, [version, *interceptors]
        )


@dataclass(frozen=True)
class TaskClaim:
    """A task that is ours: the token that proves it, which is a secret, and the run it belongs to."""

    token: str
    run_id: int


class TaskQueue:
    """The tasks of one SuperNode that wait for an executor. `secret`: what it was started with to know its executor."""

    def __init__(self, endpoint: ApiAddress, secret: bytes) -> None:
        signed = SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=[_CLAIMED_BY])
        self._client = endpoint.client(signed)

    def claim(self) -> TaskClaim | None:
        """The task that has waited longest; None: there is none. Raises TaskLost if the SuperNode does not answer."""
        with _lost_if_refused():
            answer = self._client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP]))
        return TaskClaim(answer.token, answer.task.run_id) if answer.token else None


class ClaimedTask:
    """One task, from its message to its answer; the SuperNode is told meanwhile that somebody works on it.

    Every method raises TaskLost if the SuperNode does not want the task to be answered any more.
    """

    def __init__(self, endpoint: ApiAddress, token: str) -> None:
        self._client = endpoint.client(RuntimeTokenHttpInterceptor(token))
        self._heartbeat = HeartbeatSender(self._beat)
        self._message: ProtoMessage | None = None
        self._tree: ObjectTree | None = None

    def __enter__(self) -> Self:
        self._heartbeat.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._heartbeat.is_running:
            self._heartbeat.stop()
        self._client.close()

    def begin(self) -> tuple[Context, bytes]:
        """Tell the SuperNode that work begins; returns the node's Context in this run, and the run's bundle (FAB)."""
        with _lost_if_refused():
            given = self._client.PullTaskInput(PullTaskInputRequest())
        context = context_from_proto(given.context)
        act_as(context.node_id, context.run_id)
        return context, given.fab.content

    def pull_head(self) -> bytes:
        """The message without its content, by which `fail` can answer it from another process."""
        deadline, pause = time.monotonic() + MESSAGE_SECONDS, PULL_BACKOFF_SECONDS / 4
        with _lost_if_refused():
            while not (found := self._client.PullMessages(PullAppMessagesRequest())).messages_list:
                if time.monotonic() > deadline:
                    raise TaskLost(f"its message did not come within {MESSAGE_SECONDS:g} s")
                time.sleep(pause)
                pause = min(2 * pause, 1.0)
        self._message, self._tree = found.messages_list[0], found.message_object_trees[0]
        self._message.metadata.message_id = self._tree.object_id
        return self._message.SerializeToString()

    def pull(self) -> Message:
        """The whole message, after `pull_head`."""
        node, run_id = Node(node_id=self._message.metadata.dst_node_id), self._message.metadata.run_id
        with _lost_if_refused():
            message = pull_and_inflate_object_from_tree(
                self._tree,
                make_pull_object_fn_protobuf(self._client.PullObject, node, run_id),
                make_confirm_message_received_fn_protobuf(self._client.ConfirmMessageReceived, node, run_id),
                return_type=Message,
                initial_backoff=PULL_BACKOFF_SECONDS,
            )
        set_message_id(message, self._tree.object_id)
        return message

    def push(self, reply: Message, context: Context) -> None:
        """The answer, and the Context with which the next message of this run will come."""
        self._push_message(reply)
        with _lost_if_refused():
            self._client.PushTaskOutput(
                PushTaskOutputRequest(context=context_to_proto(context), sub_status=SubStatus.COMPLETED, details="")
            )

    def fail(self, head: bytes, reason: str) -> None:
        """Answer with an error in place of an executor that has ended.

        `head` is what `pull_head` gave it; b"": it had not come so far, and the message is still to be had.
        """
        message = message_from_proto(ProtoMessage.FromString(head or self.pull_head()))
        self._push_message(Message(Error(ErrorCode.CLIENT_APP_CRASHED, reason), reply_to=message))
        with _lost_if_refused():
            self._client.PushTaskOutput(PushTaskOutputRequest(sub_status=SubStatus.FAILED, details=reason))

    def _push_message(self, reply: Message) -> None:
        set_message_id(reply, reply.object_id)
        with _lost_if_refused(), no_object_id_recompute():
            head = message_to_proto(remove_content_from_message(reply))
            pushed = self._client.PushMessages(
                PushAppMessagesRequest(messages_list=[head], message_object_trees=[get_object_tree(reply)])
            )
            node = Node(node_id=reply.metadata.src_node_id)
            push_objects(
                get_all_nested_objects(reply),
                make_push_object_fn_protobuf(
                    self._client.PushObject, node, run_id=reply.metadata.run_id, session_id=pushed.session_id
                ),
                object_ids_to_push=set(pushed.objects_to_push),
            )

    def _beat(self) -> bool:
        """Whether the SuperNode has heard that somebody works on it; it is told again soon if it has not.

        Of a task that it has given up nothing need be said here: it will refuse the answer.
        """
        try:
            self._client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
        except httpx.TransportError:
            return False
        except httpx.HTTPStatusError:
            return True
        return True


def supernode_flags(args: list[str], refuse: Callable[[str], NoReturn]) -> argparse.Namespace:
    """Flags of `flower-supernode` as it reads them itself; port and isolation are None where they are not given.

    `refuse` is called with Flower's own sentence on what is wrong with them.
    """
    parser = _parse_args_run_supernode()
    parser.set_defaults(port=None, isolation=None)
    parser.error = refuse
    return parser.parse_args(args)


def supernode_help() -> str:
    """What `flower-supernode --help` says, from its first flag on."""
    return _parse_args_run_supernode().format_help().partition("SuperNode\n")[2].strip("\n")


def address_of(host: str, port: int) -> str:
    """Where an executor on this machine reaches a SuperNode that listens there."""
    return resolve_bind_address(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


@contextlib.contextmanager
def _lost_if_refused() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPStatusError as error:
        raise TaskLost(f"the SuperNode answers {error.response.status_code}: {error.response.text}") from error
    except httpx.TransportError as error:
        raise TaskLost(f"the SuperNode does not answer: {type(error).__name__}: {error}") from error
    except (ObjectPullError, ObjectPushError) as error:
        raise TaskLost(str(error)) from error
