"""What is learned from all clients' training rows and from nothing else: scaling and class weights, by hand numbers."""

import json

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from fedkeras import client, data, server
from fedkeras.config import Config
from fedkeras.data.statistics import from_dict, statistics_of
from fedkeras.errors import RunFailed, UserError
from fedkeras.federation.client_weights import ClientWeights
from fedkeras.federation.dispatcher import ClientRefused
from fedkeras.federation.grids import federation_grid
from fedkeras.named_code import EVERYTHING_NAMED
from fedkeras.provisioning.agreement import DataDescription, agree, description_in, stacked
from fedkeras.provisioning.described_clients import DescribedClientManager, shared_in
from fedkeras.provisioning.description_check import of_one_kind
from fedkeras.provisioning.preprocessing import Preprocessing, own_normaliser_of
from fedkeras.provisioning.protocol import reply
from fedkeras.reports import Choices, RunFolder
from fedkeras.runtime.in_process import InProcessGrid

X = np.random.default_rng(3).normal([100.0, -2.0, 5.0], [2.0, 40.0, 0.0], (60, 3))
Y = np.repeat([0, 1, 2], [36, 18, 6])
WEIGHTS = np.linspace(0.1, 2, 60)
READ = []


class Watched(data.ArraySource):
    """Three clients of 10, 20 and 30 rows, of four classes of which one has no row; what is read is noted."""

    def examples(self, indices):
        READ.extend(np.arange(60)[indices])
        return super().examples(indices)


def watched(config):
    owners = np.repeat([0, 1, 2], [10, 20, 30])
    y = Y[np.random.default_rng(1).permutation(60)]
    return Watched("watched", (X, y), (X[:5], y[:5]), "abcd", groups=owners, default_normaliser="zscore",
                   sample_weight=WEIGHTS)  # fmt: skip


CONFIG = Config(dataset=f"{__name__}:watched", partitioner="natural", test_fraction=0.2)


class Federation:
    """Three clients in this process; `spoil(cid, content)` may change what a client answers to `describe`."""

    def __init__(self, config=CONFIG, spoil=None):
        self.asked, self.heard = [], []
        self.spoil = spoil
        own = {"allow": EVERYTHING_NAMED}
        self.grid = federation_grid(InProcessGrid(self.app, config.num_partitions, config.for_clients(), own))
        self.config, self.choices = config, Choices()

    def app(self, message, context):
        kind, cid = message.metadata.message_type, context.node_config["partition-id"]
        self.heard.append(dict(message.content.get("config", {})))
        if kind == "query.describe":
            self.asked.append(cid)
        answer = client.app(message, context)
        if self.spoil and kind == "query.describe":
            self.spoil(cid, answer.content)
        return answer

    def agree(self, folder=None, knows_source=False):
        run = None if folder is None else RunFolder(folder)
        manager = DescribedClientManager(self.grid, self.config, run, choices=self.choices, knows_source=knows_source)
        self.nodes = nodes = manager.wait()
        node_id = nodes[0]
        ids = list(
            self.grid.push_messages([Message(RecordDict({"config": ConfigRecord()}), node_id, "query.identify")])
        )
        self.grid.wait_for_replies(ids, 1.0)
        return shared_in(self.heard[-1])


@pytest.fixture(autouse=True)
def nothing_read():
    READ.clear()


@pytest.fixture
def whatever_threads(monkeypatch):
    """TensorFlow may have started in this process by now, with others."""
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda n: None)


def training_rows(config=CONFIG, cids=(0, 1, 2)):
    return np.concatenate([data.own_rows(config, cid)[0] for cid in cids])


