"""The report's section on models of clients' own: each client's figures with its own model, at the end."""

import statistics
from collections.abc import Sequence

from fedkeras.reports.client_figures import client_rows, in_order
from fedkeras.reports.headline import finite
from fedkeras.reports.history import read_rows
from fedkeras.reports.page import ReportSection, section
from fedkeras.reports.run import read_table
from fedkeras.reports.run_folder import RunFolder

TITLE = "Models of clients' own"


def of(folder: RunFolder, words: str) -> Sequence[ReportSection]:
    """One section: `words` say what is whose. None before a client was tested."""
    last = {row["client"]: row for row in client_rows(read_rows(folder.history_path), "evaluate")}
    own = {cid: value for cid in in_order(last) if (value := finite(last[cid].get("accuracy"))) is not None}
    if not own:
        return ()
    values = list(own.values())
    said = [
        words,
        f"Of {len(own)} clients, each tested with its own model on what it holds out, when it was tested last: the "
        f"lowest has {min(values):.4f}, the median {statistics.median(values):.4f}, the highest {max(values):.4f}.",
    ]
    told = read_table(folder.summary_path).get("personalisation")
    if isinstance(told, dict) and (lost := told.get("lost")):
        said.append(f"{lost} times a client had lost what was its own and began anew.")
    rows = [(cid, last[cid]["round"], last[cid]["num_examples"], f"{value:.4f}") for cid, value in own.items()]
    return (section(TITLE, said, ("client", "round", "examples", "own model"), rows),)
