"""A migrated database for the worker's tests: migrated once, copied for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from migrations.upgrade import upgrade


@pytest.fixture(scope="session")
def _migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "mmaudio.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(_migrated_file: Path, tmp_path: Path) -> str:
    """The URL of a migrated SQLite database of its own, `mmaudio.db` in `tmp_path`."""
    shutil.copy(_migrated_file, tmp_path / "mmaudio.db")
    return f"sqlite:///{tmp_path / 'mmaudio.db'}"
