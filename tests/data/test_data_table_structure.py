"""What a file of a table is like: header, row numbers, lines that are none, sheets; and what it is if it is none."""

import datetime
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from table_files import notes, npz, read_table, read_xy, sheet, text

from fedkeras.data.readers import tables
from fedkeras.errors import UserError


@pytest.mark.parametrize(
    ("content", "expected", "noted"),
    [
        (",a,b\n0,5,6\n1,7,8\n", [[5, 6], [7, 8]], "row numbers"),
        ('"",a,b\n"1",5,6\n"2",7,8\n', [[5, 6], [7, 8]], "row numbers"),  # as R writes it
        ("Unnamed: 0,a,b\n10,5,6\n11,7,8\n", [[5, 6], [7, 8]], "row numbers"),
        ("Unnamed: 0.1,Unnamed: 0,a\n0,0,5\n1,1,7\n", [[5], [7]], "row numbers"),
        ("0\n1.5\n2.5\n", [[1.5], [2.5]], "header"),
        ("0,1\n3,4\n", [[3, 4]], "header"),
        ("sep=;\na;b\n1,5;2\n", [[1.5, 2]], "decimal mark"),
        ("sep=,\r\na,b\r\n1.5,2\r\n", [[1.5, 2]], ""),
        ("# a,b\n1,2\n", [[1, 2]], ""),  # as numpy.savetxt writes it
        ("\ufeffa,b\n1,2\n", [[1, 2]], ""),
        ("a,b\r1,2\r3,4\r", [[1, 2], [3, 4]], ""),
        ("2,0\n0,3\n", "--decimal .", ""),
        ("a;b;;\n1,5;2;;\n3;4;;\n", [[1.5, 2], [3, 4]], "empty columns, decimal mark"),  # as Excel leaves them
        ("a,b,\n1,2,\n3,4,5\n", "line 3: there is a value in column 3, which has no name in the first line", ""),
        ("Unnamed: 0,a,b\n10,5,6\n13,7,8\n", "column 1 has no name in the header, and does not count the rows", ""),
        ("Report 2024\na,b\n1,2\n3,4\n", "line 1 ('Report 2024') looks like a title", ""),
        ("Report 2024,,\na,b,c\n1,2,3\n", "line 1 ('Report 2024') looks like a title", ""),
        ("Report\n\na;b\n1,5;2\n", "looks like a title", ""),
        ("\na,b\n1,2\n", "line 1 is empty", ""),
        ("# made by me\na,b\n1,2\n", "line 1 begins with #: a comment", ""),
        ("a,b\n1,2\n# foo,3\n", "line 3, column 1 ('a'): '# foo' is no number: it looks like a comment", ""),
        ('"a\nb",c\n1,2\n', "line 1: a line ends within quotes", ""),
        ('a,b\n1,2\n"1\n",2\n', "line 3: a line ends within quotes", ""),
        ("a,b\ncm,kg\n1,2\n", "line 2, column 1 ('a'): 'cm' is no number; a second line of header is none", ""),
        ("a|b\n1|2\n3|4\n", "has '|' between its cells", ""),
        ("a b\n1 2\n3 4\n", "has spaces between its cells", ""),
        (b"a,b\n1,2\n3,\0" + b"4\n", "it has NUL bytes", ""),
        (b"a,b\n" + b"1,2\n" * 2000 + b"3,\0" + b"4\n", "line 2002 has a NUL byte", ""),
        ("a,b\n1,2\n".encode("utf-16"), "is text in UTF-16: save it as UTF-8", ""),
        ("<!DOCTYPE html><html>", "is a web page and not a table", ""),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "run `git lfs pull`", ""),
        ('{"a": 1}', "is JSON", ""),
        (b"PK\x03\x04..[Content_Types].xml", "is an Excel workbook: name it .xlsx", ""),
        (b"\xd0\xcf\x11\xe0....", "old Excel workbook", ""),
        (b"\x1f\x8b\x08....", "is compressed (gzip): unpack it", ""),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_csv(tmp_path: Path, content: str | bytes, expected: list | str, noted: str) -> None:
    text(tmp_path / "X" / "x.csv", content)
    if isinstance(expected, list):
        assert read_table(tmp_path / "X").tolist() == expected
        assert ", ".join(notes(tmp_path / "X")) == noted
        return
    with pytest.raises(UserError) as raised:
        read_table(tmp_path / "X")
    assert expected in str(raised.value) and "x.csv" in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("x", "y", "rows_x", "rows_y"),
    [
        # Y's 0 is a label, for X has as many rows with it; and pandas' header, where X has one less
        ("a,b\n1,2\n3,4\n5,6\n", "0\n1\n0\n", 3, [0, 1, 0]),
        ("a,b\n1,2\n3,4\n", "0\n1\n0\n", 2, [1, 0]),
        ("0,1,2\n3,4,5\n", "k\n7\n8\n", 2, [7, 8]),  # X's first line is a row here
        ("0,1,2\n3,4,5\n", "0\n7\n", 1, [7]),  # both are pandas': headers, as far as anybody can tell
        ("a\n1\n2\n3\n", "0,1\n1,0\n0,1\n", 3, [[0, 1], [1, 0], [0, 1]]),
    ],
)
def test_whether_0_1_2_is_a_header_is_decided_by_the_number_of_rows(
    tmp_path: Path, x: str, y: str, rows_x: int, rows_y: list
) -> None:
    text(tmp_path / "X" / "x.csv", x)
    text(tmp_path / "Y" / "y.csv", y)
    examples, labels = read_xy(tmp_path / "X", tmp_path / "Y")
    assert len(examples) == rows_x and labels.tolist() == rows_y
    tables_read = tables.read_xy(tmp_path / "X", tmp_path / "Y")
    assert "header" in tables.merged_notes(tables_read)


