"""The grid of a study, its figures against numbers by hand, and what it refuses; a whole one with real processes."""

import csv
import dataclasses
import io
import json
from pathlib import Path

import pytest

from fedkeras.commands.resumable import make_folder
from fedkeras.commands.study import main, study
from fedkeras.compare.arm_run import ArmResult
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.study import charts, page, state, table, words
from fedkeras.study.grid import (
    Cell,
    Condition,
    cells_of,
    parse_conditions,
    parse_defences,
)
from fedkeras.study.settings import StudySettings, check_alike, saved

AS_IT_IS = Condition("")
SETTINGS = StudySettings(
    attacks="none,alie,sign-flip:scale=2",
    defences="fedavg,fedmedian",
    malicious="0.2,0.4",
    repeats=2,
    config=Config(num_partitions=10, seed=7),
)
ACCURACIES = {
    # defence, attack, malicious: seeds 7 and 8
    ("fedavg", "none", 0.0): (0.9, 0.8),
    ("fedavg", "alie", 0.2): (0.5, 0.5),
    ("fedavg", "alie", 0.4): (0.2, 0.3),
    ("fedavg", "sign-flip:scale=2", 0.2): (0.3, 0.1),
    ("fedavg", "sign-flip:scale=2", 0.4): (0.1, 0.1),
    ("fedmedian", "none", 0.0): (0.8, 0.8),
    ("fedmedian", "alie", 0.2): (0.8, 0.7),
    ("fedmedian", "alie", 0.4): (0.3, 0.2),
    ("fedmedian", "sign-flip:scale=2", 0.2): (0.8, 0.8),
    ("fedmedian", "sign-flip:scale=2", 0.4): (0.7, 0.7),
}


def result(arm, seed, accuracy, loss=0.5, best=None):
    curve = [{"round": 1, "accuracy": best or accuracy, "loss": 1.0}, {"round": 2, "accuracy": accuracy, "loss": loss}]
    own = {"0": 0.25, "1": 0.5}
    return ArmResult(
        arm, "federated", seed, accuracy, None, loss, 1.0, 1.0, 0, 0, own=own, curve=curve, test_examples=100
    )


@pytest.fixture
def results():
    found = {}
    for (defence, attack, malicious), values in ACCURACIES.items():
        cell = Cell(AS_IT_IS, defence, attack, malicious)
        for seed, value in zip((7, 8), values, strict=True):
            found[cell, seed] = result(cell.arm.name, seed, value)
    return found


# The grid


def test_a_cell_is_an_arm_and_nobody_stands_once():
    cells = cells_of(["fedavg", "krum"], ["none", "alie:z=1.5"], [0.0, 0.2], [AS_IT_IS])
    assert [cell.arm.name for cell in cells] == [
        "fedavg", "fedavg+alie:malicious=0.2,z=1.5", "krum", "krum+alie:malicious=0.2,z=1.5",
    ]  # fmt: skip
    own = cells[1].arm.configure(Config(), 3)
    assert (own.strategy, own.mods, own.seed) == ("fedavg", "alie:malicious=0.2,z=1.5", 3)


def test_a_defence_is_built_for_the_largest_fraction():
    """Of 10 clients by 0.3: three; of cohorts of five: 1.5, and so two."""
    typed = "fedavg,multikrum:num-byzantine=f,trimmed_mean:beta=m,krum:num-byzantine=f,num-selected=2"
    assert parse_defences(typed, Config(num_partitions=10), 0.3) == (
        "fedavg", "multikrum:num-byzantine=3", "trimmed_mean:beta=0.3", "krum:num-byzantine=3,num-selected=2",
    )  # fmt: skip
    half = Config(num_partitions=10, fraction_train=0.5)
    assert parse_defences("krum:num-byzantine=f", half, 0.3) == ("krum:num-byzantine=2",)


