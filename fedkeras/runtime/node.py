"""A client's end: joins the server and answers its messages with a ClientApp, until the run ends.

The app works on one message at a time, while further messages already arrive and replies are still being sent.
"""

import json
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from importlib.metadata import version

from flwr.app import Context

from fedkeras.client_terms import ClientTerms
from fedkeras.errors import RunFailed, UserError, describe
from fedkeras.flower.identity import SERVER_NODE_ID, act_as, node_id_of
from fedkeras.runtime import wire
from fedkeras.runtime.client_app import App, Settings, answer, error_reply, new_context
from fedkeras.runtime.client_session import ClientSession
from fedkeras.runtime.content import WireError
from fedkeras.runtime.federation_pb2 import Welcome
from fedkeras.runtime.passphrase import Access
from fedkeras.runtime.peer_log import LimitedLines
from fedkeras.runtime.sent_log import SentLog

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
    terms: ClientTerms | None = None,
    sent_log: SentLog | None = None,
    holder_key: bytes = b"",
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
    run in the caller's thread. `terms` are what this client demands of the run, `sent_log` notes what it sends.
    `holder_key` is that by which the server knows this client again (`holder_key.read_key`); unset: for this process.

    Raises UserError if the server refuses this client or cannot be reached, RunFailed if the run ends otherwise than
    well, or well but without this client.
    """
    terms, sent_log = terms or ClientTerms(), sent_log or SentLog(None, server)
    bounded = {} if terms.max_message_bytes is None else {"max_message_bytes": terms.max_message_bytes}
    session = ClientSession(server, cids, shared, access, replace, max_wait, report, holder_key=holder_key, **bounded)
    names = ", ".join(map(str, session.cids))
    timer: threading.Timer | None = None
    try:
        sent_log.note_words(names, "join", f"fedkeras {version('fedkeras')}, client {names}{', shared' * shared}")
        if (list(cids) or session.cids[:1]) != session.cids:
            raise UserError(f"the server takes this process for client {names[:100]}, which it is not")
        report(f"joined {server} as client {names}")
        terms.begin(session.encrypted, session.knows_passphrase)
        contexts = _contexts(session.welcome, session.cids, node_config, terms)
        if terms.seconds_left < threading.TIMEOUT_MAX:
            timer = threading.Timer(terms.seconds_left, lambda: session.withdraw(terms.time_is_over()))
            timer.daemon = True
            timer.start()

        def work() -> None:
            _prepare(prepare, list(contexts.values()))
            _answer_all(app, session, contexts, node_config, terms, sent_log)

        _wait_for(work) if in_thread else work()
        return session.end_note
    except KeyboardInterrupt:
        sent_log.note_words(names, "leave", "it was interrupted")
        session.leave("it was interrupted")
        raise
    except UserError as error:
        if not isinstance(error, RunFailed) or isinstance(error, BadMessage):
            sent_log.note_words(names, "leave", str(error))
            session.leave(str(error))
        raise
    finally:
        if timer:
            timer.cancel()
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


def _contexts(welcome: Welcome, cids: Sequence[int], node_config: Settings, terms: ClientTerms) -> dict[int, Context]:
    """A Context for each cid. Raises UserError for a run that cannot be read, or is not as this client demands."""
    try:
        run_config = json.loads(welcome.run_config)
        if not all(isinstance(value, bool | int | float | str) for value in run_config.values()):
            raise ValueError("a value that is none")
    except (ValueError, AttributeError, RecursionError) as error:
        raise UserError("the server's run configuration cannot be read: it is no server of this version") from error
    terms.check_run(run_config)
    return {cid: new_context(cid, welcome.num_partitions, welcome.run_id, run_config, node_config) for cid in cids}


def _answer_all(
    app: App,
    session: ClientSession,
    contexts: dict[int, Context],
    node_config: Settings,
    terms: ClientTerms,
    sent_log: SentLog,
) -> None:
    run_id, said, complain = session.welcome.run_id, dict[int, str](), LimitedLines(log.error)
    while (received := session.receive()) is not None:
        if isinstance(received, Welcome):  # of a server that was started again
            contexts, run_id = _contexts(received, list(contexts), node_config, terms), received.run_id
            continue
        header, buffers = received
        if header.cid not in contexts:
            raise BadMessage(f"the server sent a message for client {header.cid}, which is not served here")
        terms.check_message(header.cid, header.message_type)
        act_as(node_id_of(header.cid), run_id)
        try:
            message = wire.decode(header, buffers, run_id, SERVER_NODE_ID, node_id_of(header.cid))
        except WireError as error:
            raise BadMessage(f"the server sent {error}") from error
        del received, buffers  # with the message they go, where the next one brings others
        reply = answer(app, message, contexts[header.cid])
        if reply.has_error():
            if said.get(header.cid) != reply.error.reason:  # not again each time that it is asked again
                complain(f"client {header.cid} could not answer: {reply.error.reason}")
            said[header.cid] = reply.error.reason
        try:
            limit = wire.header_limit(header.ByteSize())  # what the server takes
            outgoing = wire.encode(reply, header.cid, max_header_bytes=limit)
        except Exception as error:  # noqa: BLE001 - else the server would wait for this answer
            complain(f"client {header.cid}'s answer cannot be sent: {error}")
            reply = error_reply(error, message)
            outgoing = wire.encode(reply, header.cid)
        sent_log.note(message, reply, outgoing)
        session.reply(header.message_id, outgoing)
