"""Attacks on the examples that a malicious client trains on: what it sends is honest work on wrong data."""

from fedkeras import data
from fedkeras.config import Config
from fedkeras.data import Examples, Source
from fedkeras.errors import UserError
from fedkeras.mods.attacks.attack import AttackMod


class PoisoningAttack(AttackMod):
    """A subclass says what becomes of a malicious client's training examples."""

    def poison(self, examples: Examples, source: Source, config: Config, cid: int) -> Examples:
        """The examples in the place of its own, as many; a function of the configuration and the client."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its clients train on")

    def check_source(self, source: Source) -> None:
        """Raise UserError for a data set that this attack is not for."""
        if source.targets is not None:
            raise UserError(f"--mods {self.name} is for classes, and {source.name} has amounts to learn")

    def check(self, config: Config) -> None:
        """The data set too, where the server can open it; else its clients look at it."""
        super().check(config)
        try:
            source = data.open_source(config)
        except UserError:
            return
        self.check_source(source)

    def training_examples(self, examples: Examples, config: Config, cid: int) -> Examples:
        """Poisoned, if this client is malicious. Raises UserError."""
        if not self.is_malicious(config, cid):
            return examples
        source = data.open_source(config)
        self.check_source(source)
        return self.poison(examples, source, config, cid)


def require_class(name: str, value: int, least: int) -> int:
    """An option that is a class number. Raises ValueError for anything but a whole number, `least` or more."""
    if type(value) is not int or value < least:
        raise ValueError(f"{name} must be a class number, {least} or more, not {value}")
    return value
