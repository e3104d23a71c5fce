"""Clients with files of their own, undealt: who must agree on what, what is refused by whom, and that nothing leaks."""

import csv
import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest

from fedkeras import client, server
from fedkeras.config import Config
from fedkeras.data import form_of, load_client, open_source, own_rows, sample_weights_of, told, write_parts
from fedkeras.errors import RunFailed, UserError
from fedkeras.federation.received_config import received_config
from fedkeras.named_code import Permission
from fedkeras.reports.history import read_rows
from fedkeras.runtime.in_process import InProcessGrid


def table(rows: list[tuple], header: str) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([header.split(","), *rows])
    return out.getvalue()


def hospitals(folder: Path, seed: int = 5) -> list[Path]:
    """test.csv for the server, and two clients' files: other units of nothing, other orders of columns, one more."""
    rng = np.random.default_rng(seed)
    sick = rng.integers(0, 2, 90)
    age, pressure = 50 + 10 * rng.normal(size=90) + 20 * sick, 120 + 5 * rng.normal(size=90) - 10 * sick
    rows = [(f"{a:.4f}", f"{p:.4f}", ("ill", "well")[s]) for a, p, s in zip(age, pressure, sick, strict=True)]
    texts = {
        "test.csv": table(rows[:20], "age,pressure,state"),
        "0.csv": table(rows[20:50], "age,pressure,state"),
        "1.csv": table([(s, f"p{i}", p, a) for i, (a, p, s) in enumerate(rows[50:])], "state,id,pressure,age"),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [folder / name for name in texts]


def run(folder: Path, config: Config, files: list[Path], **own: str) -> server.Summary:
    """A run in this process, in which client N brings files[N]."""

    def with_file(message, context):
        context.node_config = {
            **context.node_config,
            "data": str(files[int(context.node_config["partition-id"])]),
            **own,
        }
        return client.app(message, context)

    grid = InProcessGrid(with_file, config.num_partitions, told(config).for_clients(), {"allow": ""})
    return server.train(grid, config, folder / "runs")


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda n: None)  # this process has begun with others


def own(test: Path, **flags: object) -> Config:
    flags = {"num_partitions": 2, "label_column": "state", "num_server_rounds": 2} | flags
    return Config(dataset=str(test), partitioner="own", **flags)


@pytest.mark.usefixtures("threads")
def test_a_run_is_what_it_would_be_by_hand(tmp_path: Path) -> None:
    """The scaling is that of both clients' training rows; the last round's loss is the saved model's on test.csv."""
    test, *files = hospitals(tmp_path)
    found = run(tmp_path, own(test), files)
    rows = {
        (row["round"], row["phase"], row["client"]): row for row in read_rows(Path(found["folder"]) / "history.csv")
    }
    assert [rows[1, "train", str(cid)]["num_examples"] for cid in range(2)] == [27, 36]
    scaling = np.load(Path(found["folder"]) / "normaliser.npz")
    trained = []
    for cid, file in enumerate(files):
        lines = [(float(row["age"]), float(row["pressure"])) for row in csv.DictReader(file.open())]
        config = told(own(test))
        client_config = received_config(config.for_clients(), {"data": str(file), "allow": ""}, Permission())
        trained += [lines[row] for row in own_rows(client_config, cid)[0]]
    np.testing.assert_allclose(scaling["shift"], np.mean(trained, axis=0), rtol=1e-12)
    np.testing.assert_allclose(scaling["spread"], np.std(trained, axis=0), rtol=1e-9)

    import keras

    model = keras.models.load_model(Path(found["folder"]) / "model.keras", compile=False)
    tests = [*csv.DictReader(test.open())]
    x = (np.array([(float(row["age"]), float(row["pressure"])) for row in tests]) - scaling["shift"]) / scaling[
        "spread"
    ]
    said = np.asarray(model(x.astype(np.float32)))
    labels = [("ill", "well").index(row["state"]) for row in tests]
    by_hand = -np.log(said[np.arange(20), labels]).mean()
    assert rows[2, "evaluate", "server"]["loss"] == pytest.approx(by_hand, rel=1e-5)
    assert rows[2, "evaluate", "server"]["num_examples"] == 20


