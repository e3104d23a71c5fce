"""Whether fedkeras is an installed package or lies in its repository, and what depends on that.

In the repository `data/`, `strategies/`, `server.py` and `client.py` lie beside the package, where a reader looks for
them; an installed wheel holds them inside. In a checkout, and in the bundle that Flower makes of one, the package's
path is extended by the repository's folder, and the short names are second names of the same modules: `import data` and
`import fedkeras.data` give one module object, so a class is never there twice. A `data.py` or `server.py` that Python
finds before ours, or that lies in the user's working directory, is what the short name means.
"""

import importlib
import importlib.metadata
import shlex
import sys
import tomllib
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
"""The repository, or the folder where packages are installed."""
PROGRAMS = ("server", "client")
NAMES = ("data", "strategies", *PROGRAMS)


def is_checkout() -> bool:
    """True where the four lie beside the package and not in it."""
    return not (PACKAGE / "data").exists() and (ROOT / "data" / "__init__.py").is_file()


def version() -> str:
    """The version of this very code: that of a checkout's pyproject.toml, whatever is installed besides."""
    if is_checkout():
        return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return importlib.metadata.version("fedkeras")


def program(name: str) -> str:
    """What a command is called before a message: `server.py` or `fedkeras server`, `python -m fedkeras data`, ..."""
    if not is_checkout() or Path(sys.argv[0]).stem == "fedkeras":  # the command is there for an editable checkout too
        return f"fedkeras {name}"
    return f"{name}.py" if name in PROGRAMS else f"python -m fedkeras {name}"


def typed(name: str, *words: object) -> str:
    """How a user types a command with these words behind it: `python server.py --resume runs/x`."""
    own = program(name)
    return shlex.join([*(["python"] if own.endswith(".py") else []), *own.split(), *map(str, words)])


def started(name: str) -> list[str]:
    """How this process starts a program, `server` or `client`, of the same code in a process of its own."""
    if is_checkout():
        return [sys.executable, str(ROOT / f"{name}.py")]
    return [sys.executable, "-P", "-m", "fedkeras", name]  # -P: not a checkout's fedkeras in the working directory


def look_in_working_directory() -> None:
    """Let `--model mine:make` be found where the user is; last, so that no file there stands in a library's way."""
    here = _working_directory()
    if here and here not in sys.path and "" not in sys.path:
        sys.path.append(here)


def make_importable() -> None:
    """Let `fedkeras.data` and the others be found, under their short names too. Does nothing in an installed wheel."""
    if not is_checkout():
        return
    package = sys.modules["fedkeras"]
    package.__path__.append(str(ROOT))
    for name in NAMES:
        module = sys.modules.get(name)
        if module is not None and _is_ours(getattr(module, "__spec__", None), name):
            _give_long_name(package, name, module)  # it is being imported, and has come to its first `import fedkeras`
    main = sys.modules["__main__"]
    for name in PROGRAMS:
        if Path(getattr(main, "__file__", None) or "").resolve() == ROOT / f"{name}.py":
            _give_long_name(package, name, main)  # `python server.py`
    sys.meta_path.insert(0, ShortNames())


def _working_directory() -> str:
    """Empty where it has been deleted meanwhile."""
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return ""


def forget_short_names() -> None:
    """Let the next `import data` be decided anew, after somebody else's folder has come first on Python's path."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in NAMES and module is sys.modules.get(f"fedkeras.{name}"):
            del sys.modules[name]


def _give_long_name(package: ModuleType, name: str, module: ModuleType) -> None:
    sys.modules[f"fedkeras.{name}"] = module
    setattr(package, name, module)


class ShortNames(MetaPathFinder):
    """Answers `import data` with fedkeras.data, unless somebody else has a module of this name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec that stands for a module under another name, or the user's own; None: Python may look for itself."""
        name, dot, _ = fullname.partition(".")
        if name not in NAMES:
            return None
        origin = None
        if dot:
            ours = name in sys.modules and sys.modules[name] is sys.modules.get(f"fedkeras.{name}")
        else:
            own = PathFinder.find_spec(name)
            ours = _is_ours(own, name)
            origin = own.origin if own is not None else None  # Flower reads an app's file before it imports it
            here = _working_directory()
            if here and ours and (here in sys.path or "" in sys.path):  # behind ours, perhaps: the user's comes first
                found = PathFinder.find_spec(name, [here])
                if found is not None and found.origin is not None and not _is_ours(found, name):
                    return found
        return ModuleSpec(fullname, SecondName(), origin=origin, is_package=False) if ours else None


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
