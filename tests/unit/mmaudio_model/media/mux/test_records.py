"""Records that FFmpeg's muxer writes into MP4 only."""

from __future__ import annotations

import io
import struct

import pytest

from mmaudio_model.media.mux.records import records_of


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def large_box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4sQ", 1, kind, 16 + len(content)) + content


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (box(b"ftyp", b"qt  ") + box(b"moov", box(b"trak", b"hvc1dvvC")), ("Dolby Vision",)),
        (large_box(b"mdat", b"dvvC" * 9) + large_box(b"moov", b"sv3d"), ("the form of a 360-degree picture",)),
        (box(b"mdat", b"dvvC" * 9) + box(b"moov", b"hvc1" * 4), ()),
        (box(b"moov", b""), ()),
        (b"", ()),
        (b"\0" * 100, ()),
        (struct.pack(">I4sQ", 1, b"mdat", 3) + b"moov", ()),
        (struct.pack(">I4s", 0xFFFFFFFF, b"moov") + b"dvcC", ("Dolby Vision",)),
    ],
)
def test_records_are_found_in_the_index_only(content: bytes, expected: tuple[str, ...]) -> None:
    assert records_of(io.BytesIO(content)) == expected
