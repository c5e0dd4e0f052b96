"""The few files that PyAV cannot encode."""

from __future__ import annotations

import shutil
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "data" / "media" / "kinds"


def stored(name: str, path: Path) -> None:
    """Copy a stored file."""
    shutil.copyfile(FOLDER / name, path)
