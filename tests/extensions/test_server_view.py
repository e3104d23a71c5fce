"""What the report says that the server saw: by way to train, by settings, and after mods have changed it."""

import dataclasses

import pytest

from fedkeras.commands import report
from fedkeras.config import Config
from fedkeras.mods.chain import make_mods
from fedkeras.mods.client_dp.ledger import NAME, Ledger
from fedkeras.mods.client_dp.mod import ClientDp
from fedkeras.mods.client_dp.section import of
from fedkeras.reports import History, RunFolder
from fedkeras.reports.server_view import (
    CLASS_COUNTS,
    COUNTS,
    EACH,
    EXAMPLES,
    FIGURES,
    LABELS,
    NOBODY,
    OPEN,
    PRESENCE,
    STATISTICS,
    SUM,
    UNSAID,
    UPDATE,
    server_view,
)
from fedkeras.workflows.base import workflow_of

DP = "dp:noise-multiplier=1.1,clip=0.5,delta=1e-3"


def saw(**fields):
    config = Config(**fields)
    return make_mods(config.mods).server_saw(workflow_of(config).server_saw(config), config)


PLAIN = (UPDATE, FIGURES, COUNTS, EXAMPLES, PRESENCE)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, PLAIN),
        ({"normaliser": "zscore"}, (*PLAIN, STATISTICS)),
        ({"normaliser": "none", "dataset": "table.csv"}, PLAIN),
        ({"class_weight": "balanced"}, (*PLAIN, CLASS_COUNTS)),
        ({"partitioner": "own", "dataset": "table.csv", "classes": "a,b"}, (*PLAIN, STATISTICS, LABELS)),
        ({"data_source": "client", "model": "m.keras"}, (*PLAIN, LABELS)),
        ({"data_source": "client", "model": "m.keras", "normaliser": "minmax"}, (*PLAIN, STATISTICS, LABELS)),
        ({"data_source": "server", "model": "m.keras"}, PLAIN),
        ({"split": "shared"}, (*PLAIN, "activations")),
        ({"mode": "collect", "data_source": "keras", "model": "m.keras"}, PLAIN),
        ({"collect_only": True}, (*PLAIN, LABELS)),
        ({"evaluate": "runs/x"}, (FIGURES, COUNTS, EXAMPLES, PRESENCE)),
        ({"evaluate": "runs/x", "evaluate_clients": "none"}, (EXAMPLES, PRESENCE)),
        ({"evaluate": "runs/x", "split": "shared"}, (FIGURES, COUNTS, EXAMPLES, PRESENCE, "activations")),
    ],
)
def test_every_way_to_train_lists_what_reaches_the_server(fields, names):
    assert sorted(saw(**fields)) == sorted(names)


def test_without_a_mod_nothing_is_said_to_be_protected():
    lines = saw(normaliser="zscore", class_weight="balanced")
    assert {name: line.protection for name, line in lines.items() if name != EXAMPLES} == dict.fromkeys(
        (UPDATE, FIGURES, COUNTS, STATISTICS, CLASS_COUNTS, PRESENCE), OPEN
    )
    assert lines[UPDATE].whose == EACH and lines[EXAMPLES].whose == NOBODY
    assert "who can open this data set" in lines[EXAMPLES].protection


def test_a_server_that_hands_out_the_data_has_them():
    assert saw(data_source="server", model="m.keras")[EXAMPLES].whose == "all of them"
    assert saw(data_source="client", model="m.keras")[EXAMPLES].protection == "never sent"


def test_noise_in_split_learning_is_named_and_not_called_privacy():
    line = saw(split="shared", split_noise=0.3)["activations"]
    assert line.whose == EACH and "0.3" in line.protection and "no differential privacy" in line.protection
    assert saw(split="shared")["activations"].protection == OPEN


