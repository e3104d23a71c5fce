"""`--mods dp-sgd` on its own: what it costs, what is said and refused, what a client sends and what it does not."""

import json

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.rdp import RdpAccountant
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict

from fedkeras.accountant import Mechanism, calibrate
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.learning import poisson
from fedkeras.mods.chain import make_mods
from fedkeras.mods.example_dp.ledger import NAME, ExampleLedger
from fedkeras.mods.example_dp.privacy_terms import PrivacyTerms, Training
from fedkeras.workflows.base import workflow_of
from fedkeras.workflows.flag_checks import check_flags

SPEC = "dp-sgd:epsilon=2,delta=1e-5"
PLAIN = {"num_partitions": 4, "rest_after": 0}

# What it costs


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "published"),
    [
        # Abadi et al. 2016, section 3.2: q = 0.01, sigma = 4, 10,000 steps, delta 1e-5
        (4.0, 0.01, 10_000, 1.26),
        # TensorFlow Privacy's tutorial on MNIST: noise 1.3, 1.1, 0.7 with batches of 256 for 15, 60, 45 epochs
        (1.3, 256 / 60000, 15 * 60000 // 256, 1.19),
        (1.1, 256 / 60000, 60 * 60000 // 256, 3.01),
        (0.7, 256 / 60000, 45 * 60000 // 256, 7.10),
    ],
)
def test_epsilon_is_the_published_one_by_the_moments_accountant_and_less_by_later_bounds(noise, rate, steps, published):
    """The same Renyi divergences, turned into epsilon as these authors did; since 2020 that is done more tightly."""
    accountant = RdpAccountant()
    accountant.compose(PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), steps)
    orders, divergences = np.array(accountant._orders), np.array(accountant._rdp)
    assert min(divergences + np.log(1e5) / (orders - 1)) == pytest.approx(published, abs=0.005)
    by_rdp, by_pld = (Mechanism(noise, rate, 1e-5).epsilon(steps, kind) for kind in ("RDP", "PLD"))
    assert 0.7 * published < by_pld < by_rdp < published


def terms(**fields):
    names = {"delta": 1e-5, "clip": 1.0, "budget": 2.0, "noise": 0.0, "rounds": 3, "epochs": 2, "study": False}
    return PrivacyTerms(**{**names, **fields})


def training(examples=100, batch_size=10, epochs=2, noise=1.0):
    return Training(noise, poisson.rate_of(examples, batch_size), epochs * poisson.steps_of(examples, batch_size))


def test_a_client_s_noise_keeps_all_rounds_within_its_budget_and_no_further():
    rate, steps = poisson.rate_of(100, 10), 2 * poisson.steps_of(100, 10)
    own = training(noise=calibrate(2.0, 1e-5, 3 * steps, rate).pld)
    assert 1.99 < own.epsilon(1e-5, 3) <= 2.0 < own.epsilon(1e-5, 4)
    assert [terms().allow(own, times) for times in (1, 3, 4)] == [True, True, False]


def test_a_given_noise_ends_before_the_budget():
    own = training(noise=1.5)
    spent = [own.epsilon(1e-5, times) for times in range(1, 6)]
    given = terms(noise=1.5, budget=spent[2])
    assert [given.allow(own, times) for times in range(1, 6)] == [True, True, True, False, False]
    assert terms(noise=1.5, budget=None).allow(own, 10**6)


def test_the_ledger_is_on_the_disk_before_anybody_is_asked_and_a_repeated_round_costs_again(tmp_path):
    path = tmp_path / NAME
    ledger = ExampleLedger(terms(noise=1.5, budget=None))
    ledger.open(path, begun=False)
    assert not path.exists()
    ledger.charge([0, 1])
    assert json.loads(path.read_text())["clients"]["0"]["asked"] == 1
    ledger.learn(0, 100, training(noise=1.5))
    ledger.learn(1, 50, training(examples=50, noise=1.5))
    first = ledger.end_round(1)
    assert first.worst == training(examples=50, noise=1.5).epsilon(1e-5) > first.median
    ledger.charge([0])  # whose answer never comes

    again = ExampleLedger(terms(noise=1.5, budget=None))
    again.open(path, begun=True)
    assert again.accounts[0].asked == 2 and again.accounts[1].asked == 1 and again.attempts == 2
    again.charge([0, 1])
    assert again.spent() == {
        0: training(noise=1.5).epsilon(1e-5, 3),
        1: training(examples=50, noise=1.5).epsilon(1e-5, 2),
    }
    other = ExampleLedger(terms(noise=1.4, budget=None))
    with pytest.raises(UserError, match="other terms"):
        other.open(path, begun=True)
    path.write_text("{")
    with pytest.raises(UserError, match="nobody knows what was spent"):
        again.open(path, begun=True)
    path.unlink()
    with pytest.raises(UserError, match="is missing"):
        again.open(path, begun=True)


def test_a_round_beyond_a_client_s_budget_is_not_begun():
    calibrated = ExampleLedger(terms(rounds=2))
    for _ in range(2):
        assert calibrated.exhausted() is None
        calibrated.charge([0])
    assert "no more rounds" in calibrated.exhausted()
    given = ExampleLedger(terms(noise=1.5, budget=training(noise=1.5).epsilon(1e-5, 1)))
    given.charge([7])
    assert given.exhausted() is None  # nobody knows yet how many examples it has
    given.learn(7, 100, training(noise=1.5))
    assert given.exhausted() == "client 7"


# What is said and refused


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"data_source": "client"}, "--data-source"),
        ({"partitioner": "own"}, "--partitioner own"),
        ({"evaluate": "runs/one"}, "--clients none"),
        ({"class_weight": "balanced"}, "--class-weight balanced"),
        ({"fraction_evaluate": 0.5}, "--fraction-evaluate"),
        ({"normaliser": "zscore"}, "scaling that is learned"),
        ({"mods": f"{SPEC}; toys:Clip"}, "does not go with toys:Clip"),
        ({"mods": f"{SPEC}; stragglers"}, "name dp-sgd last"),
        ({"mods": "dp:epsilon=2,delta=1e-5; dp-sgd:noise-multiplier=1,delta=1e-5"}, "say epsilon alone"),
    ],
)
def test_what_would_release_more_is_refused_in_one_line(fields, said):
    config = Config(**{**PLAIN, "mods": SPEC, **fields})
    with pytest.raises(UserError, match=said) as refused:
        make_mods(config.mods.rpartition(";")[2] if "dp:" in config.mods else SPEC).check(config)
    assert "\n" not in str(refused.value)


