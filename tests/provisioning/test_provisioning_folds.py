"""K-fold's normalisers: each fold's is of all clients' rows but those held out in it. Numbers by hand."""

from pathlib import Path

import numpy as np
import pytest

from fedkeras.config import Config
from fedkeras.data.statistics import statistics_of
from fedkeras.errors import RunFailed, UserError
from fedkeras.provisioning.agreement import DataDescription, agree
from fedkeras.provisioning.client_data import ProvisionedClient
from fedkeras.provisioning.preprocessing import Preprocessing

TWO_FOLDS = Config(data_source="server", target="XX", mode="collect", method="kfold", folds=2, normaliser="minmax")


def described(*parts):
    statistics = [statistics_of(np.array(part, np.float64)[:, None]) for part in parts]
    return DataDescription(sum(map(len, parts)), statistics, None)


def test_by_hand(tmp_path):
    """Client 0 holds out 0 and 2, then 10; client 1 holds out 4, then 20 and 30."""
    clients = {0: described([0, 2], [10]), 1: described([4], [20, 30])}
    agreed = agree(TWO_FOLDS, clients, None)
    assert agreed.normaliser.shift.tolist() == [0] and agreed.normaliser.spread.tolist() == [30]
    first, second = agreed.folds
    assert first.shift.tolist() == [10] and first.spread.tolist() == [20]  # of 10, 20, 30
    assert second.shift.tolist() == [0] and second.spread.tolist() == [4]  # of 0, 2, 4
    assert agreed.of_fold(2).normaliser is second and agreed.of_fold(0).normaliser is agreed.normaliser
    agreed.save(tmp_path)
    loaded = Preprocessing.load(tmp_path)
    assert loaded.digest == agreed.digest and loaded.folds[1].spread.tolist() == [4]
    assert Preprocessing.from_parts(agreed.text(), agreed.arrays()).digest == agreed.digest


def test_without_folds_there_is_one_normaliser():
    agreed = agree(Config(data_source="server", normaliser="minmax"), {0: described([1, 5])}, None)
    assert agreed.folds == () and agreed.of_fold(1).normaliser is agreed.normaliser


def test_who_sends_other_than_a_part_a_fold_does_not_fit():
    with pytest.raises(RunFailed, match="statistics of other than 2 parts"):
        agree(TWO_FOLDS, {0: described([1], [2]), 1: described([3])}, None)


def test_a_client_sends_the_statistics_of_what_each_fold_holds_out_and_scales_by_the_fold():
    x = np.arange(20, dtype=np.float64)[:, None]
    client = _client(x)
    folds, sent = client.folds(TWO_FOLDS), client.statistics(TWO_FOLDS)
    assert [part.count for part in sent] == [10, 10]
    for (rows, held_out), part in zip(folds, sent, strict=True):
        assert part.mean[0] == pytest.approx(x[held_out].mean())
        assert sorted([*rows, *held_out]) == list(range(20))
    client.preprocessing = agree(TWO_FOLDS, {0: DataDescription(20, sent, None)}, None)
    for number, (rows, _) in enumerate(folds, start=1):
        scaled, _ = client.examples(TWO_FOLDS, np.arange(20), number)
        low, high = x[rows].min(), x[rows].max()
        np.testing.assert_allclose(scaled, (x - low) / (high - low), rtol=1e-6)


def test_parts_of_a_clients_own_data_that_are_too_small_are_not_sent():
    own = Config(**{**vars(TWO_FOLDS), "data_source": "client"})
    with pytest.raises(UserError, match=r"9 examples in 2 folds are parts of 4: .* take fewer --folds") as error:
        _client(np.zeros((9, 1))).statistics(own)
    assert "\n" not in str(error.value)
    assert len(_client(np.zeros((10, 1))).statistics(own)) == 2
    assert len(_client(np.zeros((9, 1))).statistics(TWO_FOLDS)) == 2  # the server has these rows anyway


def _client(x):
    client = ProvisionedClient(0, Path(), ("", ""), {"x": x})
    client.takes = x.shape[1:]  # as the model file would say
    return client
