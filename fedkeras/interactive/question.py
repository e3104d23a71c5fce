"""One question: what it shows, which answers it takes, and what they say of the run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.fields import Value, read_value
from fedkeras.flags import documentation
from fedkeras.interactive.choices import Choice, find, number_of, table
from fedkeras.interactive.prompt import Prompt, folded

HELP = "?"

Answer = Mapping[str, Value]
"""Fields of Config, and what they are to be."""


def always(_: Config) -> bool:
    """For a question that is asked in any case."""
    return True


def where(**wanted: Value) -> Callable[[Config], bool]:
    """For a question that is asked where these fields have these values by then."""
    return lambda config: all(getattr(config, name) == value for name, value in wanted.items())


@dataclass(frozen=True)
class Question:
    """`key` names it in the history; `text` stands before the answer, `title` above the choices.

    `field` is the one that an answer is which is none of the choices; unset: there are only these.
    """

    key: str
    text: str
    title: str = ""
    field: str = ""
    choices: Callable[[Config], Sequence[Choice]] = lambda config: ()
    when: Callable[[Config], bool] = always
    """Looks at the answers so far, and at the flags that were given."""
    check: Callable[[Any, Config], None] = lambda value, config: None
    """Looks at the value of `field` that was chosen or typed, and raises UserError."""
    tidy: Callable[[str], str] = str
    """From what was typed to how the field writes it."""
    suggest: Callable[[Config], Answer] = lambda config: {}
    """What Enter means, if no flag says it."""
    hint: Callable[[Config], str] = lambda config: ""
    """What is said above the prompt."""
    paths: bool = False
    """Tab completes names of files."""

    def ask(self, prompt: Prompt, config: Config, before: Answer | None = None) -> Answer:
        """Ask until the answer will do; Enter is `before`, the last answer, or what is suggested, or the flag's value.

        Raises what Prompt.line raises.
        """
        given = {*config.changed()}
        suggested = {name: value for name, value in self.suggest(config).items() if name not in given}
        shown = replace(config, **(suggested if before is None else before))
        choices = self.choices(config)
        self._introduce(config, choices)
        words = [name for one in choices for name in one.names]
        while True:
            text = prompt.line(f"{self.text} [{self._default(shown, choices)}]: ", self.key, words, self.paths)
            if text == HELP:
                self._explain()
                continue
            try:
                answer = self._read(text, shown, choices)
                if self.field in answer:
                    self.check(answer[self.field], config)
            except UserError as error:
                print(folded(str(error), "  "))
                continue
            if text:
                prompt.remember(self.key, text)
            return answer

    def _introduce(self, config: Config, choices: Sequence[Choice]) -> None:
        if choices:
            print(f"\n{self.title}")
            print(*table(choices), sep="\n")
        if hint := self.hint(config):
            print(f"\n{folded(hint)}")

    def _default(self, shown: Config, choices: Sequence[Choice]) -> str:
        """What Enter means, as a person would type it."""
        number = number_of(shown, choices)
        if number is not None:
            return str(number)
        return str(getattr(shown, self.field)) if self.field and getattr(shown, self.field) != "" else "none"

    def _read(self, text: str, shown: Config, choices: Sequence[Choice]) -> Answer:
        """What `text` means; empty: what is shown. Raises UserError."""
        if not text:
            number = number_of(shown, choices)
            if number is not None:
                return choices[number - 1].answer
            if self.field:
                return {self.field: getattr(shown, self.field)}
        chosen = find(text, choices, by_beginning=not self.field) if choices else None
        if chosen is not None:
            return chosen.answer
        if self.field:
            return {self.field: read_value(Config, self.field, self.tidy(text))}
        labels = ", ".join(f"{number} {one.label}" for number, one in enumerate(choices, 1))
        raise UserError(f"'{text}' is none of them; give a number or a name: {labels}")

    def _explain(self) -> None:
        texts = documentation(Config)
        text = texts[self.field] if self.field else "Give a number or a name."
        print(folded(text, "  "))
