"""A stand-in for MotionSense where its files are missing: of the same shape, so that every cell of a notebook runs.

Its figures say nothing about people.
"""

import numpy as np

from fedkeras import data

ACTIVITIES = ("downstairs", "upstairs", "walking", "jogging", "standing", "sitting")


def made_up(window: int, stride: int, length: int = 1500) -> data.ArraySource:
    """Sine waves with noise for 24 people who do not exist: own tempo, own way of wearing the phone.

    Windows of `window` samples, one every `stride` of the `length` of a recording. People 19 to 24 are the test set.
    """
    rng = np.random.default_rng(0)
    level, force = rng.normal(0, 1, (6, 12)), np.array([1.0, 0.8, 0.6, 1.6, 0.05, 0.05])
    tempo = np.array([1.8, 1.6, 1.9, 2.6, 0.2, 0.2])
    x, labels, people, recordings = [], [], [], []
    for number, (person, activity, _) in enumerate(np.ndindex(24, 6, 2)):
        own = np.random.default_rng([person, 1]).normal(0, 0.8, 12) + rng.normal(0, 0.4, 12)
        pace = 2 * np.pi * tempo[activity] * (0.8 + person / 60) * np.arange(length) / 50
        waves = np.sin(pace[:, None] + rng.uniform(0, 6, 12)) * force[activity]
        rows = level[activity] + own + waves + rng.normal(0, 0.2, (length, 12))
        cut = np.lib.stride_tricks.sliding_window_view(rows, window, axis=0)[::stride].transpose(0, 2, 1)
        x.append(cut.astype(np.float32))
        labels += [activity] * len(cut)
        people += [person + 1] * len(cut)
        recordings += [number] * len(cut)
    x, labels, people, recordings = np.concatenate(x), np.array(labels), np.array(people), np.array(recordings)
    kept = people < 19
    return data.ArraySource(
        "made up", (x[kept], labels[kept]), (x[~kept], labels[~kept]), ACTIVITIES,
        provenance="made up", groups=people[kept], recordings=recordings[kept],
    )  # fmt: skip
