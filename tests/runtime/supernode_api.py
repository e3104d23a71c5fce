"""A SuperNode without a SuperLink: Flower's own Runtime API on a port of this process, and messages put in by hand."""

import contextlib
import hashlib
import io
import threading
import time
import zipfile
from collections.abc import Iterator
from itertools import count

import uvicorn
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supernode.main import create_app
from flwr.supernode.nodestate import NodeStateFactory

from fedkeras.flower.identity import act_as
from fedkeras.flower.runtime_api import ApiAddress
from fedkeras.runtime.warm_supernode import free_port

NODE_ID, SECONDS = 77, 60.0
SECRET = b"of this test"


def bundle(clientapp: str = "client:app", **modules: str) -> bytes:
    """A bundle (FAB) with a pyproject.toml and these modules, by path without the ending."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        table = f'[tool.flwr.app.components]\nserverapp = "server:app"\nclientapp = "{clientapp}"\n'
        archive.writestr("pyproject.toml", table)
        for name, text in modules.items():
            archive.writestr(f"{name}.py", text)
    return written.getvalue()


class SuperNodeApi:
    """The state of a SuperNode, its API, and what its main loop does with them, step by step."""

    def __init__(self, secret: bytes = SECRET) -> None:
        objects = ObjectStoreFactory()
        factory = NodeStateFactory(objectstore_factory=objects)
        self.state, self._store = factory.state(), objects.store()
        self.state.set_node_id(NODE_ID)
        port = free_port("127.0.0.1")
        app = create_app(factory, secret)
        self._server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="error"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self.endpoint = ApiAddress(f"127.0.0.1:{port}")
        self._numbers = count(1)

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        until(lambda: self._server.started, "the API")

    def stop(self) -> None:
        """Stop listening."""
        self._server.should_exit = True
        self._thread.join()

    def add_run(self, run_id: int, fab: bytes, **node_config: str | int) -> None:
        """A run that the SuperNode has heard of."""
        run = Run.create_empty(run_id)
        run.series_id, run.fab_hash = run_id, hashlib.sha256(fab).hexdigest()
        self.state.store_run(run)
        self.state.store_fab(Fab(run.fab_hash, fab, {}))
        self.state.set_run_series_context(
            run_id, Context(run_id, NODE_ID, dict(node_config), RecordDict(), {}, series_id=run_id)
        )

    def message(self, run_id: int, **values: str | int) -> Message:
        """A message as a server sends it."""
        act_as(1, run_id)
        content = RecordDict({"config": ConfigRecord(dict(values))})
        message = Message(content, NODE_ID, "query.test", group_id=str(next(self._numbers)))
        message.metadata.__dict__["_message_id"] = message.object_id
        return message

    def announce(self, message: Message) -> None:
        """The task of a message that is not there yet."""
        run = self.state.get_run(message.metadata.run_id)
        assert self.state.create_task(TaskType.CLIENT_APP, run.run_id, fab_hash=run.fab_hash) is not None

    def store_head(self, message: Message) -> None:
        """The message, without the objects of its content."""
        self._store.preregister(message.metadata.run_id, get_object_tree(message))
        self.state.store_message(remove_content_from_message(message))

    def store_objects(self, message: Message) -> None:
        """The objects of its content."""
        for object_id, found in get_all_nested_objects(message).items():
            self._store.put(object_id, found.deflate())

    def send(self, message: Message) -> None:
        """All three."""
        self.announce(message)
        self.store_head(message)
        self.store_objects(message)

    def reply(self, message: Message) -> Message | None:
        """The answer with its content, if it is there."""
        for entry in list(self.state.msg_store.values()):
            found = entry.message
            if found.metadata.reply_to_message_id == message.metadata.message_id:
                if found.has_error():
                    return found
                tree = self._store.get_object_tree(found.metadata.message_id)
                contents = {each: self._store.get(each) for each in _ids(tree)}
                if all(contents.values()):
                    return inflate_object_from_contents(found.metadata.message_id, contents)
        return None

    def wait_for_reply(self, message: Message) -> Message:
        """The answer."""
        return until(lambda: self.reply(message), "the reply")


def _ids(tree: object) -> list[str]:
    return [tree.object_id, *(each for child in tree.children for each in _ids(child))]


@contextlib.contextmanager
def supernode_api() -> Iterator[SuperNodeApi]:
    """One that listens."""
    api = SuperNodeApi()
    api.start()
    try:
        yield api
    finally:
        api.stop()


def until(look: object, what: str, seconds: float = SECONDS) -> object:
    """What `look` returns once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.02)
    return found
