"""`fedkeras audit`: what a plain run tells, the table, audit.json, the report's section, exit status, and refusals."""

import json

import numpy as np
import pytest

from fedkeras import client, data, server
from fedkeras.audit import record, section
from fedkeras.audit.attack import Attack
from fedkeras.audit.finding import HOLDS, NO_BOUND, NO_CLAIM, REFUTED, FigureTable, Finding, Scores, of_json
from fedkeras.audit.membership import Losses, advantage, at_low_rate, auc, pairs_told_apart
from fedkeras.commands import audit, report
from fedkeras.config import Config


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda n: None)


def by_heart(config):
    """Nothing to learn: the labels are drawn, so that a model can only know its own examples by heart."""
    rng = np.random.default_rng(config.seed)
    x, y = rng.normal(size=(300, 20)).astype(np.float32), rng.integers(0, 3, 300)
    return data.ArraySource("noise", (x[:240], y[:240]), (x[240:], y[240:]), ("a", "b", "c"))


@pytest.fixture(scope="module")
def overfitted(tmp_path_factory):
    """Few examples a client, learned by heart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedkeras.learning.limit_threads", lambda n: None)
        config = Config(
            dataset=f"{__name__}:by_heart", num_partitions=3, num_server_rounds=3, local_epochs=60, batch_size=8,
            test_fraction=0.5, model="mlp",
        )  # fmt: skip
        return server.in_process(config, client.app, tmp_path_factory.mktemp("runs"))


def test_membership_in_an_overfitted_model_is_seen(overfitted, tmp_path, capsys):
    assert audit.main([str(overfitted.path), "--attacks", "membership", "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "membership by the loss" in out and "nothing is claimed" in out
    (finding,) = record.read(tmp_path / "out")
    assert finding.bound > 0.3, "clearly positive"
    assert finding.figures["area under the ROC curve"] > 0.55
    assert finding.figures["mean loss of examples trained on"] < finding.figures["mean loss of examples held out"]
    assert [row[0] for row in finding.tables[0].rows] == [0, 1, 2]
    assert (tmp_path / "out" / "audit.png").stat().st_size > 5000
    assert not (overfitted.path / "audit.json").exists()


def test_an_audited_run_says_so_in_its_report(overfitted, capsys):
    assert audit.main([str(overfitted.path), "--attacks", "membership"]) == 0
    assert report.main([str(overfitted.path)]) == 0
    page = overfitted.report_path.read_text()
    assert "Audit</h2>" in page and "membership by the loss" in page and "log-likelihood" not in page
    assert capsys.readouterr().err == ""
    (overfitted.path / "audit.json").write_text("{")
    assert report.main([str(overfitted.path)]) == 0
    assert "without the section of the audit: " in capsys.readouterr().err
    (overfitted.path / "audit.json").unlink()


def test_the_mean_of_the_examples_losses_is_the_evaluations(overfitted):
    from fedkeras.audit.subject import Subject
    from fedkeras.learning.example_losses import example_losses

    config = audit._settings_of(overfitted)
    subject = Subject(config, overfitted, overfitted.path)
    placed = subject.learner.place(subject.examples[1].test.x, subject.examples[1].test.y)
    losses = example_losses(subject.learner, *placed)
    assert losses.shape == (len(subject.examples[1].test),)
    assert losses.mean() == pytest.approx(subject.learner.evaluate(*placed).loss, rel=1e-5)


@pytest.mark.parametrize(("bound", "status"), [(2.5, audit.REFUTED_STATUS), (1.5, 0)])
def test_the_exit_status_says_whether_a_claim_is_refuted(monkeypatch, overfitted, tmp_path, capsys, bound, status):
    class Made:
        def run(self, subject):
            return [Finding("made", "made up", "nothing", "client", claimed=2.0, bound=bound, delta=1e-3)]

    monkeypatch.setattr(audit, "chosen_attacks", lambda named, subject: [Made()])
    assert audit.main([str(overfitted.path), "--out", str(tmp_path)]) == status
    assert ("refuted" if status else "not refuted") in capsys.readouterr().out


class Own(Attack):
    """Somebody's own."""

    name = "own"

    def __init__(self, words: str = "") -> None:
        self.words = words

    def run(self, subject):
        return [Finding(self.name, self.words, "nothing")]


def test_an_attack_of_ones_own_is_named_by_its_class(overfitted, tmp_path, capsys):
    assert audit.main([str(overfitted.path), "--attacks", f"{__name__}:Own:words=tried", "--out", str(tmp_path)]) == 0
    assert "tried" in capsys.readouterr().out and record.read(tmp_path)[0].verdict == NO_BOUND
    assert not (tmp_path / "audit.png").exists()


