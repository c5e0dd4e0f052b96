"""An encrypted picture is called encrypted, and not damaged; one that is not is read."""

from __future__ import annotations

import io
from pathlib import Path

import av
import pytest
from av.video.frame import VideoFrame

from mmaudio_model.errors import MediaEncryptedError
from mmaudio_model.media.encryption import is_picture_encrypted
from mmaudio_model.media.probe import opened
from tests.integration.mmaudio_model.media.source_kinds import KINDS, SourceKind, write_m2ts
from tests.unit.mmaudio_model.media.videos import LIMITS, SIDE, regular, sine, write_video

AES = {"encryption_key": "00112233445566778899aabbccddeeff", "encryption_kid": "ffeeddccbbaa99887766554433221100"}


def assert_encrypted(content: bytes) -> None:
    with (
        pytest.raises(MediaEncryptedError, match="The video is encrypted") as refusal,
        opened(io.BytesIO(content), LIMITS),
    ):
        pass
    assert refusal.value.code == "media_encrypted"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_kind_is_encrypted_as_it_is_made(kind: SourceKind, tmp_path: Path) -> None:
    with kind.made(tmp_path).open("rb") as file, opened(file, LIMITS):
        pass


@pytest.mark.parametrize("movflags", ["", "+frag_keyframe+empty_moov"])
def test_common_encryption_of_mp4_is_named(movflags: str, tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    options = {"encryption_scheme": "cenc-aes-ctr", **AES, **({"movflags": movflags} if movflags else {})}
    with av.open(str(path), "w", format="mp4", options=options) as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width = stream.height = SIDE
        for _ in range(10):
            out.mux(stream.encode(VideoFrame(SIDE, SIDE, "yuv420p")))
        out.mux(stream.encode(None))

    assert_encrypted(path.read_bytes())


def test_what_a_shop_sold_is_named_although_its_codec_is_unknown(tmp_path: Path) -> None:
    content = write_video(tmp_path / "v", regular(10, 25)).read_bytes()
    head, brand, rest = content.partition(b"avc1")

    assert_encrypted(head + brand + rest.replace(b"avc1", b"drmi"))


def test_a_clear_picture_beside_an_encrypted_sound_is_read(tmp_path: Path) -> None:
    content = write_video(tmp_path / "v", regular(10, 25), sound=sine(440, 0.4, 48_000)).read_bytes()

    with opened(io.BytesIO(content.replace(b"mp4a", b"enca")), LIMITS) as (_, stream):
        assert stream.codec_context.name == "h264"


def test_an_encrypted_matroska_track_is_named(tmp_path: Path) -> None:
    content = write_video(tmp_path / "v", regular(10, 25), container="matroska").read_bytes()
    place = content.index(b"\x63\xa2")  # the codec's private data; its place is used for the encodings
    size = (content[place + 2] & 0x7F) + 3
    encryption = b"\x50\x35" + _sized(b"\x47\xe1\x81\x05")
    encodings = b"\x6d\x80" + _sized(b"\x62\x40" + _sized(b"\x50\x33\x81\x01" + encryption))
    filled = encodings + b"\xec" + _sized(bytes(size - len(encodings) - 2))

    assert_encrypted(content[:place] + filled + content[place + size :])


def _sized(content: bytes) -> bytes:
    return bytes([0x80 | len(content)]) + content


def scrambled(content: bytes, packet_bytes: int, prefix_bytes: int) -> bytes:
    """Set the scrambling control of the video's packets of a transport stream."""
    changed = bytearray(content)
    for place in range(prefix_bytes, len(changed), packet_bytes):
        if (changed[place + 1] & 0x1F) << 8 | changed[place + 2] in {256, 0x1011} and changed[place + 3] & 0x10:
            changed[place + 3] |= 0x80
    return bytes(changed)


def test_a_scrambled_transport_stream_is_named(tmp_path: Path) -> None:
    plain = write_video(tmp_path / "v", regular(30, 25), container="mpegts").read_bytes()

    assert_encrypted(scrambled(plain, 188, 0))
    assert_encrypted(scrambled(write_m2ts(tmp_path / "w").read_bytes(), 192, 4))


def test_a_transport_stream_with_a_few_scrambled_packets_is_read(tmp_path: Path) -> None:
    plain = write_video(tmp_path / "v", regular(30, 25), container="mpegts").read_bytes()
    part = len(plain) // 188 // 5 * 188

    with opened(io.BytesIO(plain[:-part] + scrambled(plain[-part:], 188, 0)), LIMITS):
        pass


def test_a_scrambled_program_stream_is_named(tmp_path: Path) -> None:
    content = bytearray(write_video(tmp_path / "v", regular(30, 25), container="vob", codec="mpeg2video").read_bytes())
    place = content.find(b"\0\0\1\xe0")
    while place >= 0:
        content[place + 6] |= 0x10
        place = content.find(b"\0\0\1\xe0", place + 4)

    assert_encrypted(bytes(content))


def test_a_protected_wmv_is_named(tmp_path: Path) -> None:
    content = write_video(tmp_path / "v", regular(10, 25), container="asf", codec="wmv2").read_bytes()
    codec_list = bytes.fromhex("4052d1861d31d011a3a400a0c90348f6")
    assert codec_list in content

    assert_encrypted(content.replace(codec_list, bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e")))


def test_an_encrypted_mxf_is_named(tmp_path: Path) -> None:
    content = write_video(
        tmp_path / "v", regular(10, 25), container="mxf", codec="mpeg2video", pix_fmt="yuv422p"
    ).read_bytes()
    place = content.index(bytes(200))  # what fills the header up
    key = bytes.fromhex("060e2b34025301010d01040102020000")

    assert_encrypted(content[: place + 64] + key + content[place + 64 + len(key) :])


def test_an_encrypted_flv_is_named(tmp_path: Path) -> None:
    content = bytearray(write_video(tmp_path / "v", regular(10, 25), container="flv", codec="flv").read_bytes())
    place = 13
    while place + 11 < len(content):
        size = int.from_bytes(content[place + 1 : place + 4])
        content[place] |= 0x20 if content[place] == 9 else 0
        place += 11 + size + 4

    assert_encrypted(bytes(content))


@pytest.mark.parametrize("demuxer", ["mov", "matroska", "mpegts", "mpeg", "asf", "mxf", "flv", "ogg"])
@pytest.mark.parametrize("content", [b"", b"\0", bytes(4000), b"\xff" * 4000, b"\0\0\1\xe0" * 1000])
def test_a_search_in_what_is_no_such_file_ends(demuxer: str, content: bytes) -> None:
    assert not is_picture_encrypted(demuxer, io.BytesIO(content), 1)


def test_boxes_that_hold_themselves_do_not_keep_the_search_going() -> None:
    deep = b"".join((8).to_bytes(4) + b"moov" for _ in range(20_000))

    assert not is_picture_encrypted("mov", io.BytesIO(deep), 1)
