"""Folders of .npz, .csv and .xlsx files: one array each, in the right order, checked, and not in memory twice."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from table_files import npz, read_table, read_xy, sheet, text

from fedkeras.data.readers.tables import rows
from fedkeras.errors import UserError


def test_mixed_files_in_name_order(tmp_path: Path) -> None:
    x, y = tmp_path / "X", tmp_path / "Y"
    npz(x / "part_1.npz", a=np.array([[0.5, 1]], np.float32))
    text(x / "part_2.csv", "\ufeffwidth;height\r\n1,5;2\r\n3;4,25\r\n\r\n")
    sheet(x / "part_10.xlsx", ["width", "height"], [5, 6.5], [None, None])
    text(x / ".DS_Store", "hidden")
    text(y / "y1.csv", "kind\nb\nnone\n")
    sheet(y / "y2.xlsx", ["kind"], ["b"], ["c"])
    for _ in range(2):  # the second time from the cache
        examples, labels = read_xy(x, y)
        assert examples.tolist() == [[0.5, 1], [1.5, 2], [3, 4.25], [5, 6.5]]
        assert examples.dtype == np.float32 and isinstance(examples, np.memmap)
        assert labels.tolist() == ["b", "none", "b", "c"]
    text(x / "part_2.csv", "width,height\n7,8\n9,10\n")
    assert read_table(x)[1].tolist() == [7, 8]


def test_digits_that_float32_would_lose_are_kept(tmp_path: Path) -> None:
    text(tmp_path / "X" / "a.csv", "a,b\n1000000.001,2\n1000000.002,3\n")
    table = read_table(tmp_path / "X")
    assert table.dtype == np.float64 and isinstance(table, np.memmap)
    assert table[:, 0].tolist() == [1000000.001, 1000000.002]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npz(tmp_path: Path, compressed: bool, order: str) -> None:
    x = np.asarray(np.random.default_rng(0).integers(0, 255, (20, 3, 4)), np.uint8, order=order)
    npz(tmp_path / "X" / "x.npz", compressed, x=x, other=np.zeros(3))
    npz(tmp_path / "Y" / "y.npz", compressed, y_train=np.arange(20)[:, None], x_train=x)
    got, labels = read_xy(tmp_path / "X", tmp_path / "Y")
    np.testing.assert_array_equal(got, x)
    assert got.dtype == np.uint8 and isinstance(got, np.memmap)
    assert labels.tolist() == list(range(20)) and labels.dtype.kind == "i"
    in_place = not compressed and order == "C"
    assert str(tmp_path / "X") in str(got.filename) if in_place else "tables-" in str(got.filename)
    chosen = np.array([19, 3, 4])
    assert np.concatenate(list(rows(got, chosen))).tolist() == x[chosen].tolist()


def test_npz_archived_by_another_program_is_mapped_at_the_right_place(tmp_path: Path) -> None:
    """Local headers may have extra fields that the central directory lacks: the bytes begin where the former says."""
    import io
    import zipfile

    (tmp_path / "X").mkdir()
    stream = io.BytesIO()
    np.save(stream, np.arange(8, dtype=np.float32).reshape(4, 2))
    with zipfile.ZipFile(tmp_path / "X" / "x.npz", "w") as archive:
        archive.writestr("readme", b"")
        with archive.open("x.npy", "w", force_zip64=True) as member:
            member.write(stream.getvalue())
    assert read_table(tmp_path / "X").tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]


@pytest.mark.parametrize(
    ("content", "expected", "dtype"),
    [
        ("label\n3\n7\n", [3, 7], np.int64),
        ("3.0\n7.0\n3\n", [3, 7, 3], np.int64),
        ("price\n0.5\n2\n", [0.5, 2], np.float32),
        ("cat\ndog\ncat\n", ["cat", "dog", "cat"], np.dtype("<U3")),
        ('kind\n"Paris, France"\nRome\n', ["Paris, France", "Rome"], np.dtype("<U13")),
        ("a,b\n1,0\n0,1\n", [[1, 0], [0, 1]], np.float32),
        ("0,1\n1,0\n", [[1, 0]], np.float32),  # as pandas writes a table without names
        ("1,0\n0,1\n", [[1, 0], [0, 1]], np.float32),
        ("0,1,2\n1,0,0\n", [[1, 0, 0]], np.float32),
        (",kind\n0,b\n1,a\n", ["b", "a"], np.dtype("<U1")),  # with its index
    ],
)
def test_targets(tmp_path: Path, content: str, expected: list, dtype: np.dtype) -> None:
    text(tmp_path / "Y" / "y.csv", content)
    y = read_table(tmp_path / "Y", targets=True)
    assert y.tolist() == expected and y.dtype == dtype


def label_files(folder: Path) -> None:
    """The same labels as every kind of file may have them: the files are put one below the other."""
    text(folder / "1.csv", "kind\n1\n0\n1.0\nTrue\n")
    npz(folder / "2.npz", y=np.array([1, 0, 1, 1], np.float32))
    npz(folder / "3.npz", y=np.array([["1"], ["0"], ["1.0 "], ["true"]]))
    npz(folder / "4.npz", y=np.array([True, False, True, True]))
    sheet(folder / "5.xlsx", ["kind"], [1], [0.0], ["1"], [True])


def test_labels_are_the_same_in_every_kind_of_file(tmp_path: Path) -> None:
    label_files(tmp_path / "all")
    y = read_table(tmp_path / "all", targets=True)
    assert y.tolist() == [1, 0, 1, 1] * 5 and y.dtype == np.int64
    for path in (tmp_path / "all").iterdir():  # and of a client that has that file alone
        alone = tmp_path / path.stem
        alone.mkdir()
        path.rename(alone / path.name)
        y = read_table(alone, targets=True)
        assert y.tolist() == [1, 0, 1, 1] and y.dtype == np.int64
    text(tmp_path / "words" / "a.csv", "caf\u00e9\ncafe\u0301 \ntea\n".replace("caf", "kind\ncaf", 1))
    npz(tmp_path / "words" / "b.npz", y=np.array(["tea ", "cafe\u0301"]))
    assert read_table(tmp_path / "words", targets=True).tolist() == ["caf\u00e9"] * 2 + ["tea", "tea", "caf\u00e9"]


def test_labels_beyond_2_to_the_53(tmp_path: Path) -> None:
    ids = [2**53, 2**53 + 1, 2**63 - 1]
    text(tmp_path / "text" / "y.csv", "id\n" + "".join(f"{number}\n" for number in ids))
    npz(tmp_path / "npz" / "y.npz", y=np.array(ids, np.uint64))
    for name in ("text", "npz"):
        y = read_table(tmp_path / name, targets=True)
        assert y.tolist() == ids and y.dtype == np.int64
    text(tmp_path / "text" / "y.csv", "amount\n9007199254740993.0\n1\n")  # two whole numbers, as far as a float tells
    assert read_table(tmp_path / "text", targets=True).dtype.kind == "f"
    npz(tmp_path / "npz" / "y.npz", y=np.array([2**63], np.uint64))
    with pytest.raises(UserError, match="has the label 9223372036854775808"):
        read_table(tmp_path / "npz", targets=True)


def test_thousands_of_columns_in_many_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedkeras.data.readers.csv_table.CELLS", 9000)
    table = np.random.default_rng(0).normal(size=(10, 3000))
    (tmp_path / "X").mkdir()
    pd.DataFrame(table).to_csv(tmp_path / "X" / "wide.csv", index=False)
    np.testing.assert_array_equal(read_table(tmp_path / "X"), table)


BAD = {
    "a text column among numbers": ("a,b\n1,2\n3,Paris\n", "line 3, column 2 ('b'): 'Paris' is no number"),
    "an empty cell": ("a,b\n1,2\n,4\n", "line 3, column 1 ('a'): the cell is empty"),
    "NaN": ("1,2\n3,nan\n", "line 2, column 2: the cell is empty"),
    "NaN in the last line": ("a\n1\nnan\n", "line 3: all values are missing"),
    "NA in the first line": ("NA,2\n3,4\n", "line 1, column 1: the cell is empty"),
    "infinite": ("a,b\n1,2\ninf,4\n", "line 3, column 1 ('a'): 'inf' is no number"),
    "a longer line": ("a,b\n1,2\n3,4,5\n", "line 3 has 3 columns; the first has 2"),
    "a shorter line": ("a,b\n1,2\n3\n", "line 3, column 2 ('b'): the cell is empty"),
    "a header of another width": ("a,b\n1,2,3\n", "line 2 has 3 columns; the first line has 2"),
    "a line left empty": ("a,b\n1,2\n\n3,4\n", "line 3, column 1 ('a'): the cell is empty"),
    "a column without a name": ("b,,a\n0,1,2\n", "column 2 has no name in the header"),
    "nothing": ("", "is empty"),
    "blank lines": ("\n\n", "is empty"),
    "a header alone": ("a,b\n", "has a header and no rows"),
    "not UTF-8": ("größe,b\n1,2\n".encode("latin-1"), "is not text in UTF-8"),
    "an archive": (b"PK\x03\x04\0\0\n1,2\n", "is a zip archive, and no text"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_csv_is_one_line_with_its_place(tmp_path: Path, case: str) -> None:
    content, said = BAD[case]
    text(tmp_path / "X" / "bad.csv", content)
    with pytest.raises(UserError) as raised:
        read_table(tmp_path / "X")
    assert said in str(raised.value) and "bad.csv" in str(raised.value)
    assert not list((tmp_path / "cache").glob("tables-*"))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ([[1, 2], [3, 4]], "has no header: the first row of sheet 'Sheet' must name the columns, and it says 1, 2"),
        ([["a", "b"], [1, "Paris"]], "cell B2 ('b'): 'Paris' is no number"),
        ([["a", "b"], [1, "2"]], "cell B2 ('b'): '2' is text (a number kept as text)"),
        ([["a", "b"], [1, 2], [None, 4]], "cell A3 ('a'): the cell is empty"),
        ([["a", "b"], [1, 2], [None, None], [3, 4]], "row 3 of sheet 'Sheet' is empty"),
        ([["a", "b"], [1, 2, 3]], "cell C2: there is a value, and the header has only 2 columns"),
        ([["a", None, "c"], [1, 2, 3]], "column 2 has no name"),
        ([["a", "b"]], "has a header and no rows"),
        ([[]], "the first row of sheet 'Sheet' is empty"),
    ],
)
def test_bad_sheets(tmp_path: Path, table: list, said: str) -> None:
    sheet(tmp_path / "X" / "bad.xlsx", *table)
    with pytest.raises(UserError) as raised:
        read_table(tmp_path / "X")
    assert said in str(raised.value) and "bad.xlsx" in str(raised.value)


def test_bad_labels(tmp_path: Path) -> None:
    for content, said in [
        ("kind\na\n1\nb\n", "line 2: 'a' stands among numbers such as '1'"),
        ("kind\na\n\nb\n", "line 3: the cell is empty"),
        ("kind\n1\nnan\n2\n", "line 3: the value is missing ('nan')"),
    ]:
        text(tmp_path / "Y" / "y.csv", content)
        with pytest.raises(UserError) as raised:
            read_table(tmp_path / "Y", targets=True)
        assert said in str(raised.value)
    sheet(tmp_path / "Z" / "y.xlsx", ["cat"], ["dog"], ["cat"])
    with pytest.raises(UserError, match="has no header"):
        read_table(tmp_path / "Z", targets=True)


def test_bad_npz(tmp_path: Path) -> None:
    whole = np.ones((5, 2), np.float32)
    whole[3, 1] = np.nan
    cases = [
        ({"x": whole}, "row 3, number 1 in it (counted from 0): the value is missing (NaN)"),
        ({"a": whole, "b": whole}, "holds a, b; it must hold one array, or one called 'x' or 'x_train'"),
        ({"x": np.array([["a"]])}, "holds <U1, not numbers"),
        ({"x": np.array([{}], object)}, "holds Python objects"),
        ({"x": np.zeros((0, 3))}, "is empty"),
        ({"x": np.zeros(3)}, "must be numbers of shape (rows, ...)"),
    ]
    for compressed in (False, True):
        for arrays, said in cases:
            npz(tmp_path / "X" / "x.npz", compressed, **arrays)
            with pytest.raises(UserError) as raised:
                read_table(tmp_path / "X")
            assert said in str(raised.value) and "x.npz" in str(raised.value)
        npz(tmp_path / "X" / "x.npz", compressed, x=np.arange(1000.0).reshape(-1, 1))
        content = (tmp_path / "X" / "x.npz").read_bytes()
        for damaged in (content[:-40], content[:200] + b"rubbish" + content[207:], b"no zip"):
            (tmp_path / "X" / "x.npz").write_bytes(damaged)
            with pytest.raises(UserError, match=r"is damaged|ends in .npz, and is text"):
                read_table(tmp_path / "X")


def test_files_that_do_not_go_together(tmp_path: Path) -> None:
    x, y = tmp_path / "X", tmp_path / "Y"
    text(x / "a.csv", "a,b\n1,2\n")
    for content, said in [("a,b,c\n1,2,3\n", "has 3 columns, and"), ("b,c\n1,2\n", "has a column 'c' where")]:
        text(x / "b.csv", content)
        with pytest.raises(UserError, match=said):
            read_table(x)
    text(x / "b.csv", "b,a\n4,3\n6,5\n")  # the same names in another order
    assert read_table(x).tolist() == [[1, 2], [3, 4], [5, 6]]
    text(x / "b.csv", "3,4.0\n5,6\n")  # without a header it is taken as it is
    assert read_table(x).tolist() == [[1, 2], [3, 4], [5, 6]]
    text(y / "y.csv", "rare\ncat\ndog\n")
    with pytest.raises(UserError) as raised:
        read_xy(x, y)
    assert "X has 3 rows and" in str(raised.value) and "Y has 2; they must be as many" in str(raised.value)
    assert "b.csv: 2" in str(raised.value) and "y.csv: 2, with 'rare' as its header" in str(raised.value)
    text(y / "z.csv", "1\n2\n")
    with pytest.raises(UserError, match=r"z.csv holds numbers, and .*y.csv holds words"):
        read_table(y, targets=True)


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        read_table(tmp_path / "X")
    (tmp_path / "X").mkdir()
    with pytest.raises(UserError, match="X is empty"):
        read_table(tmp_path / "X")
    text(tmp_path / "X" / "x.ods", "?")
    with pytest.raises(UserError, match=r"x.ods has an unknown ending; only .npz, .csv, .xlsx, .parquet files"):
        read_table(tmp_path / "X")
    (tmp_path / "X" / "x.ods").unlink()
    text(tmp_path / "X" / "x.xlsx", "no workbook")
    with pytest.raises(UserError, match=r"ends in .xlsx, and is text"):
        read_table(tmp_path / "X")


def test_a_cache_that_cannot_be_written_costs_memory_and_no_run(tmp_path: Path, monkeypatch, caplog) -> None:
    text(tmp_path / "file", "in the way")
    monkeypatch.setenv("FEDKERAS_CACHE", str(tmp_path / "file" / "cache"))
    text(tmp_path / "X" / "a.csv", "a,b\n1,2\n")
    table = read_table(tmp_path / "X")
    assert table.tolist() == [[1, 2]] and table.dtype == np.float32
    assert "cannot be written" in caplog.text


MEASURE = """
import resource, sys
import numpy as np
from fedkeras.data.readers.tables import read_table, rows
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
x = read_table(sys.argv[1]).rows
read = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
own = next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("RssAnon"))
print(x.nbytes // 1024, read - before, own)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says how much memory is a process's own")
@pytest.mark.parametrize("compressed", [False, True])
def test_a_large_file_is_never_in_memory_whole(tmp_path: Path, compressed: bool) -> None:
    x = np.zeros((300, 1 << 18), np.float32)  # 300 MB
    npz(tmp_path / "X" / "x.npz", compressed, x=x)
    said = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "X")], capture_output=True, text=True, check=True
    ).stdout
    size, grown, own = map(int, said.split())
    assert size >= 300_000 and grown < 150_000 and own < 150_000  # kB
