"""A ClientApp that is one function, and that Flower's simulation sends to its workers by name.

Flower pickles the ClientApp with every simulated message; what its decorators register are closures, which are pickled
by value, some 10 ms each time. A name is a few bytes.
"""

from collections.abc import Callable

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

Answer = Callable[[Message, Context], Message]


class NamedClientApp(ClientApp):
    """Answers every message by `answer`; `name` is the global variable of its module that holds this object."""

    def __init__(self, answer: Answer, name: str = "app") -> None:
        super().__init__()
        self._answer, self._name = answer, name

    def __call__(self, message: Message, context: Context) -> Message:
        """The reply."""
        return self._answer(message, context)

    def __reduce__(self) -> "tuple[Callable[[str, str], NamedClientApp], tuple[str, str]]":
        """As pickle asks: the module that made it, and its name there."""
        return _by_name, (self._answer.__module__, self._name)


def _by_name(module: str, name: str) -> NamedClientApp:
    import importlib

    return getattr(importlib.import_module(module), name)
