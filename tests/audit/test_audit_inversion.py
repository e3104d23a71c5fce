"""What a curious server rebuilds of its clients' images: algebra by hand, the simulated update, whole rounds, mods."""

import json
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Message, MessageType, RecordDict

from fedkeras import data
from fedkeras.audit.attack import chosen_attacks, parse_attacks
from fedkeras.audit.inversion.analytic import input_of_dense, labels_of
from fedkeras.audit.inversion.attack import Inversion
from fedkeras.audit.inversion.curious_server import round_of_few
from fedkeras.audit.inversion.likeness import likeness, matched, psnr_of
from fedkeras.audit.inversion.rebuilding import Search, Victims, attempts, chosen_victims
from fedkeras.audit.subject import Subject
from fedkeras.commands import audit
from fedkeras.config import Config
from fedkeras.data import Examples
from fedkeras.errors import UserError
from fedkeras.federation.messages import arrays_of, metrics_of
from fedkeras.federation.records import record, views
from fedkeras.mods.base import Mod
from fedkeras.reports import RunFolder
from fedkeras.reports.server_view import SUM, UPDATE, Seen

DP = "dp:noise-multiplier=1.1,clip=0.01,delta=1e-3"
CLASSES = tuple("0123456789")


@pytest.fixture(scope="module", autouse=True)
def whatever_threads():
    """Another test may have started TensorFlow in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedkeras.learning.limit_threads", lambda n: None)
        yield


@pytest.fixture(scope="module")
def digits():
    """All training digits, in 0..1."""
    return data.load_client(Config(num_partitions=1, test_fraction=0.0), 0).train


def few(digits, count, **fields):
    """Victims, and what the server sees of two clients that share them."""
    victims = chosen_victims([digits], count, CLASSES, np.random.default_rng(3))
    config = Config(**{"seed": 3, "model": "logistic_regression", "learning_rate": 0.05, **fields})
    return victims, round_of_few(config, victims.images, victims.labels, CLASSES, 2)


# By hand


def test_the_input_of_a_dense_layer_is_a_quotient():
    """x = (1, -2), dL/dz = (0.5, -0.1), rate 0.1: the kernel's gradient is their outer product."""
    kernel, bias = np.array([[-0.05, 0.01], [0.1, -0.02]]), np.array([-0.05, 0.01])
    assert input_of_dense(kernel, bias) == pytest.approx([1.0, -2.0])
    assert input_of_dense(7 * kernel, 7 * bias) == pytest.approx([1.0, -2.0]), "clipping an update hides nothing"
    assert input_of_dense(kernel, np.zeros(2)).tolist() == [0.0, 0.0]


def test_labels_are_read_off_the_last_bias():
    """p - y with p = (0.2, 0.3, 0.5); rate 0.1."""
    probabilities = np.array([0.2, 0.3, 0.5])
    for label in range(3):
        assert labels_of(-0.1 * (probabilities - np.eye(3)[label]), -0.1, np.zeros(3), 1).tolist() == [label]
    of_four = -0.1 * (probabilities - np.array([0.25, 0.0, 0.75]))  # labels 0, 2, 2, 2
    assert labels_of(of_four, -0.1, probabilities, 4).tolist() == [0, 2, 2, 2]


def test_likeness_by_hand():
    original = np.zeros((8, 8, 1))
    original[0, 0] = 1.0
    found = likeness(np.full((8, 8, 1), 0.5), original, np.zeros((3, 8, 8, 1)))
    assert found.mse == 0.25 and found.psnr == pytest.approx(6.0206, abs=1e-4) and not found.found
    assert likeness(original, original, np.zeros((3, 8, 8, 1))).found
    assert likeness(original, original, np.zeros((1, 8, 8, 1))).ssim == pytest.approx(1.0)
    assert psnr_of(0.0) == 99.0 and psnr_of(1.0) == 0.0


def test_a_batch_has_no_order():
    originals = np.arange(4.0).reshape(4, 1, 1, 1)
    assert matched(originals[[2, 0, 3, 1]], originals).tolist() == [1, 3, 0, 2]


# What the server sees is what clients send