def test_the_normaliser_is_that_of_all_training_rows_and_each_client_reads_its_own_alone(tmp_path, capsys):
    shared = Federation().agree(tmp_path)
    rows = X[training_rows()]
    np.testing.assert_allclose(shared.normaliser.shift, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(shared.normaliser.spread[:2], rows.std(axis=0)[:2], rtol=1e-12)
    assert shared.normaliser.spread[2] == 1  # constant
    assert sorted(READ) == sorted(training_rows())  # nobody's test rows, and each row once: by its own client
    pooled, loaded = data.pooled_normaliser(CONFIG).shift, Preprocessing.load(tmp_path)
    assert np.array_equal(shared.normaliser.shift, pooled) and loaded.digest == shared.digest
    assert "scaled: zscore by statistics of 48 training rows of 3 clients" in capsys.readouterr().out


def test_a_server_with_the_data_set_asks_nobody_and_finds_the_same():
    """Class weights too: the rows are the clients' training rows, and no others."""
    config = Config(**{**CONFIG.__dict__, "class_weight": "balanced"})
    asking, alone = Federation(config), Federation(config)
    asked, own = asking.agree(), alone.agree(knows_source=True)
    assert (asking.asked, alone.asked) == ([0, 1, 2], []) and asked.digest == own.digest
    assert asking.choices["scaled"] == alone.choices["scaled"]
    assert asking.choices["class weights"] == alone.choices["class weights"]


@pytest.mark.parametrize("config", [CONFIG, Config(dataset="digits")], ids=["scaling is learned", "nothing is"])
def test_known_counts_are_asked_for_before_they_are_used(config):
    """Also where nothing else must be asked; who has answered is not asked again."""
    config = Config(**{**config.__dict__, "client_weights": "known"})
    federation, weights = Federation(config), ClientWeights(config)
    manager = DescribedClientManager(federation.grid, config, None, choices=federation.choices, client_weights=weights)
    manager.wait()
    manager.wait()
    assert federation.asked == [0, 1, 2]
    for cid in range(3):
        train, held_out = data.own_rows(config, cid)
        assert weights.fault("train", cid, len(train)) is None and weights.fault("train", cid, len(train) + 1)
        assert weights.fault("evaluate", cid, len(held_out)) is None


def test_a_client_alone_is_scaled_by_its_own_rows():
    own = data.own_normaliser(CONFIG, 0)
    np.testing.assert_allclose(own.shift, X[training_rows(cids=[0])].mean(axis=0), rtol=1e-12)


@pytest.mark.parametrize(
    ("flags", "knows", "asked"),
    [
        ({"dataset": "digits"}, True, []),
        ({"dataset": "mnist", "normaliser": "minmax"}, False, []),  # its files need not be here
        ({"normaliser": "none"}, False, []),
        ({"dataset": "digits", "normaliser": "zscore"}, True, []),  # the server sees it in its own copy
        ({"dataset": "digits", "normaliser": "zscore"}, False, [0, 1, 2]),
        ({"dataset": "digits", "class_weight": "balanced"}, True, []),
        ({"dataset": "digits", "class_weight": "balanced"}, False, [0, 1, 2]),
        ({}, False, [0, 1, 2]),
    ],
)
def test_only_who_needs_it_is_asked(flags, knows, asked):
    config = Config(**{"dataset": CONFIG.dataset, **flags})
    federation = Federation(config)
    manager = DescribedClientManager(federation.grid, config, None, choices=federation.choices, knows_source=knows)
    manager.wait()
    manager.wait()
    assert federation.asked == asked


def test_a_resumed_run_keeps_what_it_began_with_and_asks_nobody(tmp_path):
    first = Federation().agree(tmp_path)
    again = Federation(Config(**{**CONFIG.__dict__, "resume": str(tmp_path)}))
    assert again.agree(tmp_path).digest == first.digest and again.asked == []


def spoiled(change):
    """A description of 8 rows, changed: as content of a message."""
    part = statistics_of(X[:8]).to_dict()
    values = {
        "rows": 8,
        "classes": "",
        "normaliser": "zscore",
        "counts": [6, 2, 0, 0],
        "columns": "{}",
        "shape": [],
        "one_hot": False,
        "held_out": 2,
    }
    change(part, values)
    return reply({name: np.stack([array]) for name, array in part.items()}, **values)


@pytest.mark.parametrize(
    "change",
    [
        lambda part, _: part["mean"].fill(np.nan),
        lambda part, _: part.update(count=np.int64(-8)),
        lambda part, _: part.update(count=np.int64(9)),  # no multiple of the rows
        lambda part, _: part.update(m2=-part["m2"] - 1),
        lambda part, _: part.update(m2=part["m2"] * 1e9 + 1),  # more than its extremes allow
        lambda part, _: part.update(low=part["high"] + 1),
        lambda part, _: part.update(mean=part["mean"][:2]),
        lambda part, _: part.pop("m2"),
        lambda _, values: values.update(counts=[9, -1, 0, 0]),
        lambda _, values: values.update(counts=[6, 3, 0, 0]),
        lambda _, values: values.update(rows=-1),
        lambda _, values: values.update(normaliser=3),
    ],
)
def test_nonsense_is_its_clients_failure(change):
    with pytest.raises(ClientRefused):
        description_in(spoiled(change))
    assert description_in(spoiled(lambda *_: None)).rows == 8


@pytest.mark.parametrize("what", ["not finite", "two features", "another scaling"])
def test_one_client_cannot_spoil_what_the_others_agree_on(what, caplog):
    def spoil(cid, content):
        if cid == 1:
            arrays = {
                "not finite": stacked([statistics_of(X)]) | {"mean": np.full((1, 3), np.inf)},
                "two features": stacked([statistics_of(X[:16, :2])]),
            }.get(what, stacked([statistics_of(X[:16])]))
            name = "minmax" if what == "another scaling" else "zscore"
            changed = reply(
                arrays,
                rows=16,
                classes="",
                normaliser=name,
                counts=[],
                columns="{}",
                shape=[],
                one_hot=False,
                held_out=0,
            )
            for key in list(content):
                del content[key]
            for key, value in changed.items():
                content[key] = value

    federation = Federation(spoil=spoil)
    shared = federation.agree()
    assert (1 in federation.nodes) == (what == "not finite")  # who can say nothing may still train
    np.testing.assert_allclose(shared.normaliser.shift, X[training_rows(cids=[0, 2])].mean(axis=0), rtol=1e-12)
    told = "has no part in the scaling" if what == "not finite" else "does not take part, for what it says of its data"
    assert [line for line in caplog.messages if line.startswith(f"client 1 {told}")]


def test_two_that_differ_are_named_where_nobody_can_say_who_is_right():
    two, three = (DataDescription(8, [statistics_of(X[:8, :width])], None, normaliser="zscore") for width in (2, 3))
    with pytest.raises(RunFailed, match=r"client 0 describes statistics of 2 .*, and client 4 .* of 3"):
        of_one_kind({0: two, 4: three})
    assert of_one_kind({0: two, 1: three, 2: three}) == (
        {1: three, 2: three}, {0: "describes statistics of 2 features for zscore, and the others statistics of 3 "
                          "features for zscore"})  # fmt: skip


def test_statistics_of_a_few_rows_are_not_sent(capsys):
    config = Config(**{**CONFIG.__dict__, "test_fraction": 0.6})  # 4, 8 and 12 rows to train on
    shared = Federation(config).agree()
    larger = [cid for cid in range(3) if len(training_rows(config, [cid])) > 4]
    np.testing.assert_allclose(shared.normaliser.shift, X[training_rows(config, larger)].mean(axis=0), rtol=1e-12)
    assert "20 training rows of 2 clients; 1 had too few rows for statistics" in capsys.readouterr().out
    with pytest.raises(RunFailed, match="take --normaliser none, or fewer clients"):
        Federation(Config(**{**CONFIG.__dict__, "test_fraction": 0.9})).agree()


def test_class_weights_are_of_all_clients_rows_by_hand(tmp_path, capsys):
    """Rows of class a: 4 + 2, of b: 0, of c: 1 + 1, of d: 2; ten rows and three classes that somebody has."""
    counts = {0: (4, 0, 1, 0), 1: (2, 0, 1, 2)}
    described = {cid: DataDescription(sum(own), [], None, counts=own) for cid, own in counts.items()}
    agreed = agree(Config(class_weight="balanced"), described, None)
    assert agreed.class_weights == (10 / 18, 0.0, 10 / 6, 10 / 6)
    agreed.save(tmp_path)
    assert Preprocessing.load(tmp_path).class_weights == agreed.class_weights
    assert Preprocessing.from_json(agreed.to_json()).digest == agreed.digest
    assert json.loads((tmp_path / "class_weights.json").read_text())["class_weights"][1] == 0


def test_class_weights_of_tables_go_by_the_labels_names():
    def described(names, counts):
        found = data.labels.Labels(names)
        return DataDescription(sum(counts), [], found, counts=counts)

    own = {0: described(("cat", "dog"), (6, 2)), 1: described(("ape", "dog"), (3, 1))}
    agreed = agree(Config(data_source="client", model="m.keras", class_weight="balanced"), own, None)
    assert agreed.labels.names == ("ape", "cat", "dog")
    assert agreed.class_weights == (12 / 9, 12 / 18, 12 / 9)
    numbers = {0: DataDescription(4, [], None)}
    with pytest.raises(RunFailed, match="--class-weight balanced needs targets that are classes"):
        agree(Config(data_source="client", model="m.keras", class_weight="balanced"), numbers, None)


@pytest.mark.parametrize("weights", [[1, float("nan")], [-1.0], ["a"], [True]])
def test_class_weights_that_came_from_elsewhere_are_checked(weights):
    text = Preprocessing(data.own_normaliser(CONFIG, 0), None, class_weights=(1.0,)).to_json()
    with pytest.raises(ValueError, match="class weights must be finite numbers"):
        Preprocessing.from_json(text.replace("[1.0]", json.dumps(weights)))


def test_a_client_does_not_train_on_what_is_scaled_for_another_data_set():
    with pytest.raises(UserError, match="watched is scaled by zscore, for which the server has sent no statistics"):
        own_normaliser_of(CONFIG, None)
    other = agree(CONFIG, {0: DataDescription(8, [statistics_of(X[:8, :2])], None, normaliser="zscore")}, None)
    with pytest.raises(UserError, match=r"of shape \(2,\), and those of this client's watched would be \(3,\)"):
        own_normaliser_of(CONFIG, other)


def line(input_shape, num_classes):
    import keras

    keras.utils.set_random_seed(1)
    dense = [keras.layers.Dense(4, "relu"), keras.layers.Dense(4, "relu"), keras.layers.Dense(num_classes, "softmax")]
    return keras.Sequential([keras.Input(input_shape), *dense])


@pytest.mark.parametrize("way", ["rounds", "split"])
def test_a_run_trains_and_tests_on_rows_that_are_scaled_and_weighted_so(way, tmp_path, whatever_threads):
    """Against a learner of its own that trains on rows scaled by numpy, weighted by numpy: classes times rows."""
    from fedkeras.learning import Learner
    from fedkeras.models import get_weights, load
    from fedkeras.randomness import generator

    flags = {**CONFIG.__dict__, "partitioner": "iid", "model": f"{__name__}:line", "class_weight": "balanced"}
    flags |= {"num_server_rounds": 1, "local_epochs": 2, "num_partitions": 2, "fraction_evaluate": 0.0}
    if way == "split":
        flags |= {"num_partitions": 1, "split": "sequential", "split_at": "0,1"}
    config = Config(**flags)
    folder = server.in_process(config, client.app, tmp_path)
    source = data.open_source(config)
    rows = training_rows(config, range(config.num_partitions))
    mean, std, y = X[rows].mean(axis=0), np.where(np.ptp(X[rows], axis=0) == 0, 1, X[rows].std(axis=0)), source.labels
    balanced = len(rows) / (3 * np.maximum(np.bincount(y[rows], minlength=4), 1))
    learner, trained = Learner(line((3,), 4)), []
    start = learner.get_weights()
    for cid in range(config.num_partitions):
        own = training_rows(config, [cid])
        learner.set_weights(start)
        rng, weights = generator(config.seed, "train", 1, cid), balanced[y[own]] * WEIGHTS[own]
        learner.train((X[own] - mean) / std, y[own], epochs=2, batch_size=16, rng=rng, sample_weight=weights)
        trained.append((len(own), learner.get_weights()))
    expected = {name: sum(n * one[name] for n, one in trained) / len(rows) for name in start}
    found = get_weights(load(folder.model_path))
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=2e-5, err_msg=name)
    learner.set_weights(expected)
    tested = learner.evaluate((X[:5] - mean) / std, y[:5])
    assert json.loads(folder.summary_path.read_text())["loss"] == pytest.approx(tested.loss, rel=1e-3)


