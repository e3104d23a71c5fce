"""Earlier answers, by question, from session to session: the arrow keys bring them back. Never the passphrase."""

import json
import logging
from pathlib import Path

from fedkeras.atomic import replace_file
from fedkeras.errors import UserError

log = logging.getLogger("fedkeras")

KEPT = 20
"""Answers to one question, the newest."""


class AnswerHistory:
    """The answers in a file of JSON, {question: [oldest, ..., newest]}. A file that cannot be read begins anew."""

    def __init__(self, path: Path) -> None:
        self._path: Path | None = path
        self._answers = _read(path)

    def of(self, question: str) -> list[str]:
        """What was answered before, the newest last."""
        return list(self._answers.get(question, []))

    def add(self, question: str, answer: str) -> None:
        """Keep an answer; where the disk refuses, one warning says so, and the session goes on without."""
        before = [one for one in self._answers.get(question, []) if one != answer]
        self._answers[question] = [*before, answer][-KEPT:]
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._path, f"{json.dumps(self._answers, indent=1)}\n".encode())
        except (UserError, OSError) as error:
            log.warning("answers are not remembered for the next time: %s", error)
            self._path = None


def _read(path: Path) -> dict[str, list[str]]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or somebody else's
        return {}
    if not isinstance(table, dict):
        return {}
    return {
        question: [one for one in answers if isinstance(one, str) and one.isprintable()]
        for question, answers in table.items()
        if isinstance(answers, list)
    }
