"""What a client makes of the run configuration that a server sends it: a claim, until each name in it is permitted.

The only way from the wire to a Config. What belongs to the server's own machine (paths, ports, secrets, trust) is not
taken from it; a name that would become code or an opened file is taken if it is built in, or if this client was started
with it (`named_code.Permission`). So whatever reads the Config later may import and open what it names.
"""

from collections.abc import Mapping
from dataclasses import Field, fields, replace
from functools import lru_cache

from fedkeras.built_in_names import is_one_of
from fedkeras.config import Config, Value, fields_of, flag
from fedkeras.errors import UserError
from fedkeras.federation import registry
from fedkeras.fields import SERVER_ONLY, setting_of
from fedkeras.named_code import OWN_FLAGS, Permission, in_simulation, parse_specs
from fedkeras.strategy_names import STRATEGIES, canonical

MOST_THREADS = 1024
"""TensorFlow makes as many threads as it is told."""


def received_config(told: Mapping[str, Value], own: Mapping[str, Value], permission: Permission) -> Config:
    """The Config of a client in a run whose server has `told` it these settings; `own` are the client's.

    Raises UserError for a key or a value that no Config takes, and for a name that is not permitted here.
    """
    table = dict(told)
    if not in_simulation():  # there one person's configuration is the clients' and the server's
        table = {key: value for key, value in table.items() if key not in _SERVERS}
    table |= {key: own[key] for key in ("data-dir", "trust-code", "decimal", "thousands") if key in own}
    if own_file := _own_file(table, own):
        table |= own_file
        permission = replace(permission, allowed=permission.allowed | {f"dataset={own_file['dataset']}"})
    names = tuple((kind, str(own[kind])) for kind in OWN_FLAGS if kind in own)
    return _checked(tuple(table.items()), permission, names)


def _own_file(told: Mapping[str, Value], own: Mapping[str, Value]) -> dict[str, Value]:
    """What stands in the place of the server's data set where this client brings its own file. Raises UserError."""
    path, undealt = str(own.get("data", "")), told.get("partitioner") == "own"
    if undealt and not path:
        raise UserError("in this run each client brings a file of its own (--partitioner own): start with --data FILE")
    if path and not undealt and told.get("data-source") != "client":
        raise UserError(
            f"--data {path}: this run's server deals its data set out; it takes clients' own files if it is started "
            "with --partitioner own, or with --data-source client"
        )
    if not undealt:
        return {}
    label = {"label-column": own["label-column"]} if own.get("label-column") else {}
    return {"dataset": path, "data-dir": "", **label}


_SERVERS = frozenset(flag(name) for name in fields_of(SERVER_ONLY))


@lru_cache(maxsize=8)
def _checked(table: tuple[tuple[str, Value], ...], permission: Permission, own: tuple[tuple[str, str], ...]) -> Config:
    """Checked once and not for every message. `own` are the names that this client was started with, by kind."""
    told = Config.from_run_config(dict(table))
    if told.threads_per_client > MOST_THREADS:
        raise UserError(f"the server asks for {told.threads_per_client} threads (--threads-per-client): too many")
    if told.hands_out_model and not permission.everything:
        told = told.with_defaults(["model"])  # the server's own file: what it holds is handed out, and this is its name
    taken = {flag(field.name): _permitted(field, told, permission) for field in fields(Config)}
    config = Config.from_run_config(told.to_run_config() | {name: value for name, value in taken.items() if value})
    for kind, name in own:
        handed_out = config.hands_out_model if kind == "model" else not config.uses_catalogue
        if not handed_out and getattr(config, kind) != name:
            theirs = getattr(told, kind) or "unset"
            raise UserError(f"this client is started with --{kind} {name}, and the server's run has --{kind} {theirs}")
    # Our own server has added what its strategy needs; Flower tells clients what was typed
    return registry.with_mods(config) if canonical(config.strategy) in STRATEGIES or in_simulation() else config


def _permitted(field: Field, told: Config, permission: Permission) -> Value:
    """The field's value as it stands here; "" where it names neither code nor a file. Raises UserError."""
    foreign, value = setting_of(field).foreign, getattr(told, field.name)
    if foreign is None or not value:
        return ""
    if foreign.kind == "mods":
        for spec in parse_specs(value, flag(field.name)):
            if not is_one_of(spec.name, foreign.built_in):
                permission.require(foreign.kind, spec.name)
        return value
    return value if is_one_of(value, foreign.built_in) else permission.require(foreign.kind, value)
