"""The ClientApp, and `python client.py --cid N`: what a node does with the server's messages.

The same `app` answers over our gRPC (this file as a command), in Flower's simulation and on its SuperNodes. A process
keeps one model, one compiled graph and its clients' data from message to message.
"""

import contextlib
import functools
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

import data
from fedkeras import assembly, origin, split_client, split_resident
from fedkeras.config import Config, parse_flags
from fedkeras.errors import UserError, complain
from fedkeras.handout import follow, resident, training, work
from fedkeras.handout.progress import Progress
from fedkeras.handout.seat import Seat
from fedkeras.node_flags import Flags
from fedkeras.quietly import import_tensorflow
from fedkeras.randomness import generator
from fedkeras.runtime.answering import answer
from strategies import arrays

app = ClientApp()


def answering(handler: Callable[[Message, Context], Message]) -> Callable[[Message, Context], Message]:
    """What goes wrong in a handler becomes an error reply with a reason in one line, in every runtime."""
    return functools.wraps(handler)(lambda message, context: answer(handler, message, context))


@app.query("identify")
@answering
def identify(message: Message, context: Context) -> Message:
    """Which partition this node has: Flower's server knows random node ids only."""
    if "partition-id" not in context.node_config:
        raise UserError("a SuperNode was started without its partition: add --node-config 'partition-id=0', or 1, ...")
    return _reply(message, config=ConfigRecord({"partition-id": int(context.node_config["partition-id"])}))


@app.query("initial_weights")
@answering
def initial_weights(message: Message, context: Context) -> Message:
    """The untrained model's weights, from the seed; so the server needs no TensorFlow to begin."""
    config, cid = _config(message, context), int(context.node_config["partition-id"])
    party = _party(config, cid, context) if config.split == "off" else split_resident.resident(config)
    return _reply(message, arrays=arrays.record(party.initial))


@app.train()
@answering
def train(message: Message, context: Context) -> Message:
    """Train the global weights on this client's examples for the local epochs."""
    config, cid = _config(message, context), int(context.node_config["partition-id"])
    learner, examples = _party(config, cid, context).learner, _to_train(*_whose(config, cid, context))
    sent = message.content["config"]
    learner.set_weights(arrays.views(message.content["arrays"]))
    started = time.perf_counter()
    outcome = learner.train(
        *examples,
        epochs=config.local_epochs,
        batch_size=config.batch_size,
        rng=generator(config.seed, "train", int(sent["server-round"]), cid),
        proximal_mu=float(sent.get("proximal-mu", 0.0)),
    )
    seconds = time.perf_counter() - started
    metrics = MetricRecord(assembly.metrics_of(outcome, seconds))
    return _reply(message, arrays=arrays.record(learner.get_weights()), metrics=metrics)


@app.evaluate()
@answering
def evaluate(message: Message, context: Context) -> Message:
    """Test the global weights on the examples this client held out."""
    config, cid = _config(message, context), int(context.node_config["partition-id"])
    learner, examples = _party(config, cid, context).learner, _to_test(*_whose(config, cid, context))
    learner.set_weights(arrays.views(message.content["arrays"]))
    started = time.perf_counter()
    outcome = learner.evaluate(*examples)
    metrics = MetricRecord(assembly.metrics_of(outcome, time.perf_counter() - started))
    return _reply(message, metrics=metrics)


def split(handler: Callable) -> Callable[[Message, Context], Message]:
    """A message of split learning, as one of split_client.HANDLERS answers it."""

    def answered(message: Message, context: Context) -> Message:
        config, cid = _config(message, context), int(context.node_config["partition-id"])
        return Message(split_client.answer(handler, config, cid, message.content, context.state), reply_to=message)

    return answered


for action, handler in split_client.HANDLERS.items():
    app.query(action)(answering(split(handler)))


def led(handler: Callable) -> Callable[[Message, Context], Message]:
    """A message of server-led training, as one of the HANDLERS of follow and work answers it."""

    def answered(message: Message, context: Context) -> Message:
        if handler is follow.offer and context.node_config.get("deliver"):
            raise UserError("this client only delivers what it has trained (--deliver): collect it with --collect-only")
        config, cid = _config(message, context), int(context.node_config["partition-id"])
        return Message(handler(follow.Task(config, cid, message.content, context)), reply_to=message)

    return answered


for action, handler in {**follow.HANDLERS, **work.HANDLERS}.items():
    app.query(action)(answering(led(handler)))


@app.query("fit")
@answering
def fit(message: Message, context: Context) -> Message:
    """Begin to train once and for all, in a thread: `--mode collect`."""
    config, cid = _config(message, context), int(context.node_config["partition-id"])
    whose = _whose(config, cid, context)

    def make(folder: Path, said: Callable[[str], None]) -> dict:
        party = _party(config, cid, context)
        party.learner.set_weights(party.initial)
        shown = Progress()

        def tell(state: str) -> None:
            said(state)
            shown.say(cid, state)

        with shown:
            return training.train(config, whose[2], party.learner, _to_train(*whose), folder, tell)

    return Message(work.fit(follow.Task(config, cid, message.content, context), make), reply_to=message)


@dataclass(frozen=True)
class Resident:
    """What a process keeps: the learner with its compiled graphs, and the weights the model began with."""

    learner: object
    initial: dict


