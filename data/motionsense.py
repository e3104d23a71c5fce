"""MotionSense: six activities of 24 people with a phone in the pocket, 12 motion signals at 50 Hz.

Malekzadeh, Clegg, Cavallaro and Haddadi, "Mobile Sensor Data Anonymization", IoTDI 2019. Six kinds of trial were
recorded at length (trials 1-9) and once more for a short time (trials 11-16), the authors' test set.
"""

from pathlib import Path

import numpy as np

from fedkeras.config import Config
from fedkeras.data.cache import cached, fingerprint
from fedkeras.data.readers.motionsense_files import SIGNALS, find_recordings, read_recordings
from fedkeras.data.source import Examples, Source
from fedkeras.errors import UserError

CLASSES = ("downstairs", "upstairs", "walking", "jogging", "standing", "sitting")  # dws, ups, wlk, jog, std, sit
SHORT_TRIALS = range(11, 17)


class MotionSense(Source):
    """Windows (window, signals) of recordings that stay in the cache file; only windows asked for are cut."""

    name = "motionsense"
    classes = CLASSES
    provenance = (
        "MotionSense (Malekzadeh et al., Mobile Sensor Data Anonymization, IoTDI 2019; MIT licence), "
        "iPhone 6s, 50 samples a second, in g and rad/s"
    )
    default_normaliser = "zscore"

    def __init__(self, arrays: dict[str, np.ndarray], config: Config) -> None:
        self._rows, self._window = arrays["rows"], config.window
        self._columns = _chosen_signals(config.signals)
        self.input_shape = (config.window, len(self._columns))
        recordings = {name: arrays[name] for name in ("start", "length", "activity", "trial", "subject")}
        is_test = _test_recordings(recordings["trial"], recordings["subject"], config)
        starts, owner, unused = _cut(recordings["start"], recordings["length"], config.window, config.stride)
        in_test = is_test[owner]
        if not len(starts) or in_test.all() or not in_test.any():
            which = "whole" if not len(starts) else "training" if in_test.all() else "test"
            raise UserError(
                f"--window {config.window} does not fit into one recording of the {which} set, or there is none; "
                "make it smaller, or check --data-dir, --test-split and --test-subjects"
            )
        self._starts, self._test_starts = starts[~in_test], starts[in_test]
        self.recordings = owner[~in_test]
        self.labels = recordings["activity"][self.recordings]
        self.groups = recordings["subject"][self.recordings]
        self._test_y = recordings["activity"][owner[in_test]]
        total = int(recordings["length"].sum())
        self.notes = (
            f"{len(is_test)} recordings, {np.sum(is_test)} of them for the central test; {unused} of {total} samples "
            "are in no window: the ends of recordings, or between windows",
        )

    def examples(self, indices: np.ndarray) -> Examples:
        return self._windows(self._starts[indices], self.labels[indices])

    def test(self) -> Examples:
        return self._windows(self._test_starts, self._test_y)

    def test_labels(self) -> np.ndarray:
        return self._test_y

    def _windows(self, starts: np.ndarray, labels: np.ndarray) -> Examples:
        views = np.lib.stride_tricks.sliding_window_view(self._rows, self._window, axis=0)  # (starts, signals, window)
        x = np.empty((len(starts), *self.input_shape), dtype=np.float32)
        for place, column in enumerate(self._columns):
            x[:, :, place] = views[starts, column]
        return Examples(x, labels.astype(np.int32))


def load(config: Config) -> MotionSense:
    """From A_DeviceMotion_data.zip or its unpacked folder, in or at --data-dir; parsed once, then cached."""
    if not config.data_dir:
        raise UserError(
            "--dataset motionsense needs --data-dir with A_DeviceMotion_data.zip, "
            "from https://github.com/mmalekzadeh/motion-sense/tree/master/data"
        )
    found = find_recordings(Path(config.data_dir).expanduser())
    arrays = cached("motionsense", fingerprint(found.files, 1), lambda: read_recordings(found))
    return MotionSense(arrays, config)


def _cut(start: np.ndarray, length: np.ndarray, window: int, stride: int) -> tuple[np.ndarray, np.ndarray, int]:
    """First row and recording of each window, and the number of samples that are in none."""
    counts = np.maximum((length - window) // stride + 1, 0)
    owner = np.repeat(np.arange(len(start)), counts)
    nth = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    covered = np.where(counts > 0, (counts - 1) * min(stride, window) + window, 0)
    return start[owner] + nth * stride, owner, int((length - covered).sum())


def _chosen_signals(text: str) -> list[int]:
    names = [name.strip() for name in text.split(",") if name.strip()] or list(SIGNALS)
    for name in names:
        if name not in SIGNALS:
            raise UserError(f"--signals: there is no '{name}'; choose from {', '.join(SIGNALS)}")
    if len(set(names)) < len(names):
        raise UserError(f"--signals '{text}' names one twice")
    return [SIGNALS.index(name) for name in names]


def _test_recordings(trial: np.ndarray, subject: np.ndarray, config: Config) -> np.ndarray:
    """True for each recording that belongs to the central test set."""
    if config.test_split == "trial":
        return np.isin(trial, SHORT_TRIALS)
    try:
        held_out = [int(word) for word in config.test_subjects.split(",") if word.strip()]
    except ValueError:
        raise UserError(f"--test-subjects is '{config.test_subjects}'; give numbers, such as 19,20,21") from None
    known = np.unique(subject).tolist()
    strangers = [str(number) for number in held_out if number not in known]
    if strangers or not held_out or len(set(held_out)) == len(known):
        wrong = f"there is no subject {', '.join(strangers)}" if strangers else "name some, and leave some to train"
        raise UserError(f"--test-subjects '{config.test_subjects}': {wrong}; known are {', '.join(map(str, known))}")
    return np.isin(subject, held_out)
