"""What an attack is, and which there are: one attack is one file, with a line in ATTACKS.

Its options are its constructor's, as a mod's are: `--attacks "membership; canary-clients:canaries=200"`.
"""

from collections.abc import Mapping, Sequence

from fedkeras.audit.finding import Finding
from fedkeras.audit.subject import Subject
from fedkeras.errors import UserError
from fedkeras.named_code import make, parse_specs

ATTACKS: Mapping[str, str] = {
    "canary-clients": "fedkeras.audit.canary_clients:CanaryClients",
    "canary-examples": "fedkeras.audit.canary_examples:CanaryExamples",
    "membership": "fedkeras.audit.membership:Membership",
    "inversion": "fedkeras.audit.inversion.attack:Inversion",
}
"""Name -> package.module:Class."""
APPLICABLE = "applicable"
"""All of ATTACKS that apply to the run."""


class Attack:
    """One way to try what a run tells. Subclasses set `name` and override both methods."""

    name: str

    def reason_against(self, subject: Subject) -> str:
        """Why it means nothing for this run, or cannot be made here, in a few words; "": it can be made."""
        return ""

    def run(self, subject: Subject) -> Sequence[Finding]:
        """Attack; what was found. Raises UserError for what is not on this machine."""
        raise NotImplementedError


def parse_attacks(text: str) -> list[Attack] | None:
    """The attacks that `--attacks` names, made with their options; None for all that apply. Raises UserError."""
    if text == APPLICABLE:
        return None
    chosen = [make(spec, Attack, ATTACKS, "attacks") for spec in parse_specs(text, "attacks")]
    if not chosen:
        raise UserError(f"--attacks names none; there are {', '.join(ATTACKS)}")
    return chosen


def chosen_attacks(named: Sequence[Attack] | None, subject: Subject) -> list[Attack]:
    """Those that were named, or all that apply. Raises UserError for one that does not apply, or where none does."""
    if named is not None:
        for attack in named:
            if reason := attack.reason_against(subject):
                raise UserError(f"--attacks {attack.name} is not for this run: {reason}")
        return list(named)
    every = [make(spec, Attack, ATTACKS, "attacks") for spec in parse_specs(";".join(ATTACKS), "attacks")]
    reasons = {attack.name: _reason(attack, subject) for attack in every}
    left = {name: reason for name, reason in reasons.items() if reason}
    for name, reason in left.items():
        subject.say(f"without {name}: {reason}")
    if len(left) == len(every):
        raise UserError("no attack can be made on this run here (the lines above say why)")
    return [attack for attack in every if attack.name not in left]


def _reason(attack: Attack, subject: Subject) -> str:
    """Why one attack is left out of all; what it cannot even look at is a reason too."""
    try:
        return attack.reason_against(subject)
    except UserError as error:
        return str(error)
