"""The resident executor of a warm SuperNode: one process that answers one run's messages, one after the other.

Flower's executor starts a process for every message. This one stays, so that what the app keeps in the process (model,
graph, data) is there for the next message, as in a client of our own gRPC. The command that started it gives it tasks
over stdin, each a line with the task's token, which so stands in no command line and in no file; what it reports goes
back over stdout, and all that anybody prints to stderr.
"""

import base64
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import TextIO

from flwr.app import Context, Message

from fedkeras import lifeline
from fedkeras.flower.runtime_api import ApiAddress, ClaimedTask, TaskLost
from fedkeras.runtime.client_app import App, answer, error_reply

log = logging.getLogger("fedkeras")

CheckBundle = Callable[[bytes], None]
"""Raises UserError for the bundle of a run that this process must not answer."""


def take_over_streams() -> tuple[TextIO, TextIO]:
    """Where tasks come from and reports go to; from now on stdin is empty and stdout is stderr, for whoever asks."""
    orders, reports = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    sys.stdout.flush()
    os.dup2(2, 1)
    return orders, reports


def serve(
    app: App,
    endpoint: ApiAddress,
    check_bundle: CheckBundle,
    answered: Callable[[Message, Context, Message], None],
    orders: Iterable[str],
    reports: TextIO,
) -> None:
    """Answer the tasks of which `orders` has the tokens, until there are no more: the command has gone, or wants it.

    `answered` is called after each answer has left, with the message, its context and the reply.
    """

    def report(**what: str | bool) -> None:
        print(json.dumps(what), file=reports, flush=True)

    report(ready=True)
    for order in orders:
        try:
            with ClaimedTask(endpoint, json.loads(order)["token"]) as task:
                report(begun=True)
                context, bundle = task.begin()
                report(head=base64.b64encode(task.pull_head()).decode())
                message = task.pull()
                try:
                    check_bundle(bundle)
                except Exception as error:  # noqa: BLE001 - whatever is wrong with a bundle, the server is told
                    reply = error_reply(error, message)
                else:
                    reply = answer(app, message, context)
                task.push(reply, context)
            answered(message, context, reply)
        except TaskLost as lost:
            log.warning("a message could not be answered: %s", lost)
        report(done=True)


def follow_command() -> None:
    """Called first in the process: it ends with its command, and leaves Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lifeline.follow()
