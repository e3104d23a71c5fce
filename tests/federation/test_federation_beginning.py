"""What goes wrong before a run has begun ends with status 2, afterwards with 3; a disk that refuses is a line too."""

import errno
import os

import pytest

from fedkeras.errors import RunFailed, UserError
from fedkeras.workflows.beginning import Beginning

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/1/model.keras")


@pytest.mark.parametrize(
    ("raised", "line"),
    [
        (UserError("no such file: x.csv"), "no such file: x.csv"),
        (FULL, "cannot read or write runs/1/model.keras: No space left on device"),
        (OSError("Unable to flush"), "cannot read or write the run's files: Unable to flush"),
    ],
    ids=["user", "full", "hdf5"],
)
@pytest.mark.parametrize(("begun", "status"), [(False, 2), (True, 3)], ids=["before", "after"])
def test_the_status_tells_whether_the_run_had_begun(raised: Exception, line: str, begun: bool, status: int) -> None:
    beginning = Beginning()
    if begun:
        beginning.on_run_begin(None)
    with pytest.raises(UserError) as caught, beginning.judged():
        raise raised
    assert (str(caught.value), caught.value.status) == (line, status)


def test_a_failed_run_stays_what_it_is() -> None:
    with pytest.raises(RunFailed, match="too few"), Beginning().judged():
        raise RunFailed("too few replies")
