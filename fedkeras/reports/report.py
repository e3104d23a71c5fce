"""report.html: all that a run's folder says, as one page. What is missing is said where it would stand."""

import math
from datetime import datetime
from numbers import Real
from pathlib import Path

import numpy as np

from fedkeras.atomic import replace_file
from fedkeras.config import Config
from fedkeras.reports import charts, client_figures, grids
from fedkeras.reports import timing as timing_of
from fedkeras.reports.headline import best, best_title
from fedkeras.reports.history import NO_METRICS, Row
from fedkeras.reports.label_counts import LabelCounts
from fedkeras.reports.page import render, seconds
from fedkeras.reports.predictions import Predictions
from fedkeras.reports.run import RecordedRun, method_of, read_run
from fedkeras.reports.run_folder import RunFolder
from fedkeras.reports.terminal import figure

MOST_CURVES = 9
"""Metrics that are drawn; a client may report any number."""
MOST_CLIENTS = 500
MOST_FAILURES = 200
MOST_BARS = 30
"""Clients up to which each has a bar of its labels."""


def write_report(folder: RunFolder, out: Path | None = None) -> Path:
    """Write the run's report; returns where. Raises UserError without a history, or where the disk refuses."""
    out = out or folder.report_path
    replace_file(out, report(read_run(folder.path)).encode("utf-8", errors="replace"))
    return out


def report(run: RecordedRun) -> str:
    """The page's text."""
    return render(
        "run",
        title=run.name,
        status=run.status,
        subtitle=_subtitle(run.config, run.summary),
        notes=run.faults,
        tiles=_tiles(run),
        made=f"Made by fedkeras, {datetime.now():%Y-%m-%d %H:%M}, from the files beside this page.",
        **_curves(run),
        **_clients(run),
        **_labels(run.labels),
        **_test(run),
        **_timing(run),
        **_failures(run),
        **settings(run),
    )


def metrics_of(rows: list[Row], first: str) -> list[str]:
    """The metrics there are curves of: the loss, `first`, then the others in the order of their columns."""
    found = dict.fromkeys(key for row in rows for key, value in row.items() if isinstance(value, Real))
    others = [name for name in found if name not in (*NO_METRICS, first)]
    return [name for name in ("loss", first) if name in found] + others


def _subtitle(config: dict, summary: dict) -> str:
    if not config:
        return ""
    clients, rounds = config.get("num-partitions", "?"), config.get("num-server-rounds", "?")
    model = summary.get("model") or config.get("model") or "the data set's default model"
    return f"{config.get('dataset', '?')}, {method_of(config)}, {clients} clients, {rounds} rounds, {model}"


def _tiles(run: RecordedRun) -> list[dict]:
    shown = run.headline.select(run.rows)
    last, top, metric = (shown[-1] if shown else {}), best(shown), run.metric
    rounds = max((row["round"] for row in run.rows), default=0)
    where = f"{run.headline.source}, last round"
    wanted = run.config.get("num-server-rounds")
    return [
        {"name": metric, "value": _number(last.get(metric)), "more": where},
        {
            "name": best_title(shown, metric),
            "value": _number(top.get(metric)),
            "more": f"in round {top['round']}" if top else "",
        },
        *([] if metric == "loss" else [{"name": "loss", "value": _number(last.get("loss")), "more": where}]),
        {"name": "rounds", "value": str(rounds), "more": f"of {wanted}" if wanted else ""},
        {"name": "clients", "value": str(run.config.get("num-partitions", "–")), "more": _answered(run)},
        {"name": "time", "value": seconds(run.seconds), "more": ""},
    ]


def _answered(run: RecordedRun) -> str:
    failed = len(run.failures)
    return f"{failed} failure{'s' * (failed != 1)}"


def _curves(run: RecordedRun) -> dict:
    metrics = metrics_of(run.rows, run.metric)
    drawn = [charts.curve(run.rows, metric) for metric in metrics[:MOST_CURVES]]
    return {"curves": drawn, "curves_left": len(metrics) - len(drawn)}


def _clients(run: RecordedRun) -> dict:
    metric = run.metric
    table = client_figures.client_table(run.rows, run.failures, metric)
    chosen, where = client_figures.judged(run.rows, metric)
    maps = []
    trained = client_figures.client_rows(run.rows, "train")
    height = min(420.0, max(250.0, 80 + 9.0 * len(table)))
    for title, rows, column in ((metric, chosen, metric), ("Seconds of training", trained, "seconds")):
        if rows:
            values, first, clients = client_figures.matrix(rows, column)
            maps.append(grids.heat_map(f"{title}: round by client", values, first, clients, height))
    if maps and chosen:
        last = {client["client"]: client["last"] for client in table if client["last"] is not None}
        if last:  # not one is left where all have diverged
            maps.append(charts.ranked(last, f"{metric} of each client in its last round"))
    return {
        "metric": metric,
        "heat_maps": maps,
        "clients": table[:MOST_CLIENTS],
        "clients_left": max(0, len(table) - MOST_CLIENTS),
        "clients_where": f"on {where}" if where else "",
    }


