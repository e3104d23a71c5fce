"""Modules that are executed when something of theirs is first asked for, and not when they are imported.

Keras imports scikit-learn, scipy.stats, matplotlib.pyplot and pandas for parts that a training does not touch: a third
of the processor time that TensorFlow and Keras take to come up, in each process of a run. While `deferred(names)` is
entered, an import of one of the named modules makes the module as usual (its place in sys.modules, its __spec__,
__file__ and __path__), and leaves its code to the first attribute that is read, whoever reads it. After that it is the
module that it would have been (PEP 562: `__getattr__` of a module is asked for what is missing alone).

`importlib.util.LazyLoader` does not do: before Python 3.12 each further import of the module executes it.
"""

import contextlib
import importlib.abc
import importlib.machinery
import sys
import threading
from collections.abc import Iterator, Sequence
from types import ModuleType


@contextlib.contextmanager
def deferred(names: frozenset[str]) -> Iterator[None]:
    """Defer modules with these full names that are imported meanwhile, in any thread; the others are as ever.

    A name that is imported already, or does not exist, is left alone.
    """
    finder = _Finder(names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, names: frozenset[str]) -> None:
        self.names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self.names:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Stands before the module's own loader until the import is over."""

    def __init__(self, own: importlib.abc.Loader) -> None:
        self.own = own

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__.loader = module.__loader__ = self.own
        namespace = vars(module)
        lock = threading.RLock()  # who reads second waits; the module's own code, which may read itself, does not
        begun = False

        def execute() -> None:
            nonlocal begun
            with lock:
                if begun:
                    return
                begun = True
                try:
                    self.own.exec_module(module)
                except BaseException:
                    begun = False  # the next one gets the reason too, not a module without its names
                    raise
                for name, ours in (("__getattr__", missing), ("__dir__", listed)):
                    if namespace.get(name) is ours:
                        del namespace[name]

        def missing(name: str) -> object:
            # What asks modules for names like these (`warnings`, `inspect`) asks all that there are.
            if name.startswith("__") and name != "__all__":
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            execute()
            if name in namespace:
                return namespace[name]
            own = namespace.get("__getattr__")
            if own is not None and own is not missing:
                return own(name)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        def listed() -> list[str]:
            execute()
            return dir(module) if namespace.get("__dir__") is not listed else sorted(namespace)

        namespace.update(__getattr__=missing, __dir__=listed)