def test_what_goes_with_it_passes():
    for mods in (
        SPEC,
        f"stragglers:share=0.5; {SPEC}",
        f"secure-aggregation; {SPEC}",
        f"dp:epsilon=2,delta=1e-5; {SPEC}",
    ):
        make_mods(SPEC).check(Config(**PLAIN, mods=mods))
    make_mods(SPEC).check(Config(**PLAIN, mods=SPEC, client_weights="known"))


@pytest.mark.parametrize("fields", [{"split": "sequential"}, {"mode": "collect"}])
def test_other_ways_to_train_are_refused(fields):
    config = Config(**PLAIN, mods=SPEC, **fields)
    with pytest.raises(UserError, match="is for federated rounds"):
        make_mods(config.mods).check(config, workflow_of(config).sends_updates)
    with pytest.raises(UserError):
        check_flags(workflow_of(config), config)


@pytest.mark.parametrize(
    "options",
    [
        "delta=1e-5", "epsilon=2", "epsilon=2,delta=2", "epsilon=-1,delta=1e-5", "epsilon=2,delta=1e-5,clip=0",
        "noise-multiplier=0.01,delta=1e-5", "epsilon=1000,delta=1e-5", "epsilon=2,delta=1e-5,study=3",
        "epsilon=2,delta=1e-5,norm=1",
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(UserError, match="--mods dp-sgd"):
        make_mods(f"dp-sgd:{options}")


def test_what_is_promised_is_said_before_the_run():
    said = make_mods(SPEC).choose(Config(**PLAIN, num_server_rounds=7, local_epochs=2))
    assert said["privacy of examples"].startswith("epsilon 2 at delta 1e-5 for each example after 7 rounds of 2 epochs")
    said = make_mods("dp-sgd:noise-multiplier=1.1,delta=1e-5,study=true").choose(Config(**PLAIN))
    assert said["privacy of examples"].startswith("noise 1.1 times the clipping bound at each step")
    assert "the seed (study=true)" in said["gradients"]


# A client


def run_client(spec, handler, context=None, kind=MessageType.TRAIN, **config):
    """The mod's answer on a client, and the context that it keeps count in."""
    run_config = Config(**{**PLAIN, "num_server_rounds": 2, "mods": spec, **config}).for_clients()
    context = context or Context(1, 1, {"partition-id": 0}, RecordDict(), run_config)
    arrays = ArrayRecord({"000.kernel": ArrayRecord([np.zeros(3)])["0"]})
    content = RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": 1})})
    message = Message(content, 1, kind)
    return make_mods(spec).answer(message, context, handler), context


def trained(figures, seen=None):
    """A handler that answers with these figures."""

    def handler(message, context):
        if seen is not None:
            seen.append(dict(message.content["config"]))
        content = RecordDict({"arrays": message.content["arrays"], "metrics": MetricRecord(figures)})
        return Message(content, reply_to=message)

    return handler


GOOD = {
    "num-examples": 100, "loss": 0.1, "accuracy": 0.9, "seconds": 1.0, "dp-sgd-noise": 3.0, "dp-sgd-rate": 0.1,
    "dp-sgd-steps": 10.0,
}  # fmt: skip


def test_a_client_names_the_objective_itself_and_sends_nothing_that_was_measured(caplog):
    seen = []
    with caplog.at_level("INFO", "fedkeras.chosen"):
        reply, context = run_client(SPEC, trained(GOOD, seen), local_epochs=3)
    assert seen[0]["objective"] == "dp-sgd:clip=1.0,study=false,epsilon=2.0,delta=1e-05,rounds=2,epochs=3"
    assert set(reply.content["metrics"]) == {"num-examples", "dp-sgd-noise", "dp-sgd-rate", "dp-sgd-steps"}
    assert "100 examples moves a step by 1 at most, and each step gets noise of 3 times that" in caplog.text
    run_client(SPEC, trained(GOOD), context)
    assert caplog.text.count("examples moves a step") == 1


def test_fedprox_s_term_goes_beside_it_and_another_objective_does_not():
    seen = []

    def with_objective(name):
        def outer(message, context):
            message.content["config"]["objective"] = name
            return make_mods(SPEC).answer(message, context, trained(GOOD, seen))

        return outer

    run_client("", with_objective("proximal:mu=0.25"))
    assert seen[0]["proximal-mu"] == 0.25 and seen[0]["objective"].startswith("dp-sgd:")
    with pytest.raises(UserError, match="the server names another one: mine:Ridge"):
        run_client("", with_objective("mine:Ridge"))


def test_a_second_configuration_in_a_message_is_refused():
    """The training reads the record called config, wherever it stands: the other would be looked at in its place."""

    def two(message, context):
        content = RecordDict({"a": ConfigRecord({}), **dict(message.content.items())})
        content["config"]["objective"] = "dp-sgd:clip=1.0,noise=1.1,study=true"
        return make_mods(SPEC).answer(Message(content, 1, MessageType.TRAIN), context, trained(GOOD))

    with pytest.raises(UserError, match="a train message has one configuration, and the server sent 2"):
        run_client("", two)


def test_a_long_training_counts_as_long_however_short_the_next_ones_are():
    """Noise 1.1, rate 0.05: 200 sums and nine times 20 cost 5.45 by delta 1e-5, not ten times 20."""
    spec, figures = (
        "dp-sgd:noise-multiplier=1.1,epsilon=4,delta=1e-5",
        {**GOOD, "dp-sgd-noise": 1.1, "dp-sgd-rate": 0.05},
    )
    assert Training(1.1, 0.05, 380).epsilon(1e-5) == pytest.approx(5.45, abs=0.05)
    _, context = run_client(spec, trained({**figures, "dp-sgd-steps": 200.0}))
    times = 0
    with pytest.raises(UserError, match="once more would exceed epsilon 4"):
        for times in range(1, 10):  # noqa: B007
            run_client(spec, trained({**figures, "dp-sgd-steps": 20.0}), context)
    assert (
        Training(1.1, 0.05, 200 + 20 * (times - 1)).epsilon(1e-5)
        <= 4
        < Training(1.1, 0.05, 200 + 20 * times).epsilon(1e-5)
    )


def test_a_client_trains_no_more_often_than_its_noise_allows():
    context = None
    for _ in range(2):
        _, context = run_client(SPEC, trained(GOOD), context)
    with pytest.raises(UserError, match="trained 2 times, and once more would exceed epsilon 2 at delta 1e-5"):
        run_client(SPEC, trained(GOOD), context)


@pytest.mark.parametrize(
    "changed",
    [
        {"dp-sgd-noise": 0.05}, {"dp-sgd-noise": 0.0}, {"dp-sgd-noise": float("nan")}, {"dp-sgd-rate": 0.0},
        {"dp-sgd-steps": 0.0},
    ],
)  # fmt: skip
def test_an_update_that_was_not_noised_enough_is_not_sent(changed):
    with pytest.raises(ValueError, match="not trained by DP-SGD with the noise that is wanted"):
        run_client(SPEC, trained({**GOOD, **changed}))
    plain = {name: value for name, value in GOOD.items() if not name.startswith("dp-sgd")}
    with pytest.raises(ValueError, match="not trained by DP-SGD"):  # a workflow that does not look at the objective
        run_client(SPEC, trained(plain))


def test_less_noise_than_was_named_is_not_sent():
    with pytest.raises(ValueError, match="with the noise that is wanted"):
        run_client("dp-sgd:noise-multiplier=3.5,delta=1e-5", trained(GOOD))
    run_client("dp-sgd:noise-multiplier=3.0,delta=1e-5", trained(GOOD))


def test_a_client_answers_no_question_about_its_examples():
    with pytest.raises(UserError, match="a client answers no 'evaluate'"):
        run_client(SPEC, trained(GOOD), kind=MessageType.EVALUATE)


def test_a_client_without_the_library_says_so_in_one_line_or_is_given_the_noise(monkeypatch):
    monkeypatch.setattr("fedkeras.accountant.importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"not installed: pip install 'fedkeras\[privacy\]', or let the server say noise"
    ):
        run_client(SPEC, trained(GOOD))
    run_client("dp-sgd:noise-multiplier=3.0,delta=1e-5", trained(GOOD))
