"""Testing on the server's own tables: `X_test` and `Y_test` beside X and Y, which no client is shown.

A model sees them as clients see their rows: scaled by the same normaliser, classes by the same numbers.
"""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedkeras import csv_text, models
from fedkeras.atomic import replace_file
from fedkeras.config import Config
from fedkeras.data.columns import UNNAMED, Columns
from fedkeras.data.readers.numerals import Marks
from fedkeras.data.readers.tables import Table, check_same_columns, read_xy
from fedkeras.data.sample_weights import IGNORED
from fedkeras.errors import UserError, describe
from fedkeras.factory import CentralEvaluation, metrics_of
from fedkeras.models.file_child import check_in_child, faults_of
from fedkeras.models.file_info import SUFFIXES, Json, first_line, read_config
from fedkeras.provisioning.client_data import ProvisionedClient, learns, make_learner, place
from fedkeras.provisioning.preprocessing import Preprocessing
from fedkeras.provisioning.shards import Tables
from fedkeras.reports import RunFolder
from fedkeras.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    import keras

log = logging.getLogger("fedkeras")


def marks_of(config: Config) -> Marks:
    """What the flags say of numbers in the server's text files."""
    return Marks(config.decimal, config.thousands)


def open_test(config: Config, folder: Path) -> tuple[Table | None, Table | None]:
    """X_test and Y_test in `folder`, memory-mapped, None each where it is not there. Raises UserError."""
    x_test, y_test = folder / "X_test", folder / "Y_test"
    if not x_test.is_dir():
        if y_test.is_dir():
            raise UserError(f"there is a folder {y_test} and no {x_test}: a test set is both")
        return None, None
    with_targets = config.target == "XY"
    if with_targets and not y_test.is_dir():
        raise UserError(f"there is a folder {x_test} and no {y_test}: a test set is both")
    marks = marks_of(config)
    weights = config.sample_weight or IGNORED  # a column to take out; the test is not weighted
    x, y = read_xy(x_test, y_test if with_targets else None, marks, weights=weights, weighed=False)
    if config.data_source == "server":
        check_same_columns(folder / "X", x_test, marks=marks, weights=weights)
        if with_targets:
            check_same_columns(folder / "Y", y_test, targets=True, marks=marks)
    return x, y


class TableEvaluation(CentralEvaluation):
    """Tests global weights, or a model that was collected, on `test`; the preprocessing lies in the run's folder."""

    def __init__(
        self, config: Config, test: Tables, folder: RunFolder, threads: int = 0, columns: Columns = UNNAMED
    ) -> None:
        super().__init__(config, threads)
        model = Path(config.model).expanduser()
        self._test_client = ProvisionedClient(-1, model, ("", ""), test, columns=columns)
        self._folder, self._refused = folder, False

    def load(self) -> None:
        """It was read when the run's flags were checked."""

    def __call__(self, server_round: int, weights: Mapping[str, np.ndarray]) -> dict[str, float] | None:
        """Metrics as in a client's reply; None where the server may not load its own model file (code in it)."""
        return self.measure(weights, Preprocessing.load(self._folder.path))

    def measure(self, weights: Mapping[str, np.ndarray], preprocessing: Preprocessing) -> dict[str, float] | None:
        """The same by another preprocessing: a model of one fold has its own normaliser."""
        if not self.begin(preprocessing):
            return None
        self._set_preprocessing(preprocessing)
        started = time.perf_counter()
        self._learner.set_weights(weights)
        result = self._learner.evaluate(*self._test)
        return metrics_of(result, time.perf_counter() - started)

    def predictions(self, weights: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, list[str]] | None:
        """Labels, predicted class numbers and class names; None where nothing is tested, or targets are no classes.

        Of a run that was killed after its last round, this is the first use of the model.
        """
        preprocessing = Preprocessing.load(self._folder.path) if self._learner is None else None
        if preprocessing is not None and self._config.central_evaluation and self.begin(preprocessing):
            self._set_preprocessing(preprocessing)
        if self._learner is None or self._test_client.preprocessing.labels is None:
            return None
        from fedkeras.learning.targets import predicted_classes

        self._learner.set_weights(weights)
        names = [str(name) for name in self._test_client.preprocessing.labels.names]
        found = predicted_classes(self._learner.model, self._test[0], self._labels, len(names))
        return None if found is None else (self._labels, found, names)

    def begin(self, preprocessing: Preprocessing | None) -> bool:
        """Build the model for what is learned under `preprocessing`; False if its file is not to be loaded."""
        if self._learner is None and not self._refused:
            own = dataclasses.replace(self._config, threads_per_client=self._threads)
            try:
                learned = learns(self._config, preprocessing)
                self._learner = make_learner(own, self._test_client.model, own.trust_code, learned)
            except UserError as error:
                self._refused = True
                log.warning("the test set is not used: %s", error)
        return not self._refused

    def _model(self) -> "keras.Model | None":
        """The file's model as it is: which weights are trained does not depend on what the clients' data are."""
        if self._learner is not None:
            return self._learner.model
        import_tensorflow()
        from fedkeras.learning import limit_threads

        limit_threads(self._threads)
        return models.load(self._test_client.model, self._config.trust_code)

    def _set_preprocessing(self, preprocessing: Preprocessing) -> None:
        """Place the test set as this preprocessing has it."""
        before = self._test_client.preprocessing
        if before is None or before.digest != preprocessing.digest:
            self._test_client.preprocessing = preprocessing
            x, y = self._test_client.examples(self._config, np.arange(len(self._test_client.x)))
            self._test, self._labels = place(self._config, self._learner, x, y), y


