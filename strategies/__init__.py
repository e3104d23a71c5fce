"""What the server does with updates: `load("fedmedian")` is a page of ours, `load("module:Class")` anybody's."""

from strategies.registry import load

__all__ = ["load"]
