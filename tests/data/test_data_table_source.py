"""A table of one's own in one file: which columns are what, what its labels are, and what is refused in one line."""

import re
from pathlib import Path

import numpy as np
import pytest

from fedkeras.commands.data import main
from fedkeras.config import Config
from fedkeras.data import identity_of, load_client, load_test, open_source
from fedkeras.errors import UserError

FLOWERS = "width,length,kind\n1.5,2,rose\n3,4,aster\n5,6.25,rose\n7,8,aster\n9,10,rose\n"


def of(folder: Path, text: str | bytes, name: str = "t.csv", **flags: object) -> Config:
    """The configuration of a data set in this file."""
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return Config(dataset=str(path), **flags)


def rows_of(source) -> dict[tuple, str]:
    """All examples by their numbers, with the name of their class, training and test together."""
    parts = (source.examples(np.arange(len(source.labels))), source.test())
    return {tuple(x.tolist()): source.classes[y] for part in parts for x, y in zip(part.x, part.y, strict=True)}


def test_words_are_classes_in_the_order_of_the_alphabet_and_columns_stay_in_theirs(tmp_path: Path) -> None:
    source = open_source(of(tmp_path, FLOWERS, label_column="kind"))
    assert (source.classes, source.columns, source.input_shape) == (("aster", "rose"), ("width", "length"), (2,))
    known = {(1.5, 2.0): "rose", (3.0, 4.0): "aster", (5.0, 6.25): "rose", (7.0, 8.0): "aster", (9.0, 10.0): "rose"}
    assert rows_of(source) == known
    assert (len(source.labels), len(source.test_labels())) == (4, 1)  # a fifth of five rows
    assert source.targets is None and source.outputs == 2


def test_the_label_may_stand_anywhere_and_its_own_name_tells(tmp_path: Path) -> None:
    source = open_source(of(tmp_path, "Target;a\nyes;0,5\nno;1,25\nyes;2,5\nno;3,5\n"))
    assert rows_of(source) == {(0.5,): "yes", (1.25,): "no", (2.5,): "yes", (3.5,): "no"}
    assert source.chosen["label column"] == "'Target', by its name"
    assert source.chosen["decimal mark"] == "a comma, found over all lines"


def test_columns_that_are_asked_for_come_in_the_order_of_the_flag(tmp_path: Path) -> None:
    table = 'id,"a,b",c,y\nx1,1,2,u\nx2,3,4,v\nx3,5,6,u\n'
    source = open_source(of(tmp_path, table, feature_columns='c,"a,b"'))
    assert source.columns == ("c", "a,b")
    assert rows_of(source) == {(2.0, 1.0): "u", (4.0, 3.0): "v", (6.0, 5.0): "u"}


def test_the_central_test_set_is_a_fifth_of_each_class_whatever_the_seed(tmp_path: Path) -> None:
    table = "a,label\n" + "".join(f"{i},{'rare' if i % 10 == 0 else 'often'}\n" for i in range(100))
    tests = [open_source(of(tmp_path, table, seed=seed)).test() for seed in (1, 2)]
    assert np.bincount(tests[0].y).tolist() == [18, 2]
    assert np.array_equal(tests[0].x, tests[1].x)


@pytest.mark.parametrize(
    ("values", "flags", "classes", "amounts"),
    [
        ("3 1 3 7", {}, ("1", "3", "7"), None),
        ("1.0 true 0 1", {}, ("0", "1"), None),
        ("3 1 3 7", {"task": "regression"}, None, [1, 3, 3, 7]),
        ("0.5 1 2 -3", {}, None, [-3, 0.5, 1, 2]),
        ("none a b a", {}, ("a", "b", "none"), None),
    ],
)
def test_what_labels_are(tmp_path: Path, values: str, flags: dict, classes: tuple | None, amounts: list | None) -> None:
    table = "a,y\n" + "".join(f"{i},{value}\n" for i, value in enumerate(values.split()))
    source = open_source(of(tmp_path, table, **flags))
    if amounts is None:
        assert source.classes == classes and source.targets is None
    else:
        found = np.concatenate([source.targets, source.test().y])
        assert np.sort(found).tolist() == amounts and source.outputs == 1
        assert source.test().y.dtype == np.float32
    said = "classes, for" if classes and not classes[-1].isalpha() else "amounts, for" if amounts and not flags else ""
    assert said in source.chosen.get("labels", "")


