"""What a weights file is, by its first bytes and by its checksum."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from mmaudio_model.checkpoints.published import PublishedFile
from mmaudio_model.checkpoints.verify import (
    FileState,
    Finding,
    inspect_file,
    require_content,
    verify_file,
    verify_part,
)
from mmaudio_model.errors import WeightsBrokenError

CONTENT = b"version of the weights"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
FILE = PublishedFile("weights/a.pth", len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.pth"


def test_a_file_with_the_published_checksum_is_ok(path: Path) -> None:
    path.write_bytes(CONTENT)

    assert inspect_file(path) == Finding(FileState.OK, path, len(CONTENT))
    assert verify_file(FILE, path) == Finding(FileState.OK, path, len(CONTENT), FILE.sha256)
    require_content(path, remedy="")


def test_another_checksum_is_a_mismatch_with_what_was_found(path: Path) -> None:
    path.write_bytes(CONTENT[:-1])

    assert verify_file(FILE, path) == Finding(
        FileState.MISMATCH, path, len(CONTENT) - 1, hashlib.sha256(CONTENT[:-1]).hexdigest()
    )


@pytest.mark.parametrize(("content", "state"), [(b"", FileState.EMPTY), (POINTER, FileState.POINTER)])
def test_an_empty_file_and_a_pointer_are_broken(path: Path, content: bytes, state: FileState) -> None:
    path.write_bytes(content)

    assert inspect_file(path) == verify_file(FILE, path) == Finding(state, path, len(content))
    assert state.is_broken
    with pytest.raises(WeightsBrokenError, match=f"{path} cannot be read as weights: {state.meaning}. Do that."):
        require_content(path, remedy="Do that.")


def test_a_large_file_that_begins_like_a_pointer_is_none(path: Path) -> None:
    path.write_bytes(POINTER + bytes(2000))

    assert inspect_file(path).state is FileState.OK


def test_a_dangling_link_is_broken(path: Path) -> None:
    path.symlink_to(path.with_name("gone"))

    assert verify_file(FILE, path) == Finding(FileState.DANGLING, path)
    assert FileState.DANGLING.is_broken


def test_a_file_that_cannot_be_opened_is_unreadable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    path.write_bytes(CONTENT)
    monkeypatch.setattr(Path, "open", refuse)

    assert verify_file(FILE, path).state is FileState.UNREADABLE


def test_a_part_without_a_published_checksum_is_ok_when_it_is_complete(path: Path) -> None:
    content = save({"weight": np.zeros(100, np.float16)})
    path.write_bytes(content)
    assert verify_part(path) == Finding(FileState.OK, path, len(content), hashlib.sha256(content).hexdigest())

    for harmed in (content[:-1], CONTENT):
        path.write_bytes(harmed)
        assert verify_part(path) == Finding(FileState.DAMAGED, path, len(harmed))
    path.write_bytes(POINTER)
    assert verify_part(path).state is FileState.POINTER
    assert FileState.DAMAGED.is_broken


@pytest.mark.parametrize("given", [None, "gone", "."])
def test_no_file_is_missing(tmp_path: Path, given: str | None) -> None:
    assert verify_file(FILE, tmp_path / given if given is not None else None) == Finding(FileState.MISSING)
    assert not FileState.MISSING.is_broken


def test_every_state_has_a_meaning() -> None:
    assert all(state.meaning for state in FileState)
