"""Every message of every way to train is in the table of docs/privacy.md, with all that its answer holds."""

import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ArrayRecord

from fedkeras import client, server
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.grids import IDENTIFY
from fedkeras.mods import releases
from fedkeras.named_code import find_class
from fedkeras.provisioning import client as provisioning_client
from fedkeras.workflows.base import BUILT_IN, Workflow

PAGE = Path(__file__).resolve().parents[2] / "docs" / "privacy.md"


@pytest.fixture(scope="module")
def table():
    """{message kind: names of fields} of the page."""
    section = PAGE.read_text().split("## What leaves a client")[1].split("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    words = [[re.findall(r"`([^`]+)`", cell) for cell in row] for row in rows]
    return {kind: set(fields) for kinds, fields in words for kind in kinds}


@pytest.fixture(autouse=True)
def whatever_threads(monkeypatch):
    """The process is several runs', each of which would set them."""
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda threads: None)


def test_the_table_has_each_message_that_a_client_has_an_answer_to_and_no_other(table):
    answered = {IDENTIFY, *provisioning_client.HANDLERS}
    for name in BUILT_IN.keys() - {"evaluate"}:  # which takes another one's
        answered |= find_class(name, Workflow, BUILT_IN, "mode").made_for(Config()).handlers.keys()
    assert table.keys() == answered


def answers(folder, **settings):
    """{message kind: what its answers hold} of a whole run in this process."""
    found = defaultdict(set)

    def app(message, context):
        reply = client.app(message, context)
        assert not reply.has_error(), reply.error.reason
        for name, fields in reply.content.items():
            if isinstance(fields, ArrayRecord) or name == "scales":
                found[message.metadata.message_type].add(name)
            else:
                found[message.metadata.message_type] |= set(fields)
        return reply

    server.in_process(Config(**{"num_server_rounds": 1, "num_partitions": 2, **settings}), app, folder)
    return found


def own_tables(folder):
    rng = np.random.default_rng(0)
    for name, array in (("X", rng.normal(size=(60, 4))), ("Y", rng.integers(0, 2, (60, 1)))):
        (folder / name).mkdir(parents=True)
        np.savez(folder / name / "rows.npz", array)


def hidden(input_shape, num_classes):
    import keras

    dense = [keras.layers.Flatten(), keras.layers.Dense(4), keras.layers.Dense(4), keras.layers.Dense(num_classes)]
    return keras.Sequential([keras.Input(input_shape), *dense, keras.layers.Softmax()])


def small(folder):
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.save(folder / "small.keras")
    return {"model": str(folder / "small.keras"), "data_source": "client", "data_dir": str(folder / "own")}


@pytest.mark.parametrize(
    ("way", "kinds"),
    [
        ("rounds", {"query.initial_weights", "train", "evaluate"}),
        ("split", {"query.initial_weights", *(f"query.split_{x}" for x in ("start", "loss", "backward"))}),
        ("own", {"query.offer", "query.model_file", "query.describe", "query.set_preprocessing", "train"}),
        ("collect", {"query.offer", "query.describe", "query.fit", "query.progress", "query.deliver", "query.confirm"}),
    ],
)
def test_no_answer_holds_more_than_the_table_says(way, kinds, table, tmp_path):
    settings = {
        "rounds": {"model": "logistic_regression"},
        "split": {"split": "sequential", "model": f"{__name__}:hidden", "split_at": "1,2"},
    }.get(way)
    if settings is None:
        own_tables(tmp_path / "own")
        settings = {**small(tmp_path), "normaliser": "zscore", "class_weight": "balanced"}
        settings |= {"mode": "collect"} if way == "collect" else {}
    found = answers(tmp_path / "runs", **settings)
    assert kinds <= found.keys(), "the run does what the test is about"
    for kind, fields in found.items():
        assert fields <= table[kind], kind


def test_scaffold_adds_what_the_page_says(table, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDKERAS_CACHE", str(tmp_path / "cache"))
    found = answers(tmp_path / "runs", model="logistic_regression", strategy="scaffold")
    own = {"state", "state-lost"}
    assert own | {"local-steps"} <= found["train"] <= table["train"] | own
    assert "adds `state` and `state-lost`, the digest of the control variate" in PAGE.read_text()


def test_a_release_that_is_new_is_refused_until_a_mod_has_an_answer_to_it(monkeypatch):
    releases.refuse(Config(), "mine")
    new = releases.Release("new", "--private, which is new", lambda config: config.private)
    monkeypatch.setattr(releases, "RELEASES", (*releases.RELEASES, new))
    with pytest.raises(UserError, match="--mods mine does not go with --private, which is new"):
        releases.refuse(Config(private=True), "mine")
    releases.refuse(Config(private=True), "mine", accepted=("new",))


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("descriptions", {"data_source": "client"}),
        ("own files", {"partitioner": "own"}),
        ("client tests", {"evaluate": "runs/one"}),
        ("class weights", {"class_weight": "balanced"}),
        ("counts", {"client_weights": "known"}),
        ("figures", {"fraction_evaluate": 0.5}),
        ("time", {"round_deadline": 9.0}),
        ("scaling", {"normaliser": "zscore"}),
    ],
)
def test_each_release_is_found_and_can_be_accepted(name, fields):
    config = Config(**fields)
    with pytest.raises(UserError, match=r"^--mods mine does not go with"):
        releases.refuse(config, "mine")
    assert [each.name for each in releases.RELEASES if each.present(config)] == [name]
    releases.refuse(config, "mine", accepted=(name,))
