"""What the server does with updates: `load("fedmedian")` is a page of ours, `load("module:Class")` anybody's."""

from fedkeras.federation.registry import load, options_of

__all__ = ["load", "options_of"]
