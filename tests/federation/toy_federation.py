"""A federation without TensorFlow: clients are functions on numpy arrays, and a run takes milliseconds."""

import io
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from bare_runs import run_rounds
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid

from fedkeras.config import Config
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.client_weights import ClientWeights
from fedkeras.federation.grids import CohortGrid
from fedkeras.federation.records import record, views
from fedkeras.federation.round_result import RoundResult
from fedkeras.flower.identity import cid_of, node_id_of
from fedkeras.runtime.in_process import InProcessGrid

Weights = dict[str, np.ndarray]


def floats(**values: object) -> Weights:
    """float32 arrays from nested lists."""
    return {name: np.array(value, np.float32) for name, value in values.items()}


def content(weights: Weights | ArrayRecord | None, num_examples: object = 1, **metrics: object) -> RecordDict:
    """What a client answers; without `weights`, to an evaluate message."""
    if isinstance(weights, dict):
        weights = record(weights)
    records = {} if weights is None else {"arrays": weights}
    return RecordDict({**records, "metrics": MetricRecord({"num-examples": num_examples, **metrics})})


def reply(cid: int, answer: RecordDict, message_type: str = MessageType.TRAIN) -> Message:
    """A reply of client `cid`, as it arrives at the server."""
    question = Message(RecordDict(), node_id_of(cid), message_type)
    return Message(answer, reply_to=question)


def raw_array(dtype: str, shape: tuple[int, ...], data: bytes) -> Array:
    """An Array whose label need not fit its bytes."""
    return Array(dtype, shape, "numpy.ndarray", data)


def npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    """An array in NumPy's file format."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=allow_pickle)
    return stream.getvalue()


def npy_header(text: str) -> bytes:
    """The beginning of an .npy file with any header."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin1")


def move_by_cid(cid: int, server_round: int, weights: Weights, config: dict) -> RecordDict:
    """Trains as: client N adds N + 1 to every weight, and has N + 1 examples."""
    moved = {name: array + np.float32(cid + 1) for name, array in weights.items()}
    return content(moved, cid + 1, loss=float(cid))


def loss_is_cid(cid: int, server_round: int, weights: Weights, config: dict) -> RecordDict:
    """Evaluates as: client N has N + 1 examples and loss N."""
    return content(None, cid + 1, loss=float(cid))


def breaking(work: Callable, fails: Callable[[int, int], object]) -> Callable:
    """`work` that raises where fails(cid, round)."""

    def broken(cid: int, server_round: int, weights: Weights, config: dict) -> RecordDict:
        if fails(cid, server_round):
            raise RuntimeError(f"broken {cid}")
        return work(cid, server_round, weights, config)

    return broken


def clients_of(train_fails: Callable = lambda *_: False, evaluate_fails: Callable = lambda *_: False) -> "ToyClients":
    """Toy clients that raise where train_fails(cid, round), or evaluate_fails, is true."""
    return ToyClients(breaking(move_by_cid, train_fails), breaking(loss_is_cid, evaluate_fails))


@dataclass
class ToyClients:
    """A ClientApp: `train` and `evaluate` take (cid, round, weights, config) and give a content."""

    train: Callable[..., RecordDict] = move_by_cid
    evaluate: Callable[..., RecordDict] = loss_is_cid
    partition_of: Callable[[int], int] = lambda cid: cid
    """What a node answers when it is asked for its partition."""
    log: list[tuple[str, int, int]] = field(default_factory=list)
    """(message type, cid, round) of each message, in the order in which they were worked on."""

    def __call__(self, message: Message, context: Context) -> Message:
        kind, cid = message.metadata.message_type, int(context.node_config["partition-id"])
        config = dict(message.content["config"])
        self.log.append((kind, cid, config.get("server-round", 0)))
        if kind == "query.identify":
            answer = RecordDict({"config": ConfigRecord({"partition-id": self.partition_of(cid)})})
        elif kind == "query.initial_weights":
            answer = self.train(cid, 0, {}, config)
        else:
            work = {MessageType.TRAIN: self.train, MessageType.EVALUATE: self.evaluate}[kind]
            answer = work(cid, config["server-round"], views(message.content["arrays"]), config)
        return Message(answer, reply_to=message)

    def trained(self, server_round: int) -> list[int]:
        """Who was asked to train in this round."""
        return sorted(cid for kind, cid, number in self.log if (kind, number) == (MessageType.TRAIN, server_round))


class ArrivingIn(InProcessGrid):
    """A LocalGrid whose clients answer in a given order of cid."""

    def __init__(self, app: Callable, order: Sequence[int], run_config: dict | None = None) -> None:
        super().__init__(app, len(order), run_config or {})
        self.order = list(order)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """LocalGrid answers in the order in which it was given the messages."""
        return super().push_messages(sorted(messages, key=lambda m: self.order.index(cid_of(m.metadata.dst_node_id))))


class Silent(InProcessGrid):
    """A LocalGrid on which some clients never answer, so it does not wait for ever."""

    patient = False

    def __init__(self, app: Callable, num_partitions: int, silent: Iterable[int]) -> None:
        super().__init__(app, num_partitions, {})
        self.silent, self.abandoned = set(silent), []

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Messages to silent clients get an id and are lost."""
        messages = list(messages)
        lost = [message for message in messages if cid_of(message.metadata.dst_node_id) in self.silent]
        return [*super().push_messages([m for m in messages if m not in lost]), *(uuid.uuid4().hex for _ in lost)]

    def wait_for_replies(self, message_ids: Iterable[str], timeout: float) -> list[Message]:
        """Waits as a network would."""
        replies = super().wait_for_replies(message_ids, timeout)
        if not replies:
            time.sleep(timeout)
        return replies

    def abandon(self, message_ids: Iterable[str]) -> None:
        """Notes who was given up."""
        self.abandoned += message_ids
        super().abandon(message_ids)


def flowers_own(grid: InProcessGrid) -> Grid:
    """The grid as one of Flower's: it knows nodes by id only, and can only be polled."""
    return CohortGrid(grid, list(grid.get_node_ids()))


def configure(**fields: object) -> Config:
    """Three clients, one round, short patience."""
    return Config(**{"num_partitions": 3, "num_server_rounds": 1, "node_timeout": 5.0, "round_timeout": 30.0, **fields})


def federate(
    strategy: object,
    clients: Callable,
    start: Weights,
    grid: Grid | None = None,
    evaluate: Callable | None = None,
    callbacks: Iterable[Callable] = (),
    dealt: dict[str, dict[int, int]] | None = None,
    speeds: str = "",
    **fields: object,
) -> tuple[Weights, list[RoundResult]]:
    """A whole run; the final weights and every round's outcome. `dealt`: what the server knows of their examples.

    `speeds` is --clients.
    """
    config, outcomes = configure(clients=speeds, **fields), []
    client_weights = ClientWeights(config)
    client_weights.deal(dealt or {})
    grid = grid or InProcessGrid(clients, config.num_partitions, {})
    nodes, given = ClientManager(grid, config), record(start)
    final = run_rounds(
        strategy, grid, nodes, given, config, evaluate, [outcomes.append, *callbacks], client_weights=client_weights
    )
    return views(final), outcomes