def test_the_simulated_update_is_the_real_one_step_by_step(digits):
    """Two clients, three images each, batches of two, two epochs: weights, order and learning rate are all used."""
    from fedkeras.audit.inversion.gradient_matching import GradientMatching

    _, view = few(digits, 6, batch_size=2, local_epochs=2)
    assert [each.whose for each in view.updates] == ["client 0", "client 1"]
    matching = GradientMatching(view.model, view.rate, low=0.0, high=1.0, weight=0.0)
    for seen in view.updates:
        assert [len(places) for places in seen.batches[0]] == [2, 1, 2, 1] and len(seen.images) == 3
        for ours, theirs in zip(matching.update(seen.images, seen.labels, seen.batches), seen.update, strict=True):
            assert np.abs(theirs).max() > 1e-3
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
        assert matching.objective(seen.images, seen.update, seen.labels, seen.batches) == pytest.approx(0, abs=1e-5)


class TheSum(Mod):
    """Says that the server sees the sum alone, as secure aggregation does."""

    def server_saw(self, sight, config):
        return {**sight, UPDATE: Seen("weights", SUM, "masks")}


class Halves(Mod):
    """Sends every other number, which its server half puts where they belong."""

    def client(self, message, context, call_next):
        reply = call_next(message, context)
        if message.metadata.message_type == MessageType.TRAIN:
            arrays = {name: array.ravel()[::2] for name, array in views(arrays_of(reply.content)).items()}
            content = RecordDict({"arrays": record(arrays), "metrics": metrics_of(reply.content)})
            return Message(content, reply_to=message)
        return reply

    def decode(self, reply, sent):
        if sent.metadata.message_type != MessageType.TRAIN:
            return reply
        whole = {name: np.array(array) for name, array in views(arrays_of(sent.content)).items()}
        for name, half in views(arrays_of(reply.content)).items():
            whole[name].reshape(-1)[::2] = half
        content = RecordDict({"arrays": record(whole), "metrics": metrics_of(reply.content)})
        return Message(content, metadata=reply.metadata)


def test_where_the_sum_alone_is_seen_the_sum_alone_is_attacked(digits):
    _, plain = few(digits, 4, batch_size=1)
    _, together = few(digits, 4, batch_size=1, mods="test_audit_inversion:TheSum")
    (seen,) = together.updates
    assert seen.whose == "the sum of 2 clients" and len(seen.images) == 4
    assert [[places.tolist() for places in steps] for steps in seen.batches] in (
        [[[0], [1]], [[2], [3]]], [[[1], [0]], [[2], [3]]], [[[0], [1]], [[3], [2]]], [[[1], [0]], [[3], [2]]],
    )  # fmt: skip
    for of_all, one, other in zip(seen.update, *(each.update for each in plain.updates), strict=True):
        np.testing.assert_allclose(of_all, (one + other) / 2, atol=1e-6)


def test_an_update_in_a_form_of_its_own_is_refused_and_not_guessed(digits):
    with pytest.raises(UserError, match="in a form of its own"):
        few(digits, 2, mods="test_audit_inversion:Halves")


# What can be rebuilt


def test_algebra_gives_a_dense_models_image_exactly_through_clipping_and_several_steps(digits):
    for mods in ("", DP):
        victims, view = few(digits, 2, local_epochs=3, mods=mods, client_weights="uniform", rest_after=0)
        found = attempts(view, victims, Search(steps=50), 3)
        assert [attempt.labels_right for attempt in found] == [1, 1]
        for attempt in found:
            assert attempt.likenesses[0].psnr > 60 and attempt.likenesses[0].found
            if mods:
                length = np.sqrt(sum((array**2).sum() for array in attempt.seen.update))
                assert length == pytest.approx(0.01, rel=1e-4), "clipped, and still rebuilt"


def test_a_convolutional_models_image_is_found_by_search_and_lost_in_noise(digits):
    victims, view = few(digits, 2, model="digits_cnn")
    search = Search(steps=300, variation=0.003)
    found = attempts(view, victims, search, 3)
    assert min(attempt.likenesses[0].psnr for attempt in found) > 22
    assert all(attempt.likenesses[0].found for attempt in found)
    rng = np.random.default_rng(0)

    def noisy(update):
        """As DP-SGD with noise multiplier 1: each number's deviation is the clipping bound, here the whole length."""
        length = np.sqrt(sum((array**2).sum() for array in update))
        return [array + rng.normal(0, length, array.shape) for array in update]

    lost = replace(view, updates=[replace(seen, update=noisy(seen.update)) for seen in view.updates])
    in_vain = attempts(lost, victims, search, 3)
    assert max(attempt.likenesses[0].psnr for attempt in in_vain) < 14
    assert not any(attempt.likenesses[0].found for attempt in in_vain)


