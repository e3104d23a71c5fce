"""Names that become code: `name:option=value,option=value` or `package.module:Class:option=value`.

Mods, objectives and workflows are chosen so, data sets and models by a function or a file. A name that is typed on
this machine is this person's decision. A name that comes by wire is a claim of the server's, and the client decides: it
takes what is built in, what it was started with (`--allow mods=package.module:Class`, `--dataset my.npz`), or anything
if it was started with `--trust-code`.
"""

import importlib
import inspect
import keyword
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from fedkeras.checkout import ROOT, is_checkout
from fedkeras.config import Value, options
from fedkeras.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Spec:
    """A name of code and its options: `clip:norm=0.5` is name "clip" and options {"norm": 0.5}."""

    name: str
    options: Mapping[str, Value]

    def __str__(self) -> str:
        given = ",".join(f"{key.replace('_', '-')}={value}" for key, value in self.options.items())
        return f"{self.name}:{given}" if given else self.name


FILES = (".npz", ".csv", ".xlsx", ".parquet", ".keras", ".h5")
"""Endings of names that are files' and not code's."""

KINDS = ("dataset", "mods", "model", "objectives", "workflows")

OWN_FLAGS = ("dataset", "model")
"""Kinds for which client.py has a flag of their own."""


@dataclass(frozen=True)
class Permission:
    """Which names of code and of files from outside may be used.

    Those in `allowed`, as "mods=package.module:Class"; modules that lie in the folder `root`; or everything.
    """

    allowed: frozenset[str] = frozenset()
    everything: bool = False
    root: Path | None = None

    @classmethod
    def parse(cls, allow: str | Iterable[str], trust_code: bool = False, **own: str) -> "Permission":
        """`--allow kind=name,kind=name`, or `--allow *` for all of it, and `--trust-code`. Raises UserError.

        `own` are names that this process was started with, by kind: its `--dataset` and `--model`.
        """
        texts = [allow] if isinstance(allow, str) else list(allow)
        names = {word.strip() for text in texts for word in text.split(",")} - {""}
        everything = trust_code or EVERYTHING_NAMED in names
        for name in names - {EVERYTHING_NAMED}:
            kind, equals, rest = name.partition("=")
            if not (kind in KINDS and equals and rest):
                kinds = ", ".join(KINDS)
                raise UserError(f"--allow: '{name}' is not of the form KIND=package.module:Class; kinds are {kinds}")
        own_names = {f"{kind}={name}" for kind, name in own.items() if name}
        return cls(frozenset(names - {EVERYTHING_NAMED} | own_names), everything)

    def require(self, kind: str, name: str) -> str:
        """What `name`, which came by wire, stands for here as a `kind`. Raises UserError unless it may be used.

        That is the name itself, but for a file: one that this process was started with under the same file name (the
        last part of its path) is meant where it lies here.
        """
        if (found := self._meant(kind, name)) is not None:
            return found
        file = _file_name(name) or (kind == "dataset" and _folder_name(name))
        shown = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."
        named = f"a file for {kind}, {shown}" if file else f"code for {kind}, {shown}, which is not built in"
        flag = f"--{kind} {shown}" if kind in OWN_FLAGS else f"--allow {kind}={shown}"
        raise UserError(
            f"the server names {named}: it is used only if this client is started with {flag}, or with --trust-code"
        )

    def allows(self, kind: str, name: str) -> bool:
        """Whether `name`, which came from outside, may be used as a `kind`."""
        return self._meant(kind, name) is not None

    def _meant(self, kind: str, name: str) -> str | None:
        file = _file_name(name) or (kind == "dataset" and _folder_name(name))
        for entry in sorted(self.allowed):
            own_kind, _, own = entry.partition("=")
            if own_kind == kind and (own == name or (file and file in (_file_name(own), _folder_name(own)))):
                return own
        return name if self.everything or (self.root is not None and _lies_in(self.root, name)) else None


LONGEST_NAME = 200
"""Characters of a name that are told."""

EVERYTHING = Permission(everything=True)
"""For names that were typed by the person whose process this is."""


