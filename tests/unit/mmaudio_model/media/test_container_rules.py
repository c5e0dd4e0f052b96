"""What a file is told to be by its first bytes, before FFmpeg sees it."""

from __future__ import annotations

import random
import struct

import pytest

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.media.container_rules import HEAD_BYTES, SUPPORTED, cannot_be_read, demuxer_of

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 64, 64, 8, 2, 0, 0, 0, 0)
PACKET = b"\x47" + bytes(187)
MXF = bytes.fromhex("060e2b34020501010d01020101020400") + bytes(200)
DIF = bytes(
    byte
    for section in (0x1F, 0x3F, 0x3F, 0x56, 0x56, 0x56)
    for byte in (section, 0x07, 0x00, 0xBF if section == 0x1F else 0, *bytes(76))
)


@pytest.mark.parametrize(
    ("head", "demuxer"),
    [
        (b"\0\0\0\x18ftypisom" + bytes(100), "mov"),
        (b"\0\0\0\x14ftypqt  " + bytes(100), "mov"),
        (b"\0\0\0\x18ftyp3gp5" + bytes(100), "mov"),
        (b"\0\0\0\x18ftypavis" + bytes(100), "mov"),
        (b"\0\0\0\x08wide\0\0\0\x08mdat" + bytes(100), "mov"),
        (b"\x1aE\xdf\xa3" + bytes(100), "matroska"),
        (b"RIFF\x10\0\0\0AVI LIST" + bytes(100), "avi"),
        (PACKET * 6, "mpegts"),
        (b"\xff" * 100 + PACKET * 6, "mpegts"),
        ((bytes(4) + PACKET) * 6, "mpegts"),
        ((PACKET + bytes(16)) * 6, "mpegts"),
        (b"\0\0\1\xba\x44" + bytes(100), "mpeg"),
        (b"\0\0\1\xba\x21" + bytes(100), "mpeg"),
        (MXF, "mxf"),
        (bytes(65_000) + MXF, "mxf"),
        (b"FLV\x01\x05\0\0\0\x09" + bytes(100), "flv"),
        (b"OggS\0\x02" + bytes(100), "ogg"),
        (bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + bytes(100), "asf"),
        (DIF, "dv"),
        (b"GIF89a" + bytes(100), "gif"),
        (PNG + b"\0\0\0\x08acTL" + bytes(20) + b"\0\0\0\x10IDAT", "apng"),
    ],
)
def test_the_first_bytes_call_for_one_demuxer(head: bytes, demuxer: str) -> None:
    assert demuxer_of(head) == demuxer
    assert cannot_be_read(demuxer).startswith("The file is truncated or damaged")


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (PNG + b"\0\0\0\x10IDAT" + b"acTL" + bytes(100), "a still picture (PNG), not a video"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "a still picture (JPEG), not a video"),
        (b"\0\0\0\x18ftypheic" + bytes(100), "a still picture (HEIC), not a video"),
        (b"\0\0\0\x18ftypavif" + bytes(100), "a still picture (AVIF), not a video"),
        (b"RIFF\x10\0\0\0WEBPVP8 " + bytes(100), "a picture (WebP), not a video"),
        (b"RIFF\x10\0\0\0WAVEfmt " + bytes(100), "a sound (WAV), not a video"),
        (b"ID3\x04" + bytes(100), "a sound (MP3), not a video"),
        (b"PK\x03\x04" + bytes(100), "an archive (ZIP), not a video"),
        (b"<ASX version='3.0'><entry><ref href='http://127.0.0.1/a.wmv'/></entry></ASX>", "a playlist"),
        (b"[Reference]\r\nRef1=http://127.0.0.1/a.wmv\r\n", "a playlist"),
        (b"#EXTM3U\n", "a playlist"),
        (b"G" * 4000, SUPPORTED),  # the first byte of each packet of a transport stream
        (b"GIF89a but only text\n" * 50, SUPPORTED),
        (b"FLV\x01 text", SUPPORTED),
        (b"\x1b[31mred\x1b[0m\r\n" * 200, SUPPORTED),
        (b"1ftypisom text", SUPPORTED),
        (b"\x1f\x07\x00\xbf" + bytes(1000), SUPPORTED),
        (b"\0\0\1\xba\x00" + bytes(100), SUPPORTED),
        (b"\0\0\1\xb3" + bytes(100), SUPPORTED),
        (bytes(HEAD_BYTES), SUPPORTED),
        (b"\0", SUPPORTED),
    ],
)
def test_what_is_no_video_is_named_and_goes_no_further(head: bytes, said: str) -> None:
    with pytest.raises(MediaInvalidError) as refusal:
        demuxer_of(head)
    assert said in str(refusal.value)


def test_noise_is_no_video() -> None:
    for seed in range(20):
        with pytest.raises(MediaInvalidError):
            demuxer_of(random.Random(seed).randbytes(HEAD_BYTES))
