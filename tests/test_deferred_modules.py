"""A deferred module is executed at its first use, once, and is then the module that it would have been."""

import importlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from fedkeras.deferred_modules import deferred

CODE = """
import sys, time
executed = getattr(sys, "deferred_runs", 0) + 1
sys.deferred_runs = executed
if getattr(sys, "deferred_breaks", False):
    raise OSError("no such disk")
import late as itself
assert not hasattr(itself, "value")
time.sleep(0.05)
value = 41
"""


@pytest.fixture
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A package `late`, imported while it is deferred; `sys.deferred_runs` counts its executions."""
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "__init__.py").write_text(CODE)
    (tmp_path / "late" / "inner.py").write_text("number = 7\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "deferred_runs", 0, raising=False)
    before = list(sys.meta_path)
    with deferred(frozenset({"late", "late.nothing", "json"})):
        module = importlib.import_module("late")
        import late as again  # a further import does not execute it either

        assert again is module
    assert sys.meta_path == before
    yield module
    for name in ("late", "late.inner"):
        sys.modules.pop(name, None)


def test_it_is_executed_once_by_whoever_reads_first(late: ModuleType) -> None:
    assert (sys.deferred_runs, late.__file__.endswith("__init__.py"), hasattr(late, "__warningregistry__")) == (
        0,
        True,
        False,
    )
    import late.inner  # a submodule is found without executing the package

    assert (late.inner.number, sys.deferred_runs) == (7, 0)
    values: list[int] = []
    threads = [threading.Thread(target=lambda: values.append(late.value)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (values, sys.deferred_runs) == ([41] * 4, 1)


def test_afterwards_nothing_of_the_deferral_is_left(late: ModuleType) -> None:
    assert "value" in dir(late)
    assert not {"__getattr__", "__dir__"} & set(vars(late))
    with pytest.raises(AttributeError, match="module 'late' has no attribute 'nothing'"):
        _ = late.nothing
    from late import value

    assert (value, sys.deferred_runs) == (41, 1)


def test_a_module_that_breaks_says_so_to_each_who_asks(late: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "deferred_breaks", True, raising=False)
    for _ in range(2):
        with pytest.raises(OSError, match="no such disk"):
            _ = late.value
    monkeypatch.setattr(sys, "deferred_breaks", False)
    assert late.value == 41
