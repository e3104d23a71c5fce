"""What is audited: a run that has been recorded, its settings, and how the attacks are to be made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedkeras import data, factory, models
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.reports import RunFolder
from fedkeras.reports.run import read_table
from fedkeras.workflows.evaluate.recorded_model import RecordedModel, recorded_model

if TYPE_CHECKING:
    from fedkeras.learning import Learner


@dataclass(frozen=True)
class Subject:
    """A run under attack. What an attack needs is loaded when it is asked for, and kept for the next one."""

    config: Config
    """The run's settings, with what was typed for this machine (--data-dir) in them."""
    folder: RunFolder
    out: Path
    """The folder of audit.json and the pictures."""
    checkpoint: str = "final"
    """Which of its models."""
    confidence: float = 0.95
    say: Callable[[str], None] = print
    """Takes a line for whoever waits."""

    @cached_property
    def missing_data(self) -> str:
        """Why the clients' examples cannot be had on this machine, in a few words; "": they can."""
        if not self.config.uses_catalogue or not self.config.deals:
            return "its clients' examples are their own, and not on this machine"
        try:
            data.open_source(self.config)
        except UserError as error:
            return f"its data are not on this machine ({error})"
        return ""

    @cached_property
    def missing_model(self) -> str:
        """Why the run has no model to attack; "": it has one."""
        try:
            found = self.recorded
        except UserError as error:
            return str(error)
        finite = all(np.isfinite(array).all() for array in found.weights.values())
        return "" if finite else "its weights are no numbers any more: it has diverged"

    @cached_property
    def summary(self) -> Mapping[str, object]:
        """The run's summary.json; empty if there is none. UserError."""
        return read_table(self.folder.summary_path)

    @cached_property
    def recorded(self) -> RecordedModel:
        """The model that was released. UserError."""
        return recorded_model(self.folder, self.checkpoint, self.config.trust_code)

    @cached_property
    def learner(self) -> "Learner":
        """The run's model, built here, with the released weights in it. UserError."""
        learner = factory.make_learner(self.config, self.config.threads_per_client)
        try:
            learner.set_weights(self.recorded.weights)
        except ValueError as error:
            raise UserError(f"{self.recorded.path} is not of the model that the settings name: {error}") from error
        return learner

    @cached_property
    def examples(self) -> Mapping[int, data.ClientExamples]:
        """What each client trains on and holds out, scaled as in the run, by cid. UserError where it is not here."""
        normaliser = data.pooled_normaliser(self.config)
        return {cid: data.load_client(self.config, cid, normaliser) for cid in range(self.config.num_partitions)}

    @cached_property
    def initial_weights(self) -> Mapping[str, np.ndarray]:
        """The untrained model's weights, from the seed. UserError."""
        return models.get_weights(factory.build_model(self.config))