def permission_of(node_config: Mapping[str, Value]) -> Permission:
    """A client's permission, from its node's own settings.

    Our client.py puts `allow`, `trust-code`, `dataset` and `model` there, and what runs in the server's own process
    says so with the first. Under Flower a simulation's clients are the same person's as its server; a SuperNode takes
    what the app's own bundle holds (of an installed fedkeras, which is in no bundle, nothing), and what its
    `--node-config` names.
    """
    own = {kind: str(node_config[kind]) for kind in OWN_FLAGS if kind in node_config}
    if "allow" in node_config:
        return Permission.parse(str(node_config["allow"]), bool(node_config.get("trust-code")), **own)
    if in_simulation():
        return EVERYTHING
    return replace(Permission.parse("", **own), root=ROOT if is_checkout() else None)


def in_simulation() -> bool:
    """Whether this is a process of Flower's simulation: its clients and its server are one person's."""
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


EVERYTHING_NAMED = "*"
"""In the place of names: whoever started this client is whoever runs the server."""


def _file_name(name: str) -> str:
    """The last part of a path on any system; "" for a name that is no file's."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return last if last.endswith(FILES) else ""


def _folder_name(name: str) -> str:
    """The same of a folder's path; "" for a function's name, which has a colon."""
    return "" if ":" in name else name.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _lies_in(root: Path, name: str) -> bool:
    """Whether there is such a module in the folder itself; nothing is imported to find out.

    Every part is an identifier, so that no name leads elsewhere, or into an environment such as `.venv`.
    """
    parts = name.partition(":")[0].split(".")
    place = root.joinpath(*parts)
    return all(map(str.isidentifier, parts)) and (place.with_suffix(".py").is_file() or _is_package(place))


def _is_package(place: Path) -> bool:
    return (place / "__init__.py").is_file()


def parse_spec(text: str, flag: str) -> Spec:
    """Cut a name from its options. `flag` is named in what is raised: UserError."""
    parts = [part.strip() for part in text.split(":")]
    own = 2 if len(parts) > 1 and "=" not in parts[1] else 1  # package.module:Class has a colon of its own
    name, rest = ":".join(parts[:own]), ":".join(parts[own:])
    if not name:
        raise UserError(f"--{flag} is '{text}'; give a name, or package.module:Class")
    return Spec(name, options(rest, flag))


def parse_specs(text: str, flag: str) -> list[Spec]:
    """Several, separated by semicolons."""
    return [parse_spec(part, flag) for part in text.split(";") if part.strip()]


def find_class(name: str, base: type[T], built_in: Mapping[str, str], flag: str) -> type[T]:
    """The class of this name: a key of `built_in` (whose values are package.module:Class), or such a path itself.

    Raises UserError if there is none, or if it is no subclass of `base`.
    """
    path = built_in.get(name, name)
    module_name, colon, class_name = path.partition(":")
    if not colon:
        raise UserError(f"--{flag} is '{name}'; known are {', '.join(built_in) or 'none yet'}, or package.module:Class")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except Exception as error:  # whatever a user's module raises while it is imported
        raise UserError(f"--{flag} {name} cannot be imported: {type(error).__name__}: {error}") from error
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise UserError(f"--{flag} {name} is no subclass of {_public_module(base)}.{base.__name__}")
    return found


def _public_module(kind: type) -> str:
    """Where users import it from: the package, if that shows the class, and not the file in it."""
    package = kind.__module__.rpartition(".")[0]
    return package if getattr(sys.modules.get(package), kind.__name__, None) is kind else kind.__module__


def make(spec: Spec, base: type[T], built_in: Mapping[str, str], kind: str, permission: Permission = EVERYTHING) -> T:
    """An object of the named class, made with its options. Raises UserError; `permission`: for names from outside."""
    if spec.name not in built_in:
        permission.require(kind, spec.name)
    found = find_class(spec.name, base, built_in, kind)
    try:
        # Of a word of Python's own, such as lambda, the constructor's name has an underscore behind it
        return found(**{f"{name}_" if keyword.iskeyword(name) else name: value for name, value in spec.options.items()})
    except (TypeError, ValueError) as error:
        own = [name.removesuffix("_") for name in inspect.signature(found).parameters if name not in ("args", "kwargs")]
        raise UserError(f"--{kind} {spec.name}: {error} (it takes: {', '.join(own) or 'no options'})") from error
