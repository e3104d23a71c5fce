"""The same rows as .csv, .xlsx, .parquet, and as a folder with X and Y: the same bits, and the same refusals."""

import re
import sys
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest

from fedkeras.config import Config
from fedkeras.data import load_client, load_test, open_source
from fedkeras.data.readers.tables import read_table
from fedkeras.errors import UserError

ROWS = pd.DataFrame(
    {
        "age": [31.25, 40, 52.5, 61, 70, 33, 44, 55.125, 66, 77],
        "smokes": [True, False, True, False, True, False, True, False, True, False],
        "visits": np.arange(10) + 10_000_000_019,  # more digits than float32 has
        "state": ["ill", "well"] * 5,
    }
)


def files(folder: Path, rows: pd.DataFrame = ROWS) -> list[Path]:
    paths = [folder / f"t.{ending}" for ending in ("csv", "xlsx", "parquet")]
    rows.to_csv(paths[0], index=False)
    rows.to_excel(paths[1], index=False)
    rows.to_parquet(paths[2])
    return paths


def test_all_formats_give_the_same_bits(tmp_path: Path) -> None:
    configs = [Config(dataset=str(path), label_column="state", num_partitions=2) for path in files(tmp_path)]
    first = open_source(configs[0])
    assert first.columns == ("age", "smokes", "visits") and first.classes == ("ill", "well")
    for config in configs:
        for cid in range(2):
            own, other = (load_client(each, cid).train for each in (config, configs[0]))
            assert own.x.tobytes() == other.x.tobytes() and own.y.tolist() == other.y.tolist()
        assert load_test(config).x.tobytes() == load_test(configs[0]).x.tobytes()


@pytest.mark.parametrize("ending", ["xlsx", "parquet"])
@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("age", [None, 1.0, 2.0], ("cell A2 ('age'): the cell is empty", "column 'age': the value is missing")),
        ("state", ["ill", None, "well"], ("cell B3: the cell is empty", "row 1 (counted from 0): the cell is empty")),
        ("age", ["m", "f", "m"], ("'m' is no number; write it as", "'m' is no number; write it as")),
        ("state", ["ill", "NA", "ill"], ("'NA' stands for a missing value", "'NA' stands for a missing value")),
        ("state", ["1", "x", "2"], ("'x' stands among numbers", "'x' stands among numbers")),
        ("state", pd.to_datetime(["2020-01-01"] * 3), ("is a date", "")),
    ],
)
def test_what_is_refused(tmp_path: Path, ending: str, column: str, values: object, said: tuple[str, str]) -> None:
    rows = pd.DataFrame({"age": [1.0, 2.0, 3.0], "state": ["ill", "well", "ill"]})
    rows[column] = values
    paths = files(tmp_path, rows)
    wanted = said[ending == "parquet"]
    if not wanted:
        return
    path = next(path for path in paths if path.suffix == f".{ending}")
    with pytest.raises(UserError, match=re.escape(wanted)) as found:
        open_source(Config(dataset=str(path), label_column="state"))
    assert str(path) in str(found.value) and "\n" not in str(found.value)


