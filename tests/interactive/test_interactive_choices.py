"""Numbered answers by number or in any usual spelling; names of Keras' optimizers; earlier answers; completion."""

import builtins
import inspect
from pathlib import Path

import keras
import pytest

from fedkeras.built_in_names import OPTIMIZERS
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.interactive import checks
from fedkeras.interactive.answer_history import KEPT, AnswerHistory
from fedkeras.interactive.choices import Choice, find
from fedkeras.interactive.prompt import Prompt
from fedkeras.interactive.questions import METHODS, NORMALISERS, SOURCES
from fedkeras.learning import optimizers


@pytest.mark.parametrize(
    ("choices", "text", "label"),
    [
        *((METHODS, text, "K-Fold") for text in ("2", "kfold", "K-Fold", "KFOLD", "k fold", "cross-validation")),
        *((METHODS, text, "Rounds") for text in ("3", "rounds", "Federated", "r")),
        *((NORMALISERS, text, "Simple Feature Scaling") for text in ("1", "Simple Feature Scaling", "scale", "simple")),
        *((NORMALISERS, text, "Min-Max") for text in ("2", "Min-Max", "minmax", "MIN MAX")),
        *((NORMALISERS, text, "Z-Score") for text in ("3", "Z-Score", "zscore", "z")),
        *((SOURCES, text, "client") for text in ("2", "Client", "CLIENTS")),
        *((METHODS, text, None) for text in ("0", "4", "-1", "", "...", "fits", "2.0")),
    ],
)  # fmt: skip
def test_a_choice_is_taken_by_number_or_in_any_usual_spelling(
    choices: tuple[Choice, ...], text: str, label: str | None
) -> None:
    found = find(text, choices, by_beginning=True)
    assert (found.label if found else None) == label


def test_what_names_two_choices_is_none_of_them() -> None:
    two = [Choice("a.h5", {}, also=("a",)), Choice("a.keras", {}, also=("a",))]
    assert find("a", two) is None and find("a.KERAS", two) is two[1] and find("a.", two, by_beginning=True) is None


@pytest.mark.parametrize(("text", "name"), [("Adam W", "adamw"), ("SGD", "sgd"), ("RMS-prop", "rmsprop")])
def test_an_optimizer_in_any_spelling(text: str, name: str) -> None:
    assert checks.named_optimizer(text) == name
    checks.optimizer(name, Config())


def test_the_optimizers_and_their_rates_are_keras_own() -> None:
    assert [*OPTIMIZERS] == optimizers.names()
    kinds = {name.lower(): kind for name, kind in vars(keras.optimizers).items() if isinstance(kind, type)}
    for name, rate in OPTIMIZERS.items():
        assert inspect.signature(kinds[name].__init__).parameters["learning_rate"].default == rate, name
    with pytest.raises(UserError, match=r"no optimizer 'adamm' \(is adam meant\?\): adadelta, "):
        checks.optimizer("adamm", Config())


def test_the_history_is_bounded_and_a_broken_one_begins_anew(tmp_path: Path, caplog) -> None:
    path = tmp_path / "new" / "answers.json"
    history = AnswerHistory(path)
    for number in [*range(KEPT + 5), 7]:
        history.add("port", str(number))
    assert AnswerHistory(path).of("port") == [str(n) for n in range(5, KEPT + 5) if n != 7] + ["7"]
    for broken in ("[", "[]", '{"port": 3, "seed": ["\\u001b[D", 4, "5"]}'):
        path.write_text(broken)
        assert AnswerHistory(path).of("port") == []
    assert AnswerHistory(path).of("seed") == ["5"]
    (tmp_path / "file").write_text("")
    AnswerHistory(tmp_path / "file" / "answers.json").add("port", "1")
    assert "answers are not remembered" in caplog.text


def test_tab_completes_names_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "my net.h5").touch()
    asked = Prompt(AnswerHistory(tmp_path / "a"))
    monkeypatch.setattr(builtins, "input", lambda text: "x")
    asked.line("?", words=["model/other.h5", "built-in"], paths=True)
    found = lambda text: [asked._complete(text, n) for n in range(3)]  # noqa: E731
    assert found("mo") == ["model/other.h5", "model/", None]
    assert found("model/m") == ["model/my net.h5", None, None]
