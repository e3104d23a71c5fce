"""report.html: all that a run's folder holds, as one page. What is missing is stated where it would stand."""

from collections.abc import Sequence
from datetime import datetime
from numbers import Real
from pathlib import Path

import numpy as np

from fedkeras.atomic import replace_file
from fedkeras.callbacks import Row
from fedkeras.config import Config, Value, chosen_in, settings_in
from fedkeras.reports import charts, client_figures, fairness, grids
from fedkeras.reports import timing as timing_of
from fedkeras.reports.choices import CONCEALED
from fedkeras.reports.headline import best, best_title, figure
from fedkeras.reports.history import NO_METRICS
from fedkeras.reports.label_counts import LabelCounts
from fedkeras.reports.page import Reload, ReportSection, render, seconds
from fedkeras.reports.predictions import classification
from fedkeras.reports.run import RecordedRun, collects, data_of, method_of, read_run
from fedkeras.reports.run_folder import JsonTable, RunFolder
from fedkeras.reports.run_page import RUN

Values = dict[str, object]
"""What a template, or a line of its tables, is filled with."""

SECTIONS = {
    "curves": "Curves", "clients": "Clients", "labels": "Labels", "test": "Test set", "timing": "Timing",
    "failures": "Failures", "settings": "Settings",
}  # fmt: skip
"""The page's own sections by their names, in their order."""
WHERE_COLLECTED = {
    "central": "of the aggregate, on the test set", "clients": "mean over the models, held out",
    "training": "mean over the models, in training",
}  # fmt: skip
"""Source -> what the figures are of where each client has trained a model once."""
MOST_CURVES = 9
"""Metrics that are drawn; a client may report any number."""
MOST_CLIENTS = 500
MOST_FAILURES = 200
MOST_BARS = 30
"""Clients up to which each has a bar of its labels."""


def write_report(
    folder: RunFolder,
    out: Path | None = None,
    sections: Sequence[ReportSection] = (),
    reload: Reload | None = None,
) -> Path:
    """Write the run's report, with these sections in it; returns where. `reload`: it is written again meanwhile.

    Raises UserError without a history, or where the disk refuses.
    """
    out = out or folder.report_path
    replace_file(out, report(read_run(folder.path), sections, reload).encode("utf-8", errors="replace"))
    return out


def report(run: RecordedRun, sections: Sequence[ReportSection] = (), reload: Reload | None = None) -> str:
    """The page's text."""
    return render(
        RUN,
        reload=reload,
        title=run.name,
        status=run.status,
        subtitle=_subtitle(run.config, run.summary),
        notes=(*run.warnings, *run.faults),
        tiles=_tiles(run),
        made=f"Made by fedkeras, {datetime.now():%Y-%m-%d %H:%M}, from the files beside this page.",
        **_curves(run),
        **_clients(run),
        **_labels(run.labels, _concealed(run)),
        **_test(run),
        **_timing(run),
        **_failures(run),
        **_settings(run),
        sections=[_anchored(number, each) for number, each in enumerate(sections, start=1)],
        names=SECTIONS,
        replaced={name for section in sections for name in section.instead_of},
    )


def _anchored(number: int, section: ReportSection) -> Values:
    """A section whose place is left out as well stands at the end."""
    after = section.after if section.after in ("start", *SECTIONS) else ""
    return {"title": section.title, "html": section.html, "after": after, "anchor": f"added-{number}"}


def metrics_of(rows: list[Row], first: str) -> list[str]:
    """The metrics there are curves of: `first`, the loss, then the others in the order of their columns."""
    found = dict.fromkeys(key for row in rows for key, value in row.items() if isinstance(value, Real))
    others = [name for name in found if name not in (*NO_METRICS, first)]
    return [name for name in dict.fromkeys((first, "loss")) if name in found] + [n for n in others if n != "loss"]


def _subtitle(config: JsonTable, summary: JsonTable) -> str:
    if not config:
        return ""
    clients, epochs = config.get("num-partitions", "?"), config.get("local-epochs", "?")
    trained = f"{config.get('num-server-rounds', '?')} rounds"
    model = str(summary.get("model") or config.get("model") or "the data set's default model")
    if config.get("collect-only"):
        return f"{data_of(config)}, {method_of(config)} from {clients} clients"
    if collects(config):
        trained = f"up to {epochs} epochs" if config.get("patience") else f"{epochs} epochs"
    named = Path(model).name if "/" in model else model
    return f"{data_of(config)}, {method_of(config)}, {clients} clients, {trained}, {named}"


def _tiles(run: RecordedRun) -> list[Values]:
    shown = run.headline.select(run.rows)
    last, top, metric = (shown[-1] if shown else {}), best(shown), run.metric
    collected = collects(run.config)
    where = WHERE_COLLECTED[run.headline.source] if collected else f"{run.headline.source}, last round"
    best_round = {
        "name": best_title(shown, metric),
        "value": _number(top.get(metric)),
        "more": f"in round {top['round']}" if top else "",
    }
    return [
        {"name": metric, "value": _number(last.get(metric)), "more": where},
        *([] if collected else [best_round]),
        *([] if metric == "loss" else [{"name": "loss", "value": _number(last.get("loss")), "more": where}]),
        *(_trainings(run) if collected else [_rounds(run)]),
        {"name": "clients", "value": str(run.config.get("num-partitions", "–")), "more": _answered(run)},
        {"name": "time", "value": seconds(run.seconds), "more": ""},
    ]


def _rounds(run: RecordedRun) -> Values:
    wanted = run.config.get("num-server-rounds")
    rounds = max((row["round"] for row in run.rows), default=0)
    return {"name": "rounds", "value": str(rounds), "more": f"of {wanted}" if wanted else ""}


