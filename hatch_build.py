"""Puts server.py and client.py into the wheel's package: `sources` in pyproject.toml maps folders only."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Programs(BuildHookInterface):
    """Adds the two programs. An editable installation reads them where they lie, and a copy would go out of date."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects the files; `version` is "standard" or "editable"."""
        if version == "standard":
            build_data["force_include"] |= {name: f"fedkeras/{name}" for name in ("server.py", "client.py")}
