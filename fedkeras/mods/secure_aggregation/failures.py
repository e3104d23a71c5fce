"""Why an attempt at a secure sum goes wrong: a client refuses, or too few are left."""

from fedkeras.errors import UserError


class ProtocolRefused(UserError):
    """A client does not go on, since what it was asked or sent would break its secrecy or the sum. One clear line."""


class BelowThreshold(UserError):
    """Too few clients are left for a sum: the round is repeated under fresh keys, with the next attempt's number."""

    def __init__(self, phase: str, remaining: int, needed: int, whose: str = "clients are left") -> None:
        super().__init__(
            f"secure aggregation: after the phase '{phase}' only {remaining} {whose}, and {needed} are needed"
        )
        self.phase, self.remaining, self.needed = phase, remaining, needed


class SumNotCredible(UserError):
    """A sum that no clients who keep to the terms can have sent, or secrets that do not fit what was advertised."""