@functools.lru_cache(maxsize=1)
def _resident(config: Config, model: Path | None = None, trust_code: bool = False) -> Resident:
    """Of the configuration's model, or of a model file that the server handed out."""
    if model is None:
        learner = assembly.make_learner(config, config.threads_per_client)
    else:
        learner = resident.make_learner(config, model, trust_code)
    return Resident(learner, learner.get_weights())


def _party(config: Config, cid: int, context: Context) -> Resident:
    """What client `cid` trains."""
    seat = _seat(config, cid, context)
    return _resident(config) if seat is None else _resident(config, seat.model, _trusts_code(context))


def _whose(config: Config, cid: int, context: Context) -> tuple:
    """What a client's examples are a function of."""
    return config, cid, _seat(config, cid, context), _trusts_code(context)


def _seat(config: Config, cid: int, context: Context) -> Seat | None:
    """What the server has given client `cid`; None where clients bring model and data themselves."""
    return follow.seat_of(context, cid) if config.data_source else None


def _trusts_code(context: Context) -> bool:
    return bool(context.node_config.get("trust-code", False))


@functools.lru_cache(maxsize=8)
def _client(config: Config, cid: int) -> data.Client:
    """A client's part as arrays; kept for a short while, since the device has its own copy."""
    return data.load_client(config, cid)


@functools.lru_cache(maxsize=assembly.KEPT_CLIENTS)
def _to_train(config: Config, cid: int, seat: Seat | None = None, trust_code: bool = False) -> tuple:
    """A client's training examples (x, y) on the device."""
    if seat is not None:
        return resident.training_examples(config, seat, _resident(config, seat.model, trust_code).learner)
    examples = _client(config, cid).train
    return _resident(config).learner.place(examples.x, examples.y)


@functools.lru_cache(maxsize=assembly.KEPT_CLIENTS)
def _to_test(config: Config, cid: int, seat: Seat | None = None, trust_code: bool = False) -> tuple:
    """The examples (x, y) that the client held out, on the device."""
    if seat is not None:
        return resident.test_examples(config, seat, _resident(config, seat.model, trust_code).learner)
    examples = _client(config, cid).test
    if not len(examples.x):
        raise UserError(f"client {cid} holds out no examples; raise --test-fraction, or --fraction-evaluate 0")
    return _resident(config).learner.place(examples.x, examples.y)


def _config(message: Message, context: Context) -> Config:
    origin.check(message.content["config"].get("code-digest"))
    return _config_of(context)


def _config_of(context: Context) -> Config:
    """The run's configuration, with this node's own data folder if it has one."""
    table = dict(context.run_config)
    if "data-dir" in context.node_config:
        table["data-dir"] = context.node_config["data-dir"]
    return Config.from_run_config(table)


def _reply(message: Message, **records: object) -> Message:
    return Message(RecordDict(records), reply_to=message)


def prepare(contexts: Sequence[Context]) -> None:
    """Load the clients' data and build the model when they have joined, before the first message asks for them."""
    started = time.perf_counter()
    import_tensorflow()
    imported = time.perf_counter()
    for context in contexts:
        config, cid = _config_of(context), int(context.node_config["partition-id"])
        if config.data_source or config.collect_only:
            continue  # the server has yet to say what there is to load
        (_to_train if config.split == "off" else split_resident.examples)(config, cid)
    own = time.perf_counter() - imported
    say(f"ready (waited {imported - started:.1f} s for TensorFlow, {own:.1f} s for data and model)")


def main() -> int:
    """The command. Returns the exit status."""
    from fedkeras import flower_app, flower_settings
    from fedkeras.runtime.access import Access
    from fedkeras.runtime.node import serve
    from fedkeras.runtime.passphrase import read_passphrase

    logging.basicConfig(format="client: %(message)s", level=logging.WARNING)
    try:
        flags = parse_flags(Flags, None, "client.py")
        node_config = flower_settings.node_config(flags.node_config, flags.data_dir)
        cids = flags.cids()
        flags.check()
        if flags.app:
            served, ready = flower_app.load_client_app(flags.app), lambda contexts: None
        else:
            served, ready = app, (lambda contexts: None) if flags.deliver else prepare
            node_config |= {"trust-code": flags.trust_code, "deliver": flags.deliver}
            # TensorFlow takes seconds to import: begin now, while the server is looked for.
            if not flags.deliver:
                _tensorflow.start()
        # Of partitions that others serve too, the first shows whether all is well; the rest are loaded when it is known
        # who trains them.
        first = (lambda contexts: ready(contexts[:1])) if flags.shared else ready
        access = Access(
            read_passphrase(flags.passphrase_file), flags.tls_cert, flags.tls_key, flags.tls_ca, flags.insecure
        )
        serve(
            served, flags.server, cids, node_config, flags.max_wait, first, say, flags.shared, access=access,
            replace=flags.replace,
        )  # fmt: skip
    except UserError as error:
        status = complain("client.py", error)
        with contextlib.suppress(KeyboardInterrupt):
            work.finish(say)
        return status
    except KeyboardInterrupt:
        print("client: interrupted", file=sys.stderr)
        return 130
    say("the run is finished")
    return 0


def say(text: str) -> None:
    """One line on the client's terminal."""
    print(f"client: {text}", flush=True)


_tensorflow = threading.Thread(target=import_tensorflow, daemon=True)


def leave(status: int) -> None:
    """End the process at once. An orderly exit waits for, or aborts in, a thread that is still importing TensorFlow."""
    if _tensorflow.ident is None:  # it was never started: another app's end is an orderly one
        sys.exit(status)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    leave(main())
