"""Numbers in text: one decimal mark for a whole file, found over all of its lines; what has two readings is refused."""

from pathlib import Path

import numpy as np
import pytest
from table_files import notes, read_table, text

from fedkeras.errors import UserError

COMMA, POINT = {"decimal": ","}, {"decimal": "."}


@pytest.mark.parametrize(
    ("content", "flags", "expected"),
    [
        ("a,b\n0.123,1e5\n-2.345,+7\n", {}, [[0.123, 1e5], [-2.345, 7]]),
        ("a;b\n1,5;2\n-3;4,25\n", {}, [[1.5, 2], [-3, 4.25]]),
        ("a\tb\n1,5\t2\n3\t1e-3\n", {}, [[1.5, 2], [3, 0.001]]),
        ('"a","b"\n"1,5","2"\n"3","4,25"\n', {}, [[1.5, 2], [3, 4.25]]),
        ("a;b\n12,000;1\n0,5;2\n", {}, [[12, 1], [0.5, 2]]),  # 0,5 shows what 12,000 is
        ("a;b\n1.234;1\n2345.678;2\n", {}, [[1.234, 1], [2345.678, 2]]),
        ("a,b\n1.234,1\n2.345,2\n", {}, [[1.234, 1], [2.345, 2]]),  # commas divide: the point is the decimal mark
        ("a;b\n1.234;1\n2.345;2\n", POINT, [[1.234, 1], [2.345, 2]]),
        ("a;b\n1.234;1\n2.345;2\n", {"thousands": "."}, [[1234, 1], [2345, 2]]),
        ("a;b\n1.234.567,8;1\n1,5;2\n", {"thousands": ".", "decimal": ","}, [[1234567.8, 1], [1.5, 2]]),
        ('a,b\n"12,000",1\n6.5,2\n', {"thousands": ","}, [[12000, 1], [6.5, 2]]),
        ("price\n12,000\n1,234,567\n", {"thousands": ","}, [[12000], [1234567]]),
        ("temp\n1,5\n2\n", COMMA, [[1.5], [2]]),
        ("1,5\n2,7\n", COMMA, [[1.5], [2.7]]),
        ("1,5\n2,7\n", POINT, [[1, 5], [2, 7]]),
        ("a,b\n1_000,1\n", {"thousands": "_"}, [[1000, 1]]),
        ("a,b\n1'000.5,1\n", {"thousands": "'"}, [[1000.5, 1]]),
        ("a;b\n1\u00a0000,5;1\n1\u202f000;2\n", {"thousands": "space", **COMMA}, [[1000.5, 1], [1000, 2]]),
        ("a,b\ntrue,1\n1,2\n", {}, [[1, 1], [1, 2]]),
    ],
)
def test_numbers(tmp_path: Path, content: str, flags: dict[str, str], expected: list) -> None:
    text(tmp_path / "X" / "x.csv", content)
    assert read_table(tmp_path / "X", **flags).tolist() == np.array(expected).tolist()


LATE = "a;b\n" + "1.5;2\n" * 200_000  # more than a block of the file