def test_as_many_files_in_x_as_in_y_belong_together(tmp_path: Path) -> None:
    x, y = tmp_path / "X", tmp_path / "Y"
    text(x / "a1.csv", "a\n1\n2\n")
    text(x / "a2.csv", "a\n3\n")
    text(y / "b1.csv", "k\n1\n")
    text(y / "b2.csv", "k\n2\n3\n")
    for _ in range(2):  # the second time from the cache
        with pytest.raises(UserError, match=r"a1.csv has 2 rows and .*b1.csv has 1: with as many files in X as in Y"):
            read_xy(x, y)
    text(y / "b1.csv", "k\n0\n1\n")
    text(y / "b2.csv", "0\n")  # its only row, and not a header
    assert read_xy(x, y)[1].tolist() == [0, 1, 0]


def test_columns_go_by_their_names(tmp_path: Path) -> None:
    x = tmp_path / "X"
    text(x / "1.csv", "width,height\n1,2.5\n")
    sheet(x / "2.xlsx", ["height", "width"], [4, 3])
    npz(x / "3.npz", x=np.array([[6.0, 5.0]]), columns=np.array(["height ", "width"]))
    npz(x / "4.npz", x=np.array([[7.0, 8.0]]))
    found = tables.read_table(x)
    assert found.rows.tolist() == [[1, 2.5], [3, 4], [5, 6], [7, 8]] and found.names == ("width", "height")
    assert found.notes["column order"] == "by their names, as in the first file (X/2.xlsx, X/3.npz)"
    assert found.notes["columns without names"] == "taken in the order of the files with names (X/4.npz)"
    npz(x / "3.npz", x=np.array([[6.0, 5.0]]), columns=np.array(["depth", "width"]))
    with pytest.raises(UserError, match=r"3.npz has a column 'depth' where .*1.csv has 'height'"):
        read_table(x)
    npz(x / "3.npz", x=np.array([[6.0, 5.0]]), columns=np.array(["width"]))
    with pytest.raises(UserError, match=r"'columns' must name 2 columns"):
        read_table(x)


def workbook(path: Path) -> openpyxl.Workbook:
    path.parent.mkdir(exist_ok=True)
    book = openpyxl.Workbook()
    book.active.title = "Data"
    for row in (["a", "b"], [1, 2.5], [3, 4], [5, 6]):
        book.active.append(row)
    return book


def hide_first(book: openpyxl.Workbook) -> None:
    book.create_sheet("Notes", 0).append(["of no interest"])
    book["Notes"].sheet_state = "hidden"


def hide_cells(book: openpyxl.Workbook) -> None:
    book.active.row_dimensions[3].hidden = True
    book.active.column_dimensions["B"].hidden = True


def index(book: openpyxl.Workbook) -> None:
    book.active.insert_cols(1)
    for row in range(2, 5):
        book.active.cell(row, 1).value = row - 2