def test_verdicts_and_what_is_kept_of_a_finding():
    finding = Finding(
        "x", "title", "all", "client", claimed=1.0, bound=1.0, estimate=float("inf"), notes=["a"],
        scores=Scores("s", [1.0], [0.0]), tables=[FigureTable("t", ["a"], [[1]])],
    )  # fmt: skip
    assert finding.verdict == HOLDS, "a bound that is the claim does not contradict it"
    again = of_json(json.loads(json.dumps(finding.to_json())))
    assert again.to_json() == json.loads(json.dumps(finding.to_json())) and again.verdict == HOLDS
    for fields, verdict in (
        ({"bound": 1.01}, REFUTED), ({"claimed": None}, NO_CLAIM), ({"bound": None}, NO_BOUND),
    ):  # fmt: skip
        own = {"claimed": 1.0, "bound": 1.0, **fields}
        assert Finding("x", "t", "s", **own).verdict == verdict
    assert "1.5" in section.text([Finding("x", "t", "s", bound=1.5)])[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing-here"], "--dataset is 'nothing-here'"),
        (["digits", "--attacks", "guessing"], "--attacks is 'guessing'; known are canary-clients"),
        (["digits", "--attacks", ""], "--attacks names none"),
        (["digits", "--confidence", "0.4"], "--confidence must be above 0.5 and below 1"),
        (["digits", "--checkpoint", "3"], "--checkpoint is for a run that was recorded"),
        (["digits", "--split", "sequential"], "--split is not for audit"),
        (["digits", "--partitioner", "own"], "--partitioner own: an audit needs all clients' examples"),
        (["digits", "--mods", "dp:delta=2"], "delta must be between 0 and 1"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_trained(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert audit.main(words) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_runs_own_settings_stay(overfitted, capsys):
    assert audit.main([str(overfitted.path), "--local-epochs", "3"]) == 2
    assert "--local-epochs is the run's own and cannot be changed" in capsys.readouterr().err
    assert audit.main([str(overfitted.path), "--attacks", "membership", "--checkpoint", "17"]) == 2
    assert "has no model of round 17" in capsys.readouterr().err


def test_a_run_whose_data_are_elsewhere_says_which_attacks_cannot_be_made(tmp_path, capsys):
    from fedkeras.reports import create_run_folder

    folder = create_run_folder(tmp_path, "gone", Config(dataset="gone.npz", model="mlp"))
    assert audit.main([str(folder.path)]) == 2
    captured = capsys.readouterr()
    assert "without membership: its data are not on this machine" in captured.out
    assert "no attack can be made on this run here" in captured.err


# Figures by hand


def test_area_advantage_and_rates_by_hand():
    trained, held_out = np.array([0.1, 0.2, 0.9]), np.array([0.2, 1.0])
    assert auc(trained, held_out) == pytest.approx((0.5 + 1 + 3) / 6)
    assert advantage(trained, held_out) == pytest.approx(2 / 3 - 1 / 2)
    rate, low, high = at_low_rate(np.linspace(0, 1, 100), np.linspace(0.5, 1.5, 200), 0.95)
    assert rate == pytest.approx(0.51, abs=0.011) and low < rate < high


def test_pairs_are_of_one_client_and_class_and_the_surest_come_first():
    one = Losses(np.array([0.0, 5.0]), np.array([1.0, 7.0]), np.array([0, 1]), np.array([0, 1]))
    two = Losses(np.array([3.0]), np.array([0.5]), np.array([0]), np.array([0]))
    none = Losses(np.array([3.0]), np.array([9.0]), np.array([0]), np.array([4]))
    right = pairs_told_apart({0: one, 1: two, 2: none}, np.random.default_rng(0))
    assert right.tolist() == [False, True, True], "3 against 0.5, then 7 against 5, then 1 against 0"


def test_a_model_that_tells_nothing_gives_no_bound():
    from fedkeras.audit.bounds import bound_of_guesses

    rng = np.random.default_rng(4)
    bounds = []
    for _ in range(100):
        losses = {0: Losses(rng.exponential(size=300), rng.exponential(size=60), np.zeros(300), np.zeros(60))}
        bounds.append(bound_of_guesses(pairs_told_apart(losses, rng), 0.0, 0.95).epsilon)
    assert np.mean(np.array(bounds) > 0) <= 0.12, "5 %, and three standard deviations"