def autoencoder(input_shape, num_classes):
    import keras

    return keras.Sequential([keras.Input(input_shape), keras.layers.Dense(*input_shape)])


def test_class_weights_of_a_model_that_learns_no_classes_end_the_run_before_a_round(tmp_path, whatever_threads):
    flags = {**CONFIG.__dict__, "model": f"{__name__}:autoencoder", "loss": "mse", "class_weight": "balanced"}
    with pytest.raises(RunFailed, match="no client can give the initial weights; client 0: --class-weight balanced"):
        server.in_process(Config(**flags), client.app, tmp_path)


def test_what_numbers_between_two_extremes_cannot_have_is_refused():
    honest = statistics_of(np.array([[0.0], [1.0], [1.0], [0.0]]))
    assert from_dict(honest.to_dict()).m2 == 1.0  # the most that four numbers from 0 to 1 can have
    with pytest.raises(ValueError, match="m2 is larger"):
        from_dict(honest.to_dict() | {"m2": np.array([1.1])})


def test_under_flowers_grids_and_in_processes_that_remember_nothing_a_run_is_the_same(tmp_path, whatever_threads):
    """Flower's grids know nodes by id and can only be polled; a SuperNode is a new process for each message."""
    from fedkeras.federation.grids import CohortGrid
    from fedkeras.models import get_weights, load
    from fedkeras.workflows import local_trainer

    flags = {**CONFIG.__dict__, "partitioner": "iid", "model": f"{__name__}:line", "class_weight": "balanced"}
    config = Config(**{**flags, "num_server_rounds": 2, "central_evaluation": False})

    def forgetful(message, context):
        for remembered in vars(local_trainer).values():
            if hasattr(remembered, "cache_clear") and remembered is not local_trainer._model:
                remembered.cache_clear()
        Preprocessing.from_json.__func__.cache_clear()
        return client.app(message, context)

    grid = InProcessGrid(forgetful, config.num_partitions, config.for_clients(), {"allow": EVERYTHING_NAMED})
    polled = CohortGrid(grid, list(grid.get_node_ids()))
    folders = [server.train(polled, config, tmp_path / "flower", threads=1)["folder"]]
    folders.append(server.in_process(config, client.app, tmp_path / "ours").path)
    weights, expected = (get_weights(load(folder / "model.keras")) for folder in folders)
    assert all(np.array_equal(weights[name], array) for name, array in expected.items())
    assert Preprocessing.load(folders[0]).digest == Preprocessing.load(folders[1]).digest