def test_a_condition_is_settings_and_mods():
    iid, skewed, drop = parse_conditions("partitioner=iid; partitioner=dirichlet,alpha=0.1; +stragglers:share=0.5")
    own = skewed.configure(Config(batch_size=8))
    assert (own.partitioner, own.alpha, own.batch_size, own.mods) == ("dirichlet", 0.1, 8, "")
    assert drop.configure(Config()).mods == "stragglers:share=0.5"
    assert drop.configure(Config(mods="compress:up=int8")).mods == "compress:up=int8; stragglers:share=0.5"
    assert iid.configure(Config()) == Config(partitioner="iid")
    runs = state.runs_of(StudySettings(conditions="; partitioner=iid", config=Config(num_partitions=10)), Path("x"))
    assert len({run.run.folder for run in runs}) == len(runs)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"attacks": "none"}, "nobody is malicious: name an attack"),
        ({"malicious": "0"}, "nobody is malicious: name an attack"),
        ({"attacks": "magic"}, "--attacks: there is no 'magic'; known are none, alie"),
        ({"attacks": "alie:malicious=0.1"}, "--malicious says how many"),
        ({"attacks": "label-flip:source=1,target=2"}, "aimed at one class, which accuracy hides"),
        ({"malicious": "1.0"}, "give fractions of the clients from 0 to below 1"),
        ({"malicious": "many"}, "give fractions"),
        ({"malicious": "0.05"}, "--malicious 0.05 of 10 clients is none"),
        ({"defences": "centralised"}, "--defences: centralised is no strategy"),
        ({"conditions": "colour=red"}, "--conditions: 'colour=red' is no setting"),
        ({"conditions": "alpha=high"}, "alpha"),
        ({"repeats": 0}, "--repeats must be at least 1"),
        ({"broken": 1.0}, "--broken must be between 0 and 1"),
        ({"config": Config(strategy="krum", num_partitions=10)}, "--strategy is not for study: --defences names"),
    ],
)
def test_refused_in_one_line(change, said):
    with pytest.raises(UserError) as refused:
        settings = dataclasses.replace(SETTINGS, **change)
        settings.check()
        state.runs_of(settings, Path("x"))
    assert said in str(refused.value) and "\n" not in str(refused.value)


# Figures


def test_means_by_hand(results):
    lines = table.lines_of(SETTINGS.cells, results, AS_IT_IS, "last")
    assert lines[0] == ["", "nobody", "alie 20 %", "alie 40 %", "sign-flip:scale=2 20 %", "sign-flip:scale=2 40 %"]
    assert [cell.split(" ")[0] for cell in lines[1]] == ["fedavg", "0.8500", "0.5000", "0.2500", "0.2000", "0.1000"]
    assert [cell.split(" ")[0] for cell in lines[2]] == ["fedmedian", "0.8000", "0.7500", "0.2500", "0.8000", "0.7000"]


def test_the_best_round_is_another_figure_and_a_diverged_run_has_none():
    one = result("fedavg", 1, 0.3, best=0.7)
    assert (table.accuracy_of(one, "last"), table.accuracy_of(one, "best")) == (0.3, 0.7)
    gone = result("fedavg", 1, None, loss=None, best=0.7)
    assert (table.accuracy_of(gone, "last"), table.accuracy_of(gone, "best")) == (0.0, 0.7)


def test_breakdown_points_by_hand(results):
    """fedavg has 0.85 with nobody malicious: below 0.425 it is broken."""
    found = {(one.defence, one.attack): one for one in table.breakdowns(SETTINGS.cells, results, AS_IT_IS, 0.5)}
    alie, flip = found["fedavg", "alie"], found["fedavg", "sign-flip:scale=2"]
    assert (alie.withstood, alie.fraction) == (0.2, 0.4) and (flip.withstood, flip.fraction) == (None, 0.2)
    held = found["fedmedian", "sign-flip:scale=2"]
    assert (held.withstood, held.fraction) == (0.4, None)


def test_what_is_not_finished_is_a_dash_and_no_breakdown(results):
    gone = Cell(AS_IT_IS, "fedavg", "alie", 0.4)
    left = {key: value for key, value in results.items() if key[0] != gone}
    assert table.lines_of(SETTINGS.cells, left, AS_IT_IS, "last")[1][3] == "-"
    broken = table.breakdowns(SETTINGS.cells, left, AS_IT_IS, 0.5)
    assert ("fedavg", "alie") not in {(one.defence, one.attack) for one in broken}


def test_words_say_what_intervals_support(results):
    (said,) = words.paragraphs(SETTINGS.cells, results, 0.5)
    best = "Under sign-flip:scale=2 40 % fedmedian has the highest mean, 0.7000"
    assert f"{best}: fedmedian is 60.0 points better than fedavg (95 % interval 15.0 to 100.0, 2 pairs)" in said
    assert "fedavg is broken by alie at 0.4, sign-flip:scale=2 at 0.2." in said
    assert "fedmedian is broken by alie at 0.4 and withstands sign-flip:scale=2 up to 0.4." in said
    assert "no difference between fedmedian and fedavg is shown (mean -5.0 points" in said


def test_csv_and_page_hold_all(results, tmp_path):
    page.write_all(SETTINGS, results, {}, tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "study.csv").read_text())))
    assert len(rows) == 20 and (rows[0]["defence"], rows[0]["attack"], rows[0]["last_accuracy"]) == (
        "fedavg",
        "none",
        "0.9",
    )
    assert rows[0]["worst_tenth"] == "0.25"
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["status"] == "finished" and len(summary["cells"]) == 10 and len(summary["breakdowns"]) == 4
    html = (tmp_path / "study.html").read_text()
    assert html.count('role="img"') == 4, "two heat maps, and a picture by fraction for each attack"
    assert "Not a run of honest clients" in html and "http://" not in html.replace("http://www.w3.org", "")