def test_damaged_and_empty_files_are_one_line(tmp_path: Path) -> None:
    for path in files(tmp_path)[1:]:
        content = path.read_bytes()
        for number, part in enumerate((content[: len(content) // 2], b"hello", b"")):
            other = tmp_path / f"{number}{path.suffix}"
            other.write_bytes(part)
            with pytest.raises(UserError, match=re.escape(str(other))) as found:
                open_source(Config(dataset=str(other), label_column="state"))
            assert "\n" not in str(found.value)
    ROWS[:0].to_parquet(tmp_path / "none.parquet")
    with pytest.raises(UserError, match="has columns and no rows"):
        open_source(Config(dataset=str(tmp_path / "none.parquet"), label_column="state"))
    files(tmp_path)[2].rename(tmp_path / "p.csv")
    with pytest.raises(UserError, match=r"p\.csv ends in \.csv, and is a Parquet file: name it \.parquet"):
        open_source(Config(dataset=str(tmp_path / "p.csv"), label_column="state"))


def test_pandas_own_index_is_no_feature(tmp_path: Path) -> None:
    ROWS.set_index(np.arange(10) + 5).to_parquet(tmp_path / "i.parquet", index=True)
    source = open_source(Config(dataset=str(tmp_path / "i.parquet"), label_column="state"))
    assert source.columns == ("age", "smokes", "visits")


def test_without_pyarrow_a_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files(tmp_path)[2]
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"needs pyarrow to be read: run `pip install 'fedkeras\[parquet\]'`"):
        open_source(Config(dataset=str(path), label_column="state"))


def test_a_sheet_with_row_numbers_and_a_second_sheet(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["", "a", "y"], [0, 1.5, "u"], [1, 2.5, "v"], [2, 3.5, "u"]):
        book.active.append(row)
    book.create_sheet("other").append(["nothing"])
    book.save(tmp_path / "t.xlsx")
    source = open_source(Config(dataset=str(tmp_path / "t.xlsx")))
    assert source.columns == ("a",) and "the first visible one of 2" in source.chosen["sheet"]
    assert "row numbers" in source.chosen


def xy(folder: Path, test: bool = False) -> Path:
    """The same rows divided between X and Y, in two files of other formats each."""
    for side, columns in (("X", ["age", "smokes", "visits"]), ("Y", ["state"])):
        (folder / "own" / side).mkdir(parents=True)
        ROWS[columns][:6].to_csv(folder / "own" / side / "1.csv", index=False)
        ROWS[columns[::-1]][6:].to_parquet(folder / "own" / side / "2.parquet")
        if test:
            (folder / "own" / f"{side}_test").mkdir()
            ROWS[columns[::-1]][:3].to_csv(folder / "own" / f"{side}_test" / "1.csv", index=False)
    return folder / "own"


def test_a_folder_with_x_and_y(tmp_path: Path) -> None:
    own, table = xy(tmp_path), files(tmp_path)[0]
    source = open_source(Config(dataset=str(own)))
    assert source.columns == ("age", "smokes", "visits") and source.classes == ("ill", "well")
    configs = (
        Config(dataset=str(own), num_partitions=2),
        Config(dataset=str(table), label_column="state", num_partitions=2),
    )
    for cid in range(2):
        one, two = (load_client(config, cid).train for config in configs)
        assert one.x.tobytes() == two.x.tobytes() and one.y.tolist() == two.y.tolist()
    chosen = open_source(Config(dataset=str(own), feature_columns="visits,age"))
    assert chosen.columns == ("visits", "age") and chosen.input_shape == (2,)
    with pytest.raises(UserError, match=r"X in .* has no column 'weight'"):
        open_source(Config(dataset=str(own), feature_columns="weight"))
    with pytest.raises(UserError, match="--label-column is for a table in one file"):
        open_source(Config(dataset=str(own), label_column="state"))


def test_a_folder_with_a_test_set_of_its_own(tmp_path: Path) -> None:
    source = open_source(Config(dataset=str(xy(tmp_path, test=True))))
    assert len(source.labels) == 10 and source.test().y.tolist() == [0, 1, 0]
    assert source.test().x[:, 0].tolist() == [31.25, 40, 52.5]  # by name, though they stand in another order


def test_several_amounts_are_learned_at_once(tmp_path: Path) -> None:
    for side, columns in (("X", ["age"]), ("Y", ["visits", "age"])):
        (tmp_path / "own" / side).mkdir(parents=True)
        ROWS[columns].to_parquet(tmp_path / "own" / side / "1.parquet")
    source = open_source(Config(dataset=str(tmp_path / "own"), test_fraction=0.0, num_partitions=1))
    assert source.outputs == 2 and source.targets.shape == (8, 2)
    assert source.examples(np.arange(2)).y[:, 1].tolist() == source.examples(np.arange(2)).x[:, 0].tolist()


def test_parquet_stands_in_folders_of_tables(tmp_path: Path) -> None:
    (tmp_path / "X").mkdir()
    ROWS[["age", "smokes"]].to_parquet(tmp_path / "X" / "1.parquet")
    found = read_table(tmp_path / "X")
    assert found.names == ("age", "smokes") and found.rows[:2].tolist() == [[31.25, 1], [40, 0]]
