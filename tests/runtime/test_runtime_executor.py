"""A SuperNode's tasks as a resident executor takes them, over Flower's own Runtime API in this process."""

import io
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from runtime.supernode_api import SECRET, SuperNodeApi, bundle, supernode_api, until

from fedkeras.errors import UserError
from fedkeras.flower import code_digest
from fedkeras.flower.runtime_api import ApiAddress, ClaimedTask, TaskLost, TaskQueue
from fedkeras.runtime import executor

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def api() -> Iterator[SuperNodeApi]:
    """A SuperNode that knows runs 1 to 9."""
    with supernode_api() as started:
        for run_id in range(1, 10):
            started.add_run(run_id, bundle(), **{"partition-id": 0})
        yield started


def counted(message: Message, context: Context) -> Message:
    """An app that counts its messages in the context."""
    count = int(context.state["own"]["count"]) + 1 if "own" in context.state else 1
    context.state["own"] = ConfigRecord({"count": count})
    return Message(RecordDict({"config": ConfigRecord({"count": count})}), reply_to=message)


def worked(
    api: SuperNodeApi, tokens: Iterable[str], app: Callable = counted, check: Callable = lambda content: None
) -> list[dict]:
    """What an executor reports that was given these tokens."""
    reports = io.StringIO()
    orders = (json.dumps({"token": token}) for token in tokens)
    executor.serve(app, api.endpoint, check, lambda *_: None, orders, reports)
    return [json.loads(line) for line in reports.getvalue().splitlines()]


def claimed(api: SuperNodeApi, count: int = 1) -> Iterator[str]:
    """The tokens of the next tasks, each claimed when the one before is done."""
    queue = TaskQueue(api.endpoint, SECRET)
    for _ in range(count):
        yield queue.claim().token


def test_a_message_is_answered_and_the_context_goes_on_with_the_next(api: SuperNodeApi) -> None:
    """Broken if the pushed context is not the one that the next message comes with: the count would stay 1."""
    messages = [api.message(1, number=number) for number in range(3)]
    for number, message in enumerate(messages, 1):
        api.send(message)
        reports = worked(api, claimed(api))
        assert [set(report) for report in reports] == [{"ready"}, {"begun"}, {"head"}, {"done"}]
        assert api.reply(message).content["config"]["count"] == number
    assert TaskQueue(api.endpoint, SECRET).claim() is None
    assert api.state.get_run_series_context(1).state["own"]["count"] == 3


def test_contexts_of_two_runs_are_kept_apart(api: SuperNodeApi) -> None:
    messages = [api.message(run_id) for run_id in (2, 3)]
    for message in messages:
        api.send(message)
    worked(api, claimed(api, 2))
    assert [api.reply(message).content["config"]["count"] for message in messages] == [1, 1]


def test_a_task_may_be_there_before_its_message(api: SuperNodeApi) -> None:
    """Flower's executor asks so late that it never sees that, and gives up if it does."""
    message = api.message(4)
    api.announce(message)
    working = threading.Thread(target=worked, args=(api, [*claimed(api)]))
    working.start()
    time.sleep(0.3)
    assert api.reply(message) is None and working.is_alive()
    api.store_head(message)
    api.store_objects(message)
    working.join()
    assert api.reply(message).content["config"]["count"] == 1


def test_a_message_may_be_there_before_its_objects(api: SuperNodeApi, caplog: pytest.LogCaptureFixture) -> None:
    """Flower's executor asks for them again after a second; the best of ten tries, on a machine that may be busy."""
    caplog.set_level(logging.DEBUG, logger="flwr")  # a run in this process has raised it
    seconds, tries = 60.0, 0
    while seconds > 0.6 and (tries := tries + 1) <= 10:
        message = api.message(4, number=tries)
        caplog.clear()
        api.announce(message)
        api.store_head(message)
        working = threading.Thread(target=worked, args=(api, [*claimed(api)]))
        working.start()
        until(lambda: caplog.messages.count("Runtime.PullObject") >= 3, "the question for each object")
        time.sleep(0.02)
        assert api.reply(message) is None
        started = time.monotonic()
        api.store_objects(message)
        working.join()
        seconds = time.monotonic() - started
        assert api.reply(message).has_content()
    assert seconds < 0.6