def test_a_cell_of_the_map_says_its_number(results):
    drawn = charts.heat_map(SETTINGS.cells, results, AS_IT_IS, "last").svg
    assert "fedmedian, alie 20 %: 0.7500" in drawn and ">0.75<" in drawn


def test_a_guess_is_no_accuracy():
    """Two classes: 0.9 with nobody malicious and 0.5, a guess, under attack is broken, though 0.5 is more than half."""
    cells = cells_of(["fedavg"], ["none", "sign-flip"], [0.2], [AS_IT_IS])
    two = {}
    for cell, value in zip(cells, (0.9, 0.5), strict=True):
        two[cell, 7] = dataclasses.replace(result(cell.arm.name, 7, value), guess=0.5)
    (found,) = table.breakdowns(cells, two, AS_IT_IS, 0.5)
    assert (found.fraction, found.withstood) == (0.2, None)
    near = {key: dataclasses.replace(value, accuracy=0.55) for key, value in two.items()}
    assert table.breakdowns(cells, near, AS_IT_IS, 0.5) == [], "it has learned nothing that could be broken"


def test_a_backdoor_is_judged_by_its_success():
    """It leaves the accuracy alone."""
    cells = cells_of(["fedavg", "multikrum"], ["none", "backdoor"], [0.3], [AS_IT_IS])
    found = {}
    for cell in cells:
        success = None if cell.nobody else 0.81 if cell.defence == "fedavg" else 0.0
        found[cell, 7] = dataclasses.replace(result(cell.arm.name, 7, 0.93), attack_success=success)
    broken = {one.defence: one.fraction for one in table.breakdowns(cells, found, AS_IT_IS, 0.5)}
    assert broken == {"fedavg": 0.3, "multikrum": None}
    said = " ".join(words.paragraphs(cells, found, 0.5))
    assert "backdoor 30 % succeeds on attacked examples: 0.81 with fedavg, 0.00 with multikrum." in said
    assert table.success_lines(cells, found, AS_IT_IS) == [
        ["", "backdoor 30 %"],
        ["fedavg", "0.8100"],
        ["multikrum", "0.0000"],
    ]


# Going on


def test_cells_are_added_and_not_taken_away(tmp_path):
    now = dataclasses.replace(SETTINGS, out=str(tmp_path))
    now.save(tmp_path)
    before = saved(tmp_path)
    assert before == now
    check_alike(before, dataclasses.replace(now, attacks="none,alie,sign-flip:scale=2,ipm", repeats=3))
    with pytest.raises(UserError, match="cells can be added, not taken away"):
        check_alike(before, dataclasses.replace(now, defences="fedavg"))
    with pytest.raises(UserError, match="--batch-size is '16'"):
        check_alike(before, dataclasses.replace(now, config=dataclasses.replace(now.config, batch_size=8)))


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files, and is no study"):
        make_folder(str(tmp_path), "digits", "study", "study", saved)


def test_a_finished_study_trains_nothing_again(results, tmp_path, capsys):
    settings = dataclasses.replace(SETTINGS, out=str(tmp_path))
    for run in state.runs_of(settings, tmp_path):
        run.run.folder.mkdir(parents=True)
        results[run.key].write(run.run.folder)
    assert study(settings, tmp_path) == 0
    said = capsys.readouterr().out
    assert "20 cell runs, 20 of them finished" in said and "accuracy on the central test set, last round" in said


@pytest.mark.slow
def test_a_study_of_real_runs(tmp_path, monkeypatch, capsys):
    """The mean breaks where the median holds; a second call goes on with a further defence."""
    monkeypatch.chdir(tmp_path)
    flags = (
        "digits --attacks sign-flip:scale=10 --malicious 0.2 --num-partitions 5 --num-server-rounds 3 --local-epochs 3"
    )
    assert main([*flags.split(), "--defences", "fedavg", "--out", "s"]) == 0
    assert main(["--out", "s", "--defences", "fedavg,fedmedian"]) == 0
    said = capsys.readouterr().out
    assert "4 cell runs, 2 of them finished" in said
    summary = json.loads((tmp_path / "s" / "summary.json").read_text())
    mean = {(cell["defence"], cell["attack"]): cell["last"]["mean"] for cell in summary["cells"]}
    assert mean["fedavg", "none"] > 0.7 and mean["fedmedian", "sign-flip:scale=10"] > 0.6
    assert mean["fedavg", "sign-flip:scale=10"] < 0.5
