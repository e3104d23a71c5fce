"""Through the questions, forward and back, to the command that says the same, the last checks, and the start."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fedkeras import data
from fedkeras.checkout import typed
from fedkeras.config import Config, flag
from fedkeras.errors import UserError
from fedkeras.fields import Value
from fedkeras.interactive.answer_history import AnswerHistory
from fedkeras.interactive.choices import plain
from fedkeras.interactive.passphrase_step import PassphraseStep
from fedkeras.interactive.prompt import GoBack, Prompt, folded
from fedkeras.interactive.question import Question
from fedkeras.interactive.questions import AFTER_THE_PASSPHRASE, BEFORE_THE_PASSPHRASE
from fedkeras.provisioning.server import open_provision
from fedkeras.runtime.passphrase import VARIABLE
from fedkeras.workflows.base import workflow_of
from fedkeras.workflows.flag_checks import check_flags

HISTORY = "answers.json"

Step = Question | PassphraseStep


def ask(defaults: Config) -> Config:
    """The configuration from a person's answers, `defaults` in brackets.

    A passphrase goes into this process's environment. Raises UserError where nobody is at the terminal, and
    KeyboardInterrupt if in the end it is not to be started.
    """
    prompt = Prompt(AnswerHistory(data.cache.folder() / HISTORY))
    print("Enter takes what is in brackets. `back` asks the question before, ? says more,")
    print("Tab completes, Ctrl-C ends it all and starts nothing.")
    try:
        return _walk(prompt, [*BEFORE_THE_PASSPHRASE, PassphraseStep(), *AFTER_THE_PASSPHRASE], defaults)
    except KeyboardInterrupt as stop:
        if not stop.args:
            print()  # the message begins at the margin, and not behind the prompt
        raise


def command_of(config: Config) -> str:
    """The command line that gives this configuration; the passphrase is not in it."""
    words = []
    for field in config.changed():
        value, name = getattr(config, field), flag(field)
        words += [f"--{'' if value else 'no-'}{name}"] if isinstance(value, bool) else [f"--{name}", str(value)]
    before = f"{VARIABLE}=... " if VARIABLE in os.environ and not config.passphrase_file else ""
    return before + typed("server", *words)


def check(config: Config) -> None:
    """Raise UserError for answers that do not go together, or with the model file and the data here."""
    workflow = workflow_of(config)
    check_flags(workflow, config)
    open_provision(config)
    at_hand = data.needs_no_files(config.dataset) or data.is_file(config.dataset)
    if config.uses_catalogue and not config.only_takes_deliveries and at_hand:
        data.describe(config)


def _walk(prompt: Prompt, steps: Sequence[Step], defaults: Config) -> Config:
    """Each step in its turn; the start is the last. What is on the way back is forgotten but as the next default."""
    answers: dict[str, Mapping[str, Value]] = {}
    asked: list[tuple[int, Config]] = []
    number, config = 0, defaults
    while True:
        before = number, config
        try:
            if number == len(steps):
                _confirm(prompt, config)
                return config
            step = steps[number]
            if step.when(config):
                answers[step.key] = step.ask(prompt, config, answers.get(step.key))
                config = replace(config, **answers[step.key])
                asked.append(before)
            number += 1
        except GoBack:
            if asked:
                number, config = asked.pop()
            else:
                print("  this is the first question")


def _confirm(prompt: Prompt, config: Config) -> None:
    """Show what will be done; raises KeyboardInterrupt if it is not wanted, and GoBack."""
    print(f"\nThe same without questions:\n\n    {command_of(config)}\n")
    try:
        check(config)
    except UserError as error:
        print(folded(f"This cannot start: {error}", "  "))
        while True:
            prompt.line("`back` asks the question before, Ctrl-C ends it: ")
    for line in workflow_of(config).preview(config):
        print(folded(line))
    while (answer := plain(prompt.line("start [yes]: ")) or "yes") not in ("y", "yes"):
        if answer in ("n", "no"):
            raise KeyboardInterrupt("nothing was started")
        print("  yes or no? `back` asks the question before")
