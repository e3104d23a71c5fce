"""Any other Flower app: found by its folder or its module, loaded as Flower loads it, and run over a grid of ours.

The runtime moves messages and knows nothing of what is in them, so an app made of PyTorch or scikit-learn runs
unchanged. What is wrong with an app is said in one line with the place in its code.
"""

import importlib
import sys
import sysconfig
import traceback
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

from flwr.app import Context, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from fedkeras.checkout import forget_short_names
from fedkeras.config import Value
from fedkeras.errors import RunFailed, UserError
from fedkeras.flower import internals, settings
from fedkeras.flower.identity import SERVER_NODE_ID

T = TypeVar("T", ServerApp, ClientApp)


class Found(NamedTuple):
    """Where an app is: the folder to import from, its two references, and its configuration if it has a table."""

    folder: Path
    serverapp: str
    clientapp: str
    defaults: dict[str, Value] | None


def load_server_app(spec: str, overrides: str) -> tuple[ServerApp, dict[str, Value]]:
    """The ServerApp that `--app` names and its run configuration with `--app-config` over it. Raises UserError."""
    found = _find(spec)
    run_config = settings.run_config(found.defaults, overrides)
    app = _load(found.folder, found.serverapp, ServerApp)
    if not internals.has_main(app):
        raise UserError(f"--app: the ServerApp {found.serverapp} has no main function: decorate one with @app.main()")
    return app, run_config


def load_client_app(spec: str) -> ClientApp:
    """The ClientApp that `--app` names. Raises UserError."""
    found = _find(spec)
    return _load(found.folder, found.clientapp, ClientApp)


def run(app: ServerApp, grid: Grid, run_config: Mapping[str, Value], log_path: Path) -> None:
    """Run the ServerApp to its end, with a Context as Flower's SuperLink makes it.

    Raises RunFailed with one line for what the app raises, whose traceback is then in `log_path`; UserErrors pass.
    """
    context = Context(grid.run.run_id, SERVER_NODE_ID, {}, RecordDict(), dict(run_config))
    try:
        app(grid, context)
    except UserError:
        raise  # the grid's own words, such as that all clients have gone
    except SystemExit as end:
        if end.code not in (None, 0):
            raise RunFailed(f"the app ended itself with sys.exit({end.code!r})") from end
    except Exception as error:
        raise RunFailed(f"the app failed: {_described(error)}; {_kept(error, log_path)}") from error


def log_path(parent: Path, name: str, spec: str) -> Path:
    """Where a failing app's traceback goes: one file in the folder of the runs, named as a run would be."""
    own = name or Path(spec.partition(":")[0]).resolve().name
    return parent / f"{datetime.now():%Y%m%d-%H%M%S}-{own}-traceback.log"


def _find(spec: str) -> Found:
    """Look for a folder, else take the word for a module's. Raises UserError."""
    path, (module, colon, attribute) = Path(spec).expanduser(), spec.partition(":")
    if path.is_dir():
        return _in_folder(path.resolve())
    if any(mark in spec for mark in "/\\~") or not all(part.isidentifier() for part in module.split(".")):
        raise UserError(
            f"--app: there is no folder {path}; give that of the app's pyproject.toml, or package.module:app"
        )
    if colon and not attribute:
        raise UserError(f"--app is '{spec}'; after the colon belongs the app's name: {module}:app")
    reference = f"{module}:{attribute or 'app'}"
    return Found(Path.cwd(), reference, reference, None)


def _in_folder(folder: Path) -> Found:
    try:
        table = internals.project_config(folder)["tool"]["flwr"]["app"]
        components = table["components"]
        return Found(
            folder, components["serverapp"], components["clientapp"], internals.flat_table(table.get("config"))
        )
    except FileNotFoundError:
        raise UserError(f"--app: {folder} has no pyproject.toml; for a module write package.module:app") from None
    except KeyError as error:
        raise UserError(f"--app: {folder / 'pyproject.toml'} names no {error} in [tool.flwr.app.components]") from None
    except (ValueError, OSError) as error:  # what Flower finds wrong with it, or what is no TOML at all
        raise UserError(f"--app: {folder / 'pyproject.toml'}: {error}") from error


def _load(folder: Path, reference: str, kind: type[T]) -> T:
    """Import from `folder` before all other places. Raises UserError."""
    module_name, _, attributes = reference.partition(":")
    sys.path.insert(0, str(folder))
    forget_short_names()
    try:
        found = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            raise UserError(f"--app: there is no module {module_name} in {folder}, nor is it installed") from None
        raise UserError(f"--app: {module_name} cannot be imported: {_described(error)}") from error
    for attribute in filter(None, attributes.split(".")):
        if not hasattr(found, attribute):
            raise UserError(f"--app: module {module_name} ({found.__file__}) has no '{attributes}'")
        found = getattr(found, attribute)
    if not isinstance(found, kind):
        raise UserError(f"--app: {reference} is no {kind.__name__}, but of type {type(found).__name__}")
    return found


def _described(error: BaseException) -> str:
    """An exception in one line, with the innermost place in the app's own code."""
    text, place = str(error), None
    if isinstance(error, SyntaxError):
        text, place = error.msg, (error.filename, error.lineno)
    else:
        libraries = [sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")]
        others = (*libraries, str(Path(__file__).parent), "<")
        frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
        own = [frame for frame in frames if not frame[0].startswith(others)]
        place = (own or frames)[-1]
    return f"{type(error).__name__}: {' '.join(text.split())[:500]} ({place[0]}:{place[1]})"


def _kept(error: BaseException, path: Path) -> str:
    """Write the traceback and say where it is."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(traceback.format_exception(error)))
    except OSError as reason:
        return f"its traceback could not be written: {reason}"
    return f"its traceback is in {path}"