@pytest.mark.parametrize("mods", [DP, f"stragglers:share=0.5;{DP}"])
def test_privacy_of_clients_hides_figures_and_not_the_update(mods):
    lines = saw(mods=mods, client_weights="uniform", rest_after=0)
    assert lines[FIGURES].whose == lines[COUNTS].whose == NOBODY
    assert lines[UPDATE].whose == EACH and "clipped to 0.5" in lines[UPDATE].what
    assert lines[UPDATE].protection.startswith("not against the server")
    assert set(lines) == set(PLAIN)


def test_a_mod_that_does_not_say_what_it_sends_is_named():
    lines = saw(mods=f"toys:Int8;{DP}")
    assert lines["Int8"].protection == UNSAID and lines[FIGURES].whose == NOBODY


def make(path, **fields):
    path.mkdir()
    folder = RunFolder(path)
    folder.write_config(Config(**fields))
    rows = [{"round": 1, "phase": "evaluate", "client": "server", "num_examples": 9, "seconds": 1.0, "loss": 2.0}]
    History(folder.history_path).append(rows)
    return folder


def test_the_page_has_it_at_the_end_and_escapes_it(tmp_path):
    folder = make(tmp_path / "run")
    assert report.main([str(folder.path)]) == 0
    page = folder.report_path.read_text()
    assert page.count("<h2>What the server saw</h2>") == 1 and "each client&#39;s" in page
    odd = dataclasses.replace(saw()[UPDATE], what="<script>")
    assert "&lt;script&gt;" in server_view({UPDATE: odd}).html


def test_the_page_is_silent_where_a_mod_may_not_be_asked(tmp_path, capsys):
    folder = make(tmp_path / "run", mods="toys:Int8")
    assert report.main([str(folder.path)]) == 0
    assert "What the server saw" not in folder.report_path.read_text()
    assert "--allow mods=toys:Int8" in capsys.readouterr().err
    assert report.main([str(folder.path), "--allow", "mods=toys:Int8"]) == 0
    assert "what the mod Int8 sends besides" in folder.report_path.read_text()


def _section(path, shares):
    path.mkdir()
    dp = ClientDp(delta=1e-3, noise_multiplier=1.0)
    dp.clients = 10
    ledger = Ledger(dp.mechanism, dp.terms, path / NAME)
    for number, share in enumerate(shares, start=1):
        ledger.charge(number, 0.1 * number, share)
    (section,) = of(RunFolder(path))
    return section.html


def test_the_clipping_rate_is_drawn_where_it_was_paid_for_and_else_said_to_be_kept_out(tmp_path):
    adaptive = _section(tmp_path / "adaptive", [0.25, -0.04, 0.5])
    assert adaptive.count("<svg") == 3 and "<title>-0.04</title>" in adaptive
    assert "<title>0.25</title>" in adaptive and "kept out" not in adaptive
    fixed = _section(tmp_path / "fixed", [None, None])
    assert fixed.count("<svg") == 1 and "nothing is spent on counting them" in fixed


def test_privacy_of_examples_hides_figures_and_says_how_each_update_is_noised():
    lines = saw(mods="dp-sgd:epsilon=8,delta=1e-3,clip=0.7")
    assert lines[UPDATE].whose == EACH and lines[FIGURES].whose == NOBODY and lines[COUNTS].whose == EACH
    assert "clipped to 0.7" in lines[UPDATE].protection and "epsilon 8 at delta 0.001" in lines[UPDATE].protection
    assert "noise 1.1 times that" in saw(mods="dp-sgd:noise-multiplier=1.1,delta=1e-3")[UPDATE].protection
    told = saw(mods="dp-sgd:epsilon=8,delta=1e-3,study=true")[UPDATE].protection
    assert told == "not against the server: coins and noise came from the seed"


def test_under_secure_aggregation_the_server_sees_sums():
    lines = saw(mods="secure-aggregation;dp-sgd:epsilon=8,delta=1e-3")
    assert lines[UPDATE].whose == lines[COUNTS].whose == SUM and lines[FIGURES].whose == NOBODY
    assert lines[UPDATE].protection.startswith("masked on the client; gradient of each example clipped")
    assert lines[PRESENCE].whose == EACH and saw(mods="secure-aggregation")[FIGURES].whose == SUM