def test_what_a_server_tells_is_what_its_own_file_says(tmp_path: Path) -> None:
    test, _, file = hospitals(tmp_path)
    config = told(own(test, label_column="state"))
    assert (config.feature_columns, config.classes, config.task) == ("age,pressure", "ill,well", "classification")
    sent = received_config(config.for_clients(), {"data": str(file), "allow": ""}, Permission())
    source = open_source(sent)
    assert source.columns == ("age", "pressure") and source.classes == ("ill", "well")
    assert source.chosen["columns left out"] == "'id'"
    first = next(csv.DictReader(file.open()))
    assert source.examples(np.array([0])).x[0].tolist() == pytest.approx(
        [float(first["age"]), float(first["pressure"])]
    )
    assert form_of(sent) == form_of(own(test))
    assert sum(map(len, own_rows(sent, 1))) == 40  # all of its rows, whatever the cid


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("age,state\n1,ill\n2,well\n", "--feature-columns: {} has no column 'pressure' (its columns are age, state)"),
        ("age,pressure,state\n1,2,ill\n3,4,dead\n", "the class 'dead', which is not among those of this run: ill"),
        ("age,pressure,state\n1,2,0\n3,4,1\n", "have the class '0', which is not among"),
        ("age,pressure,state\n1,2,0.5\n3,4,1\n", "--task classification: the labels 'state' in {} are numbers with"),
        ("age,pressure\n1,2\n3,4\n", "--label-column: {} has no column 'state'"),
        ("", "is empty"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("threads")
def test_a_file_of_another_form_is_refused_by_its_client(tmp_path: Path, text: str, said: str) -> None:
    test, _, _ = hospitals(tmp_path)
    other = tmp_path / "other.csv"
    other.write_text(text)
    with pytest.raises(RunFailed, match=re.escape(said.replace("{}", str(other)))):
        run(tmp_path, own(test), [other, other])


def test_a_column_with_another_name_here(tmp_path: Path) -> None:
    test, file, _ = hospitals(tmp_path)
    file.write_text(file.read_text().replace("state", "diagnosis"))
    table = {"data": str(file), "label-column": "diagnosis", "allow": ""}
    source = open_source(received_config(told(own(test)).for_clients(), table, Permission()))
    assert source.label == "diagnosis" and source.classes == ("ill", "well")


def test_who_brings_a_file_and_who_does_not(tmp_path: Path) -> None:
    test, file, _ = hospitals(tmp_path)
    with pytest.raises(UserError, match="each client brings a file of its own"):
        received_config(told(own(test)).for_clients(), {"allow": ""}, Permission())
    with pytest.raises(UserError, match="this run's server deals its data set out"):
        received_config(Config().for_clients(), {"data": str(file), "allow": ""}, Permission())


@pytest.mark.usefixtures("threads")
def test_flags_that_make_no_sense(tmp_path: Path) -> None:
    test, _, _ = hospitals(tmp_path)
    for flags, said in (
        ({"spawn": 2}, "leave out --spawn"),
        ({"data_source": "client", "model": "m.keras"}, "--partitioner own is for rounds with --dataset"),
    ):
        with pytest.raises(UserError, match=said):
            run(tmp_path, own(test, **flags), [])
    with pytest.raises(UserError, match="--label-column is for a file of your own"):
        server.train(InProcessGrid(client.app, 3, {}), Config(label_column="y"), tmp_path)


def test_parts_that_were_written_are_what_five_people_bring(tmp_path: Path) -> None:
    """Each trains and tests on what it would have been dealt, and the server tests on the central test set."""
    dealt = Config(num_partitions=3, normaliser="none")
    write_parts(dealt, tmp_path)
    config = told(dataclasses.replace(dealt, dataset=str(tmp_path / "test.npz"), partitioner="own"))
    assert np.array_equal(open_source(config).test().x, open_source(dealt).test().x)
    for cid in range(3):
        path = str(tmp_path / f"part-{cid}.npz")
        mine = received_config(config.for_clients(), {"data": path, "allow": ""}, Permission())
        assert form_of(mine) == form_of(config)
        for part in ("train", "test"):
            own_part, was = (getattr(load_client(each, cid), part) for each in (mine, dealt))
            assert np.array_equal(own_part.y, was.y) and np.array_equal(own_part.x, was.x)


def test_weights_are_the_clients_own_and_a_test_file_needs_none(tmp_path: Path) -> None:
    test, file, other = hospitals(tmp_path)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([f"w,{lines[0]}", *(f"{i},{line}" for i, line in enumerate(lines[1:]))]))
    config = told(own(test, sample_weight="w"))
    assert config.feature_columns == "age,pressure"  # the server's file has no column of weights
    mine = received_config(config.for_clients(), {"data": str(file), "allow": ""}, Permission())
    assert open_source(mine).columns == ("age", "pressure")
    assert sample_weights_of(mine, 0).tolist() == own_rows(mine, 0)[0].tolist()
    without = received_config(config.for_clients(), {"data": str(other), "allow": ""}, Permission())
    with pytest.raises(UserError, match=r"--sample-weight w: .*1\.csv has no weights of its examples"):
        sample_weights_of(without, 0)


def test_a_regressions_clients_need_not_have_fractions(tmp_path: Path) -> None:
    """The server's file decides that amounts are learned; whole numbers of a client's would look like classes."""
    (tmp_path / "test.csv").write_text("a,y\n1,0.5\n2,1.5\n3,2\n")
    (tmp_path / "mine.csv").write_text("y,a\n1,10\n2,20\n3,30\n4,40\n")
    config = told(Config(dataset=str(tmp_path / "test.csv"), partitioner="own", label_column="y"))
    assert (config.task, config.classes) == ("regression", "")
    mine = received_config(config.for_clients(), {"data": str(tmp_path / "mine.csv"), "allow": ""}, Permission())
    source = open_source(mine)
    assert source.targets.tolist() == [1, 2, 3, 4] and source.outputs == 1 and form_of(mine) == form_of(config)
    assert source.examples(np.arange(4)).x[:, 0].tolist() == [10, 20, 30, 40]