@pytest.mark.parametrize(
    ("content", "flags", "said"),
    [
        ('a,b\n"12,000",1\n6.5,2\n', {}, "line 2: '12,000' stands in one file with '6.5' (line 3)"),
        ('a,b\n"12,000",1\n6.5,2\n', {}, "--thousands , --decimal ."),
        ("a;b\n1.234;1,5\n2.345;2\n", {}, "'1.234' stands in one file with '1,5' (line 2)"),
        ("a;b\n1.234;1,5\n2.345;2\n", {}, "--thousands . --decimal ,"),
        ("a;b\n1.5;1\n2,5;2\n", {}, "'1.5' (line 2) has a decimal point, and '2,5' (line 3) a decimal comma"),
        (LATE + "1,5;2\n", {}, "'1,5' (line 200002) a decimal comma"),
        (LATE + "12,000;2\n", {}, "line 200002: '12,000' stands in one file with '1.5' (line 2)"),
        ("a;b\n1.234.567,8;1\n", {}, "'1.234.567,8' has marks between thousands: --thousands . --decimal ,"),
        ('a;b\n"1,234.5";1\n', {}, "'1,234.5' has marks between thousands: --thousands , --decimal ."),
        ("a;b\n1.234;1\n", {}, "'1.234' may have a decimal mark or one between thousands"),
        ("a;b\n1,234;1\n", {}, "say --decimal , or --thousands ,"),
        ("a;b\n1,234;1.234\n", {}, "'1.234' (line 2) and '1,234' (line 2): one mark is the decimal one"),
        ("price\n1.234\n", {}, "say --decimal . or --thousands ."),
        ("1,5\n2,7\n", {}, "its lines, such as '1,5', are columns of whole numbers, or a single number each"),
        ("12,000\n1,234\n", {}, "or one with --decimal , or --thousands ,"),
        ("temp\n1,5\n2,7\n", {}, "line 2 has 2 columns; the first line has 1 (if 1,5 is one number: --decimal ,)"),
        ("a,b\n1_000,1\n", {}, "'1_000' is no number: if the mark stands between thousands: --thousands _"),
        ("a,b\n1'000.5,1\n", {}, '--thousands "\'" --decimal .'),
        ("a;b\n1 000;1\n", {}, "--thousands space"),
        ("a;b\n1.23.4;1\n", {"thousands": "."}, "'1.23.4' is no number"),
        ("a;b\n1.5;1\n", COMMA, "'1.5' is no number: if its mark is the decimal one: --decimal ."),
        ("a,b\n1.5,2\n", COMMA, "columns are divided by semicolons or tabs"),
        ("a,b\n50%,1\n", {}, "'50%' is no number: it is a percentage"),
        ("a,b\n\u20ac5,1\n", {}, "it has a currency's sign"),
        ("a,b\n\u0661\u0662,1\n", {}, "its digits are others than 0 to 9"),
        ("a,b\n\uff11\uff12,1\n", {}, "its digits are others than 0 to 9"),
        ("a,b\n0x10,1\n", {}, "it is hexadecimal"),
        ("a,b\n2024-01-05,1\n", {}, "'2024-01-05' is no number: it is a date"),
        ("a;b\n05.01.2024;1,5\n", {}, "'05.01.2024' is no number: it is a date"),
    ],
    ids=lambda value: str(value)[-30:],
)
def test_what_has_two_readings_is_refused(tmp_path: Path, content: str, flags: dict[str, str], said: str) -> None:
    text(tmp_path / "X" / "x.csv", content)
    with pytest.raises(UserError) as raised:
        read_table(tmp_path / "X", **flags)
    assert said in str(raised.value) and "x.csv" in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "flags", "expected"),
    [
        ("p\n0.5\n1.234\n", {}, [0.5, 1.234]),
        ("p\n1,5\n2\n", COMMA, [1.5, 2]),
        ("p\n1_000\n2\n", {"thousands": "_"}, [1000, 2]),
        ('p\n"1,5"\n"12,000"\n', {}, [1.5, 12]),
        ("k\n<=50K\n>50K\n", {}, ["<=50K", ">50K"]),
        ("k\n10-20\n20-30\n", {}, ["10-20", "20-30"]),
        ("k\n007\n010\n", {}, [7, 10]),
        ('p\n"12,000"\n6.5\n', {}, "'12,000' stands in one file with '6.5'"),
        ("p\n12,000\n6.5\n", {}, "line 2 has 2 columns; the first line has 1 (if 12,000 is one number: --thousands ,"),
        ("p\n1.234\n2.345\n", {}, "say --decimal . or --thousands ."),
        ("p\n1_000\n2_000\n", {}, "--thousands _"),
        ("p\n1_000\n2\n", {}, "'1_000' stands among numbers such as '2': if the mark"),
        ("p\n50%\n10%\n", {}, "it is a percentage"),
        ("k\n\u0661\n\u0662\n", {}, "its digits are others"),
        ("k\n007\n7\n", {}, "'007' and '7' would be one number"),
        ("k\nyes\nNA\n", {}, "line 3: 'NA' stands for a missing value"),
        ('k\n"a\nb"\nc\n', {}, "line 2: a line ends within quotes"),
    ],
)
def test_targets_have_the_same_rule(tmp_path: Path, content: str, flags: dict[str, str], expected: list | str) -> None:
    text(tmp_path / "Y" / "y.csv", content)
    if isinstance(expected, list):
        assert read_table(tmp_path / "Y", targets=True, **flags).tolist() == expected
        return
    with pytest.raises(UserError) as raised:
        read_table(tmp_path / "Y", targets=True, **flags)
    assert expected in str(raised.value)


def test_what_was_decided_is_said_of_each_file(tmp_path: Path) -> None:
    text(tmp_path / "X" / "1.csv", "a;b\n1,5;2\n")
    text(tmp_path / "X" / "2.csv", "a;b\n0,5;2\n")
    text(tmp_path / "X" / "3.csv", "a,b\n1.5,2\n")
    text(tmp_path / "X" / "4.csv", "a,b\n1.234,007\n")
    assert notes(tmp_path / "X") == {
        "decimal mark": "a comma, found over all lines (X/1.csv, X/2.csv); a point, so 1.234 is below a thousand; for "
        "thousands say --thousands . (X/4.csv)",
        "leading zeros": "007 is read as the number 7 (X/4.csv)",
    }
    text(tmp_path / "Z" / "3.csv", "a,b\n1.5,2\n")
    assert notes(tmp_path / "Z") == {}
