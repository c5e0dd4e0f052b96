"""The kind of a file is told by its content, whatever its name is."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from mmaudio_model.media.probe import opened
from mmaudio_model.media.source_container import SourceContainer, source_container
from tests.unit.mmaudio_model.media.videos import LIMITS, regular, write_video


@pytest.mark.parametrize(
    ("muxer", "codec", "kind"),
    [
        ("mp4", "libx264", SourceContainer.MP4),
        ("mov", "libx264", SourceContainer.MOV),
        ("matroska", "libx264", SourceContainer.MATROSKA),
        ("webm", "libvpx", SourceContainer.WEBM),
        ("avi", "mpeg4", SourceContainer.AVI),
        ("mpegts", "libx264", SourceContainer.MPEGTS),
    ],
)
def test_the_content_tells_the_kind(tmp_path: Path, muxer: str, codec: str, kind: SourceContainer) -> None:
    file = io.BytesIO(write_video(tmp_path / "v", regular(5, 25), container=muxer, codec=codec).read_bytes())

    with opened(file, LIMITS) as (container, _):
        position = file.tell()
        assert source_container(container, file) is kind
        assert file.tell() == position


def test_a_file_older_than_brands_is_quicktimes(tmp_path: Path) -> None:
    content = write_video(tmp_path / "v", regular(5, 25), container="mov").read_bytes()
    size = int.from_bytes(content[:4])
    assert content[4:8] == b"ftyp"
    file = io.BytesIO(size.to_bytes(4) + b"free" + content[8:])

    with opened(file, LIMITS) as (container, _):
        assert source_container(container, file) is SourceContainer.MOV
