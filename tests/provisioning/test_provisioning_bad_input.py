"""What a user can get wrong is one clear line before anything is sent."""

import numpy as np
import pandas as pd
import pytest

from fedkeras.config import Config
from fedkeras.data.labels import Labels
from fedkeras.data.normalise import normaliser_from
from fedkeras.errors import RunFailed, UserError
from fedkeras.provisioning import server
from fedkeras.provisioning.preprocessing import Preprocessing, check_test


def provision(tables_folder, model_files, **flags):
    own = {"data_source": "server", "data_dir": str(tables_folder), "model": str(model_files / "classifier.keras")}
    config = Config(**{**own, **flags})
    server.check_flags(config)
    return server.open_provision(config)


@pytest.fixture
def dataset(tmp_path, tables, monkeypatch):
    monkeypatch.setenv("FEDKERAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "dataset"


def spoil_lengths(folder):
    pd.DataFrame({"label": ["yes"] * 7}).to_csv(folder / "Y" / "labels.csv", index=False)


def spoil_text(folder):
    frame = pd.read_csv(folder / "X" / "1.csv").astype(object)
    frame.loc[3, "b"] = "red"
    frame.to_csv(folder / "X" / "1.csv", index=False)


def spoil_empty(folder):
    (folder / "X" / "0.csv").write_text("")


def spoil_sheet(folder):
    frame = pd.read_excel(folder / "X" / "2.xlsx")
    frame.to_excel(folder / "X" / "2.xlsx", index=False, header=False)


def spoil_columns(folder):
    frame = pd.read_csv(folder / "X" / "1.csv").rename(columns={"b": "other"})
    frame.to_csv(folder / "X" / "1.csv", index=False)


def spoil_nan(folder):
    frame = pd.read_csv(folder / "X" / "1.csv")
    frame.loc[5, "a"] = np.nan
    frame.to_csv(folder / "X" / "1.csv", index=False)


def spoil_ending(folder):
    (folder / "X" / "notes.txt").write_text("hello")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_lengths, "300 rows and .* has 7"),
        (spoil_text, "'red' is no number"),
        (spoil_empty, "0.csv is empty"),
        (spoil_sheet, "2.xlsx has no header"),
        (spoil_columns, "has a column 'b' where .*1.csv has 'other'"),
        (spoil_nan, "1.csv, .*the cell is empty"),
        (spoil_ending, "notes.txt has an unknown ending"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_spoiled_tables(dataset, model_files, spoil, says):
    provision(dataset, model_files)
    spoil(dataset)
    with pytest.raises(UserError, match=says) as error:
        provision(dataset, model_files)
    assert "\n" not in str(error.value)


def test_a_model_of_another_width(dataset, model_files, tmp_path):
    import keras

    model = keras.Sequential([keras.Input((7,)), keras.layers.Dense(2)])
    model.save(tmp_path / "wide.keras")
    with pytest.raises(UserError, match="takes 7 numbers an example, and the data have 4"):
        provision(dataset, model_files, model=str(tmp_path / "wide.keras"))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"model": ""}, "--model must be a .keras or .h5 file"),
        ({"model": "none.keras"}, "there is no model file none.keras"),
        ({"share": "7=1"}, "--share names client 7"),
        ({"share": "0:1"}, "--share: '0:1' is not of the form"),
        ({"decimal": ",", "thousands": ","}, "--decimal and --thousands are both ','"),
        ({"data_source": "keras", "decimal": ","}, "--decimal is for text files, and digits is none"),
        ({"data_source": "client", "share": "0=1"}, "--share divides the server's data"),
        ({"num_partitions": 301}, "300 rows cannot be divided among 301 clients"),
        ({"method": "kfold"}, "--method kfold .* needs --mode collect"),
        ({"split": "sequential"}, "--split is not for --data-source"),
        ({"data_source": "", "mode": "collect"}, "--mode is for server-led training"),
        ({"data_dir": "nowhere"}, "there is no folder nowhere/X"),
    ],
    ids=lambda value: "".join(value) if isinstance(value, dict) else "",
)
def test_flags_that_make_no_sense(dataset, model_files, flags, says):
    with pytest.raises(UserError, match=says) as error:
        provision(dataset, model_files, **flags)
    assert "\n" not in str(error.value)


def write_test(folder, frame=None, labels=("yes", "no")):
    for name in ("X_test", "Y_test"):
        (folder / name).mkdir()
    frame = pd.DataFrame(np.ones((2, 4)), columns=list("abcd")) if frame is None else frame
    frame.to_csv(folder / "X_test" / "t.csv", index=False)
    pd.DataFrame({"label": labels}).to_csv(folder / "Y_test" / "t.csv", index=False)


def without_targets(folder):
    (folder / "X_test").mkdir()


def without_examples(folder):
    (folder / "Y_test").mkdir()


def other_columns(folder):
    write_test(folder, pd.DataFrame(np.ones((2, 4)), columns=list("abce")))


def another_width(folder):
    write_test(folder, pd.DataFrame(np.ones((2, 3)), columns=list("abc")))


def other_lengths(folder):
    write_test(folder, labels=("yes", "no", "yes"))


def numbers_for_words(folder):
    write_test(folder, labels=(1, 0))


def missing_cell(folder):
    write_test(folder, pd.DataFrame([[1, 2, 3, 4], [1, None, 3, 4]], columns=list("abcd")))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (without_targets, "a folder .*X_test and no .*Y_test"),
        (without_examples, "a folder .*Y_test and no .*X_test"),
        (other_columns, "X_test/t.csv has a column 'e' where .*1.csv has 'd'"),
        (another_width, "X_test/t.csv has 3 columns, and .*1.csv has 4"),
        (other_lengths, "X_test has 2 rows and .*Y_test has 3"),
        (numbers_for_words, "Y_test/t.csv holds numbers, and .*labels.csv holds words"),
        (missing_cell, "X_test/t.csv, .*the cell is empty"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_spoiled_test_set(dataset, model_files, spoil, says):
    spoil(dataset)
    with pytest.raises(UserError, match=says) as error:
        provision(dataset, model_files)
    assert "\n" not in str(error.value)


def test_a_test_set_is_read_where_there_is_one(dataset, model_files):
    assert provision(dataset, model_files).test is None
    write_test(dataset)
    assert provision(dataset, model_files).test["y"].tolist() == ["yes", "no"]
    assert provision(dataset, model_files, central_evaluation=False).test is None


def test_a_test_label_that_no_client_has():
    with pytest.raises(RunFailed, match=r"Y_test does not fit .*label 'maybe'"):
        check_test(
            {"y": np.array(["yes", "maybe"])}, Preprocessing(normaliser_from(None, "none"), Labels(("no", "yes")))
        )
