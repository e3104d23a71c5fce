"""Extensions that the product knows nothing of: four mods, a workflow. Each is found by name, in every runtime."""

from collections.abc import Sequence

import numpy as np
from flwr.app import Message, MessageType, MetricRecord, RecordDict

from fedkeras.callbacks import Callback
from fedkeras.federation.initial_weights import initial_arrays
from fedkeras.federation.messages import arrays_of, metrics_of
from fedkeras.federation.records import record, views
from fedkeras.federation.round_result import RoundResult
from fedkeras.mods.base import Mod
from fedkeras.reports import section
from fedkeras.workflows.rounds.server import RoundsWorkflow, evaluate_round


class Clip(Mod):
    """(a) Clips a client's update to an L2 norm on the client; counts on the server how many were clipped."""

    def __init__(self, norm: float = 1.0) -> None:
        self.norm, self.clipped = float(norm), 0

    def client(self, message, context, call_next):
        reply = call_next(message, context)
        if message.metadata.message_type != MessageType.TRAIN:
            return reply
        before, after = views(message.content["arrays"]), views(arrays_of(reply.content))
        update = {name: after[name].astype(np.float64) - before[name] for name in after}
        length = float(np.sqrt(sum((each**2).sum() for each in update.values())))
        scale = min(1.0, self.norm / length)
        clipped = {name: (before[name] + scale * update[name]).astype(after[name].dtype) for name in after}
        metrics = MetricRecord({**metrics_of(reply.content), "clipped": int(scale < 1), "norm": scale * length})
        return Message(RecordDict({"arrays": record(clipped), "metrics": metrics}), reply_to=message)

    def decode(self, reply, sent):
        self.clipped += int(metrics_of(reply.content).get("clipped", 0))
        return reply


class Int8(Mod):
    """(b) Updates travel as int8 with a scale an array; the server makes them float again before it checks them."""

    def client(self, message, context, call_next):
        reply = call_next(message, context)
        if message.metadata.message_type != MessageType.TRAIN:
            return reply
        before, after = views(message.content["arrays"]), views(arrays_of(reply.content))
        packed, scales = {}, {}
        for name, array in after.items():
            update = array.astype(np.float64) - before[name]
            scales[f"scale {name}"] = float(np.abs(update).max() / 127) or 1.0
            packed[name] = np.rint(update / scales[f"scale {name}"]).astype(np.int8)
        metrics = MetricRecord({**metrics_of(reply.content), **scales})
        return Message(RecordDict({"arrays": record(packed), "metrics": metrics}), reply_to=message)

    def decode(self, reply, sent):
        if sent.metadata.message_type != MessageType.TRAIN:
            return reply
        before, metrics = views(arrays_of(sent.content)), dict(metrics_of(reply.content))
        arrays = {
            name: (before[name] + metrics.pop(f"scale {name}") * array.astype(np.float64)).astype(np.float32)
            for name, array in views(arrays_of(reply.content)).items()
        }
        content = RecordDict({"arrays": record(arrays), "metrics": MetricRecord(metrics)})
        return Message(content, metadata=reply.metadata)


class Twice(Mod):
    """(c) Asks every client twice in a round: the second time from what it answered the first."""

    def exchange(self, inner, messages):
        if messages[0].metadata.message_type != MessageType.TRAIN:
            yield from inner.exchange(messages)
            return
        asked = {message.metadata.dst_node_id: message for message in messages}
        again = []
        for reply in inner.exchange(messages):
            if reply.has_error():
                yield reply
                continue
            first = asked[reply.metadata.src_node_id]
            content = RecordDict({"arrays": arrays_of(reply.content), "config": first.content["config"]})
            again.append(
                Message(content, first.metadata.dst_node_id, MessageType.TRAIN, group_id=first.metadata.group_id)
            )
        yield from inner.exchange(again)


class Chosen(Mod):
    """(d) Chooses the cohort, and shows no figure of a single client."""

    shows_clients = False

    def __init__(self, cids: str = "0") -> None:
        self.cids = [int(cid) for cid in str(cids).split("+")]

    def sample(self, eligible: Sequence[int], server_round: int, phase: str) -> Sequence[int]:
        return [cid for cid in self.cids if cid in eligible]


class Objective(Mod):
    """Names an objective in the train messages: a mod with a half in the compiled training."""

    def __init__(self, spec: str) -> None:
        self.spec = str(spec).replace("|", ":")

    def encode(self, message):
        if message.metadata.message_type == MessageType.TRAIN:
            message.content["config"]["objective"] = self.spec
        return message


class Stops(Mod, Callback):
    """Ends the run after so many rounds: a mod with a callback."""

    def __init__(self, after: int) -> None:
        self.after = after

    def callbacks(self):
        return (self,)

    def on_round_end(self, result) -> bool:
        return result.round >= self.after


class EvaluateOnly(RoundsWorkflow):
    """A way to train that does not: the untrained model is tested on every client, and on the server."""

    name = "evaluate-only"

    def report_sections(self, folder):
        return [section("Untrained", ["Nothing was trained in this run."])]

    def run(self, run):
        result = RoundResult(1, 1, arrays=initial_arrays(run.grid, run.config, run.clients))
        run.callbacks.on_run_begin(run)
        evaluate_round(self, run, result)
        run.callbacks.on_round_end(result.end())
        return run.finish(num_weights=sum(array.size for array in views(result.arrays).values()))


class Epochs(Mod):
    """Asks every client for another number of epochs than the run's."""

    def __init__(self, number: int = 1) -> None:
        self.number = number

    def encode(self, message):
        if message.metadata.message_type == MessageType.TRAIN:
            message.content["config"]["local-epochs"] = self.number
        return message
