"""The settings of another Flower app: its run configuration, its nodes' own, and which of our flags it can use."""

import re
from collections.abc import Mapping

from fedkeras.config import Config, fields_of
from fedkeras.errors import UserError
from fedkeras.fields import ANY_APP, Value

NODE_KEYS = ("partition-id", "num-partitions")

_PAIR = re.compile(r"""\s*([^\s,='"]+)=('[^']*'|"[^"]*"|[^\s,'"]+)(?:\s*,|\s|$)\s*""")
_BOOLEANS = {"true": True, "false": False}
_WORDS = {bool: "true or false", int: "a whole number", float: "a number"}


def check_flags(config: Config) -> None:
    """Raise UserError for a flag that would be ignored: --num-server-rounds beside --app, or --app-config without."""
    if config.app:
        ours = {*fields_of()} - {*fields_of(ANY_APP)}
        config.refuse(ours, "means nothing to another app; its own settings go into --app-config 'key=value'")
    else:
        config.refuse(["app_config"], "is for another Flower app; name it with --app")


def check_run_config(config: Config) -> None:
    """Raise UserError for a key of `flwr run` that Flower's own flags decide, and that would be ignored."""
    if config.gpus_per_client:
        share = f"{config.gpus_per_client:g}"
        raise UserError(f'gpus-per-client: flwr run takes --federation-config "client-resources-num-gpus={share}"')


def node_config(text: str, data_dir: str) -> dict[str, Value]:
    """`--node-config` and `--data-dir` as the app finds them in context.node_config. Raises UserError."""
    own = {key: _guessed(value) for key, value in pairs(text, "node-config").items()}
    if fixed := [key for key in NODE_KEYS if key in own]:
        raise UserError(f"--node-config cannot set {fixed[0]}: --cid says which partition this is, the server how many")
    return {**own, "data-dir": data_dir} if data_dir else own


def run_config(defaults: Mapping[str, Value] | None, text: str) -> dict[str, Value]:
    """The app's own defaults with `--app-config` over them; None: it has no table, and every key is allowed.

    As Flower does, a key that the app's table lacks is refused; a value takes the type of its default. Raises
    UserError.
    """
    overrides = pairs(text, "app-config")
    if defaults is None:
        return {key: _guessed(value) for key, value in overrides.items()}
    for key in overrides:
        if key not in defaults:
            known = f"it has {', '.join(defaults)}" if defaults else "it has none at all"
            raise UserError(f"--app-config: the app's configuration has no key '{key}'; {known}")
    return {**defaults, **{key: _typed(key, value, type(defaults[key])) for key, value in overrides.items()}}


def pairs(text: str, name: str) -> dict[str, str]:
    """Cut `lr=0.1,name='a, b'` (or, as Flower writes it, with spaces) into keys and values, quotes still on.

    Raises UserError naming flag `--name`.
    """
    found, position = {}, 0
    while position < len(text):
        pair = _PAIR.match(text, position)
        if not pair:
            raise UserError(f"--{name}: '{text[position:]}' is not of the form key=value,key=value")
        found[pair[1]], position = pair[2], pair.end()
    return found


def _typed(key: str, text: str, kind: type) -> Value:
    plain = _unquoted(text)
    try:
        return _BOOLEANS[plain.lower()] if kind is bool else kind(plain)
    except (ValueError, KeyError):
        raise UserError(f"--app-config: {key} must be {_WORDS[kind]}, not '{plain}'") from None


def _guessed(text: str) -> Value:
    """A value nobody knows the type of: what is in quotes is a text, the rest is what it looks like."""
    if _unquoted(text) != text:
        return _unquoted(text)
    for read in (lambda word: _BOOLEANS[word.lower()], int, float):
        try:
            return read(text)
        except (ValueError, KeyError):
            continue
    return text


def _unquoted(text: str) -> str:
    return text[1:-1] if text[0] in "'\"" else text
