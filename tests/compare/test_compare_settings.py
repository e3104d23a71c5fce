"""What can be asked for, and every refusal in one line, before anything has trained."""

import dataclasses
import json
import re

import pytest

from fedkeras.commands.compare import main, read
from fedkeras.compare.arms import names_of, parse_arms
from fedkeras.compare.settings import MAY_DIFFER, REFUSED, Settings, check_alike, flags_of, flags_to_resume, saved
from fedkeras.config import Config, fields_of
from fedkeras.errors import UserError
from fedkeras.federation.registry import options_of
from fedkeras.fields import MAY_CHANGE

DIGITS = ["digits", "--num-server-rounds", "1"]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--arms", ""], "--arms is ''; give names such as centralised,local,fedavg"),
        (["--arms", "local,local"], "--arms names local twice"),
        (["--arms", "split-sideways"], "there is no split-sideways; split learning is split-sequential"),
        (["--arms", "fedbest"], "--strategy is 'fedbest'; known are fedavg"),
        (["--arms", "no.module:Class"], "--strategy no.module:Class cannot be imported"),
        (["--arms", "a.b:C,a.b-C"], "has the same folder as another arm"),
        (["--arms", "fedavg,keep=3"], "--arms: 'keep=3' is an option; write what it is of before it"),
        (["--arms", "beta=0.2,trimmed_mean"], "--arms: 'beta=0.2' is an option"),
        (["--arms", "fedavg+"], "--arms: 'fedavg+' has a plus sign too many"),
        (["--arms", "+compress:up=int8"], "has a plus sign too many"),
        (["--arms", "local+compress:up=int8"], "mods stand between clients and server, and local has none"),
        (["--arms", "split-shared:share=1"], "split-shared has no options"),
        (["--arms", "fedavg+nothing"], "--arms fedavg+nothing: --mods is 'nothing'; known are"),
        (["--arms", "fedavg+compress:up=int9"], "--arms fedavg+compress:up=int9: --mods compress: up must be one of"),
        (["--arms", "trimmed_mean:beta=0.9"], "--arms trimmed_mean:beta=0.9: --strategy-args: beta must be"),
        (["--arms", "fedavg+compress:up=int8+compress:topk=0.1"], "named twice, and compress would be applied twice"),
        (["--arms", "fedavg+compress:up=int8", "--mods", "compress:up=int8"], "--mods has it for all arms already"),
        (["--strategy-args", "beta=0.1", "--arms", "trimmed_mean:beta=0.2"], "exactly one strategy"),
        (["--proximal-mu", "0.1", "--arms", "fedprox:proximal-mu=1"], "--proximal-mu changes nothing here"),
        (["--repeats", "0"], "--repeats must be at least 1, not 0"),
        (["--repeats", "many"], "--repeats"),
        (["--processes", "-1"], "--processes must be at least 0, not -1"),
        (["--data-source", "server"], "--data-source is not for compare"),
        (["--app", "folder"], "--app is not for compare: another app has a training of its own"),
        (["--strategy", "fedmedian"], "--strategy is not for compare: --arms names what is trained"),
        (["--spawn", "2"], "--spawn is not for compare: --processes says"),
        (["--resume", "runs/x"], "--resume is not for compare: the same --out again goes on"),
        (["--no-central-evaluation"], "arms are compared on the central test set"),
        (["--fraction-evaluate", "0.5"], "--fraction-evaluate is not for compare"),
        (["--checkpoint-every", "0"], "what is interrupted could not go on"),
        (["--strategy-args", "beta=0.1", "--arms", "fedavg,trimmed_mean"], "exactly one strategy"),
        (["--strategy-args", "nonsense=1"], "--strategy-args"),
        (["--in-flight", "2"], "--in-flight means nothing without split learning in --arms"),
        (["--in-flight", "2", "--arms", "split-sequential"], "--in-flight is for --split splitfed or shared"),
        (["--partitioner", "natural"], "--partitioner natural: digits does not say who"),
        (["--partitioner", "own"], "--partitioner own: an arm has all data in one process"),
        (["--num-partitions", "1437"], "client 0 has too little to hold any of it out"),
        (["--num-partitions", "2000"], "has only 1437 training examples"),
        (["--dataset", "nothing"], "--dataset is 'nothing'"),
        (["--nonsense", "1"], "--nonsense"),
        (["--out", "FILE"], "cannot make FILE"),
        (["--out", "FULL"], "holds other files, and is no comparison"),
    ],
)
def test_refused_in_one_line(tmp_path, monkeypatch, capsys, args, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("a file")
    (tmp_path / "FULL").mkdir()
    (tmp_path / "FULL" / "thesis.txt").write_text("mine")
    assert main([*DIGITS, *args]) == 2
    said = capsys.readouterr()
    assert told in said.err and said.err.count("\n") == 1 and not said.out
    assert said.err.startswith("python -m fedkeras compare: ")
    assert not (tmp_path / "runs").exists()


def test_each_refused_flag_is_one_and_has_a_reason():
    assert {*fields_of()} >= REFUSED
    assert " ".join(sorted(REFUSED)) == (
        "app app_config buffer_size central_evaluation collect_only concurrency data_source evaluate "
        "evaluate_clients evaluate_round folds fraction_evaluate host insecure kfold_return "
        "max_result_mb max_staleness method metrics_host metrics_port mode name passphrase_file "
        "patience port release resume run_dir server_learning_rate share spawn split staleness_exponent "
        "stop_after strategy target tls_cert tls_client_ca tls_key validation"
    )
    assert {*MAY_DIFFER} == {*fields_of(MAY_CHANGE)} - {"num_server_rounds"}


def test_help_shows_what_a_comparison_uses(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0 and "comparison options" in shown
    for name in fields_of():
        entry = re.search(rf"^.{{0,2}}--{name.replace('_', '-')}[ ,]", shown, re.MULTILINE)
        assert bool(entry) == (name not in REFUSED), name
    assert main(["--strateg", "fedavg"]) == 2
    assert "--strategy-args" in (said := capsys.readouterr().err) and "--strategy " not in said


def test_an_arm_has_its_strategy_and_its_seed_and_nothing_of_the_others():
    config = Config(in_flight=2, strategy_args="eta=0.5", seed=1, test_fraction=0.0)
    centralised, shared, fedadam = parse_arms("centralised, split-shared ,fedadam")
    assert (fedadam.kind, fedadam.configure(config, 9).strategy, fedadam.configure(config, 9).seed) == (
        "federated", "fedadam", 9,
    )  # fmt: skip
    assert fedadam.configure(config, 9).in_flight == 1 and fedadam.configure(config, 9).strategy_args == "eta=0.5"
    assert (shared.kind, shared.configure(config, 9).split, shared.configure(config, 9).in_flight) == (
        "split", "shared", 2,
    )  # fmt: skip
    assert shared.configure(config, 9).strategy_args == "" and centralised.configure(config, 9).strategy == "fedavg"
    assert centralised.configure(config, 9).fraction_evaluate == 0.0  # nothing is held out


def test_arms_bring_options_and_mods_of_their_own():
    """Commas stand between arms and between options; an option belongs to what stands before it."""
    typed = "fedavg, mine:Halfway:share=1e+2 , fedavg+compress:up=int8,topk=0.1+stragglers:share=0.5,drop=true,local"
    plain, halfway, mods, local = parse_arms(typed)
    config = Config(mods="one", strategy_args="", seed=1)
    assert plain.configure(config, 3).mods == "one" and local.configure(config, 3).mods == ""
    configured = mods.configure(config, 3)
    assert configured.strategy == "fedavg" and configured.strategy_args == ""
    assert configured.mods == "one; compress:up=int8,topk=0.1; stragglers:share=0.5,drop=true"
    assert halfway.configure(config, 3).strategy == "mine:Halfway"
    assert options_of(halfway.configure(config, 3)) == {"share": 100.0}
    assert mods.slug == "fedavg-compress-up-int8-topk-0.1-stragglers-share-0.5-drop-true"
    assert parse_arms(names_of((plain, halfway, mods, local))) == (plain, halfway, mods, local)
    (prox,) = parse_arms("fedprox:proximal-mu=1")
    assert options_of(prox.configure(Config(), 3)) == {"proximal_mu": 1}


def test_long_arms_have_folders_that_a_file_system_takes():
    one, other = parse_arms(",".join(f"fedavg+stragglers:share=0.{'1' * 200}{end}" for end in "12"))
    assert one.slug != other.slug and len(one.slug) == len(other.slug) == 100


def test_flags_give_the_configuration_back():
    config = Config(
        dataset="mnist", strategy_args="eta=-1", tensorboard=True, learning_rate=1e-05, test_fraction=0.0, alpha=2.0
    )
    assert Config.from_flags(flags_of(config)) == config
    assert flags_of(Config()) == []
    off = dataclasses.replace(config, central_evaluation=False)
    assert "--no-central-evaluation" in flags_of(off) and Config.from_flags(flags_of(off)) == off


def test_what_may_change_is_told_to_a_run_that_goes_on():
    """Also where it goes back to the default, which the run itself had not."""
    old = Config(
        data_dir="/old", min_available_nodes=2, min_results=2, max_retries=5, node_timeout=1.0, round_timeout=0.5,
        reconnect_grace=1.0, checkpoint_every=2, keep_checkpoints=5, max_message_mb=8, tensorboard=True, mlflow=True,
        trust_code=True, private=True, gpus_per_client=0.5, deadline_grace=9.0,
    )  # fmt: skip
    for new in (Config(), dataclasses.replace(old, round_timeout=600.0, data_dir="/new", mlflow=False)):
        assert Config.from_flags(flags_to_resume(new), default=old) == new
    assert {*old.changed()} == {*fields_of(MAY_CHANGE)} - REFUSED - {"num_server_rounds"}


def test_the_same_folder_again_needs_no_flags_and_refuses_others(tmp_path, capsys):
    first = Settings(arms="local,fedavg", repeats=2, out=str(tmp_path), config=Config(batch_size=8, port=9080))
    first.save(tmp_path)
    again, before = read(["--out", str(tmp_path)])
    assert again == before == first == saved(tmp_path)
    for args in (["--arms", "local,fedavg,fedmedian"], ["--repeats", "3"], ["--processes", "1"], ["--data-dir", "/x"]):
        more, _ = read([f"--out={tmp_path}", *args])
        check_alike(before, more)
    for args, told in (
        (["--batch-size", "16"], "--batch-size is '8' in .*compare.json, not '16': choose another --out"),
        (["--num-server-rounds", "20"], "--num-server-rounds is '10'"),
        (["--seed", "1"], "--seed is '42'"),
        (["--arms", "fedavg"], "--arms lacks local, which .*compare.json has: arms can be added, not taken away"),
        (["--repeats", "1"], "--repeats is 2 in .*: repeats can be added"),
    ):
        with pytest.raises(UserError, match=told):
            check_alike(before, read(["--out", str(tmp_path), *args])[0])
    assert main(["--out", str(tmp_path), "--batch-size", "16"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_damaged_compare_json_is_said(tmp_path, capsys):
    (tmp_path / "compare.json").write_text(json.dumps({"arms": "local"}))
    assert main(["--out", str(tmp_path)]) == 2
    assert "compare.json cannot be read" in capsys.readouterr().err
