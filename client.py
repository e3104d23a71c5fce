"""The ClientApp, and `python client.py --cid N`: what a node does with the server's messages.

The same `app` answers over our gRPC (this file as a command), in Flower's simulation and on its SuperNodes. A process
keeps one model, one compiled graph and its clients' data from message to message. What a message means is said by the
workflow of the run: fedkeras/workflows, each with its `client`.
"""

import contextlib
import functools
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

import fedkeras  # noqa: F401 - before Flower, whose import decides what gRPC prints

# isort: split
from flwr.app import ConfigRecord, Context, Message

from fedkeras import atomic, data, lifeline, scaling
from fedkeras.address import parse_server, require_known
from fedkeras.checkout import look_in_working_directory, program
from fedkeras.client_config import ClientConfig
from fedkeras.config import Config
from fedkeras.errors import UserError, complain, one_line
from fedkeras.federation import source_check
from fedkeras.federation.grids import IDENTIFY
from fedkeras.federation.requests import ClientContext, ClientRequest, Handler
from fedkeras.flags import parse_flags
from fedkeras.flower import code_digest, ray_place
from fedkeras.flower.client_app import NamedClientApp
from fedkeras.mods.chain import make_mods
from fedkeras.named_code import OWN_FLAGS, Permission
from fedkeras.output import outlast
from fedkeras.provisioning import client as provisioning_client
from fedkeras.reports import progress_bar, round_lines
from fedkeras.reports.log import CleanFormatter, Console
from fedkeras.runtime.client_app import error_reply
from fedkeras.tensorflow_import import import_tensorflow
from fedkeras.workflows.base import Workflow, workflow_of
from fedkeras.workflows.collect import client as collect_client


def answer(message: Message, context: Context) -> Message:
    """The reply to any message; what goes wrong becomes an error reply with a reason in one line, in every runtime."""
    request = ClientRequest(context, message, resolve=scaling.resolved_by_client)
    try:
        code_digest.check(request.sent.get("code-digest"))
        if message.metadata.message_type == IDENTIFY:
            return identify(request)
        source_check.check(request)
        reply = make_mods(request.config.mods, request.permission).answer(message, context, handle)
        return ray_place.noted(reply, bool(request.sent.get(ray_place.ASKED)))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this client's failure for this round
        progress_bar.shown.over(context.node_config.get("partition-id", -1))
        return error_reply(error, message)


app = NamedClientApp(answer)


def handle(message: Message, context: Context) -> Message:
    """The workflow's own answer, within all mods."""
    request = ClientRequest(context, message, resolve=scaling.resolved_by_client)
    kind = message.metadata.message_type
    handler = _handlers(request.config, request.permission).get(kind)
    if handler is None:
        raise UserError(f"this client has no answer to a message of the kind '{kind}' in this way to train")
    return handler(request)


def identify(request: ClientRequest) -> Message:
    """Which partition this node has: Flower's server knows random node ids only."""
    if "partition-id" not in request.context.node_config:
        raise UserError("a SuperNode was started without its partition: add --node-config 'partition-id=0', or 1, ...")
    return request.reply(config=ConfigRecord({"partition-id": request.cid}))


@functools.lru_cache(maxsize=4)
def _workflow(config: Config, permission: Permission) -> Workflow:
    return workflow_of(config, permission)


@functools.lru_cache(maxsize=4)
def _handlers(config: Config, permission: Permission) -> Mapping[str, Handler]:
    """What can be answered in a run: what is handed out before it, and what its workflow says."""
    return {**provisioning_client.HANDLERS, **_workflow(config, permission).handlers}


def prepare(contexts: Sequence[Context]) -> None:
    """Load the clients' data and build the model when they have joined, before the first message asks for them."""
    for context in contexts:
        _ = ClientContext(context).config  # what this client does not permit is said before anything is loaded
    started = time.perf_counter()
    import_tensorflow()
    imported = time.perf_counter()
    for context in contexts:
        client = ClientContext(context, resolve=scaling.resolved_by_client)
        _workflow(client.config, client.permission).prepare_client(client)
    own = time.perf_counter() - imported
    say(f"ready (waited {imported - started:.1f} s for TensorFlow, {own:.1f} s for data and model)")


