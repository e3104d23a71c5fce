"""The page of a run that collects, from a folder made by hand: its data, models, epochs and folds, and no rounds."""

import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "reports"))
from test_reports_html import read

from fedkeras.commands import report as command
from fedkeras.config import Config
from fedkeras.reports import History, RunFolder, listing, read_rows, summarise, write_report
from fedkeras.workflows.collect import report

FIGURES = {
    "0": {"num-examples": 30, "seconds": 2.5, "loss": 0.4, "accuracy": 0.8, "cv-loss": 0.5, "cv-accuracy": 0.75},
    "0-2": {"num-examples": 10, "seconds": 1.5, "loss": 0.6, "accuracy": 0.7, "cv-loss": 0.7, "cv-accuracy": 0.625},
}
MEANING = "cv: mean over the folds, each tested once on the rows it held out"


@pytest.fixture
def folder(tmp_path):
    """Two models of two folds of three epochs, the aggregate tested on the server; no client came as number 1."""
    made, config = RunFolder(tmp_path), Config(
        mode="collect", data_source="server", data_dir="/somewhere/ward-7", model="/somewhere/net.keras",
        method="kfold", folds=2, local_epochs=3, num_partitions=2,
    )  # fmt: skip
    made.write_config(config)
    base = {"round": 1, "num_examples": 30}
    rows = [
        base | {"phase": "train", "client": name, "loss": own["loss"], "seconds": 1.0} for name, own in FIGURES.items()
    ]
    rows += [base | {"phase": "evaluate", "client": "server", "loss": 0.45, "accuracy": 0.8125, "seconds": 0.1}]
    History(made.history_path).append(rows)
    for name, figures in FIGURES.items():
        place = tmp_path / "clients" / name
        place.mkdir(parents=True)
        (place / "result.json").write_text(json.dumps({**figures, "run": "r", "cid": 0}))
        epochs = [(fold, epoch, epoch / 10 + fold / 100) for fold in (1, 2) for epoch in (1, 2, 3)]
        (place / "epochs.csv").write_text(
            "fold,epoch,loss,accuracy\n" + "".join(f"{f},{e},1.5,{a}\n" for f, e, a in epochs)
        )
        (place / "folds.csv").write_text(
            "fold,held_out,epochs,best_epoch,loss,accuracy\n1,15,3,3,0.4,0.5\n2,15,3,3,0.6,1.0\nmean,,,,0.5,0.75\nstd,,,,9,9\n"
        )
    (tmp_path / "test.csv").write_text(
        "model,num_examples,loss,accuracy\n0,8,0.5,0.75\n0-2,8,0.6,0.5\naggregate,8,0.45,0.8125\n"
    )
    made.write_summary(summarise(config, read_rows(made.history_path), 9.0, "finished", clients_figures=MEANING))
    return made


def test_it_names_data_models_epochs_and_folds_and_speaks_of_no_rounds(folder, capsys):
    assert command.main([str(folder.path)]) == 0
    page = read(folder.report_path)
    assert page.open == [] and not page.tags["script"]
    words = page.words[""]
    assert "tables in ward-7, collected, 2-fold, 2 clients, 3 epochs, net.keras" in words
    shown = words.split("} }")[-1]  # what follows the style sheet
    assert "3 epochs" in shown and "digits" not in shown and not re.search(r"\brounds?\b", shown)
    assert "in each of 2 folds" in words and "of the aggregate, on the test set" in words
    assert not {"curves", "clients", "timing", "labels", "test"} & {*page.ids} and {"failures", "settings"} <= {
        *page.ids
    }
    table = {row[0]: row[1:] for row in page.tables["added-1"]}
    heads = ["test accuracy", "cv accuracy", "training accuracy", "test loss", "cv loss", "training loss", "examples"]
    assert table["model"][:4] == ["fold", "held out", "epochs", "accuracy"]  # of the second table
    first = page.tables["added-1"][:4]
    assert first[0] == ["model", *heads, "epochs in all", "seconds"]
    assert first[1] == ["client 0", "0.7500", "0.7500", "0.8000", "0.5000", "0.5000", "0.4000", "30", "6", "2.5000"]
    assert first[2][:3] == ["client 0-2", "0.5000", "0.6250"]
    assert first[3][:4] == ["aggregate", "0.8125", "–", "–"]
    folds = [row for row in page.tables["added-1"][5:] if row[0] == "client 0"]
    assert folds[0] == ["client 0", "1", "15", "3", "0.5000", "0.4000"]
    # mean and standard deviation of 0.5 and 1.0, and of 0.4 and 0.6, made again and not taken from the client
    assert folds[2:] == [
        ["client 0", "mean", "–", "–", "0.7500", "0.5000"],
        ["client 0", "std", "–", "–", "0.3536", "0.1414"],
    ]
    assert MEANING in page.words["added-1"]
    titles = re.findall(r"<title>([^<]*)</title>", page.text)
    assert "client 0: mean 0.7500\nfold 1: 0.5000\nfold 2: 1.0000" in titles
    assert "epoch 3\nmean over the models: 0.3150\nclient 0: 0.3150\nclient 0-2: 0.3150" in titles  # (0.31 + 0.32) / 2


def test_a_table_that_cannot_be_read_is_said_and_the_rest_is_there(folder):
    (folder.path / "clients" / "0" / "epochs.csv").write_bytes(b"fold,epoch\n\xff\xfe,1\n")
    (folder.path / "clients" / "0-2" / "folds.csv").write_text('<script>,"=cmd"\nx,y\n1e999,nan\n')
    (folder.path / "clients" / "0-2" / "result.json").write_text("[")
    (folder.path / "clients" / ".part-1").mkdir()
    page = read(write_report(folder, sections=report.sections(folder)))
    assert "client 0: epochs.csv cannot be read" in page.words["added-1"]
    assert "client 0-2: result.json cannot be read" in page.words["added-1"] and not page.tags["script"]
    assert any(row[:2] == ["client 0", "0.7500"] for row in page.tables["added-1"])


def test_before_the_first_model_has_come_there_is_no_section(tmp_path):
    assert report.sections(RunFolder(tmp_path)) == []


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (Config(data_source="client", model="m.keras"), ("clients' own tables", "fedavg")),
        (Config(dataset="/x/y/mine.npz"), ("mine.npz", "fedavg")),
        (Config(dataset="t.csv", partitioner="own"), ("clients' own files, tested on t.csv", "fedavg")),
        (Config(collect_only=True), ("what clients had trained", "collected")),
        (Config(mode="collect", data_source="keras", dataset="mnist"), ("mnist", "collected")),
        (Config(split="shared"), ("digits", "split: shared")),
    ],
)
def test_lists_and_summaries_call_the_data_by_its_name(config, expected):
    found = listing.figures_of(config.to_run_config(), {}, ())
    assert (found["dataset"], found["strategy"]) == expected
    assert summarise(config, [], 1.0, "finished")["dataset"] == expected[0]
