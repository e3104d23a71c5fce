"""Columns of all clients in one order, by their names; other names are refused, and what was done is said."""

from pathlib import Path

import numpy as np
import pytest

from fedkeras.config import Config
from fedkeras.data import columns
from fedkeras.data.columns import Columns
from fedkeras.data.normalise import normaliser_from
from fedkeras.data.statistics import merge, statistics_of
from fedkeras.errors import UserError
from fedkeras.provisioning.client_data import ProvisionedClient
from fedkeras.provisioning.column_order import agree_on_columns, in_order
from fedkeras.provisioning.preprocessing import Preprocessing

ABC, CAB = Columns(("a", "b", "c"), ("no", "yes")), Columns(("c", "a", "b"), ("yes", "no"))
X = np.array([[1.0, 10, 100], [2, 30, 500], [4, 20, 300]])


def test_the_servers_order_or_the_first_clients() -> None:
    assert agree_on_columns({1: CAB, 0: ABC}, Columns())[0] == ABC
    assert agree_on_columns({1: CAB, 0: ABC}, CAB)[0] == CAB
    assert agree_on_columns({0: Columns(), 2: CAB}, Columns())[0] == CAB
    assert agree_on_columns({}, ABC) == (ABC, {})
    assert agree_on_columns({0: Columns(), 1: Columns()}, Columns()) == (Columns(), {})
    found, notes = agree_on_columns({0: ABC, 1: CAB, 2: Columns(), 3: CAB}, Columns())
    assert found == ABC and notes == {
        "X's columns": "clients 1, 3 put them into the order of client 0, by their names",
        "X's columns without names": "those of client 2 are taken to have the order of client 0",
        "Y's columns": "clients 1, 3 put them into the order of client 0, by their names",
        "Y's columns without names": "those of client 2 are taken to have the order of client 0",
    }


@pytest.mark.parametrize(
    ("other", "own", "said"),
    [
        (Columns(("a", "b", "d")), Columns(), "client 1 has in X a column 'd' where client 0 has 'c'"),
        (Columns(("a", "b", "d")), CAB, "client 1 has in X a column 'd' where the server's X_test has 'c'"),
        (Columns(("a", "b")), Columns(), "client 1 has in X none such where client 0 has 'c'"),
        (Columns(("a", "d", "e")), Columns(), "client 1 has in X columns 'd', 'e' where client 0 has 'b', 'c'"),
        (Columns(None, ("yes", "maybe")), Columns(), "client 1 has in Y a column 'maybe' where client 0 has 'no'"),
        (Columns(("c", "b", "b")), Columns(), "client 1 has in X none such where client 0 has 'a'"),
    ],
)
def test_other_names_are_refused(other: Columns, own: Columns, said: str) -> None:
    with pytest.raises(UserError) as raised:
        agree_on_columns({0: ABC, 1: other}, own)
    assert said in str(raised.value)


def test_statistics_follow_their_columns() -> None:
    whole = statistics_of(np.concatenate([X, X]))
    other = X[:, [2, 0, 1]]  # in the order of CAB
    merged = merge(statistics_of(X), in_order([statistics_of(other)], CAB.x, ABC.x)[0])
    for name in ("mean", "m2", "low", "high"):
        np.testing.assert_allclose(getattr(merged, name), getattr(whole, name))
    image = statistics_of(X, per_feature=False)
    assert in_order([image], CAB.x, ABC.x) == [image] and in_order([image], None, ABC.x) == [image]
    with pytest.raises(UserError, match="must stand in one order everywhere"):
        in_order([statistics_of(X.reshape(-1, 1))], CAB.x, ABC.x)


def test_a_client_trains_on_columns_in_the_order_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProvisionedClient, "takes", (3,))
    scaling = normaliser_from(statistics_of(X), "minmax")
    config = Config(data_source="client", normaliser="minmax", loss="mean_squared_error")
    given, targets = [], np.array([[1.0, 0], [0, 1], [0, 1]])
    for names, order, flip in ((ABC, [0, 1, 2], 1), (CAB, [2, 0, 1], -1)):
        tables = {"x": X[:, order], "y": targets[:, ::flip]}
        preprocessing = Preprocessing(scaling, None, columns=ABC)
        client = ProvisionedClient(0, tmp_path / "m.keras", ("", ""), tables, preprocessing, columns=names)
        given.append(client.examples(config, np.arange(3)))
    np.testing.assert_allclose(given[1][0], [[0, 0, 0], [1 / 3, 1, 1], [1, 0.5, 0.5]], atol=1e-6)
    for one, other in zip(*given, strict=True):
        assert np.array_equal(one, other)


def test_columns_are_kept_beside_the_model_and_sent(tmp_path: Path) -> None:
    own = Preprocessing(normaliser_from(statistics_of(X), "zscore"), None, columns=CAB)
    own.save(tmp_path)
    for other in (Preprocessing.load(tmp_path), Preprocessing.from_parts(own.text(), own.arrays()), own.of_fold(0)):
        assert other.columns == CAB and other.digest == own.digest
    assert Preprocessing(own.normaliser, None, columns=ABC).digest != own.digest
    for bad in ({"x": "abc"}, {"x": [1]}, {"y": {}}):
        with pytest.raises(ValueError, match="names of columns"):
            columns.from_dict(bad)
