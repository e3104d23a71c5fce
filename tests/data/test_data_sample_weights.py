"""Weights of training examples: an array of an .npz, a column of a table; what is none is refused in one line."""

import numpy as np
import pytest

from fedkeras.config import Config
from fedkeras.data import ArraySource, open_source, own_rows, sample_weights_of
from fedkeras.data.readers.tables import check_same_columns, read_xy
from fedkeras.data.source import check_source
from fedkeras.errors import UserError

X = np.arange(40.0).reshape(20, 2)
Y = np.arange(20) % 2
W = np.linspace(0, 1.9, 20)


def write(path, **more):
    np.savez(path, x_train=X, y_train=Y, x_test=X[:2], y_test=Y[:2], **more)
    return str(path)


def test_an_array_of_an_npz_is_dealt_and_held_out_with_its_rows(tmp_path):
    config = Config(dataset=write(tmp_path / "a.npz", sample_weight=W, other=W[::-1]))
    for cid in range(3):
        rows = own_rows(config, cid)[0]
        np.testing.assert_array_equal(sample_weights_of(config, cid), W[rows])
        other = Config(dataset=config.dataset, sample_weight="other")
        np.testing.assert_array_equal(sample_weights_of(other, cid), W[::-1][rows])
        assert sample_weights_of(Config(dataset=config.dataset, sample_weight="none"), cid) is None


def test_without_one_there_are_no_weights_and_who_names_one_is_told(tmp_path):
    path = write(tmp_path / "b.npz")
    assert sample_weights_of(Config(dataset=path), 0) is None
    with pytest.raises(UserError, match=r"--sample-weight costs: .*b.npz has no array of this name"):
        open_source(Config(dataset=path, sample_weight="costs"))
    with pytest.raises(UserError, match="--sample-weight costs: digits has no weights of its examples"):
        sample_weights_of(Config(sample_weight="costs"), 0)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (W[:19], r"have shape \(19,\): there must be one for each of 20"),
        (np.where(W > 1.8, np.nan, W), r"that of example 19 \(counted from 0\) is nan"),
        (-W, r"that of example 1 \(counted from 0\) is -0.1; weights are 0 or more"),
        (W * 0, "are all 0"),
        (np.full(20, "heavy"), "weights are numbers"),
    ],
)
def test_what_are_no_weights(weights, said):
    source = ArraySource("mine", (X, Y), (X[:2], Y[:2]), "ab", sample_weight=weights)
    with pytest.raises(UserError, match=f"--dataset mine: sample weights.*{said}"):
        check_source(source, "mine")


def csv(path, header, rows):
    path.parent.mkdir(exist_ok=True)
    lines = [header] * bool(header) + [",".join(f"{value:g}" for value in row) for row in rows]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def tables(tmp_path):
    """X and Y in two files each; X's columns stand in another order: a, w, b and b, a, w."""
    csv(tmp_path / "X" / "1.csv", "a,w,b", np.column_stack([X[:12, 0], W[:12], X[:12, 1]]))
    csv(tmp_path / "X" / "2.csv", "b,a,w", np.column_stack([X[12:, 1], X[12:, 0], W[12:]]))
    csv(tmp_path / "Y" / "1.csv", "y", Y[:12, None])
    csv(tmp_path / "Y" / "2.csv", "y", Y[12:, None])
    return tmp_path


def test_a_column_of_text_files_is_taken_out_of_x(tables):
    for _ in range(2):  # read, and from the cache
        x, _ = read_xy(tables / "X", tables / "Y", weights="w")
        assert x.names == ("a", "b")
        np.testing.assert_array_equal(x.rows, X)
        np.testing.assert_allclose(x.weights, W, rtol=1e-6)
        assert x.notes["sample weights"] == "'w' weighs the rows of X, and is no feature"
    plain, _ = read_xy(tables / "X", tables / "Y")
    assert plain.rows.shape == (20, 3) and plain.weights is None  # another entry of the cache
    csv(tables / "X_test" / "1.csv", "b,a", X[:3])  # a test set needs no weights, and may have them
    check_same_columns(tables / "X", tables / "X_test", weights="w")
    csv(tables / "X_test" / "1.csv", "a,b,w", np.column_stack([X[:3], W[:3]]))
    check_same_columns(tables / "X", tables / "X_test", weights="w")
    tested, _ = read_xy(tables / "X_test", weights="w", weighed=False)
    assert tested.names == ("a", "b") and tested.weights is None


def test_an_array_beside_x_in_an_npz_leaves_it_where_it_lies(tmp_path):
    (tmp_path / "X").mkdir()
    np.savez(tmp_path / "X" / "a.npz", x=X.astype(np.float32), sample_weight=W, other=W[::-1])
    for asked, expected in (("", W), ("other", W[::-1])):
        x, _ = read_xy(tmp_path / "X", weights=asked)
        assert isinstance(x.rows, np.memmap)
        np.testing.assert_array_equal(x.weights, expected)
    assert read_xy(tmp_path / "X", weights="none")[0].weights is None
    np.savez(tmp_path / "X" / "a.npz", x=X, sample_weight=W[:5])
    with pytest.raises(UserError, match="'sample_weight' must be one number for each of 20 rows"):
        read_xy(tmp_path / "X", weights="")


def test_a_column_that_may_be_meant_so_is_refused_and_a_wrong_name_says_which_there_are(tables):
    with pytest.raises(UserError, match=r"--sample-weight costs: .*1.csv has no column .* its columns are a, w, b"):
        read_xy(tables / "X", weights="costs")
    csv(tables / "X" / "2.csv", "b,a,v", X[12:, [1, 0, 0]])
    with pytest.raises(UserError, match=r"--sample-weight w: .*2.csv has no column or array of this name"):
        read_xy(tables / "X", weights="w")
    (tables / "X" / "2.csv").unlink()
    csv(tables / "X" / "1.csv", "a,sample_weight,b", np.column_stack([X[:, 0], W, X[:, 1]]))
    with pytest.raises(
        UserError, match="give --sample-weight sample_weight to weigh the rows by it, or --sample-weight"
    ):
        read_xy(tables / "X", weights="")
    csv(tables / "X" / "1.csv", "a,w,b", np.column_stack([X[:, 0], -W, X[:, 1]]))
    with pytest.raises(UserError, match=r"the weights 'w' in .*X: that of example 1 \(counted from 0\) is -0.1"):
        read_xy(tables / "X", weights="w")
    csv(tables / "X" / "1.csv", "", X)
    with pytest.raises(UserError, match="its columns have no names"):
        read_xy(tables / "X", weights="w")
