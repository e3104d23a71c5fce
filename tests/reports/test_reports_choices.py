"""What a run decides by itself is said once, kept in config.json, shown in the report, and the same after --resume."""

import json
from pathlib import Path

import pytest

from fedkeras.config import RULES, Config
from fedkeras.errors import UserError
from fedkeras.reports import Choices, create_run_folder, resuming, write_report
from fedkeras.reports.comparison import comparison
from fedkeras.reports.run import read_run
from fedkeras.reports.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = create_run_folder(tmp_path, "run", Config())
    folder.history_path.write_text("round,phase,client,num_examples,loss,accuracy,seconds\n1,train,all,4,0.5,0.5,1\n")
    return folder


def test_a_choice_is_said_once_and_kept(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    choices = Choices()
    choices.note("loss", "mse, since the last layer has one unit\nand no activation")
    assert json.loads(folder.config_path.read_text()).get("chosen") is None
    choices.keep_in(folder)
    choices.note("loss", "mse, since the last layer has one unit and no activation")
    choices.note("normaliser", "none: the model scales by itself")
    assert capsys.readouterr().out.splitlines() == [
        "loss: mse, since the last layer has one unit and no activation",
        "normaliser: none: the model scales by itself",
    ]
    folder.write_config(Config(num_server_rounds=20))
    assert json.loads(folder.config_path.read_text())["chosen"]["normaliser"] == "none: the model scales by itself"
    assert Config.load(folder.config_path) == Config(num_server_rounds=20) == resuming.saved_config(folder)
    write_report(folder, folder.report_path)
    assert "since the last layer has one unit and no activation" in folder.report_path.read_text()
    other = create_run_folder(folder.path.parent, "other", Config())
    other.history_path.write_bytes(folder.history_path.read_bytes())
    assert "none: the model scales by itself" in comparison([read_run(folder.path), read_run(other.path)])


def test_a_resumed_run_must_choose_the_same(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    first = Choices()
    first.keep_in(folder)
    first.note("loss", "mse")
    again = Choices()
    again.note("loss", "mse")  # before the folder is taken up
    again.keep_in(folder)
    with pytest.raises(UserError, match="begun with loss 'mse', and now it is 'mae'"):
        again.note("loss", "mae")
    early = Choices()
    early.note("loss", "mae")
    with pytest.raises(UserError, match="begun with loss 'mse', and now it is 'mae'"):
        early.keep_in(folder)
    assert json.loads(folder.config_path.read_text())["chosen"] == {"loss": "mse"}


@pytest.mark.parametrize(("rules", "when"), [(None, "before 0.2.0"), (1, "before 0.2.0"), (99, "after 0.2.0")])
def test_a_run_of_other_rules_is_not_resumed(folder: RunFolder, rules: int | None, when: str) -> None:
    table = json.loads(folder.config_path.read_text())
    table.pop(RULES)
    folder.config_path.write_text(json.dumps(table if rules is None else {**table, RULES: rules}))
    with pytest.raises(UserError, match=f"it was begun by a version {when}, which dealt rows out"):
        resuming.saved_config(folder)
