"""What is needed of Flower beyond its public face (`flwr.app`, `flwr.clientapp`, `flwr.serverapp`), in this one file.

Flower promises nothing about these names: each says here why it is needed and what would take its place, and
docs/compatibility.md is the list to go through when the pin is raised. A test holds every other file to the public
face.
"""

from pathlib import Path
from typing import Any

from flwr.app import Message
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

__all__ = [
    "SUPERLINK_NODE_ID",
    "ErrorCode",
    "Run",
    "act_as",
    "flat_table",
    "has_main",
    "is_simulation",
    "new_run",
    "project_config",
    "set_message_id",
]

# SUPERLINK_NODE_ID: the node id that Flower gives the server; a reply's metadata must name it. It is 1, and could be
# written here as a number of our own: our grids' ids are seen by no SuperLink.

# ErrorCode: the numbers in a Message's Error. `flwr.app.Error` is public and takes any whole number, but an app that
# looks at the code compares it with these. In its place: our own copies of the two numbers we send.

# Run: the type of the property `Grid.run`, which every Grid must have, although Run itself is not public. In its place:
# whatever Flower then says that Grid.run returns.


def new_run(run_id: int) -> Run:
    """The description of a run of our own runtimes: an id, and nothing else that Flower would know of a run."""
    return Run.create_empty(run_id)


def act_as(node_id: int, run_id: int) -> None:
    """Let Flower take this process for that node: `Message(...)` reads its run, source and task ids from there.

    Flower's runtimes set the same three at the start of a process; there is no public setter. In its place: a `Message`
    that takes its metadata from the caller.
    """
    TaskIdentity.node_id, TaskIdentity.run_id, TaskIdentity.task_id = node_id, run_id, 0


def set_message_id(message: Message, message_id: str) -> None:
    """Name a message that is about to be sent, as Flower's own grids do in `push_messages`: there is no setter."""
    message.metadata.__dict__["_message_id"] = message_id


def project_config(folder: Path) -> dict[str, Any]:
    """The pyproject.toml of a Flower app in `folder`, checked by Flower's own rules, so that its words are Flower's.

    Raises FileNotFoundError if there is none, ValueError for what Flower finds wrong with it. In its place: tomllib and
    checks of our own.
    """
    from flwr.common.config import get_project_config  # here: it imports requests, and only --app needs it

    return get_project_config(folder)


def flat_table(table: dict[str, Any] | None) -> dict[str, Any]:
    """A nested table of settings with dotted keys, as Flower hands it to an app. In its place: ten lines of our own."""
    from flwr.common.config import flatten_dict  # here, for the same reason

    return flatten_dict(table)


def has_main(app: ServerApp) -> bool:
    """False for a ServerApp that would raise as soon as it is called, since nothing was registered with it.

    Read from attributes that Flower may rename; one that is not there counts as set, and Flower's own exception then
    takes the place of our line.
    """
    return any(getattr(app, own, True) for own in ("_main", "_server_fn", "_strategy", "_server", "_config"))


def is_simulation(grid: Grid) -> bool:
    """True for the grid of Flower's simulation, where nodes that are missing at the start will never come.

    Known by its class's name: importing the class would import the SuperLink. In its place: anything that tells a
    simulation from a deployment; if the name changes, the server only waits longer and advises less well.
    """
    return type(grid).__name__ == "InMemoryGrid"
