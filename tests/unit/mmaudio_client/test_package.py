"""What the package says of itself: its version, that it is typed, and what its distribution contains."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import mmaudio_client

ROOT = Path(__file__).parents[3]
CLIENT = ROOT / "mmaudio_client"


def project(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return found


def test_the_package_is_typed_and_tells_its_version() -> None:
    assert (files(mmaudio_client) / "py.typed").is_file()
    assert mmaudio_client.__version__ == project(ROOT)["version"]
    assert set(mmaudio_client.__all__) <= set(vars(mmaudio_client))


def test_the_client_has_few_dependencies_and_the_checkout_has_all_of_them() -> None:
    own, whole = project(CLIENT), project(ROOT)
    assert set(own["dependencies"]) <= set(whole["dependencies"])
    assert {name.partition(">")[0] for name in own["dependencies"]} == {"click", "httpx", "httpx-sse", "tqdm"}
    assert own["optional-dependencies"]["mcp"] == whole["optional-dependencies"]["mcp"]
    assert own["scripts"] == whole["scripts"]
    assert own["requires-python"] == whole["requires-python"]


def test_the_licence_goes_with_the_client() -> None:
    assert (CLIENT / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
