"""Before a run has begun, what goes wrong is its user's to mend (exit status 2); afterwards the run has failed (3)."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fedkeras.callbacks import Callback
from fedkeras.errors import RunFailed, UserError

if TYPE_CHECKING:
    from fedkeras.workflows.base import RunContext


class Beginning(Callback):
    """Notes that the run has begun, and gives what goes wrong its kind."""

    def __init__(self) -> None:
        self._begun = False

    def on_run_begin(self, run: "RunContext") -> None:
        """Training is about to begin."""
        self._begun = True

    @contextlib.contextmanager
    def judged(self) -> Iterator[None]:
        """What is raised meanwhile becomes RunFailed once the run has begun.

        What a disk refuses (OSError) becomes a line as well, wherever it was refused.
        """
        try:
            yield
        except RunFailed:
            raise
        except UserError as error:
            if self._begun:
                raise RunFailed(str(error)) from error
            raise
        except OSError as error:
            where = f" {error.filename}" if error.filename else " the run's files"
            kind = RunFailed if self._begun else UserError
            raise kind(f"cannot read or write{where}: {error.strerror or error}") from error
