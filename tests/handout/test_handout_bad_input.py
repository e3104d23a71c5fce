"""What a user can get wrong is one clear line before anything is sent."""

import numpy as np
import pandas as pd
import pytest

from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.handout import leading


def given(tables_folder, model_files, **flags):
    config = {"data_source": "server", "data_dir": str(tables_folder), "model": str(model_files / "classifier.keras")}
    return leading.open_given(Config(**{**config, **flags}))


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
    given(dataset, model_files)
    spoil(dataset)
    with pytest.raises(UserError, match=says) as error:
        given(dataset, model_files)
    assert "\n" not in str(error.value)


def test_a_model_of_another_width(dataset, model_files, tmp_path):
    import keras

    model = keras.Sequential([keras.Input((7,)), keras.layers.Dense(2)])
    model.save(tmp_path / "wide.keras")
    with pytest.raises(UserError, match="takes 7 numbers an example, and the data have 4"):
        given(dataset, model_files, model=str(tmp_path / "wide.keras"))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"model": ""}, "--model must be a .keras or .h5 file"),
        ({"model": "none.keras"}, "there is no model file none.keras"),
        ({"share": "7=1"}, "--share names client 7"),
        ({"share": "0:1"}, "--share: '0:1' is not of the form"),
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
        given(dataset, model_files, **flags)
    assert "\n" not in str(error.value)
