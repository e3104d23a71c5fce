"""The report's section on compression: bytes that were moved, by round, beside what they would have been."""

from collections.abc import Sequence

from fedkeras.reports.history import read_rows
from fedkeras.reports.page import ReportSection, section
from fedkeras.reports.run import read_table
from fedkeras.reports.run_folder import RunFolder

MOST = 50
"""Rounds in the table; of more, the last."""


def of(folder: RunFolder, words: str) -> Sequence[ReportSection]:
    """One section: `words` say what travels how. None before a round has moved anything."""
    moved: dict[int, list[int]] = {}
    for row in read_rows(folder.history_path):
        if row["client"] not in ("all", "server"):
            total = moved.setdefault(row["round"], [0, 0])
            total[0] += row.get("bytes_down") or 0
            total[1] += row.get("bytes_up") or 0
    if not moved:
        return ()
    rows = [(server_round, down / 1e6, up / 1e6) for server_round, (down, up) in sorted(moved.items())[-MOST:]]
    heads = "round", "MB to the clients", "MB back"
    return (section("Compression", [words, *_told(folder)], heads, rows),)


def _told(folder: RunFolder) -> list[str]:
    """From the summary, which is there when the run has ended."""
    told = read_table(folder.summary_path).get("compression")
    if not isinstance(told, dict):
        return []
    counted, said = told["bytes"], []
    if counted["down_plain"] and counted["up_plain"]:
        down, up = (100 * counted[way] / counted[f"{way}_plain"] for way in ("down", "up"))
        said.append(
            f"Of float32's bytes {down:.3g} % went to the clients, and {up:.3g} % came back, by the server's count."
        )
    if lost := told.get("residuals_lost"):
        said.append(
            f"{lost} times clients began without what they had not sent: they had been started anew elsewhere, or the "
            "run went back further than they remember. The run cannot be repeated bit for bit."
        )
    return said