class DeliveredModels:
    """The weights in model files that clients have trained and delivered; no model is made of what a client says.

    They are put into the server's own file's model, if their configuration, as JSON, is that of the same architecture.
    So code and sizes in a delivered file come to nothing. A server that has handed no file out takes the first that is
    delivered for its own, when a process with bounds on memory and time has made a model of it.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._model: keras.Model | None = None
        self._architecture: dict[str, Json] = {}

    @property
    def model(self) -> "keras.Model":
        """With the weights that were asked for last. Raises ValueError if none were."""
        if self._model is None:
            raise ValueError("no weights have been asked for")
        return self._model

    def check(self, paths: Iterable[Path]) -> None:
        """Look at all of these files at once, which is faster; what is wrong with one is said by `weights_of`."""
        faults_of(list(paths))

    def weights_of(self, path: Path) -> dict[str, np.ndarray]:
        """A delivered file's weights, by name. Raises UserError."""
        own = Path(self._config.model).expanduser() if self._config.model.endswith(SUFFIXES) else None
        check_in_child(path)
        if self._model is None and own is None:
            check_in_child(path, build=True)
        import_tensorflow()
        from fedkeras.models.architecture import config_difference, config_of

        if self._model is None:
            self._model = models.load(own or path, trust_code=self._config.trust_code and own is not None)
            self._architecture = config_of(self._model)
        if (found := config_difference(self._architecture, read_config(path).model)) is not None:
            raise UserError(f"{path} is of another architecture: {found}")
        try:
            self._model.load_weights(path)
        except (ValueError, KeyError, OSError) as error:
            raise UserError(f"{path} has other weights than {own or 'the first model'}: {first_line(error)}") from error
        return models.get_weights(self._model)


def measure_models(central: CentralEvaluation, folders: Mapping[str, Path]) -> dict[str, dict[str, float]]:
    """Figures by name of each folder's model.keras, tested by the normaliser beside it.

    Empty without tables to test on, and where the server may not load its model file. A model that cannot be tested is
    left out, and the log says why.
    """
    figures = {}
    # `begin` before any model is loaded: it says how many threads TensorFlow gets
    tests = isinstance(central, TableEvaluation) and central.begin(_any_preprocessing(folders.values()))
    delivered = DeliveredModels(central._config)
    if tests:
        delivered.check(folder / "model.keras" for folder in folders.values())
    for name, folder in folders.items() if tests else ():
        try:
            preprocessing = Preprocessing.load(folder)
            if preprocessing is None:
                raise UserError(f"there is no {folder / 'normaliser.npz'}")
            weights = delivered.weights_of(folder / "model.keras")
            metrics = central.measure(weights, preprocessing)
        except Exception as error:  # noqa: BLE001 - whatever a client's files make of Keras is no end of the run
            log.warning("the model in %s is not tested: %s", folder, describe(error))
            continue
        if metrics is not None:
            figures[name] = {key: value for key, value in metrics.items() if key != "seconds"}
    return figures


def _any_preprocessing(folders: Iterable[Path]) -> Preprocessing | None:
    """The first that can be read: of one run's models all have the same labels."""
    for folder in folders:
        with contextlib.suppress(UserError):
            if (found := Preprocessing.load(folder)) is not None:
                return found
    return None


def write_figures(figures: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """As a table: model, num_examples, loss, accuracy. Raises UserError if the disk refuses."""
    names = dict.fromkeys(name for line in figures.values() for name in line)
    lines = [["model", *(name.replace("-", "_") for name in names)]]
    lines += [[model, *(line.get(name) for name in names)] for model, line in figures.items()]
    replace_file(path, csv_text.text_of(lines).encode())
