"""Which descriptions of data fit together, who is refused by name, and what only a majority can say."""

import dataclasses

import numpy as np
import pytest

from fedkeras.config import Config
from fedkeras.data.columns import Columns
from fedkeras.data.labels import Labels
from fedkeras.data.statistics import from_dict, statistics_of
from fedkeras.errors import RunFailed
from fedkeras.federation.client_weights import ClientWeights
from fedkeras.federation.dispatcher import ClientRefused
from fedkeras.provisioning.agreement import DataDescription, agree, answer_of, description_in
from fedkeras.provisioning.described_clients import counted_rows
from fedkeras.provisioning.description_check import ANY, MOST, Measure, sift

NOTHING = Measure()
X = np.random.default_rng(0).normal(size=(40, 4))


def described(x=X, normaliser="zscore", **own):
    return DataDescription(len(x), [statistics_of(np.asarray(x))], None, normaliser=normaliser, **own)


def odd(*descriptions, measure=NOTHING):
    """Why clients are refused, by cid."""
    return sift(dict(enumerate(descriptions)), measure)[1]


def labelled(*names, one_hot=False):
    return DataDescription(10, [], Labels(names), one_hot=one_hot)


@pytest.mark.parametrize("normaliser", ["zscore", "minmax", "scale"])
def test_far_statistics_are_refused_with_what_is_far(normaliser):
    fault = odd(described(normaliser=normaliser), described(X + 0.5, normaliser), described(X * 1e6, normaliser))
    assert list(fault) == [2] and "describes values in column" in fault[2] and "the median client has" in fault[2]


def test_one_feature_may_be_farther_than_most_may():
    """The median client's values are 0 to 1 in each of four columns: ANY times that in one, MOST times in three."""
    whole = np.tile(np.linspace(0, 1, 11)[:, None], 4)

    def other(factor, columns):
        x = whole.copy()
        x[-1, :columns] = 1 + factor
        return described(x, "minmax")

    same = described(whole, "minmax")
    assert not odd(same, same, other(ANY - 1, 1)) and not odd(same, same, other(MOST - 1, 3))
    assert list(odd(same, same, other(ANY + 1, 1))) == [2] == list(odd(same, same, other(MOST + 1, 3)))
    assert not odd(same, same, other(MOST + 1, 2))  # not in more than half of the columns


def test_what_is_constant_at_most_clients_is_no_measure():
    """A sparse column: only client 2 has something in it."""
    sparse = np.c_[X[:, :3], np.zeros(40)]
    assert not odd(described(sparse, "minmax"), described(sparse, "minmax"), described(X * [1, 1, 1, 50], "minmax"))