def test_amounts_are_dealt_out_by_the_fifth_in_which_they_lie(tmp_path: Path) -> None:
    table = "a,y\n" + "".join(f"{i},{i + 0.5}\n" for i in range(100))
    config = of(tmp_path, table, num_partitions=4, test_fraction=0.0)
    source = open_source(config)
    assert np.bincount(source.labels).tolist() == [16] * 5 and source.classes[0] == "below 20.3"
    for cid in range(4):
        assert (np.histogram(load_client(config, cid).train.y, 5, (0, 100))[0] == 4).all()


def test_weights_are_a_column_that_is_no_feature(tmp_path: Path) -> None:
    table = "a,w,y\n" + "".join(f"{i},{i / 4},{i % 2}\n" for i in range(1, 11))
    source = open_source(of(tmp_path, table, sample_weight="w"))
    assert source.columns == ("a",)
    np.testing.assert_array_equal(source.sample_weight, source.examples(np.arange(8)).x[:, 0] / 4)


def test_csv_and_npz_of_the_same_rows_are_the_same_bits_to_a_client(tmp_path: Path) -> None:
    """1700000000.3 would lose its digits in float32 before it is scaled."""
    rng = np.random.default_rng(1)
    x, y = 1.7e9 + rng.normal(size=(40, 3)), rng.integers(0, 3, 40)
    lines = [",".join([*map(repr, row.tolist()), str(label)]) for row, label in zip(x, y, strict=True)]
    config = of(tmp_path, "\n".join(["a,b,c,y", *lines]))
    source = open_source(config)
    raw, test = source.examples(np.arange(len(source.labels))).x, source.test()
    arrays = {"x_train": raw, "y_train": source.labels, "x_test": test.x, "y_test": test.y}
    np.savez(tmp_path / "t.npz", **arrays)
    other = Config(dataset=str(tmp_path / "t.npz"))
    for cid in range(3):
        one, two = load_client(config, cid), load_client(other, cid)
        assert one.train.x.tobytes() == two.train.x.tobytes() and np.array_equal(one.test.y, two.test.y)
    assert load_test(config).x.tobytes() == load_test(other).x.tobytes()
    by_row = {tuple(row): label for row, label in zip(x.tolist(), y.tolist(), strict=True)}
    for row, label in zip(raw.tolist(), source.labels, strict=True):
        assert by_row[tuple(row)] == int(source.classes[label])


