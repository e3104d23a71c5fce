"""The process of a warm SuperNode that answers its messages with client.py's app: `fedkeras supernode` starts it.

It runs the code that is installed here, and nothing of a run's bundle: other code than the server's is refused by its
digest. Like a client that has joined our own server, it imports TensorFlow while it waits, and loads data and model
between the question which partition it has and the first training.
"""

import contextlib
import logging
import sys
import threading

import fedkeras  # noqa: F401 - before Flower, whose import decides what gRPC prints

# isort: split
from flwr.app import Context, Message

from fedkeras import client
from fedkeras.checkout import look_in_working_directory
from fedkeras.errors import UserError, one_line
from fedkeras.federation.grids import IDENTIFY
from fedkeras.federation.requests import ClientRequest
from fedkeras.flower import code_digest
from fedkeras.flower.runtime_api import ApiAddress
from fedkeras.reports import round_lines
from fedkeras.reports.log import CleanFormatter, Console
from fedkeras.runtime import executor
from fedkeras.tensorflow_import import import_tensorflow


def run() -> int:
    """Serve until the command that has started this process wants no more; `sys.argv` has the SuperNode's address."""
    executor.follow_command()
    orders, reports = executor.take_over_streams()
    code_digest.digest()  # of the code as it was imported, whatever is changed on the disk later
    console = Console()
    console.setFormatter(CleanFormatter("client: %(message)s"))
    logging.basicConfig(handlers=[console], level=logging.WARNING)
    look_in_working_directory()
    threading.Thread(target=_preload, name="fedkeras-tensorflow", daemon=True).start()
    round_lines.shown = round_lines.RoundLines(_say_aligned)
    executor.serve(answer, ApiAddress(*sys.argv[1:]), code_digest.check_bundle, answered, orders, reports)
    round_lines.shown.close()
    return 0


def answer(message: Message, context: Context) -> Message:
    """client.py's reply to a message of a server with the same code; UserError for any other."""
    code_digest.check_supernode(ClientRequest(context, message).sent.get("code-digest"))
    return client.app(message, context)


def answered(message: Message, context: Context, reply: Message) -> None:
    """Prepare for the training that follows the server's first question, and say what went wrong here."""
    if reply.has_error():
        client.say(f"not answered: {one_line(reply.error.reason)}")
    elif message.metadata.message_type == IDENTIFY:
        try:
            client.prepare([context])
        except Exception as error:  # noqa: BLE001 - the first training comes to it again, and the server is told then
            client.say(f"not prepared: {type(error).__name__}: {one_line(str(error))}")


def _say_aligned(line: str) -> None:
    print(f"client: {line}", flush=True)


def _preload() -> None:
    with contextlib.suppress(UserError):  # `prepare` comes to it again, and says it
        import_tensorflow()
