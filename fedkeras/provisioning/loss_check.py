"""The loss that clients will train a handed-out model with, found by the server: said before they begin, or refused."""

import dataclasses
import logging
import os
from pathlib import Path

import numpy as np

from fedkeras.config import Config
from fedkeras.data import labels
from fedkeras.data.labels import Labels
from fedkeras.errors import UserError
from fedkeras.provisioning.client_data import ProvisionedClient, learned_from, make_learner
from fedkeras.provisioning.preprocessing import Preprocessing
from fedkeras.provisioning.server import Provision
from fedkeras.reports import Choices
from fedkeras.tensorflow_import import import_tensorflow

log = logging.getLogger("fedkeras")


class LossCheck:
    """Looks at the model once it is known what it learns: from the server's own tables, or from what clients say.

    `threads` are TensorFlow's in this process; 0: one a core. A file that needs code is not loaded here without
    --trust-code: its clients look at it.
    """

    def __init__(self, config: Config, provision: Provision, choices: Choices, threads: int) -> None:
        self._config, self._provision, self._choices = config, provision, choices
        self._threads = threads or os.cpu_count() or 1

    def at_the_start(self) -> None:
        """What can be known before a client has said anything. Raises UserError."""
        if self._config.target == "XX" or self._config.uses_catalogue:
            self._check(None)
        elif self._provision.shards:
            tables = next(iter(self._provision.shards.values())).whole
            client = ProvisionedClient(-1, self._path, ("", ""), tables)
            y = np.asarray(tables["y"])
            self._check(labels.fit(y) if client.are_classes(self._config) else None, y)

    def when_agreed(self, preprocessing: Preprocessing) -> None:
        """The clients have agreed on their labels. Raises UserError."""
        self._check(preprocessing.labels)

    @property
    def _path(self) -> Path:
        return Path(self._config.model).expanduser()

    def _check(self, found: Labels | None, y: np.ndarray | None = None) -> None:
        import_tensorflow()  # or Keras would import it, with its greeting and a machine's settings
        from fedkeras.learning.losses import check_targets
        from fedkeras.models.compile_config import needs_code

        trusted = self._config.trust_code
        if (code := needs_code(self._path)) and not trusted:
            log.info("the clients choose the loss, for the model file needs %s", code)
            return
        learns = learned_from(self._config, found)
        own = dataclasses.replace(self._config, threads_per_client=self._threads)
        chosen = make_learner(own, self._path, trust_code=trusted, learns=learns).chosen
        if learns == "numbers" and y is not None and y.dtype.kind == "f":
            try:
                check_targets(chosen, y)
            except ValueError as error:
                raise UserError(f"the data do not fit the model: {error}") from error
        if chosen.said:
            self._choices.note("loss", chosen.said)
