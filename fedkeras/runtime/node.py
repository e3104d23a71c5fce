"""A client's end: joins the server and answers its messages with a ClientApp, until the run ends.

The app works on one message at a time, while further messages already arrive and replies are still being sent.
"""

import json
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from flwr.app import Context

from fedkeras.errors import RunFailed, UserError, describe
from fedkeras.flower.identity import SERVER_NODE_ID, act_as, node_id_of
from fedkeras.runtime import wire
from fedkeras.runtime.client_app import App, Settings, answer, error_reply, new_context
from fedkeras.runtime.client_session import ClientSession
from fedkeras.runtime.content import WireError
from fedkeras.runtime.federation_pb2 import Welcome
from fedkeras.runtime.passphrase import Access

log = logging.getLogger("fedkeras")


class BadMessage(RunFailed):
    """The server sent what cannot be read; it hears of that, since it would wait for an answer."""


def serve(
    app: App,
    server: str,
    cids: Sequence[int],
    node_config: Settings,
    max_wait: float,
    prepare: Callable[[Sequence[Context]], None] = lambda contexts: None,
    report: Callable[[str], None] = log.info,
    shared: bool = False,
    *,
    access: Access = Access(),  # noqa: B008 - frozen
    replace: bool = False,
    in_thread: bool = False,
) -> str:
    """Serve the partitions `cids` at the server `host:port`; return when the run is finished, with the server's word.

    That is empty, or says that this process was not asked.

    Without `cids` the server gives this process one that is free.

    `node_config` are this node's own settings, given to the app (Flower's name). Waits up to `max_wait` seconds for a
    server to answer, and as long again whenever the connection is lost. `prepare` is called with all partitions'
    Contexts after joining; `report` with lines for the person at the terminal. With `shared`, this and other processes
    started so serve the partitions between them; with `replace`, it takes the place of a client that is connected under
    the same cid. `in_thread`: `prepare` and the app run in a thread of their own, so that Ctrl-C takes effect in the
    middle of a graph that runs for minutes; the thread is abandoned then, and the process should end. Otherwise they
    run in the caller's thread.

    Raises UserError if the server refuses this client or cannot be reached, RunFailed if the run ends otherwise than
    well, or well but without this client.
    """
    session = ClientSession(server, cids, shared, access, replace, max_wait, report)
    try:
        report(f"joined {server} as client {', '.join(map(str, session.cids))}")
        contexts = _contexts(session.welcome, session.cids, node_config)

        def work() -> None:
            _prepare(prepare, list(contexts.values()))
            _answer_all(app, session, contexts, node_config)

        _wait_for(work) if in_thread else work()
        return session.end_note
    except KeyboardInterrupt:
        session.leave("it was interrupted")
        raise
    except UserError as error:
        if not isinstance(error, RunFailed) or isinstance(error, BadMessage):
            session.leave(str(error))
        raise
    finally:
        session.close()


def _prepare(prepare: Callable[[Sequence[Context]], None], contexts: Sequence[Context]) -> None:
    """Call `prepare`; what a user's own data or model raises in it becomes a UserError of one line."""
    try:
        prepare(contexts)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"this client cannot begin: {describe(error)}") from error


def _wait_for(work: Callable[[], None]) -> None:
    """Run `work` in a thread and raise its exceptions here. Python handles signals in the main thread, which waits."""
    done: Future[None] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            done.set_exception(error)

    threading.Thread(target=run, name="fedkeras-work", daemon=True).start()
    done.result()


def _contexts(welcome: Welcome, cids: Sequence[int], node_config: Settings) -> dict[int, Context]:
    run_config = json.loads(welcome.run_config)
    return {cid: new_context(cid, welcome.num_partitions, welcome.run_id, run_config, node_config) for cid in cids}


def _answer_all(app: App, session: ClientSession, contexts: dict[int, Context], node_config: Settings) -> None:
    run_id, said = session.welcome.run_id, dict[int, str]()
    while (received := session.receive()) is not None:
        if isinstance(received, Welcome):  # of a server that was started again
            contexts, run_id = _contexts(received, list(contexts), node_config), received.run_id
            continue
        header, pieces = received
        if header.cid not in contexts:
            raise BadMessage(f"the server sent a message for client {header.cid}, which is not served here")
        act_as(node_id_of(header.cid), run_id)
        try:
            message = wire.decode(header, pieces, run_id, SERVER_NODE_ID, node_id_of(header.cid))
        except WireError as error:
            raise BadMessage(f"the server sent {error}") from error
        del received, pieces  # the message has its own copy; the next one may be large
        reply = answer(app, message, contexts[header.cid])
        if reply.has_error():
            if said.get(header.cid) != reply.error.reason:  # not again each time that it is asked again
                log.error("client %d could not answer: %s", header.cid, reply.error.reason)
            said[header.cid] = reply.error.reason
        try:
            outgoing = wire.encode(reply, header.cid)
        except Exception as error:  # noqa: BLE001 - else the server would wait for this answer
            log.error("client %d's answer cannot be sent: %s", header.cid, error)
            outgoing = wire.encode(error_reply(error, message), header.cid)
        session.reply(header.message_id, outgoing)
