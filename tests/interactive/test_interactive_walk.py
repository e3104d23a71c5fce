"""The questions of `server.py --interactive` from first to last, answered in this process."""

import builtins
import getpass
import os
import socket
from collections.abc import Callable
from pathlib import Path

import keras
import pytest

from fedkeras.client_config import join_command, join_notes
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.interactive import prompt
from fedkeras.interactive.guide import ask, check, command_of
from fedkeras.interactive.questions import AFTER_THE_PASSPHRASE, BEFORE_THE_PASSPHRASE
from fedkeras.runtime.passphrase import VARIABLE

SECRET = "a long passphrase"
LEFT = "\x1b[D"

Say = Callable[..., Config]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Say:
    """Answer the questions in a folder of its own; `answers` are by the words of the prompt, each a text or several."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDKERAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(VARIABLE, "")  # so that it is gone afterwards, whatever an answer puts there
    monkeypatch.delenv(VARIABLE)

    def run(defaults: Config = Config(), **answers: str | list[str]) -> Config:  # noqa: B008 - it is frozen
        waiting = {name.replace("_", " "): [text] if isinstance(text, str) else list(text)
                   for name, text in answers.items()}  # fmt: skip

        asked: list[str] = []

        def answer(text: str) -> str:
            asked.append(text)
            assert len(asked) < 100, f"asked for ever: {asked[-3:]}"
            mine = [name for name, texts in waiting.items() if texts and text.startswith(name)]
            return waiting[max(mine, key=len)].pop(0) if mine else ""

        monkeypatch.setattr(builtins, "input", answer)
        monkeypatch.setattr(getpass, "getpass", answer)
        config = ask(defaults)
        assert not any(waiting.values()), waiting
        return config

    return run


def save_model(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    layers = [keras.Input((4,)), keras.layers.Dense(3, activation="softmax")]
    model = keras.Sequential(layers)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.save(path)


def save_tables(folder: Path) -> None:
    for name, line in (("X", "1,2,3,4"), ("Y", "1")):
        (folder / name).mkdir(parents=True)
        (folder / name / "t.csv").write_text(f"{line}\n" * 30)


def test_enter_everywhere_is_a_run_without_any_file(say: Say, capsys: pytest.CaptureFixture[str]) -> None:
    assert say(port="0") == Config(port=0)
    shown = capsys.readouterr().out
    assert all(len(line) <= 80 for line in shown.splitlines() if not line.startswith("    "))
    assert "built-in" in shown and "data source" not in shown


def test_model_folder_and_data_folder_are_offered(say: Say, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a.h5").write_bytes(b"x")
    save_model(tmp_path / "model" / "b.keras")
    save_tables(tmp_path / "dataset")
    config = say(
        port="0", train_or_collect="Train", method="2", optimizer="Nadam", normaliser=["Zed", "Z-Score"], XY="xx"
    )
    assert config == Config(
        port=0, model="model/b.keras", data_source="server", data_dir="dataset", mode="collect", method="kfold",
        optimizer="nadam", learning_rate=0.001, normaliser="zscore", target="XX",
    )  # fmt: skip
    shown = capsys.readouterr().out
    assert "1  model/a.h5     cannot be used: " in shown
    assert "2  model/b.keras  takes 4, gives 3, compiled with Adam" in shown
    assert "'Zed' is none of them; give a number or a name: 1 Simple" in shown
    assert "Optimizers: default (the model file's own, Adam), " in shown
    assert "3 clients train model/b.keras once: 5-fold cross-validation of 1 epoch\n" in shown


def test_given_flags_are_the_defaults_and_stay_in_the_command(say: Say, tmp_path: Path) -> None:
    save_model(tmp_path / "m.keras")
    given = Config(
        port=0, host="::1", model="m.keras", data_source="keras", dataset="mnist", local_epochs=7, normaliser="scale",
        optimizer="rmsprop", learning_rate=0.02, num_server_rounds=3, strategy="fedprox", proximal_mu=0.5, seed=9,
        class_weight="balanced", target="XY",
    )  # fmt: skip
    assert say(given) == given
    assert Config.from_flags(command_of(given).split()[2:]) == given


def test_back_asks_again_and_forgets_what_no_longer_matters(say: Say, tmp_path: Path) -> None:
    save_model(tmp_path / "m.keras")
    save_tables(tmp_path / "d")
    config = say(
        port="0", number_of_clients="2", data_source=["1", "server"], folder=["back", "d"], method=["kfold", "rounds"],
        folds="7", strategy=["back", "fedmedian"], start="Y",
        # from the strategy back to the folds, and from these to the method
        rounds="4", **{"folds [7]": "BACK"},
    )  # fmt: skip
    assert config == Config(
        port=0, num_partitions=2, model="m.keras", data_source="server", data_dir="d", normaliser="none",
        num_server_rounds=4, strategy="fedmedian",
    )  # fmt: skip


def test_answers_that_do_not_go_together_cannot_start(say: Say, tmp_path: Path, capsys) -> None:
    save_model(tmp_path / "m.keras")
    save_tables(tmp_path / "d")
    (tmp_path / "d" / "Y" / "t.csv").unlink()
    with pytest.raises(KeyboardInterrupt, match="nothing was started"):
        say(port="0", data_source="1", folder="d", **{"`back` asks": ["", "back"]}, XY=["", "maybe", "XX"], start="no")
    shown = capsys.readouterr().out
    assert shown.count("This cannot start: ") == 1 and "'maybe' is none of them" in shown
    with pytest.raises(UserError, match="--method kfold trains once"):
        check(Config(data_source="keras", method="kfold"))


def test_only_collect_asks_for_no_training(say: Say) -> None:
    assert say(port="0", train="2", number="1") == Config(port=0, collect_only=True, num_partitions=1)
    line = join_command(Config(collect_only=True), "127.0.0.1:9")
    assert line.endswith("--server 127.0.0.1:9 --deliver")


def test_addresses_are_looked_at(say: Say, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        used = str(taken.getsockname()[1])
        hosts = ["0.0.0.0:80", "192.0.2.77", "no.such.name.invalid", "localhost"]
        config = say(address=hosts, port=["many", used, "0"])
    assert (config.host, config.port) == ("127.0.0.1", 0)
    shown = " ".join(capsys.readouterr().out.split())
    for words in (
        "give the address alone, such as 0.0.0.0: the port is asked for next",
        "192.0.2.77 is no address of this machine",
        "no machine is known by that name",
        "--port must be a whole number, not 'many'",
        f"cannot listen on 127.0.0.1:{used}: the port is in use",
    ):
        assert words in shown


def test_the_rules_of_passphrases_are_said_and_kept(
    say: Say, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    answers = {
        "passphrase": ["", "short", f"{LEFT}{SECRET}", SECRET, SECRET],
        "the same": ["another one", f" {SECRET} "],
    }
    assert say(address="2", port="0", **answers).host == "0.0.0.0"
    assert os.environ.pop(VARIABLE) == SECRET
    captured = capsys.readouterr()
    shown = " ".join(captured.out.split())
    for words in (
        "clients must know: at least 12 characters, since others can reach this server",
        "without a passphrase anybody could join",
        "it has 5 characters, which could be guessed: at least 12",
        "keys in it that are no characters",
        "the two are not the same",
        f"{VARIABLE}=... python server.py --host 0.0.0.0",
    ):
        assert words in shown, words
    assert SECRET not in captured.out + captured.err + (tmp_path / "cache" / "answers.json").read_text()


def test_a_passphrase_that_is_there_is_not_asked_for(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, SECRET)
    say(address="2", port="0")
    monkeypatch.setenv(VARIABLE, "short")
    say(address="2", port="0", passphrase=SECRET, the_same=SECRET)
    assert os.environ[VARIABLE] == SECRET


def test_questions_follow_from_the_answers_so_far() -> None:
    def questions(**fields: object) -> list[str]:
        config = Config(**fields)
        return [one.key for one in (*BEFORE_THE_PASSPHRASE, *AFTER_THE_PASSPHRASE) if one.when(config)]

    begin = ["address", "port", "purpose", "model", "clients", "epochs", "batch size", "optimizer"]
    rounds = ["rounds", "strategy"]
    assert questions() == [*begin, "learning rate", "seed", "data set", "normaliser", *rounds]
    assert questions(dataset="mnist")[-4:-2] == ["data set's folder", "normaliser"]
    assert questions(strategy="fedprox")[-1] == "proximal term"
    own = {"model": "/no/such.keras", "optimizer": "compiled"}
    of_file = ["data source", "data folder", "normaliser", "method"]
    assert questions(**own, data_source="server") == [*begin, "seed", *of_file, *rounds, "target"]
    once = questions(**own, data_source="server", mode="collect", method="kfold")
    assert once == [*begin, "seed", *of_file, "folds", "strategy", "target"]
    assert questions(**own, data_source="client", mode="mine:W")[-4:] == [
        "data source",
        "normaliser",
        "strategy",
        "target",
    ]
    assert questions(collect_only=True, mode="collect", method="kfold", data_source="keras") == [*begin[:3], "clients"]


def test_without_readline_an_escape_code_is_no_answer(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt, "readline", None)
    assert say(port=[f"9{LEFT}", "0"]).port == 0


def test_the_command_gives_the_same_configuration() -> None:
    config = Config(host="::1", num_partitions=7, central_evaluation=False, insecure=True, strategy_args="eta=0.1")
    words = command_of(config).split()[2:]
    assert Config.from_flags(words) == config


def test_what_is_said_beside_the_clients_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedkeras.client_config.own_address", lambda: "10.1.2.3")
    assert join_notes(Config(), "127.0.0.1:9", False) == []
    assert join_notes(Config(passphrase_file="p"), "127.0.0.1:9", True) == ["FILE holds the passphrase"]
    said = join_notes(Config(host="0.0.0.0"), "0.0.0.0:9", True)
    assert said[0] == "HOST is this machine's name or address, such as 10.1.2.3"
    assert said[1].startswith("each client is asked for the passphrase")


def test_a_table_of_ones_own_is_a_data_set(say: Say, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{n % 7},{n % 5},{'ab'[n % 2]}\n" for n in range(60))
    (tmp_path / "flowers.csv").write_text(f"long,wide,kind\n{rows}")
    names = ["digit", "no.csv", "flowers.csv"]
    config = say(port="0", data_set=names, column=["", "colour", "kind"])
    assert (config.dataset, config.label_column) == ("flowers.csv", "kind")
    shown = " ".join(capsys.readouterr().out.split())
    assert "no data set 'digit' (is digits meant?)" in shown and "there is no file no.csv" in shown
    assert "its columns are long, wide, kind" in shown and "colour" in shown and "cannot start" not in shown


def test_more_clients_than_examples_cannot_start() -> None:
    with pytest.raises(UserError, match="5000"):
        check(Config(num_partitions=5000))
