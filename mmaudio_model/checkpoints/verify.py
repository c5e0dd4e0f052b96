"""Whether a file is the published one, by its published checksum. Loading never asks: hashing 8 GB takes seconds."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from pathlib import Path

from mmaudio_model.checkpoints.files import PublishedFile


class FileState(StrEnum):
    """What is known of a file."""

    OK = "ok"
    DIFFERS = "differs"
    MISSING = "missing"


def verify_file(file: PublishedFile, path: Path | None) -> FileState:
    """Hash a file, where there is one, and compare it with what was published."""
    if path is None or not path.is_file():
        return FileState.MISSING
    algorithm, expected = ("sha256", file.sha256) if file.sha256 is not None else ("md5", file.md5)
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
    return FileState.OK if found == expected else FileState.DIFFERS
