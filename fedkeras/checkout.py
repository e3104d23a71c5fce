"""In the repository `data/`, `strategies/`, `server.py` and `client.py` lie beside the package; here it finds them.

An installed wheel holds them inside the package and needs none of this. In a checkout, and in the bundle that Flower
makes of one, the package's path is extended by the repository's folder, and the short names are second names of the
same modules: `import data` and `import fedkeras.data` give one module object, so a class is never there twice. A user's
own `data.py` or `server.py` is found as ever where Python finds it before ours.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
NAMES = ("data", "strategies", "server", "client")


def is_checkout() -> bool:
    """True where the four lie beside the package and not in it."""
    return not (PACKAGE / "data").exists() and (ROOT / "data" / "__init__.py").is_file()


def make_importable() -> None:
    """Let `fedkeras.data` and the others be found, under their short names too. Does nothing in an installed wheel."""
    if not is_checkout():
        return
    package = sys.modules["fedkeras"]
    package.__path__.append(str(ROOT))
    for name in NAMES:
        module = sys.modules.get(name)
        if module is not None and _is_ours(getattr(module, "__spec__", None), name):
            # It is being imported by its short name, and has just come to its first `import fedkeras`.
            sys.modules[f"fedkeras.{name}"] = module
            setattr(package, name, module)
    sys.meta_path.insert(0, ShortNames())


class ShortNames(MetaPathFinder):
    """Answers `import data` with fedkeras.data, if what Python would find is ours."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec that stands for a module under another name; None for every name that is not ours."""
        name, dot, _ = fullname.partition(".")
        if name not in NAMES:
            return None
        if dot:
            ours = name in sys.modules and sys.modules[name] is sys.modules.get(f"fedkeras.{name}")
        else:
            ours = _is_ours(PathFinder.find_spec(name), name)
        return ModuleSpec(fullname, SecondName(), is_package=False) if ours else None


class SecondName(Loader):
    """Gives the module that is already there, or imports it under its own name."""

    def __init__(self) -> None:
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module itself."""
        module = importlib.import_module(f"fedkeras.{spec.name}")
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has run; Python has just given it the second name's spec, and gets the first one's back."""
        module.__spec__ = self._spec


def _is_ours(spec: ModuleSpec | None, name: str) -> bool:
    if spec is None or spec.origin is None:
        return False
    return Path(spec.origin).resolve() in (ROOT / f"{name}.py", ROOT / name / "__init__.py")