def test_the_same_seed_rebuilds_the_same(digits):
    victims, view = few(digits, 2)
    one, other = (attempts(view, victims, Search(steps=20), 5)[0] for _ in range(2))
    assert np.array_equal(one.rebuilt, other.rebuilt)


def test_too_many_local_steps_are_refused(digits):
    victims, view = few(digits, 4, batch_size=1, local_epochs=21)
    with pytest.raises(UserError, match="42 local steps in one update, and 40 is the most"):
        attempts(view, victims, Search(steps=1), 3)


# The attack of `fedkeras audit`


def test_victims_are_no_others_and_their_labels_average_is_what_can_be_guessed():
    x = np.arange(8, dtype=np.float32).reshape(4, 2, 1, 1)
    victims = Victims(x[:1], np.array([1]), ("a", "b"), Examples(x[1:], np.array([1, 0, 1])))
    assert victims.range == (0.0, 7.0)
    assert victims.average(1).ravel().tolist() == pytest.approx([(2 + 6) / 2 / 7, (3 + 7) / 2 / 7])
    chosen = chosen_victims([Examples(x, np.arange(4))], 3, ("a",), np.random.default_rng(0))
    assert sorted([*chosen.labels.tolist(), *chosen.others.y.tolist()]) == [0, 1, 2, 3]
    with pytest.raises(UserError, match="takes 4 images, and the clients have 4"):
        chosen_victims([Examples(x, np.arange(4))], 4, ("a",), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"optimizer": "adam"}, "plain SGD"),
        ({"optimizer_args": "momentum=0.9"}, "plain SGD"),
        ({"split": "shared"}, "no updates"),
        ({"dataset": "synthetic"}, "classes of images"),
        ({"partitioner": "own", "dataset": "a.npz"}, "their own"),
        ({}, ""),
    ],
)
def test_what_it_is_not_for_is_said(tmp_path, fields, reason):
    subject = Subject(Config(**fields), RunFolder(tmp_path), tmp_path)
    said = Inversion().reason_against(subject)
    assert reason in said and bool(reason) == bool(said)
    if reason:
        with pytest.raises(UserError, match="--attacks inversion is not for this run"):
            chosen_attacks(parse_attacks("inversion"), subject)


@pytest.mark.parametrize("options", [{"images": 0}, {"clients": True}, {"steps": 1.5}, {"variation": -1.0}])
def test_options_that_mean_nothing_are_refused(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        Inversion(**options)


def test_the_command_leaves_a_picture_figures_and_a_section(tmp_path, capsys):
    flags = [
        "digits", "--num-server-rounds", "1", "--model", "logistic_regression", "--run-dir", str(tmp_path),
        "--attacks", "inversion:clients=2,steps=50", "--mods", DP, "--client-weights", "uniform", "--rest-after", "0",
    ]  # fmt: skip
    assert audit.main(flags) == 0
    (folder,) = tmp_path.iterdir()
    (finding,) = json.loads((folder / "audit.json").read_text())["findings"]
    figures = finding["figures"]
    for name in ("without mods", f"--mods {DP}"):
        assert figures[f"{name}: PSNR in dB (mean)"] > 60
        assert figures[f"{name}: labels read off"] == figures[f"{name}: found among all images"] == "2 of 2"
    assert figures["a guess: the average image of the label: PSNR in dB (mean)"] < 20
    assert len(finding["tables"][0]["rows"]) == 4 and "not against the server" in finding["notes"][1]
    assert (folder / "inversion.png").read_bytes().startswith(b"\x89PNG")
    assert "gradient inversion" in capsys.readouterr().out
    page = (folder / "report.html").read_text()
    assert "gradient inversion" in page and "data:image/png;base64," in page
