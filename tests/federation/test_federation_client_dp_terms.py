"""Client-level differential privacy: what it costs, what is said of it before a run, and what it does not go with."""

import math

import pytest

from fedkeras.accountant import Mechanism, calibrate
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation import registry
from fedkeras.mods.chain import make_mods
from fedkeras.workflows.base import Workflow, workflow_of
from fedkeras.workflows.flag_checks import check_flags

# What it costs


def test_epsilon_is_the_reference_s():
    """120 of 3,383 clients a round, noise 1.2, 100 rounds, delta 1e-5: TensorFlow Federated's tutorial."""
    mechanism = Mechanism(1.2, 120 / 3383, 1e-5)
    assert mechanism.epsilon(100, "RDP") == pytest.approx(1.9861, abs=1e-3)
    assert mechanism.epsilon(100) == pytest.approx(1.7075, abs=1e-3)
    assert mechanism.epsilon(0) == 0.0


def test_without_sampling_it_is_the_gaussian_mechanism():
    """One round, everybody: delta of the analytic Gaussian mechanism (Balle and Wang 2018) at that epsilon."""
    from scipy.stats import norm

    noise = 2.0
    epsilon = Mechanism(noise, 1.0, 1e-5).epsilon(1)
    delta = norm.cdf(0.5 / noise - epsilon * noise) - math.exp(epsilon) * norm.cdf(-0.5 / noise - epsilon * noise)
    assert delta == pytest.approx(1e-5, rel=0.02)


def test_noise_is_calibrated_to_the_budget_and_no_further():
    found = calibrate(2.0, 1e-5, 100, 20 / 207)
    assert (found.pld, found.rdp) == (pytest.approx(2.184, abs=1e-3), pytest.approx(2.354, abs=1e-3))
    spent = Mechanism(found.pld, 20 / 207, 1e-5).epsilon(100)
    assert 1.99 < spent <= 2.0


def test_what_will_be_spent_is_said_before_the_run():
    config = Config(num_partitions=207, fraction_train=20 / 207, num_server_rounds=100)
    said = make_mods("dp:epsilon=2.0,delta=1e-5").choose(config)
    assert said["privacy"] == (
        "epsilon 2.0 at delta 1e-5 after 100 rounds of 20 of 207 clients needs noise 2.184 (PLD; 2.354 by RDP)"
    )
    assert "adaptive from 0.1, quantile 0.5: noise 2.4" in said["clipping"]
    said = make_mods("dp:noise-multiplier=1.2,delta=1e-5,clip=0.5").choose(config)
    assert said["privacy"].startswith("noise 1.2 gives epsilon 4.8") and said["clipping"].endswith("0.5 long")


def warnings_of(options, **fields):
    chain = make_mods(f"dp:{options}")
    chain.choose(Config(client_weights="uniform", rest_after=0, **fields))
    return chain.warnings(3)


def test_a_run_that_protects_nobody_says_so():
    few = {"num_partitions": 18, "num_server_rounds": 20}
    [said] = warnings_of("noise-multiplier=1.0,delta=1e-2", **few)
    assert said.startswith("epsilon 19.6 at delta 0.01 with 18 clients protects hardly anybody")
    assert Mechanism(1.0, 1.0, 1e-2).epsilon(20, "RDP") == pytest.approx(21.9, abs=0.1)
    [said] = warnings_of("noise-multiplier=50.0,delta=0.1", **few)
    assert "delta 0.1 with 18 clients protects hardly anybody" in said
    many = {"num_partitions": 2000, "num_server_rounds": 20, "fraction_train": 0.05}
    assert warnings_of("noise-multiplier=1.0,delta=1e-5", **many) == []
    [said] = warnings_of("noise-multiplier=1.0,delta=1e-5,study=true", **many)
    assert said.startswith("NOT PRIVATE")


