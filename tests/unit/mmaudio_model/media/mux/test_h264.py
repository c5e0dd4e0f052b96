"""Pictures at which a decoder can start."""

from __future__ import annotations

import pytest

from mmaudio_model.media.mux.h264 import starts_anew

AVCC = bytes([1, 100, 0, 31, 0xFF])


@pytest.mark.parametrize(
    ("packet", "extradata", "expected"),
    [
        (b"\0\0\0\x01\x67sps\0\0\x01\x68pps\0\0\x01\x65idr", None, True),
        (b"\0\0\0\x01\x06sei\0\0\x01\x61slice\0\0\x01\x61slice", b"\0\0\0\x01\x67", False),
        (b"\0\0\0\x04\x06sei\0\0\0\x04\x65idr", AVCC, True),
        (b"\0\0\0\x04\x06sei\0\0\0\x06\x41slice", AVCC, False),
        (b"\xff\xff\xff\xff\x41", AVCC, False),
        (b"", AVCC, True),
        (b"\0\0\x01", None, True),
    ],
)
def test_only_an_idr_picture_starts_anew(packet: bytes, extradata: bytes | None, expected: bool) -> None:
    assert starts_anew(packet, extradata) == expected
