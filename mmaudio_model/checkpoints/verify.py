"""The state of a weights file: broken by its first bytes, incomplete, or not the published one by its checksum.

Loading looks at the first bytes only: hashing 8 GB takes seconds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mmaudio_model.checkpoints.published import PublishedFile
from mmaudio_model.errors import WeightsBrokenError

LFS_HEAD = b"version https://git-lfs"
LARGEST_POINTER_BYTES = 1024
OWN_ALGORITHM = "sha256"
"""Algorithm of the digests of files without a published checksum."""


class FileState(StrEnum):
    """What was found in place of a published file."""

    OK = "ok"
    MISMATCH = "mismatch"
    """The checksum is not the published one: damaged, cut off, or another file."""
    POINTER = "pointer"
    """A Git LFS pointer: the repository was cloned without `git lfs`."""
    EMPTY = "empty"
    DANGLING = "dangling"
    """A symbolic link to a file that does not exist."""
    UNREADABLE = "unreadable"
    DAMAGED = "damaged"
    """Not a complete safetensors file; found for parts without a published checksum."""
    MISSING = "missing"

    @property
    def is_broken(self) -> bool:
        """Whether a file exists that cannot be the published one; a checksum may still differ on purpose."""
        return self not in {FileState.OK, FileState.MISMATCH, FileState.MISSING}

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    FileState.OK: "the checksum is the published one",
    FileState.MISMATCH: "the checksum is not the published one",
    FileState.POINTER: "a Git LFS pointer, not the weights",
    FileState.EMPTY: "the file is empty",
    FileState.DANGLING: "a link to a file that does not exist",
    FileState.UNREADABLE: "the file cannot be read",
    FileState.DAMAGED: "not a complete safetensors file",
    FileState.MISSING: "there is no such file",
}


@dataclass(frozen=True)
class Finding:
    """What was found at a path.

    Attributes:
        path: where the file was found; None if it is missing.
        size_bytes: None if it is missing or cannot be read.
        digest: found by the published algorithm, or `OWN_ALGORITHM` for a part without a published checksum;
            hexadecimal; None if the file was not hashed.
    """

    state: FileState
    path: Path | None = None
    size_bytes: int | None = None
    digest: str | None = None


def inspect_file(path: Path | None) -> Finding:
    """Look at a file's size and first bytes; `OK` means that it is not obviously broken."""
    if path is None or not (path.is_file() or path.is_symlink()):
        return Finding(FileState.MISSING)
    if not path.is_file():
        return Finding(FileState.DANGLING, path)
    try:
        size_bytes = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(len(LFS_HEAD))
    except OSError:
        return Finding(FileState.UNREADABLE, path)
    state = FileState.OK
    if not size_bytes:
        state = FileState.EMPTY
    elif size_bytes <= LARGEST_POINTER_BYTES and head == LFS_HEAD:
        state = FileState.POINTER
    return Finding(state, path, size_bytes)


def verify_file(file: PublishedFile, path: Path | None) -> Finding:
    """Hash a file, if there is one, and compare it with the published checksum."""
    found = inspect_file(path)
    if found.state is not FileState.OK:
        return found
    assert found.path is not None
    algorithm, expected = file.checksum
    try:
        digest = _digest(found.path, algorithm)
    except OSError:
        return Finding(FileState.UNREADABLE, path, found.size_bytes)
    return Finding(FileState.OK if digest == expected else FileState.MISMATCH, path, found.size_bytes, digest)


def verify_part(path: Path | None) -> Finding:
    """Read a part of a bundled variant to its end, and check that it is a complete safetensors file.

    No checksum of these parts is published: training writes them too.
    """
    from safetensors import SafetensorError, safe_open

    found = inspect_file(path)
    if found.state is not FileState.OK:
        return found
    assert found.path is not None
    try:
        digest = _digest(found.path, OWN_ALGORITHM)
        with safe_open(found.path, framework="numpy"):  # compares the size of the file with its header
            return Finding(FileState.OK, path, found.size_bytes, digest)
    except SafetensorError:
        return Finding(FileState.DAMAGED, path, found.size_bytes)
    except OSError:
        return Finding(FileState.UNREADABLE, path, found.size_bytes)


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def require_content(path: Path, *, remedy: str) -> None:
    """Check that a file is not obviously broken.

    Args:
        remedy: a sentence that says what to do, for the error.

    Raises:
        WeightsBrokenError: the file is empty, a Git LFS pointer, a dangling link, or cannot be read.
    """
    state = inspect_file(path).state
    if state is not FileState.OK:
        raise WeightsBrokenError(f"{path} cannot be read as weights: {state.meaning}. {remedy}")
