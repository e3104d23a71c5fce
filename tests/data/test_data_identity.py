"""What makes two data sets two, and what does not."""

import numpy as np
import pytest

from fedkeras.data import ArraySource, SourceIdentity, catalogue, identity_of

X, Y = np.zeros((12, 4)), np.arange(12) % 3


def identity(monkeypatch, x=X, y=Y, test=(X[:4], Y[:4]), name="made", classes="abc", **own) -> SourceIdentity:
    monkeypatch.setattr(
        "fedkeras.data.identity.open_source", lambda config: ArraySource(name, (x, y), test, classes, **own)
    )
    return identity_of.__wrapped__(None)


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({}, ""),
        ({"x": X + 7, "origin": "another folder"}, ""),
        ({"name": "other"}, "it is 'other' here and 'made' there"),
        ({"classes": "abcd"}, "4 classes here and 3 there"),
        ({"input_shape": (2, 2)}, "examples of shape 2 x 2 here and 4 there"),
        ({"x": X[:9], "y": Y[:9]}, "9 training examples here and 12 there"),
        ({"test": (X[:3], Y[:3])}, "3 test examples here and 4 there"),
        ({"y": Y[::-1].copy()}, "as many examples, but with other labels or owners, or in another order"),
        ({"groups": np.arange(12)}, "as many examples, but with other labels or owners, or in another order"),
    ],
)
def test_the_first_difference_is_said(monkeypatch, own, said):
    server = identity(monkeypatch)
    assert identity(monkeypatch, **own).difference(SourceIdentity.from_json(server.to_json())) == said


def test_owners_are_compared_by_name_and_not_by_how_they_are_stored(monkeypatch):
    names = np.array(["f1", "f22"])[np.arange(12) % 2]
    stored = [identity(monkeypatch, groups=names.astype(kind)) for kind in ("<U3", "<U9", object)]
    assert len({each.digest for each in stored}) == 1
    assert identity(monkeypatch, groups=np.char.add(names, "x")).digest != stored[0].digest


@pytest.mark.parametrize("text", [None, 3, "", "[]", "{}", "x" * 3000, '{"name": 1}', '{"name": "a", "classes": true}'])
def test_what_came_by_wire_is_checked(text):
    with pytest.raises(ValueError, match=r"what the server says|Expecting value"):
        SourceIdentity.from_json(text)


def test_the_built_in_digits_are_the_same_everywhere():
    from fedkeras.config import Config

    found = identity_of(Config())
    assert (found.name, found.classes, found.shape, found.training, found.test) == (
        "digits",
        10,
        "8 x 8 x 1",
        1437,
        360,
    )
    assert found == identity_of(Config(seed=7, num_partitions=9)) and catalogue.BUILT_IN["digits"]
