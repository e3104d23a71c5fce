"""What the server does with updates: `load("fedmedian")` is a page of ours, `load("module:Class")` anybody's."""

from strategies.registry import load, options_of

__all__ = ["load", "options_of"]