# What it does not go with


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"client_weights": "examples", "rest_after": 3}, "needs --client-weights uniform and --rest-after 0"),
        ({"rest_after": 3}, "needs --rest-after 0"),
        ({"data_source": "client"}, "--data-source"),
        ({"partitioner": "own"}, "--partitioner own"),
        ({"evaluate": "runs/one"}, "fedkeras evaluate RUN --clients none"),
        ({"class_weight": "balanced"}, "--class-weight balanced"),
        ({"metrics_port": 9090}, "--metrics-port"),
        ({"min_results": 2}, "--min-results"),
        ({"fraction_evaluate": 0.5}, "--fraction-evaluate"),
        ({"normaliser": "zscore"}, "scaling that is learned"),
        ({"dataset": "motionsense"}, "scaling that is learned"),
        ({"mods": "dp:epsilon=2,delta=1e-5; toys:Clip"}, "--mods dp does not go with toys:Clip"),
    ],
)
def test_what_would_break_the_accounting_is_refused_in_one_line(fields, said):
    config = Config(**{"client_weights": "uniform", "rest_after": 0, "mods": "dp:epsilon=2,delta=1e-5", **fields})
    with pytest.raises(UserError, match=said) as refused:
        make_mods("dp:epsilon=2,delta=1e-5").check(config)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("fields", [{"split": "sequential"}, {"mode": "collect"}, {"collect_only": True}])
def test_other_ways_to_train_are_refused(fields):
    config = Config(client_weights="uniform", rest_after=0, mods="dp:epsilon=2,delta=1e-5", **fields)
    with pytest.raises(UserError, match="is for federated rounds"):
        make_mods(config.mods).check(config, workflow_of(config).sends_updates)
    with pytest.raises(UserError):  # by the workflow itself, before that
        check_flags(workflow_of(config), config)


def test_a_workflow_of_one_s_own_is_refused_until_it_says_that_it_sends_updates_alone():
    config = Config(client_weights="uniform", rest_after=0, mods="dp:epsilon=2,delta=1e-5")
    own = Workflow()
    own.name = "mine"
    with pytest.raises(UserError, match="more reaches the server than updates"):
        check_flags(own, config)
    own.sends_updates = True
    check_flags(own, config)


def test_what_goes_with_it_passes():
    for fields in ({}, {"fraction_evaluate": 0.0}, {"dataset": "motionsense", "normaliser": "none"}, {"stop_after": 3}):
        make_mods("dp:epsilon=2,delta=1e-5").check(Config(client_weights="uniform", rest_after=0, **fields))


@pytest.mark.parametrize("name", ["fedmedian", "trimmed_mean", "krum", "flwr.serverapp.strategy:FedMedian"])
def test_robust_strategies_are_refused(name):
    with pytest.raises(UserError, match="must see each client's update"):
        make_mods("dp:epsilon=2,delta=1e-5").strategy(registry.load(name))


def test_batch_normalisation_is_refused_before_anybody_is_asked():
    names = ("000.kernel", "001.gamma", "002.moving_mean", "003.moving_variance")
    with pytest.raises(UserError, match=r"BatchNormalization, whose statistics \('002\.moving_mean'\)"):
        make_mods("dp:epsilon=2,delta=1e-5").tell(names, ("000.kernel", "001.gamma"))
    make_mods("dp:epsilon=2,delta=1e-5").tell(("000.kernel", "001.bias"), ("000.kernel",))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("epsilon=2", "delta"),
        ("delta=1e-5", "say epsilon, and the noise is computed"),
        ("epsilon=-1,delta=1e-5", "epsilon must be between 0 and 100"),
        ("epsilon=101,delta=1e-5", "epsilon must be between 0 and 100"),
        ("noise-multiplier=0.05,delta=1e-5", "noise-multiplier must be above 0.1"),
        ("epsilon=2,delta=1", "delta must be between 0 and 1"),
        ("epsilon=2,delta=1e-5,clip=0", "clip must be a number above 0, or adaptive"),
        ("epsilon=2,delta=1e-5,clip=some", "clip must be a number above 0, or adaptive"),
        ("epsilon=2,delta=1e-5,quantile=1.5", "quantile must be between 0 and 1"),
        ("epsilon=2,delta=1e-5,study=1", "study must be true or false"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        make_mods(f"dp:{options}")


def test_without_the_library_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'fedkeras\[privacy\]'"):
        make_mods("dp:epsilon=2,delta=1e-5").check(Config())
