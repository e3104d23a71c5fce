"""The passphrase: its rules are said, it is typed twice and never shown, and this process's environment holds it."""

import os
from collections.abc import Mapping

from fedkeras.address import is_loopback
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.fields import Value
from fedkeras.interactive.prompt import Prompt, folded
from fedkeras.runtime.passphrase import SHORT, VARIABLE, normalised

RULE = f"at least {SHORT} characters"


class PassphraseStep:
    """A step like a Question; it changes no field."""

    key = "passphrase"

    def __init__(self) -> None:
        self._given = VARIABLE in os.environ

    def when(self, config: Config) -> bool:
        """No file holds it."""
        return not config.passphrase_file

    def ask(self, prompt: Prompt, config: Config, before: Mapping[str, Value] | None = None) -> Mapping[str, Value]:
        """Ask until it will do; what the environment holds is taken. Raises what Prompt.hidden raises."""
        reachable = not is_loopback(config.host)
        needed = reachable and not (config.tls_client_ca or config.insecure)
        if self._given:
            try:
                _check(normalised(os.environ[VARIABLE]), reachable, needed)
            except UserError as error:
                print(f"\n{folded(f'{VARIABLE}: {error}', '  ')}")
            else:
                print(f"\npassphrase: that of {VARIABLE}")
                return {}
        print(f"\n{_rules(reachable, needed)}")
        while True:
            first = normalised(prompt.hidden(f"passphrase{'' if needed else ' [none]'}: "))
            try:
                _check(first, reachable, needed)
            except UserError as error:
                print(folded(str(error), "  "))
                continue
            if first and first != normalised(prompt.hidden("the same again: ")):
                print("  the two are not the same: type both again")
                continue
            if first:
                os.environ[VARIABLE] = first
            else:
                os.environ.pop(VARIABLE, None)
            return {}


def _rules(reachable: bool, needed: bool) -> str:
    if reachable:
        enter = "" if needed else " (Enter: none)"
        rule = f"A passphrase that clients must know{enter}: {RULE}, since others can reach this server."
    else:
        rule = "A passphrase that clients must know (Enter: none, since nobody else can reach this server): "
        rule += f"{SHORT} characters or more are hard to guess."
    return folded(f"{rule} It is typed twice and not shown.")


def _check(passphrase: str, reachable: bool, needed: bool) -> None:
    """Raise UserError for one that the server would refuse when it starts to listen."""
    if not passphrase and needed:
        raise UserError(f"others can reach this server, and without a passphrase anybody could join: {RULE}")
    if passphrase and reachable and len(passphrase) < SHORT:
        raise UserError(f"it has {len(passphrase)} characters, which could be guessed: {RULE}")
