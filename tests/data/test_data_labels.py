"""Class labels of any kind as one shared mapping, and rows divided among clients."""

import json

import numpy as np
import pytest

from fedkeras.data import labels
from fedkeras.data.partition import divide, parse_share
from fedkeras.errors import UserError


def test_words() -> None:
    left, right = labels.fit(np.array(["dog", "cat", "dog"])), labels.fit(np.array(["ant", "dog"]))
    shared = labels.merge(right, left)
    assert shared == labels.merge(left, right) == labels.Labels(("ant", "cat", "dog"))
    codes = shared.encode(np.array(["dog", "cat", "dog"]))
    assert codes.tolist() == [2, 1, 2] and codes.dtype == np.int32
    assert shared.decode(codes).tolist() == ["dog", "cat", "dog"]
    assert labels.from_dict(json.loads(json.dumps(shared.to_dict()))) == shared


def test_whole_numbers_and_one_hot() -> None:
    found = [labels.fit(np.array([0, 3, 3])), labels.fit(np.array([1], np.uint8))]
    assert labels.merge(*found).names == (0, 1, 3)
    shared = labels.merge(*found, outputs=5)  # nobody has a 2 or a 4: the others keep their numbers
    assert shared.encode(np.array([0, 3, 1])).tolist() == [0, 3, 1] and len(shared) == 5
    assert labels.merge(labels.fit(np.array([10, 30])), outputs=3).encode(np.array([30, 10])).tolist() == [1, 0]
    one_hot = np.eye(3, dtype=np.float32)[[2, 0]]
    assert labels.kind_of(one_hot) == "one-hot" and labels.fit(one_hot).encode(one_hot).tolist() == [2, 0]
    assert json.dumps(labels.fit(one_hot).to_dict()) == '{"classes": [0, 1, 2]}'


def test_kinds() -> None:
    assert labels.kind_of(np.array([[0.0, 1], [1, 1]])) == "numbers"
    assert labels.kind_of(np.array([0.5, 1])) == "numbers"
    assert labels.kind_of(np.array([1, 2])) == "integers"
    assert labels.kind_of(np.array(["a"])) == "words"


def test_what_does_not_fit() -> None:
    shared = labels.Labels(("cat", "dog"))
    with pytest.raises(UserError, match=r"label 'emu' \(row 1, counted from 0\) is not among the 2 known: cat, dog"):
        shared.encode(np.array(["dog", "emu"]))
    with pytest.raises(UserError, match="labels such as '3' are not among"):
        shared.encode(np.array([3]))
    with pytest.raises(UserError, match=r"some labels are words \(cat, dog\), and others whole numbers \(1, 7\)"):
        labels.merge(shared, labels.fit(np.array([7, 1])))
    with pytest.raises(UserError, match="one-hot rows have 3 columns, and there are 2 classes"):
        shared.encode(np.eye(3))
    with pytest.raises(UserError, match="are numbers and no classes"):
        labels.fit(np.array([0.5]))
    with pytest.raises(UserError, match=r"label 1e\+16 is a floating-point number that stands for several"):
        labels.Labels((1, 2)).encode(np.array([1.0, 1e16]))
    for bad in (None, [], ["b", "a"], [1, "a"], [1.5], ["cat "], ["e\u0301"], [2**63]):
        with pytest.raises(ValueError, match=r"classes .*must "):
            labels.from_dict({} if bad is None else {"classes": bad})


def test_numbers_beyond_2_to_the_53_are_labels_of_their_own():
    ids = [2**53, 2**53 + 1, 2**62 + 1]
    for dtype in (np.int64, np.uint64):
        found = labels.fit(np.array(ids, dtype))
        assert found.names == tuple(ids) and labels.from_dict(json.loads(json.dumps(found.to_dict()))) == found
        assert found.encode(np.array(ids[::-1], dtype)).tolist() == [2, 1, 0]
    with pytest.raises(UserError, match="is too large"):
        labels.fit(np.array([2**63], np.uint64))


def test_a_message_names_the_classes_and_not_all_of_many():
    assert labels.shown(["a", 3]) == "a, 3"
    assert labels.shown(range(40)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ... (40 in all)"
    assert labels.lookalikes(("Cat", "cat", "dog", "big  dog", "big dog")) == [("Cat", "cat"), ("big  dog", "big dog")]


def owners(parts: dict[int, np.ndarray], count: int) -> np.ndarray:
    """Who owns each row; fails unless each has one owner."""
    together = np.concatenate(list(parts.values()))
    np.testing.assert_array_equal(np.sort(together), np.arange(count))
    return together


def test_parts_are_disjoint_and_the_whole() -> None:
    classes = np.repeat([0, 1, 2], [50, 30, 21])
    parts = divide(101, [7, 2, 4], classes=classes, seed=1)
    owners(parts, 101)
    assert list(parts) == [2, 4, 7]
    for label, count in enumerate((50, 30, 21)):
        assert {abs(np.sum(classes[part] == label) - count / 3) < 1 for part in parts.values()} == {True}
    again = divide(101, [2, 4, 7], classes=classes, seed=1)
    assert all(np.array_equal(parts[cid], again[cid]) for cid in parts)
    assert not np.array_equal(divide(101, [2, 4, 7], classes=classes, seed=2)[2], parts[2])
    plain = divide(101, [0, 1])
    owners(plain, 101)
    assert plain[0].tolist() != list(range(51)) and abs(len(plain[0]) - len(plain[1])) == 1


def test_shares() -> None:
    assert parse_share(" 0=2, 1=0.5 ") == {0: 2.0, 1: 0.5} and parse_share("") == {}
    parts = divide(100, [0, 1, 2], share=parse_share("0=2"), classes=np.arange(100) % 2)
    owners(parts, 100)
    assert [len(part) for part in parts.values()] == [50, 25, 25]
    assert np.sum(parts[0] % 2) == 25
    for text, said in [("0", "not of the form"), ("0=0", "above 0"), ("0=1,0=2", "two weights"), ("a=1", "not of")]:
        with pytest.raises(UserError, match=said):
            parse_share(text)
    with pytest.raises(UserError, match="--share names client 3; the clients are 0, 1"):
        divide(10, [0, 1], share={3: 1.0})
    with pytest.raises(UserError, match="--share leaves client 1 none of the 10 rows; make its weight larger"):
        divide(10, [0, 1], share=parse_share("0=1000"))
    with pytest.raises(UserError, match="2 rows cannot be divided among 3 clients"):
        divide(2, [0, 1, 2])