def _labels(labels: LabelCounts | None) -> dict:
    absent = (
        "Not known here: the server writes it down (partitions.json) where it has the data, which it has not without "
        "central evaluation."
    )
    if labels is None:
        return {"labels": None, "labels_scheme": "", "label_rows": [], "labels_absent": absent}
    few = len(labels.clients) <= MOST_BARS and len(labels.classes) <= len(charts.SERIES)
    rows = [
        {"name": name, "all": int(column.sum()), "holders": int(np.count_nonzero(column)), "most": int(column.max())}
        for name, column in zip(labels.classes, labels.counts.T, strict=True)
    ]
    chart = charts.label_bars(labels) if few else grids.label_map(labels)
    return {"labels": chart, "labels_scheme": labels.scheme, "label_rows": rows, "labels_absent": ""}


def _test(run: RecordedRun) -> dict:
    absent = "Not known here: predictions.npz is written at the end of a run with central evaluation of a classifier."
    if run.predictions is None:
        return {"confusion": None, "classes": [], "tested": 0, "confusion_absent": absent}
    return {
        "confusion": grids.confusion(run.predictions),
        "classes": classification(run.predictions),
        "tested": len(run.predictions.labels),
        "confusion_absent": "",
    }


def classification(predictions: Predictions) -> list[dict]:
    """scikit-learn's classification_report, a row a class and then the means."""
    from sklearn.metrics import classification_report

    numbers = [*range(len(predictions.classes))]
    table = classification_report(
        *(predictions.labels, predictions.predicted),
        labels=numbers,
        target_names=[str(number) for number in numbers],  # two classes may share a name, and one be called "accuracy"
        output_dict=True,
        zero_division=math.nan,
    )
    accuracy = float(np.mean(predictions.labels == predictions.predicted))
    rows = [(name, table[str(number)], False) for number, name in enumerate(predictions.classes)]
    rows += [(name, table[name], True) for name in ("macro avg", "weighted avg")]
    empty = {"name": "accuracy", "precision": "", "recall": "", "mean": True, "support": len(predictions.labels)}
    lines = [
        {"name": name, "mean": mean, "support": int(row["support"])}
        | {short: _three(row[long]) for short, long in (("precision",) * 2, ("recall",) * 2, ("f1", "f1-score"))}
        for name, row, mean in rows
    ]
    lines.insert(len(predictions.classes), {**empty, "f1": _three(accuracy)})
    return lines


def _timing(run: RecordedRun) -> dict:
    spawn = run.config.get("spawn", 0)
    lines = timing_of.breakdown(run.timing, run.rows, spawn if isinstance(spawn, int) else 0)
    if not lines:
        return {"timing": None, "parts": [], "timing_note": ""}
    chart = charts.stacked_seconds(
        [line["round"] for line in lines], {name: [line[name] for line in lines] for name in timing_of.PARTS}
    )
    note = "" if run.timing else "This run has no timing.csv: transfer holds waiting and aggregation as well."
    return {"timing": chart, "parts": timing_of.totals(lines, run.seconds), "timing_note": note}


def _failures(run: RecordedRun) -> dict:
    shown = [{"round": "", "client": "", "reason": "", **row} for row in run.failures[:MOST_FAILURES]]
    left = len(run.failures) - len(shown)
    return {"failures": shown, "failures_left": left, "failures_absent": "No client failed in a round that counted."}


def settings(run: RecordedRun) -> dict:
    """The run's settings, those among them that are not the defaults, and the versions it ran with."""
    default = Config().to_run_config()
    rows = [{"name": name, "value": said(value)} for name, value in run.config.items()]
    changed = [row for row in rows if said(default.get(row["name"])) != row["value"]]
    versions = run.summary.get("versions")
    words = [f"{name} {number}" for name, number in versions.items()] if isinstance(versions, dict) else []
    return {"settings": rows, "changed": changed, "versions": ", ".join(words)}


def said(value: object) -> str:
    """A setting as it would be typed."""
    return (
        {True: "true", False: "false", "": "unset", None: "–"}.get(value, str(value)) if _plain(value) else str(value)
    )


def _plain(value: object) -> bool:
    return isinstance(value, bool | str) or value is None


def _number(value: object) -> str:
    return figure(value) if isinstance(value, Real) else "–"


def _three(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"
