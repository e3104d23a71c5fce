"""A client's end: joins the server, answers its messages with a ClientApp until the server says goodbye.

The app works on one message at a time, while further messages already arrive and replies are still being sent.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

from flwr.app import Context

from fedkeras.errors import RunFailed, UserError, describe
from fedkeras.flower.identity import SERVER_NODE_ID, be, node_id_of
from fedkeras.runtime import wire
from fedkeras.runtime.answering import App, answer, failure, new_context
from fedkeras.runtime.client_session import ClientSession
from fedkeras.runtime.content import WireError
from fedkeras.runtime.federation_pb2 import Welcome
from fedkeras.runtime.passphrase import Access

log = logging.getLogger("fedkeras")


def serve(
    app: App,
    server: str,
    cids: Sequence[int],
    node_config: Mapping,
    max_wait: float,
    prepare: Callable[[Sequence[Context]], None] = lambda contexts: None,
    say: Callable[[str], None] = log.info,
    shared: bool = False,
    *,
    access: Access = Access(),  # noqa: B008 - frozen
    replace: bool = False,
    in_thread: bool = False,
) -> None:
    """Serve the partitions `cids` at the server `host:port`; return when the run is finished.

    Without `cids` the server gives this process one that is free.

    `node_config` is what Flower calls so: this node's own settings, given to the app. Waits up to `max_wait` seconds
    for the server to be there, and as long again whenever the connection is lost. `prepare` is called with all
    partitions' Contexts after joining. With `shared` this and other processes that say so serve the partitions between
    them; with `replace` it takes the place of a client that is connected under the same cid. `in_thread`: `prepare` and
    the app run in a thread of their own, so that Ctrl-C is heard in the middle of a graph that runs for minutes; the
    thread is left to itself then, and the process should end. Otherwise they run in the caller's.

    Raises UserError if the server refuses this client or cannot be reached, RunFailed if the run ends otherwise than
    well.
    """
    member = ClientSession(server, cids, shared, access, replace, max_wait, say)
    try:
        say(f"joined {server} as client {', '.join(map(str, member.cids))}")
        contexts = _contexts(member.welcome, member.cids, node_config)

        def work() -> None:
            _prepare(prepare, list(contexts.values()))
            _answer_all(app, member, contexts, node_config)

        _wait_for(work) if in_thread else work()
    except KeyboardInterrupt:
        member.leave("it was interrupted")
        raise
    except UserError as error:
        if not isinstance(error, RunFailed):
            member.leave(str(error))
        raise
    finally:
        member.close()


def _prepare(prepare: Callable[[Sequence[Context]], None], contexts: Sequence[Context]) -> None:
    """Whatever a user's own data or model raises before the first message ends the client with one line."""
    try:
        prepare(contexts)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"this client cannot begin: {describe(error)}") from error


def _wait_for(work: Callable[[], None]) -> None:
    """Run `work` in a thread, with its exceptions raised here. Python hears signals in the waiting thread alone."""
    outcome: Future[None] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            outcome.set_exception(error)

    threading.Thread(target=run, name="fedkeras-work", daemon=True).start()
    outcome.result()


def _contexts(welcome: Welcome, cids: Sequence[int], node_config: Mapping) -> dict[int, Context]:
    run_config = json.loads(welcome.run_config)
    return {cid: new_context(cid, welcome.num_partitions, welcome.run_id, run_config, node_config) for cid in cids}


def _answer_all(app: App, member: ClientSession, contexts: dict[int, Context], node_config: Mapping) -> None:
    run_id = member.welcome.run_id
    while (received := member.receive()) is not None:
        if isinstance(received, Welcome):  # of a server that was started again
            contexts, run_id = _contexts(received, list(contexts), node_config), received.run_id
            continue
        header, pieces = received
        if header.cid not in contexts:
            raise RunFailed(f"the server sent a message for client {header.cid}, which is not served here")
        be(node_id_of(header.cid), run_id)
        try:
            message = wire.decode(header, pieces, run_id, SERVER_NODE_ID, node_id_of(header.cid))
        except WireError as error:
            raise RunFailed(f"the server sent {error}") from error
        del received, pieces  # the message has its own copy; the next one may be large
        reply = answer(app, message, contexts[header.cid])
        if reply.has_error():
            log.error("client %d could not answer: %s", header.cid, reply.error.reason)
        try:
            outgoing = wire.encode(reply, header.cid)
        except ValueError as error:
            log.error("client %d's answer cannot be sent: %s", header.cid, error)
            outgoing = wire.encode(failure(error, message), header.cid)
        member.reply(header.message_id, outgoing)
