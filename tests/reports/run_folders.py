"""Small run folders to make reports of."""

import numpy as np

from fedkeras.config import Config
from fedkeras.reports import (
    History,
    RunFolder,
    read_rows,
    summarise,
    write_label_counts,
    write_predictions,
)
from fedkeras.reports.history import FAILURES, TIMING

CLASSES = ["cat", "<b>$d^$</b>", "accuracy"]


def make(path, rounds=3, clients=3, ended=True, extra=None, loss_only=False, **config):
    """A finished run, or one that was killed: without summary, predictions and timing. Client 1 fails in round 2."""
    path.mkdir(parents=True)
    folder, settings = RunFolder(path), Config(num_partitions=clients, num_server_rounds=rounds, **config)
    folder.write_config(settings)
    history = History(folder.history_path)
    for number in range(1, rounds + 1):
        rows = []
        for phase in ("train", "evaluate"):
            for cid in range(clients):
                if (number, cid) != (2, 1):
                    more = {extra: 0.5} if extra else {}
                    rows.append(_row(number, phase, str(cid), loss_only) | {"seconds": 1.0 + cid} | more)
            rows.append(_row(number, phase, "all", loss_only))
        rows.append(_row(number, "evaluate", "server", loss_only))
        history.append(rows)
    FAILURES.append(folder.failures_path, [{"round": 2, "client": "1", "reason": "died of <i>boredom</i>"}])
    if ended:
        parts = {"waiting": 0.5, "training": 5.0, "aggregation": 0.25, "evaluation": 1.0, "seconds": 6.75}
        TIMING.append(folder.timing_path, [{"round": number, **parts} for number in range(1, rounds + 1)])
        counts = {cid: [10 + cid, 20, 0] for cid in range(clients)}
        write_label_counts(folder.partitions_path, "iid & even", CLASSES, counts)
        labels, predicted = np.array([0] * 10 + [1] * 10 + [2] * 5), np.array([0] * 8 + [1] * 12 + [2] * 5)
        write_predictions(folder.predictions_path, labels, predicted, CLASSES)
        folder.write_summary(summarise(settings, read_rows(folder.history_path), 30.0, "finished"))
    return folder


def _row(number, phase, client, loss_only):
    figures = {"loss": 2.0 / number} if loss_only else {"loss": 2.0 / number, "accuracy": 1 - 0.5 / number}
    return {"round": number, "phase": phase, "client": client, "num_examples": 30, "seconds": 4.0, **figures}
