"""The whole story, as people live it at their terminals: questions answered, three clients, all of it collected."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from mixed_tables import write_tables
from processes import ROOT
from pseudo_terminal import Terminal, all_ended

from fedkeras import models
from fedkeras.config import Config
from fedkeras.provisioning import download_cache, server
from fedkeras.provisioning.client_data import ProvisionedClient
from fedkeras.provisioning.preprocessing import Preprocessing

SECRET = "some words that nobody guesses"
EPOCHS = 10


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, model_files: Path) -> Iterator[tuple]:
    """(folder, run folder, the server's terminal, the clients', the table X)."""
    folder = tmp_path_factory.mktemp("story")
    x, _ = write_tables(folder / "dataset")
    x_test = np.random.default_rng(3).normal([5, -3, 1e6, 2], [1, 2, 0.01, 0], (40, 4))
    (folder / "dataset" / "X_test").mkdir()
    pd.DataFrame(x_test, columns=list("abcd")).to_csv(folder / "dataset" / "X_test" / "test.csv", index=False)
    own = {"FEDKERAS_CACHE": str(folder / "cache")}
    server = Terminal(folder, ROOT / "server.py", "--interactive", "--port", 0, "--share", "0=2", environment=own)
    clients = []
    try:
        answers = [
            ("address [1]: ", ""),
            ("port (0: any free one) [0]: ", ""),
            ("train or collect [1]: ", "Train"),
            ("model [1]: ", str(model_files / "autoencoder.h5")),
            ("number of clients [3]: ", "3"),
            ("passphrase [none]: ", SECRET),
            ("the same again: ", SECRET),
            ("epochs (of a client, in a round if there are rounds) [1]: ", str(EPOCHS)),
            ("batch size [16]: ", "16"),
            ("optimizer [default]: ", ""),
            ("seed [42]: ", ""),
            ("data source [1]: ", "1"),
            ("folder with the data's folders X and Y [dataset]: ", ""),
            ("normaliser [4]: ", "Z-Score"),
            ("method [3]: ", "K-Fold"),
            ("folds [5]: ", "5"),
            ("strategy [fedavg]: ", ""),
            ("XY or XX [1]: ", "xx"),
            ("start [yes]: ", "Y"),
        ]
        for question, text in answers:
            server.answer(question, text)
        server.wait("listening on ")
        server.wait("\n")
        address = server.text.split("listening on ")[1].split()[0]
        clients = [Terminal(folder, ROOT / "client.py", "--server", address, environment=own) for _ in range(3)]
        for client in clients:
            client.answer("passphrase for", SECRET)
        assert all_ended(server, *clients) == [0, 0, 0, 0], [terminal.text[-3000:] for terminal in (server, *clients)]
        (run,) = (folder / "runs").glob("*/")
        yield folder, run, server, clients, x
    finally:
        for terminal in (server, *clients):
            terminal.close()


def table(path: Path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def weights_of(path: Path) -> list[np.ndarray]:
    return list(models.get_weights(keras.saving.load_model(path, compile=False)).values())


def test_the_folder_holds_models_logs_fold_tables_and_statistics(story):
    _, run, *_ = story
    for cid in range(3):
        own = run / "clients" / str(cid)
        lines = table(own / "folds.csv")
        assert [line["fold"] for line in lines] == ["1", "2", "3", "4", "5", "mean", "std"]
        losses = [float(line["loss"]) for line in lines]
        assert losses[5] == pytest.approx(np.mean(losses[:5])) and losses[6] == pytest.approx(
            np.std(losses[:5], ddof=1)
        )
        assert {int(line["held_out"]) for line in lines[:5]} == {15 if cid else 30}
        epochs = table(own / "epochs.csv")
        assert [line["fold"] for line in epochs] == [str(fold) for fold in range(1, 6) for _ in range(EPOCHS)]
        assert f"fold 5/5, epoch {EPOCHS}/{EPOCHS}: loss " in (own / "log.txt").read_text()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "finished" and summary["num_weights"] == 4 * 3 + 3 + 3 * 4 + 4


def test_the_aggregate_is_the_weighted_mean_of_the_models(story):
    _, run, *_ = story
    places = [run / "clients" / str(cid) for cid in range(3)]
    counts = [json.loads((place / "result.json").read_text())["num-examples"] for place in places]
    assert counts == [150, 75, 75]
    parts = [weights_of(place / "model.keras") for place in places]
    aggregate = weights_of(run / "model.keras")
    for number, array in enumerate(aggregate):
        mean = np.average([part[number].astype(np.float64) for part in parts], axis=0, weights=counts)
        np.testing.assert_allclose(array, mean, rtol=1e-6, atol=1e-7)
        if array.ndim > 1:
            assert not np.array_equal(parts[0][number], parts[1][number])


def test_the_parts_are_disjoint_and_the_whole_and_results_are_kept_no_longer(story):
    folder, run, _, _, x = story
    parts = by_cid(Config.load(run / "config.json"), folder)
    assert [len(parts[cid]) for cid in range(3)] == [150, 75, 75]
    assert sorted(map(bytes, np.concatenate(list(parts.values())).astype(np.float64))) == sorted(map(bytes, x))
    assert not list((folder / "cache" / "results").glob("*/result.json"))  # the server has confirmed them


def test_a_fold_is_scaled_by_what_is_not_held_out_in_it_of_all_clients(story):
    """By hand from the rows that were handed out: the kept fold's mean and spread are those of its training rows."""
    folder, run, *_ = story
    config = Config.load(run / "config.json")
    clients = {cid: ProvisionedClient(cid, Path(), ("", ""), {"x": x}) for cid, x in by_cid(config, folder).items()}
    whole = np.concatenate([client.x for client in clients.values()]).astype(np.float64)
    of_all = Preprocessing.load(run)
    np.testing.assert_allclose(of_all.normaliser.shift, whole.mean(axis=0), rtol=1e-12)
    assert of_all.normaliser.spread[3] == 1.0  # of the constant column
    for cid in range(3):
        place = run / "clients" / str(cid)
        losses = [float(line["loss"]) for line in table(place / "folds.csv")[:5]]
        best = int(np.argmin(losses))
        rows = np.concatenate([client.x[client.folds(config)[best][0]] for client in clients.values()])
        rows = rows.astype(np.float64)
        kept = Preprocessing.load(place).normaliser
        np.testing.assert_allclose(kept.shift, rows.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(kept.spread[:3], rows.std(axis=0)[:3], rtol=1e-6)
        assert not np.allclose(kept.shift, of_all.normaliser.shift, rtol=1e-9)


def test_models_and_aggregate_are_tested_on_the_servers_test_set(story):
    folder, run, server, *_ = story
    x = pd.read_csv(folder / "dataset" / "X_test" / "test.csv").to_numpy()
    lines = {line["model"]: line for line in table(run / "test.csv")}
    assert list(lines) == ["0", "1", "2", "aggregate"]
    for name, line in lines.items():
        place = run if name == "aggregate" else run / "clients" / name
        scaled = Preprocessing.load(place).normaliser.apply(x)
        out = keras.saving.load_model(place / "model.keras", compile=False).predict(scaled, verbose=0)
        assert float(line["loss"]) == pytest.approx(float(np.mean((out - scaled) ** 2)), rel=1e-4)
        assert line["num_examples"] == "40"
    assert "aggregate: fedavg of 3 models, weighted by examples" in server.text
    summary = json.loads((run / "summary.json").read_text())
    assert summary["source"] == "central" and summary["loss"] == pytest.approx(float(lines["aggregate"]["loss"]))


def test_what_the_people_see(story):
    _, _, server, clients, _ = story
    assert "connecting" in server.text and "delivered" in server.text
    for terminal in (server, *clients):
        assert SECRET not in terminal.shown and "Traceback" not in terminal.text
    for client in clients:
        assert "receiving data: 4.8 kB in" in client.text or "receiving data: 2.4 kB in" in client.text
        assert "━" in client.text and "%" in client.text  # a bar
        assert f"training: fold 5/5, epoch {EPOCHS}/{EPOCHS}, loss" in client.text
        assert "delivering: " in client.text
        assert client.text.rstrip().endswith("client: the run is finished")


def by_cid(config: Config, folder: Path) -> dict[int, np.ndarray]:
    """Which rows each client was given, read from what it has kept."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("FEDKERAS_CACHE", str(folder / "cache"))
        patched.chdir(folder)
        return {
            cid: download_cache.open_rows(shard.digest)["x"]
            for cid, shard in server.open_provision(config).shards.items()
        }
