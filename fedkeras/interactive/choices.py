"""Numbered answers: each is taken by its number, or by its name in any usual spelling (`kfold`, `K-Fold`, `k fold`)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fedkeras.config import Config
from fedkeras.fields import Value


@dataclass(frozen=True)
class Choice:
    """One of the answers; `answer` are the fields of Config that it sets."""

    label: str
    answer: Mapping[str, Value]
    about: str = ""
    also: tuple[str, ...] = ()
    """Other names of it."""

    @property
    def names(self) -> tuple[str, ...]:
        """All that it is called."""
        return (self.label, *self.also)

    def is_in(self, config: Config) -> bool:
        """Whether the configuration says the same already."""
        return all(getattr(config, name) == value for name, value in self.answer.items())


def plain(text: str) -> str:
    """A name without what people spell differently: case, blanks, dashes, underscores."""
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def find(text: str, choices: Sequence[Choice], by_beginning: bool = False) -> Choice | None:
    """The choice that `text` names by its number or a name, or `by_beginning` of one; None if there is not just one."""
    if text.isdecimal() and 1 <= int(text) <= len(choices):
        return choices[int(text) - 1]
    wanted = plain(text)
    if not wanted:
        return None
    exact = [choice for choice in choices if text in choice.names]
    found = exact or [choice for choice in choices if wanted in map(plain, choice.names)]
    if not found and by_beginning:
        found = [choice for choice in choices if any(plain(name).startswith(wanted) for name in choice.names)]
    return found[0] if len(found) == 1 else None


def number_of(config: Config, choices: Iterable[Choice]) -> int | None:
    """The number of the choice that the configuration says already; None if none is it."""
    return next((number for number, choice in enumerate(choices, 1) if choice.is_in(config)), None)


def table(choices: Sequence[Choice], width: int = 80) -> list[str]:
    """A line each: number, label, and what it is about, if that fits."""
    longest = min(max(len(choice.label) for choice in choices), 40)
    lines = (f"{number:>4}  {one.label:<{longest}}  {one.about}".rstrip() for number, one in enumerate(choices, 1))
    return [line if len(line) <= width else f"{line[: width - 3]}..." for line in lines]
