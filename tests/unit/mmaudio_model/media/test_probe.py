"""What is let in and what is refused, before a single frame is decoded."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mmaudio_model.errors import MediaInvalidError, MediaTooLargeError
from mmaudio_model.media.audio import Sound, write_audio
from mmaudio_model.media.container_rules import SUPPORTED
from mmaudio_model.media.probe import MediaLimits, VideoInfo, probe_video
from tests.unit.mmaudio_model.media.videos import LIMITS, SIDE, SOURCE_HZ, regular, sine, write_video


def probe(content: bytes, limits: MediaLimits = LIMITS) -> VideoInfo:
    return probe_video(io.BytesIO(content), limits)


def small_video(tmp_path: Path, times_s: Sequence[float] = regular(10, 25), **options: Any) -> bytes:
    return write_video(tmp_path / "v", times_s, **options).read_bytes()


def audio_only(path: Path) -> bytes:
    write_audio(path, Sound.mono(sine(440, 1.0, 16_000), 16_000), "m4a")
    return path.read_bytes()


@pytest.mark.parametrize(
    ("container", "codec", "found", "seen_codec"),
    [
        ("mp4", "libx264", "mov,mp4,m4a,3gp,3g2,mj2", "h264"),
        ("mov", "mpeg4", "mov,mp4,m4a,3gp,3g2,mj2", "mpeg4"),
        ("matroska", "libx264", "matroska,webm", "h264"),
        ("webm", "libvpx", "matroska,webm", "vp8"),
        ("avi", "mpeg4", "avi", "mpeg4"),
        ("mpegts", "libx264", "mpegts", "h264"),
    ],
)
def test_the_container_says_what_is_in_it(
    tmp_path: Path, container: str, codec: str, found: str, seen_codec: str
) -> None:
    info = probe(small_video(tmp_path, regular(50, 25), container=container, codec=codec))

    assert (info.width, info.height, info.codec, info.container) == (SIDE, SIDE, seen_codec, found)
    assert info.duration_s == pytest.approx(2.0, abs=0.05)
    assert not info.has_audio


def test_sound_in_the_video_is_noticed(tmp_path: Path) -> None:
    assert probe(small_video(tmp_path, sound=sine(440, 0.4, SOURCE_HZ))).has_audio


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "The file is empty."),
        (b"\x89PNG\r\n\x1a\n" + bytes(600), "a still picture (PNG), not a video"),
        (b"\xff\xd8\xff\xe0" + bytes(600), "a still picture (JPEG), not a video"),
        (b"GIF89a" + bytes(600), "it begins as GIF, but cannot be read"),
        (b"#EXTM3U\nfile:///etc/hostname\n", "a playlist, not a video"),
        (b"\xef\xbb\xbf\r\n #EXTM3U\nfile:///etc/hostname\n", "a playlist, not a video"),
        (b"ffconcat version 1.0\nfile /etc/hostname\n", "a list of other files, not a video"),
        (b"<MPD type='static'></MPD>", "a playlist, not a video"),
        (b"<?xml version='1.0'?><MPD/>", "a text document, not a video"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a drawing (SVG), not a video"),
        (b"\x7fELF\x02\x01\x01" + bytes(600), "a program, not a video"),
        (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(600), "truncated or damaged: its index (moov) is missing"),
        (b"plain text\n" * 100, f"not a readable video; supported are {SUPPORTED}."),
        (bytes(100_000), "not a readable video"),
    ],
)
def test_what_is_no_video_is_named(content: bytes, said: str) -> None:
    with pytest.raises(MediaInvalidError) as refusal:
        probe(content)
    assert said in str(refusal.value)
    assert (refusal.value.code, refusal.value.retryable) == ("media_invalid", False)


def test_a_container_outside_the_list_is_refused_although_ffmpeg_reads_it(tmp_path: Path) -> None:
    content = small_video(tmp_path, container="nut", codec="mpeg4")

    with av.open(io.BytesIO(content)) as readable:
        assert readable.streams.video
    with pytest.raises(MediaInvalidError, match="not a readable video"):
        probe(content)


def test_one_picture_of_an_animation_is_a_still_picture(tmp_path: Path) -> None:
    for container, name, pix_fmt in (("gif", "GIF", "rgb8"), ("apng", "PNG", "rgb24")):
        content = small_video(tmp_path, [0.0], container=container, codec=container, pix_fmt=pix_fmt)
        with pytest.raises(MediaInvalidError, match=rf"a still picture \({name}\), not a video"):
            probe(content)


def test_a_title_in_another_encoding_is_no_reason_to_refuse(tmp_path: Path) -> None:
    content = small_video(tmp_path, container="avi", codec="mpeg4")
    assert content.count(b"Lavf") == 1  # the name of the program that wrote it

    assert probe(content.replace(b"Lavf", b"L\xe4vf")).container == "avi"


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaInvalidError, match="no video stream"):
        probe(audio_only(tmp_path / "a.m4a"))


def test_an_unknown_codec_is_refused(tmp_path: Path) -> None:
    content = small_video(tmp_path)
    assert content.count(b"avc1") == 2  # the brand in the head, and the sample description
    head, brand, rest = content.partition(b"avc1")

    with pytest.raises(MediaInvalidError, match="codec is unknown"):
        probe(head + brand + rest.replace(b"avc1", b"zzzz"))


def test_too_many_pixels_are_refused_and_as_many_as_allowed_are_not(tmp_path: Path) -> None:
    content = small_video(tmp_path)

    assert probe(content, MediaLimits(max_pixels=SIDE * SIDE)).width == SIDE
    with pytest.raises(MediaTooLargeError, match=r"64x64 pixels; at most 0\.0 megapixels are allowed") as refusal:
        probe(content, MediaLimits(max_pixels=SIDE * SIDE - 1))
    assert (refusal.value.code, refusal.value.retryable) == ("media_too_large", False)


@pytest.mark.parametrize(("height", "width"), [(6, 64), (64, 6), (2, 2)])
def test_a_picture_that_is_too_small_is_refused(tmp_path: Path, height: int, width: int) -> None:
    pictures = [np.zeros((height, width, 3), dtype=np.uint8)] * 10
    content = small_video(tmp_path, pictures=pictures, container="matroska", codec="ffv1")

    with pytest.raises(MediaInvalidError, match=f"{width}x{height} pixels; each side needs at least 8"):
        probe(content)


def test_a_long_video_is_let_in_since_only_a_section_of_it_is_decoded(tmp_path: Path) -> None:
    content = small_video(tmp_path, [0.0, 20_000.0, 40_000.0], container="matroska")

    assert probe(content).duration_s == pytest.approx(40_000, rel=0.01)


def test_too_many_streams_are_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "v.mkv"), "w", format="matroska") as out:
        streams: list[Any] = [out.add_stream("ffv1", rate=25) for _ in range(65)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        for stream in streams:
            out.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
            out.mux(stream.encode(None))
    content = (tmp_path / "v.mkv").read_bytes()

    assert probe(content, MediaLimits(max_streams=65)).width == 16
    with pytest.raises(MediaTooLargeError, match="65 streams, at most 64 are allowed"):
        probe(content)


def test_the_file_is_neither_closed_nor_kept(tmp_path: Path) -> None:
    file = io.BytesIO(small_video(tmp_path))
    first = probe_video(file, LIMITS)
    file.seek(0)

    assert probe_video(file, LIMITS) == first
