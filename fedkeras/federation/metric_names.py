"""Which of the clients' own metrics a run keeps: each name is a column of history.csv for good, and they are bounded.

A client may name what it likes, and a new name in each round makes the table, its page and every tracker grow without
end. So a run keeps MAX_NAMES of them beside loss and accuracy: names that more clients report come first, and what only
one of several clients knows takes a small part at most, so that nobody crowds out what the others report.
"""

import logging
from collections import Counter
from collections.abc import Iterable

from fedkeras.federation.metrics import RowTable
from fedkeras.reports.history import AGGREGATES, NO_METRICS

log = logging.getLogger("fedkeras")

MAX_NAMES = 100
MAX_LONE = 20
"""Names that one client alone reports, where there are several."""


class MetricNames:
    """The names that a run keeps; `known` are those that its history has already."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._kept = {name: False for name in known if name not in NO_METRICS}
        self._told = False

    def limit(self, rows: Iterable[RowTable]) -> None:
        """Take away from clients' rows what the run has no room for, which is said once."""
        rows = [row for row in rows if row["client"] not in AGGREGATES]
        counts = Counter(name for row in rows for name in row if name not in NO_METRICS)
        for name, count in counts.most_common():  # of equal counts in the order of cid
            lone = count == 1 < len(rows)
            if name not in self._kept and len(self._kept) < MAX_NAMES:
                if lone and sum(self._kept.values()) >= MAX_LONE:
                    continue
                self._kept[name] = lone
        left_out = [name for name in counts if name not in self._kept]
        for row in rows if left_out else ():
            for name in left_out:
                row.pop(name, None)
        if left_out and not self._told:
            self._told = True
            log.warning(
                "%d of the clients' metrics are left out, %r for one: a run keeps %d names, %d of single clients",
                *(len(left_out), left_out[0], MAX_NAMES, MAX_LONE),
            )