def test_skewed_clients_fit_together():
    """One label each of the digits' pixels: far from each other, and no liars."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    for name in ("zscore", "minmax"):
        assert not odd(*(described(x[y == label], name) for label in range(10)))


def test_of_two_that_are_far_apart_nobody_can_say_who_is_right():
    with pytest.raises(RunFailed, match=r"clients 0 and 1 describe values that are far apart .*--normaliser none"):
        odd(described(), described(X * 1e6))
    assert not odd(described(), described(X + 1))
    with pytest.raises(RunFailed, match="no majority"):
        odd(described(), described(X + 1e3), described(X - 1e3), described(X + 1e6))


def test_a_claim_of_many_rows_counts_for_what_a_claim_counts_for(caplog):
    """8 rows at 0, and a client whose 10^9 at 1 count for 2 * 8: the mean is 16 / 24 and not 1."""
    config = Config(max_client_weight=2.0, normaliser="zscore", data_source="client", model="m.keras")
    whole = np.tile(np.linspace(-1, 1, 4)[:, None], 2)
    liar = described(whole + 1)
    liar = dataclasses.replace(liar, rows=10**9, statistics=[dataclasses.replace(liar.statistics[0], count=10**9)])
    people = {0: described(whole), 1: described(whole), 2: liar}
    agreed = agree(config, people, None, counted_rows(ClientWeights(config), people))
    np.testing.assert_allclose(agreed.normaliser.shift, 8 / 16)
    assert "client 2 says it has 1000000000 rows, and counts for 8" in caplog.text


def test_a_rows_numbers_are_as_many_everywhere():
    """A count of statistics that is a multiple of the rows would weigh as much."""
    one = described()
    more = dataclasses.replace(one, statistics=[dataclasses.replace(one.statistics[0], count=40 * 10**6)])
    assert list(odd(one, one, more)) == [2]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mean": 5.0, "low": 5.0, "high": 5.0, "m2": 1e9}, "m2 is larger"),  # a constant that varies
        ({"mean": 1e200, "low": 1e200, "high": 1e200, "m2": 0.0}, "beyond 1e\\+100"),
    ],
)
def test_statistics_that_no_numbers_have(values, words):
    arrays = {name: np.array([value]) for name, value in values.items()}
    with pytest.raises(ValueError, match=words):
        from_dict({"count": np.int64(3), **arrays})


def test_labels_of_another_sort_or_without_an_output_are_refused():
    measure = Measure(outputs=3)
    assert list(odd(labelled("a", "b"), labelled("a"), labelled(1, 2), measure=measure)) == [2]
    assert list(odd(labelled(0, 1), labelled(1, 2), DataDescription(10, [], None), measure=measure)) == [2]
    fault = odd(labelled(0, 1), labelled(1, 2), labelled(0, 57), labelled(2), measure=measure)
    assert fault == {2: "has the labels 57, and the model's 3 outputs are 0 to 2"}
    assert list(odd(labelled("a", "b"), labelled("b", "c"), labelled("a", "x", "y"), measure=measure)) == [2]
    assert list(odd(*[labelled(0, 1, 2, one_hot=True)] * 2, labelled(*range(5), one_hot=True), measure=measure)) == [2]


def test_labels_that_each_has_alone_are_no_ones_fault():
    """Three clients of a class each fit three outputs; with a fourth nobody can say whose is wrong."""
    people = [labelled("a"), labelled("b"), labelled("c")]
    assert not odd(*people, measure=Measure(outputs=3))
    assert not odd(*people, labelled("d"), measure=Measure(outputs=3))
    with pytest.raises(RunFailed, match=r"there are 4 classes \(a, b, c, d\), and the model has 3 outputs"):
        agree(Config(data_source="client", model="m.keras"), dict(enumerate([*people, labelled("d")])), 3)


def test_rows_that_look_one_hot_at_most_clients_are_numbers_if_they_are_not_at_one():
    assert not odd(*[labelled(0, 1, one_hot=True)] * 2, DataDescription(10, [], None), measure=Measure(outputs=2))


def test_a_data_sets_labels_are_not_the_clients_to_say():
    assert list(odd(DataDescription(3, [], None), labelled("a"), measure=Measure(classes=False))) == [1]


def columned(*names, side="x", cid_rows=10):
    return DataDescription(cid_rows, [], None, columns=Columns(**{side: names}))


def test_columns_of_other_names_are_refused_and_the_first_client_is_no_measure():
    assert odd(columned("u", "v"), columned("a", "b"), columned("b", "a")) == {
        0: "has in X columns 'u', 'v' where most clients have 'a', 'b'"
    }
    assert list(odd(columned("a"), columned("a"), measure=Measure(columns=Columns(x=("a",))))) == []
    assert list(odd(columned("b"), columned("a"), measure=Measure(columns=Columns(x=("a",))))) == [0]
    with pytest.raises(RunFailed, match="client 0 has in X the columns a, and client 1 has in X the columns b"):
        odd(columned("a"), columned("b"))


def test_shapes_with_other_axes_are_refused():
    def shaped(*shape):
        return DataDescription(10, [], None, shape=shape)

    assert odd(shaped(3, 8, 8), shaped(8, 8, 3), shaped(8, 8, 3), shaped(192)) == {
        0: "has examples of 3 x 8 x 8, and most clients of 8 x 8 x 3"
    }
    assert list(odd(shaped(3, 8, 8), shaped(8, 8, 3), measure=Measure(shape=(8, 8, 3)))) == [0]
    assert not odd(shaped(8, 8, 1), shaped(8, 8), shaped(64))


@pytest.mark.parametrize(
    "change",
    [{"columns": Columns(x=("a",) * 3)}, {"columns": Columns(y=("a" * 500,))}, {"shape": (0,)},
     {"labels": Labels(("b" * 500,))}],
)  # fmt: skip
def test_words_that_no_table_has_are_their_clients_failure(change):
    good = described(columns=Columns(x=("a", "b", "c", "d")), shape=(4,))
    assert description_in(answer_of(good)).columns == good.columns
    with pytest.raises(ClientRefused, match="describes its data wrongly"):
        description_in(answer_of(dataclasses.replace(good, **change)))
