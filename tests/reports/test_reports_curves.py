"""Learning curves: drawn from what is there, refused in one line where nothing is."""

import sys

import pytest

from fedkeras.commands import curves as command
from fedkeras.errors import UserError
from fedkeras.reports import History, curves, plot_curves, read_rows


def write(path, clients=3, rounds=4, accuracy=True, central=True):
    history = History(path)
    for number in range(1, rounds + 1):
        loss = 1 / number
        figures = {"round": number, "phase": "evaluate", "num_examples": 10, "loss": loss, "seconds": 1.0}
        figures |= {"accuracy": 1 - loss / 2} if accuracy else {}
        who = [str(cid) for cid in range(clients)] + ["all"] + ["server"] * central
        history.append([figures | {"client": client} for client in who])
    return path


def svg(tmp_path, **how):
    """The picture's text: matplotlib is told to write letters, not their outlines."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        plot_curves(write(tmp_path / "history.csv", **how), tmp_path / "curves.svg")
    return (tmp_path / "curves.svg").read_text()


def test_up_to_ten_clients_have_a_line_each(tmp_path):
    text = svg(tmp_path, clients=10)
    for label in ("each client", "central test set", "mean over clients, what each held out", ">loss<", ">round<"):
        assert label in text
    assert "accuracy (share of examples)" in text and "lowest to highest" not in text
    assert text.count("stroke-opacity: 0.4; stroke-width: 0.7") == 2 * 10 + 1, "ten lines a panel and the legend's"


def test_more_clients_become_a_band(tmp_path):
    text = svg(tmp_path, clients=11)
    assert "lowest to highest of 11 clients" in text and "each client" not in text


def test_what_a_run_lacks_is_not_in_the_picture(tmp_path):
    text = svg(tmp_path, accuracy=False, central=False, rounds=1)
    assert "accuracy" not in text and "central" not in text and "mean over clients" in text


def test_png_needs_no_display_and_no_pyplot(tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    plot_curves(write(tmp_path / "history.csv"), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_diverged_run_is_drawn_without_a_warning(tmp_path, recwarn):
    path = write(tmp_path / "history.csv", clients=12, rounds=2)
    nan = {"round": 3, "phase": "evaluate", "num_examples": 1, "loss": float("nan"), "accuracy": float("inf")}
    History(path).append([nan | {"client": who} for who in ("0", "11", "all", "server")])
    plot_curves(path, tmp_path / "curves.png")
    assert not recwarn.list


def test_the_band_runs_over_the_clients_that_are_finite(tmp_path):
    from matplotlib.figure import Figure

    path = write(tmp_path / "history.csv", clients=12, rounds=2)
    row = {"round": 3, "phase": "evaluate", "num_examples": 1}
    losses = {"0": float("nan"), "1": 9.0, "2": 7.0, "3": float("inf")}
    History(path).append([row | {"client": cid, "loss": loss} for cid, loss in losses.items()])
    panel = Figure().subplots()
    curves._draw_clients(panel, read_rows(path), "loss")
    corners = panel.collections[0].get_paths()[0].vertices.tolist()
    assert {y for x, y in corners if x == 3} == {7.0, 9.0}


def test_a_history_of_models_that_came_without_any_figure_has_no_curve(tmp_path):
    """A client need not say what its loss was when it delivers one: the run ends well, without a picture."""
    history = History(tmp_path / "history.csv")
    figures = {"round": 1, "phase": "train", "num_examples": 10, "seconds": 1.0}
    history.append([figures | {"client": client} for client in ("0", "all")])
    assert curves.drawn(read_rows(tmp_path / "history.csv")) == []
    with pytest.raises(UserError, match="holds neither a loss nor an accuracy"):
        plot_curves(tmp_path / "history.csv", tmp_path / "curves.svg")
    assert curves.drawn(read_rows(write(tmp_path / "whole.csv"))) == ["loss", "accuracy"]


def test_a_history_without_rounds_or_another_ending_is_refused(tmp_path):
    History(tmp_path / "history.csv")
    with pytest.raises(UserError, match="no round yet"):
        plot_curves(tmp_path / "history.csv", tmp_path / "curves.png")
    with pytest.raises(UserError, match=r"\.png or \.svg"):
        plot_curves(write(tmp_path / "history.csv"), tmp_path / "curves.pdf")


def test_command_draws_into_the_run_folder_or_where_it_is_told(tmp_path, capsys):
    write(tmp_path / "history.csv")
    assert command.main([str(tmp_path)]) == 0
    assert command.main([str(tmp_path), "--out", str(tmp_path / "other.svg")]) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "curves.png"), str(tmp_path / "other.svg")]
    assert (tmp_path / "curves.png").exists() and (tmp_path / "other.svg").exists()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "RUN_DIR"),
        (["{tmp}/nowhere"], "there is no folder"),
        (["{tmp}"], "is this the folder of a run?"),
        (["{tmp}", "--out", "{tmp}/x.gif"], ".png or .svg"),
        (["{tmp}/run", "--out", "{tmp}/nowhere/x.png"], "cannot write"),
        (["{tmp}/run", "--colour", "red"], "--colour"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, capsys, args, said):
    (tmp_path / "run").mkdir()
    write(tmp_path / "run" / "history.csv")
    assert command.main([arg.format(tmp=tmp_path) for arg in args]) == 2
    printed = capsys.readouterr()
    assert said in printed.err and printed.err.count("\n") == 1 and printed.out == ""