def main() -> int:
    """The command. Returns the exit status."""
    outlast()
    console = Console()
    console.setFormatter(CleanFormatter("client: %(message)s"))
    logging.basicConfig(handlers=[console], level=logging.WARNING)
    lifeline.follow()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it says goodbye then too, so that nobody waits for it
    look_in_working_directory()
    with contextlib.ExitStack() as shown:
        return _take_part(shown)


def _take_part(shown: contextlib.ExitStack) -> int:
    """Join and answer. `shown` is left when all is over: a training may come to its end without a server."""
    from fedkeras.flower import other_app, settings
    from fedkeras.runtime.holder_key import read_key
    from fedkeras.runtime.node import serve
    from fedkeras.runtime.passphrase import Access, read_passphrase
    from fedkeras.runtime.sent_log import SentLog

    try:
        flags = parse_flags(ClientConfig, None, program("client"))
        node_config = settings.node_config(flags.node_config, flags.data_dir)
        cids = flags.cids()
        flags.check()
        require_known(parse_server(flags.server)[0])
        if flags.app:
            served, ready = other_app.load_client_app(flags.app), lambda contexts: None
        else:
            served, ready = app, (lambda contexts: None) if flags.deliver else prepare
            node_config |= {"decimal": flags.decimal, "thousands": flags.thousands}
            node_config |= {"data": flags.data, "label-column": flags.label_column}
            node_config |= {"trust-code": flags.trust_code, "allow": ",".join(flags.allow), "deliver": flags.deliver}
            node_config |= {"max-download-mb": flags.max_download_mb}
            node_config |= {kind: name for kind in OWN_FLAGS if (name := getattr(flags, kind))}
            # TensorFlow takes seconds to import: begin now, while the server is looked for.
            if not flags.deliver:
                _tensorflow.start()
        # Of partitions that others serve too, the first shows whether all is well; the rest are loaded when it is known
        # who trains them.
        first = (lambda contexts: ready(contexts[:1])) if flags.shared else ready
        access = Access(
            read_passphrase(flags.passphrase_file), flags.tls_cert, flags.tls_key, flags.tls_ca, flags.insecure
        )
        for context in (atomic.private(flags.private), _choices_shown(), _rounds_shown(len(cids))):
            shown.enter_context(context)
        sent_log = SentLog(flags.sent_log_path(data.cache.folder() / "sent"), flags.server)
        note = serve(
            served, flags.server, cids, node_config, flags.max_wait, first, say, flags.shared, access=access,
            replace=flags.replace, in_thread=not flags.app, terms=flags.terms(), sent_log=sent_log,
            holder_key=read_key(flags.holder_key, data.cache.folder()),
        )  # fmt: skip
    except UserError as error:
        status = complain(program("client"), error)
        with contextlib.suppress(KeyboardInterrupt):
            collect_client.local_jobs.finish(say)
        return status
    except KeyboardInterrupt:
        print("client: interrupted", file=sys.stderr)
        return 130
    shown.close()  # what each client took part in stands above the end
    if flags.shared:
        say("what is missing here was done by the other processes with these --cid --shared")
    if sent_log.path:
        say(f"messages sent: {sent_log.path}")
    say(f"the run is finished{f'; {note}' if note else ''}")
    return 0


def say(text: str) -> None:
    """One line on the client's terminal."""
    print(f"client: {one_line(text)}", flush=True)


@contextlib.contextmanager
def _choices_shown() -> Iterator[None]:
    """What this process decides by itself is said on stdout, which clients that a server has spawned are without."""
    chosen, shown = logging.getLogger("fedkeras.chosen"), logging.Handler()
    shown.emit = lambda record: say(record.getMessage())
    chosen.addHandler(shown)
    chosen.setLevel(logging.INFO)
    chosen.propagate = False
    try:
        yield
    finally:
        chosen.removeHandler(shown)
        chosen.setLevel(logging.NOTSET)
        chosen.propagate = True


@contextlib.contextmanager
def _rounds_shown(clients: int) -> Iterator[None]:
    """What comes of each round is said too, below a bar; without --cid the process serves one client."""

    def say_aligned(line: str) -> None:
        print(f"client: {line}", flush=True)

    before = round_lines.shown
    round_lines.shown = round_lines.RoundLines(say_aligned, max(1, clients), progress_bar.shown)
    try:
        yield
    finally:
        round_lines.shown.close()
        round_lines.shown = before


def _preload() -> None:
    with contextlib.suppress(UserError):  # `prepare` comes to it again, and says it
        import_tensorflow()


_tensorflow = threading.Thread(target=_preload, daemon=True)


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
