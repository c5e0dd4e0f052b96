"""What tells a wheel of the platform from an editable install of the checkout (docs/adr/0015).

An editable install exposes all packages of the checkout, the client among them. A wheel does not contain the client:
it needs `mmaudio-client` of the same version, which owns the files of the client and the `mmaudio` command.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CLIENT = "mmaudio-client"


class ClientDependencyHook(BuildHookInterface):  # type: ignore[type-arg]
    """Replaces the client by a dependency on its distribution."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        build_data["dependencies"].append(f"{CLIENT}=={self.metadata.version}")
        # Two distributions that own one file break each other when one of them is removed.
        self.metadata.core.scripts.clear()