@pytest.mark.parametrize(
    ("change", "noted"),
    [
        (hide_first, {"sheet": "'Data', the first visible one of 2 (X/x.xlsx)"}),
        (hide_cells, {"hidden cells": "row 3, column B of sheet 'Data' are read like the others (X/x.xlsx)"}),
        (index, {"row numbers": "the first column has no name and counts the rows: it is left out (X/x.xlsx)"}),
    ],
)
def test_a_workbooks_first_visible_sheet(tmp_path: Path, change, noted: dict[str, str]) -> None:
    book = workbook(tmp_path / "X" / "x.xlsx")
    change(book)
    book.save(tmp_path / "X" / "x.xlsx")
    assert read_table(tmp_path / "X").tolist() == [[1, 2.5], [3, 4], [5, 6]]
    assert notes(tmp_path / "X") == noted


def formula(book: openpyxl.Workbook) -> None:
    book.active["B3"] = "=A3+1"


def last_rows_of_formulas(book: openpyxl.Workbook) -> None:
    book.active["A4"], book.active["B4"] = "=A3", "=B3"


def title(book: openpyxl.Workbook) -> None:
    book.active.insert_rows(1)
    book.active["A1"] = "Report"


def date(book: openpyxl.Workbook) -> None:
    book.active["B3"] = datetime.date(2024, 1, 2)


def merged(book: openpyxl.Workbook) -> None:
    book.active.merge_cells("A2:A3")


def merged_rows(book: openpyxl.Workbook) -> None:
    book.active.merge_cells("A2:B3")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (formula, "sheet 'Data', cell B3 is a formula without a saved value: open the file in Excel"),
        (last_rows_of_formulas, "sheet 'Data', cell A4 is a formula without a saved value"),
        (title, "sheet 'Data', cell B2: there is a value, and the header has only 1 column: is its first row a title?"),
        (date, "sheet 'Data', cell B3 ('b'): '2024-01-02 00:00:00' is a date"),
        (merged, "sheet 'Data', cell A3 ('a'): the cell is empty: it belongs to merged cells"),
        (merged_rows, "sheet 'Data', cell B2 ('b'): the cell is empty: it belongs to merged cells"),
    ],
)
def test_what_a_sheet_has_beside_its_values(tmp_path: Path, change, said: str) -> None:
    book = workbook(tmp_path / "X" / "x.xlsx")
    change(book)
    book.save(tmp_path / "X" / "x.xlsx")
    with pytest.raises(UserError) as raised:
        read_table(tmp_path / "X")
    assert said in str(raised.value) and "x.xlsx" in str(raised.value)


def test_archives_by_another_name(tmp_path: Path) -> None:
    workbook(tmp_path / "X" / "x.npz").save(tmp_path / "X" / "x.npz")
    with pytest.raises(UserError, match=r"x.npz ends in .npz, and is an Excel workbook"):
        read_table(tmp_path / "X")
    npz(tmp_path / "Z" / "z.npz", x=np.ones((2, 2)))
    (tmp_path / "Z" / "z.npz").rename(tmp_path / "Z" / "z.xlsx")
    with pytest.raises(UserError, match=r"z.xlsx ends in .xlsx, and is an archive of numpy's"):
        read_table(tmp_path / "Z")


def test_targets_in_a_sheet(tmp_path: Path) -> None:
    text(tmp_path / "T" / "y.csv", "kind,,\ncat,,\ndog,,\n")
    assert read_table(tmp_path / "T", targets=True).tolist() == ["cat", "dog"]
    sheet(tmp_path / "Y" / "y.xlsx", [None, "kind"], [0, "cat"], [1, "dog"])
    assert read_table(tmp_path / "Y", targets=True).tolist() == ["cat", "dog"]
    for row, said in (
        ([datetime.date(2024, 1, 2)], "sheet 'Sheet', cell A3: '2024-01-02 00:00:00' is a date"),
        (["=1+1"], "cell A3 is a formula without a saved value"),
        ([None], "sheet 'Sheet', cell A3: the cell is empty|row 3 of sheet 'Sheet' is empty"),
        ([7], "sheet 'Sheet', cell A2: 'cat' stands among numbers such as '7'"),
    ):
        sheet(tmp_path / "Y" / "y.xlsx", ["kind"], ["cat"], row, ["dog"])
        with pytest.raises(UserError, match=said):
            read_table(tmp_path / "Y", targets=True)