def _trainings(run: RecordedRun) -> list[Values]:
    """Of a run without rounds: models, and how they were trained as far as the run has decided it."""
    count = len({row["client"] for row in client_figures.client_rows(run.rows, "train")})
    models = {"name": "models", "value": str(count), "more": ""}
    if run.config.get("collect-only"):
        return [models]
    folds = run.config.get("method") == "kfold"
    more = f"in each of {run.config.get('folds')} folds" if folds else "for each model"
    most = "at most " * bool(run.config.get("patience"))
    return [models, {"name": "epochs", "value": str(run.config.get("local-epochs")), "more": most + more}]


def _concealed(run: RecordedRun) -> str:
    """Why there is nothing of single clients; empty where nothing is kept out."""
    text = chosen_in(run.config).get(CONCEALED, "")
    return text and f"Kept out of this page: {CONCEALED} is {text}."


def _answered(run: RecordedRun) -> str:
    if _concealed(run):
        return ""
    failed = len(run.failures)
    return f"{failed} failure{'s' * (failed != 1)}"


def _curves(run: RecordedRun) -> Values:
    metrics = metrics_of(run.rows, run.metric)
    drawn = [charts.curve(run.rows, metric) for metric in metrics[:MOST_CURVES]]
    return {"curves": drawn, "curves_left": len(metrics) - len(drawn)}


def _clients(run: RecordedRun) -> Values:
    metric = run.metric
    table = client_figures.client_table(run.rows, run.failures, metric)
    chosen, where = client_figures.judged(run.rows, metric)
    maps = []
    trained = client_figures.client_rows(run.rows, "train")
    height = min(420.0, max(250.0, 80 + 9.0 * len(table)))
    for title, rows, column in ((metric, chosen, metric), ("Seconds of training", trained, "seconds")):
        if rows:
            values, first, clients = client_figures.matrix(rows, column)
            if values.shape[1] > 1:
                maps.append(grids.heat_map(f"{title}: round by client", values, first, clients, height))
            elif column != metric:  # the clients' last round, which is the only one, has its picture below
                of_round = {cid: value for cid, value in zip(clients, values[:, 0], strict=True) if np.isfinite(value)}
                maps.extend([charts.ranked(of_round, f"{title} of each client")] if of_round else [])
    if maps and chosen:
        last = {client["client"]: client["last"] for client in table if client["last"] is not None}
        if last:  # not one is left where all have diverged
            maps.append(charts.ranked(last, f"{metric} of each client in its last round"))
    apart = fairness.last_round(run.rows, metric)
    return {
        "metric": metric,
        "apart": apart,
        "heat_maps": maps,
        "clients": table[:MOST_CLIENTS],
        "clients_left": max(0, len(table) - MOST_CLIENTS),
        "clients_absent": _concealed(run) or "No client has answered yet.",
        "clients_where": f"on {where}" if where else "",
    }


def _labels(labels: LabelCounts | None, concealed: str) -> Values:
    absent = concealed or (
        "Not known here: the server writes it down (partitions.json) where it can open the data and deals them out, in "
        "runs with central evaluation."
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


def _test(run: RecordedRun) -> Values:
    absent = "Not known here: predictions.npz is written at the end of a run with central evaluation of a classifier."
    if run.predictions is None:
        return {"confusion": None, "classes": [], "tested": 0, "confusion_absent": absent}
    return {
        "confusion": grids.confusion(run.predictions),
        "classes": classification(run.predictions),
        "tested": len(run.predictions.labels),
        "confusion_absent": "",
    }


def _timing(run: RecordedRun) -> Values:
    spawn = run.config.get("spawn", 0)
    lines = timing_of.breakdown(run.timing, run.rows, spawn if isinstance(spawn, int) else 0)
    if not lines:
        return {"timing": None, "parts": [], "timing_note": "", "traffic": None}
    chart = charts.stacked_seconds(
        [line["round"] for line in lines], {name: [line[name] for line in lines] for name in timing_of.MEANINGS}
    )
    note = "" if run.timing else "This run has no timing.csv: transfer holds waiting and aggregation as well."
    parts = timing_of.totals(lines, run.seconds)
    return {"timing": chart, "parts": parts, "timing_note": note, "traffic": charts.traffic(run.rows)}


def _failures(run: RecordedRun) -> Values:
    shown = [{"round": "", "client": "", "reason": "", **row} for row in run.failures[:MOST_FAILURES]]
    left = len(run.failures) - len(shown)
    absent = _concealed(run) or "No client failed in a round that counted."
    return {"failures": shown, "failures_left": left, "failures_absent": absent}


def _settings(run: RecordedRun) -> Values:
    """The run's settings, those among them that are not the defaults, and the versions it ran with."""
    default = Config().to_run_config()
    rows = [{"name": name, "value": setting_text(value)} for name, value in settings_in(run.config).items()]
    decided = [{"name": name, "value": text} for name, text in chosen_in(run.config).items()]
    changed = [row for row in rows if setting_text(default.get(row["name"])) != row["value"]]
    versions = run.summary.get("versions")
    words = [f"{name} {number}" for name, number in versions.items()] if isinstance(versions, dict) else []
    return {"settings": rows, "changed": changed, "chosen": decided, "versions": ", ".join(words)}


def setting_text(value: Value | None) -> str:
    """A setting as it would be typed; a dash where there is none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "–" if value is None else "unset" if value == "" else str(value)


def _number(value: float | str | None) -> str:
    return figure(value) if isinstance(value, Real) else "–"