def test_an_exception_is_an_error_reply_and_the_executor_lives(api: SuperNodeApi) -> None:
    def fails(message: Message, context: Context) -> Message:
        if message.content["config"]["number"] == 0:
            raise ZeroDivisionError("by a test")
        return counted(message, context)

    messages = [api.message(5, number=number) for number in range(2)]
    for message in messages:
        api.send(message)
    worked(api, claimed(api, 2), fails)
    assert "ZeroDivisionError: by a test" in api.reply(messages[0]).error.reason
    assert api.reply(messages[1]).content["config"]["count"] == 1


def test_a_task_that_was_given_up_ends_nothing(api: SuperNodeApi, caplog: pytest.LogCaptureFixture) -> None:
    """A SuperNode that was stopped for a minute takes no answer any more, and the next message is answered."""
    message = api.message(6)
    api.send(message)
    reports = worked(api, iter(["no such token", *claimed(api)]))
    assert [set(report) for report in reports] == [{"ready"}, {"begun"}, {"done"}, {"begun"}, {"head"}, {"done"}]
    assert "a message could not be answered: the SuperNode answers 401" in caplog.text
    assert api.reply(message).content["config"]["count"] == 1


def test_nobody_without_the_secret_takes_a_task(api: SuperNodeApi) -> None:
    message = api.message(7)
    api.send(message)
    with pytest.raises(TaskLost, match="401"):
        TaskQueue(api.endpoint, b"a guess").claim()
    worked(api, claimed(api))
    assert api.reply(message).has_content()


@pytest.mark.parametrize("came_to", ["nothing", "begun", "head", "message"])
def test_an_error_for_an_executor_that_has_ended(api: SuperNodeApi, came_to: str) -> None:
    """However far it had come, the server learns it at once: Flower would wait for a minute without a heartbeat."""
    message, head = api.message(8, at=came_to), b""
    api.send(message)
    (token,) = claimed(api)
    task = ClaimedTask(api.endpoint, token)
    if came_to != "nothing":
        task.begin()
    if came_to in ("head", "message"):
        head = task.pull_head()
    if came_to == "message":
        task.pull()
    with ClaimedTask(api.endpoint, token) as again:
        again.fail(head, "it was ended")
    assert api.reply(message).error.reason == "it was ended"
    with pytest.raises(TaskLost):
        task.push(Message(RecordDict(), reply_to=message), Context(8, 77, {}, RecordDict(), {}))


def test_a_supernode_that_is_gone_is_said_in_words() -> None:
    with pytest.raises(TaskLost, match="does not answer: ConnectError"):
        TaskQueue(ApiAddress("127.0.0.1:9"), SECRET).claim()


# Whose code runs


def own_modules() -> dict[str, str]:
    """All of our code, as a bundle holds it."""
    paths = [ROOT / "server.py", ROOT / "client.py"]
    paths += [path for name in ("fedkeras", "data", "strategies") for path in (ROOT / name).rglob("*.py")]
    return {path.relative_to(ROOT).with_suffix("").as_posix(): path.read_text() for path in paths}


def test_the_bundle_of_this_very_code_is_taken() -> None:
    code_digest.check_bundle(bundle(**own_modules()))
    code_digest.check_bundle(bundle("fedkeras.client:app"))  # an installed package's, which holds no code


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda: bundle(**own_modules() | {"strategies/fedavg": "# other"}), "runs other code than the server"),
        (lambda: bundle(**own_modules() | {"hatch_build": "# other"}), "start it again (hatch_build.py differs)"),
        (lambda: bundle("torchapp.client:app"), "of another app (torchapp.client:app): use flower-supernode"),
    ],
    ids=["code", "module", "app"],
)
def test_a_run_of_other_code_is_an_error_that_says_so(api: SuperNodeApi, content: Callable, said: str) -> None:
    given = content()
    with pytest.raises(UserError) as refused:
        code_digest.check_bundle(given)
    assert said in str(refused.value)
    message = api.message(9, said=said)
    api.send(message)
    worked(api, claimed(api), check=lambda _: code_digest.check_bundle(given))
    assert said in api.reply(message).error.reason


def test_modules_beside_the_product_may_differ() -> None:
    code_digest.check_bundle(bundle(**own_modules() | {"tests/bare_runs": "# other", "mine": "# not here"}))


@pytest.mark.parametrize(("sent", "said"), [(None, "not fedkeras'"), ("0" * 16, "runs other code than the server")])
def test_a_message_without_this_codes_digest_is_not_answered(sent: str | None, said: str) -> None:
    code_digest.check_supernode(code_digest.digest())
    with pytest.raises(UserError, match=said):
        code_digest.check_supernode(sent)
