"""Fixtures: an empty Hugging Face cache, and weights folders in the published layout. conftest files import them."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.published_weights import write_published


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache; converted files lie beside it."""
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "hf" / "hub"


@pytest.fixture
def converted(tmp_path: Path) -> Path:
    """Where converted files go."""
    return tmp_path / "hf" / "mmaudio"


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    write_published(folder)
    return folder


@pytest.fixture
def weights_dir(published: Path, tmp_path: Path) -> Path:
    """A weights folder that a test may change."""
    folder = tmp_path / "published"
    for path in published.rglob("*.*"):
        copy = folder / path.relative_to(published)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return folder
