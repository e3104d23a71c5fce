"""The ClientApp, and `python client.py --cid N`: what a node does with the server's messages.

The same `app` answers over our gRPC (this file as a command), in Flower's simulation and on its SuperNodes. A process
keeps one model, one compiled graph and its clients' data from message to message.
"""

import contextlib
import functools
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedkeras import factory
from fedkeras.checkout import look_in_working_directory, program
from fedkeras.client_config import ClientConfig
from fedkeras.config import Config, parse_flags
from fedkeras.errors import UserError, complain
from fedkeras.federation import records
from fedkeras.flower import code_digest
from fedkeras.named_code import Permission
from fedkeras.provisioning import client as provisioning_client
from fedkeras.randomness import generator
from fedkeras.reports import progress_bar
from fedkeras.runtime.client_app import answer
from fedkeras.tensorflow_import import import_tensorflow
from fedkeras.workflows.collect import client as collect_client
from fedkeras.workflows.collect import training
from fedkeras.workflows.rounds.local_trainer import LocalTrainer
from fedkeras.workflows.split import client as split_handlers
from fedkeras.workflows.split import split_client as split_resident

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
    own = LocalTrainer(config, cid, context).model if config.split == "off" else split_resident.resident(config)
    return _reply(message, arrays=records.record(own.initial))


@app.train()
@answering
def train(message: Message, context: Context) -> Message:
    """Train the global weights on this client's examples for the local epochs."""
    import_tensorflow()
    from fedkeras.learning.objectives import objective_of

    config, cid = _config(message, context), int(context.node_config["partition-id"])
    party = LocalTrainer(config, cid, context)
    learner, examples = party.model.learner, party.to_train()
    sent = message.content["config"]
    learner.set_weights(records.views(message.content["arrays"]))
    server_round = int(sent["server-round"])
    objective = objective_of(sent, Permission(everything=bool(context.node_config.get("trust-code", False))))
    rng, options = generator(config.seed, "train", server_round, cid), {"batch_size": config.batch_size}
    started = time.perf_counter()
    shown = None if party.seat is None or config.local_epochs == 1 else _epochs(config, cid, server_round)
    outcome = learner.train(
        *examples, epochs=config.local_epochs, rng=rng, objective=objective, on_epoch=shown, **options
    )
    seconds = time.perf_counter() - started
    metrics = MetricRecord(factory.metrics_of(outcome, seconds))
    return _reply(message, arrays=records.record(learner.get_weights()), metrics=metrics)


@app.evaluate()
@answering
def evaluate(message: Message, context: Context) -> Message:
    """Test the global weights on the examples this client held out."""
    config, cid = _config(message, context), int(context.node_config["partition-id"])
    party = LocalTrainer(config, cid, context)
    learner, examples = party.model.learner, party.to_test()
    learner.set_weights(records.views(message.content["arrays"]))
    started = time.perf_counter()
    outcome = learner.evaluate(*examples)
    metrics = MetricRecord(factory.metrics_of(outcome, time.perf_counter() - started))
    return _reply(message, metrics=metrics)


def split(handler: Callable) -> Callable[[Message, Context], Message]:
    """A message of split learning, as one of split_handlers.HANDLERS answers it."""

    def answered(message: Message, context: Context) -> Message:
        config, cid = _config(message, context), int(context.node_config["partition-id"])
        return Message(split_handlers.answer(handler, config, cid, message.content, context.state), reply_to=message)

    return answered


for action, handler in split_handlers.HANDLERS.items():
    app.query(action)(answering(split(handler)))


def led(handler: Callable) -> Callable[[Message, Context], Message]:
    """A message of server-led training, as one of the HANDLERS of follow and work answers it."""

    def answered(message: Message, context: Context) -> Message:
        if handler is provisioning_client.offer and context.node_config.get("deliver"):
            raise UserError("this client only delivers what it has trained (--deliver): collect it with --collect-only")
        config, cid = _config(message, context), int(context.node_config["partition-id"])
        try:
            return Message(
                handler(provisioning_client.ProvisioningRequest(config, cid, message.content, context)),
                reply_to=message,
            )
        except Exception:
            progress_bar.shown.over(cid)
            raise

    return answered


for action, handler in {**provisioning_client.HANDLERS, **collect_client.HANDLERS}.items():
    app.query(action)(answering(led(handler)))


@app.query("fit")
@answering
def fit(message: Message, context: Context) -> Message:
    """Begin to train once and for all, in a thread: `--mode collect`."""
    config, cid = _config(message, context), int(context.node_config["partition-id"])
    party = LocalTrainer(config, cid, context)

    def make(folder: Path, said: Callable[[str], None]) -> dict:
        model = party.model
        model.learner.set_weights(model.initial)

        def tell(state: str, done: int, total: int, note: str) -> None:
            said(state)
            progress_bar.shown.trained(cid, state, done, total, note)

        try:
            return training.train(config, party.seat, model.learner, party.to_train, folder, tell)
        finally:
            progress_bar.shown.over(cid)

    return Message(
        collect_client.fit(provisioning_client.ProvisioningRequest(config, cid, message.content, context), make),
        reply_to=message,
    )


def _epochs(config: Config, cid: int, server_round: int) -> Callable:
    """Shows a round's epochs on this client's terminal."""

    def say(epoch: int, outcome: object) -> None:
        state = f"round {server_round}/{config.num_server_rounds}, epoch {epoch}/{config.local_epochs}"
        progress_bar.shown.trained(cid, state, epoch, config.local_epochs, f"loss {outcome.loss:.4g}")
        if epoch == config.local_epochs:
            progress_bar.shown.over(cid)

    return say


def _config(message: Message, context: Context) -> Config:
    code_digest.check(message.content["config"].get("code-digest"))
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
        if config.split == "off":
            LocalTrainer(config, cid, context).to_train()
        else:
            split_resident.examples(config, cid)
    own = time.perf_counter() - imported
    say(f"ready (waited {imported - started:.1f} s for TensorFlow, {own:.1f} s for data and model)")


def main() -> int:
    """The command. Returns the exit status."""
    from fedkeras.flower import other_app, settings
    from fedkeras.runtime.node import serve
    from fedkeras.runtime.passphrase import Access, read_passphrase

    logging.basicConfig(format="client: %(message)s", level=logging.WARNING)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it says goodbye then too, so that nobody waits for it
    look_in_working_directory()
    try:
        flags = parse_flags(ClientConfig, None, program("client"))
        node_config = settings.node_config(flags.node_config, flags.data_dir)
        cids = flags.cids()
        flags.check()
        if flags.app:
            served, ready = other_app.load_client_app(flags.app), lambda contexts: None
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
            replace=flags.replace, in_thread=not flags.app,
        )  # fmt: skip
    except UserError as error:
        status = complain(program("client"), error)
        with contextlib.suppress(KeyboardInterrupt):
            collect_client.finish(say)
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
    progress_bar.shown.close()
    if _tensorflow.ident is None:  # it was never started: another app's end is an orderly one
        sys.exit(status)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    leave(main())