@pytest.mark.parametrize(
    ("text", "flags", "said"),
    [
        ("", {}, "t.csv is empty"),
        ("a,y\n", {}, "has a header and no rows"),
        ("a,b\n1,2\n", {}, "none of its columns is called label, target, class or y (its columns are a, b)"),
        ("label,y\n1,2\n", {}, "'label' and 'y' may both be the label"),
        ("a,y\n1,2\n", {"label_column": "z"}, "--label-column: {} has no column 'z' (its columns are a, y)"),
        ("a,y\n1,2\n", {"feature_columns": "a,z"}, "--feature-columns: {} has no column 'z'"),
        ("a,y\n1,2\n", {"feature_columns": "a,y"}, "--feature-columns: 'y' is the label or the weights"),
        ("a,y\n1,2\n", {"feature_columns": "a,a"}, "--feature-columns: 'a' stands twice"),
        ("a,y\n1,2\n", {"feature_columns": "a,,b"}, "between two commas stands a name"),
        ("y\n1\n2\n", {}, "has no column beside the label"),
        ("5.1,3.5,setosa\n4.9,3.0,setosa\n", {}, "line 1 looks like a row of the table ('5.1' among its names)"),
        ("1,2,1\n3,4,0\n4,6,1\n", {}, "line 1 names no columns"),
        ("a,a,y\n1,2,u\n", {}, "two columns called 'a'"),
        ("a,y\n1,u\n,v\n", {}, "line 3, column 1 ('a'): the cell is empty"),
        ("a,y\n1,u\nNaN,v\n", {}, "line 3, column 1 ('a'): the cell is empty"),
        ("a,y\n1,u\n,v\n,v\n", {}, "the cell is empty; 2 cells of this column are missing: fill them, or delete the"),
        ("a,y\n1,u\n2,\n", {}, "line 3: the cell is empty"),
        ("a,y\n1,u\n2,NA\n", {}, "line 3: 'NA' stands for a missing value; if it is a class, rename it"),
        ("a,y\n1,u\n2,3\n", {}, "line 2: 'u' stands among numbers such as '3'; labels are all numbers or all words"),
        ("a,b,y\n1,m,u\n2,f,v\n", {}, "line 2, column 2 ('b'): 'm' is no number; write it as numbers, or leave"),
        ("a,y\n1,u\n\n2,v\n", {}, "line 3, column 1 ('a'): the cell is empty"),
        ("a,y\n1,u,5\n", {}, "line 2 has 3 columns"),
        ("a,y\n1,u\n", {}, "has one example"),
        ("a,sample_weight,y\n1,2,u\n2,2,u\n", {}, "has a column 'sample_weight': give --sample-weight"),
        ("a,w,y\n1,-1,u\n2,2,u\n", {"sample_weight": "w"}, "weights are 0 or more"),
        ("a,y\n1,u\n2,v\n", {"task": "regression"}, "--task regression: the labels 'y' in {} are words, such as 'u'"),
        ("a,y\n1,.5\n2,1\n", {"task": "classification"}, "are numbers with fractions, and no classes"),
        ("a,y\n" + "".join(f"{i},{i}\n" for i in range(101)), {}, "are 101 different whole numbers: --task cl"),
        (b"a,y\n1,\xff\n", {}, "is not text in UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0", {}, "is no"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, text: str | bytes, flags: dict, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said.replace("{}", str(tmp_path / "t.csv")))) as found:
        open_source(of(tmp_path, text, **flags))
    assert "\n" not in str(found.value)


def test_classes_that_look_alike_are_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = of(tmp_path, "a,y\n1,Yes\n2,yes\n3,no\n4,Yes\n", num_partitions=1)
    assert open_source(config).classes == ("Yes", "no", "yes")
    assert main([config.dataset, "--num-partitions", "1"]) == 0
    assert "have classes that look alike: 'Yes', 'yes'" in " ".join(capsys.readouterr().out.split())


def test_other_names_of_classes_or_columns_are_another_data_set(tmp_path: Path) -> None:
    texts = FLOWERS, FLOWERS.replace("rose", "tulip"), FLOWERS.replace("width", "breadth"), FLOWERS + "\n"
    found = [identity_of(of(tmp_path, text, f"{i}.csv", label_column="kind")) for i, text in enumerate(texts)]
    assert len({one.digest for one in found[:3]}) == 3 and found[0].digest == found[3].digest


def test_a_regression_is_gradient_descent_on_the_mean_squared_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One client, one linear layer, one batch: a step by hand, and the loss on the central test set."""
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda n: None)  # this process has begun with others
    from fedkeras import client, models, server
    from fedkeras.reports.history import read_rows

    rng = np.random.default_rng(3)
    x = rng.normal(size=(50, 2)) * [5, 0.1] + [100, 7]
    y = 0.3 * x[:, 0] - 2 * x[:, 1] + 0.01 * rng.normal(size=50)
    lines = ["a,b,y", *(f"{a!r},{b!r},{c!r}" for (a, b), c in zip(x.tolist(), y.tolist(), strict=True))]
    flags = {"num_partitions": 1, "num_server_rounds": 1, "test_fraction": 0.0, "fraction_evaluate": 0.0}
    config = of(tmp_path, "\n".join(lines), **flags, batch_size=40, model="logistic_regression", learning_rate=0.05)
    source = open_source(config)
    train, test = source.examples(np.arange(40)), source.test()
    mean, std = train.x.mean(axis=0), train.x.std(axis=0)
    first = [*models.get_weights(models.build(config.model, input_shape=(2,), num_classes=1, seed=42)).values()]
    scaled, weights, bias = (train.x - mean) / std, first[0][:, 0], first[1][0]
    error = scaled @ weights + bias - train.y
    weights = weights - 0.05 * 2 * (scaled * error[:, None]).mean(axis=0)
    bias = bias - 0.05 * 2 * error.mean()

    folder = server.in_process(config, client.app, tmp_path / "runs")
    rows = {(row["phase"], row["client"]): row for row in read_rows(folder.history_path)}
    assert rows["train", "0"]["loss"] == pytest.approx(np.square(error).mean(), rel=1e-5)
    by_hand = np.square((test.x - mean) / std @ weights + bias - test.y).mean()
    assert rows["evaluate", "server"]["loss"] == pytest.approx(by_hand, rel=1e-5)
    assert "accuracy" not in rows["evaluate", "server"]
