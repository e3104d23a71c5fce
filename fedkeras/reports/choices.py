"""What a run was not told and decided by itself: said once, and kept in config.json under "chosen".

Loss, scaling, a decimal mark: where a flag left them open, something was chosen. Who reads the figures must be able to
see what, and a run that is resumed must choose the same.
"""

import logging
import threading
from collections.abc import Mapping

from fedkeras.config import chosen_in
from fedkeras.errors import UserError, one_line
from fedkeras.reports.run_folder import RunFolder

log = logging.getLogger("fedkeras")

CONCEALED = "who took part"
"""Name of the choice that says why a run's report has nothing of single clients, where a mod keeps it out."""


class Choices:
    """Choices by name ("loss", "normaliser"), each a few words with its reason.

    They may be noted from any thread, and before the run has a folder; `keep_in` writes those that are there.
    """

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._before: Mapping[str, str] = {}
        self._folder: RunFolder | None = None
        self._lock = threading.Lock()

    def note(self, name: str, text: str) -> None:
        """Say what was chosen, once: on the terminal, in the log, in config.json and so in the report.

        Raises UserError if the run that is resumed had chosen otherwise.
        """
        text = one_line(text)
        with self._lock:
            if self._texts.get(name) == text:
                return
            self._check(name, text)
            self._texts[name] = text
            if self._folder is not None:
                self._folder.write_chosen(self._texts)
        print(f"{name}: {text}", flush=True)
        log.info("chosen %s: %s", name, text)

    def keep_in(self, folder: RunFolder) -> None:
        """The run's folder is there: keep in it what was and will be chosen.

        Raises UserError if the run that is resumed had chosen otherwise.
        """
        with self._lock:
            self._before = chosen_in(folder.config_table())
            for name, text in self._texts.items():
                self._check(name, text)
            self._folder, self._texts = folder, {**self._before, **self._texts}
            if self._texts:
                folder.write_chosen(self._texts)

    def __getitem__(self, name: str) -> str:
        return self._texts[name]

    def __contains__(self, name: str) -> bool:
        return name in self._texts

    def _check(self, name: str, text: str) -> None:
        before = self._before.get(name)
        if before is not None and before != text:
            raise UserError(f"--resume: the run was begun with {name} '{before}', and now it is '{text}'")
