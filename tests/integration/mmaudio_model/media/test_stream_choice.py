"""Of several video streams, the one that a player shows is taken."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import pytest
from av.stream import Disposition
from av.video.frame import VideoFrame

from mmaudio_model.errors import MediaInvalidError, MediaTooLargeError
from mmaudio_model.media.media_warning import WarningCode
from mmaudio_model.media.probe import MediaLimits, opened
from mmaudio_model.media.stream_choice import stream_warnings
from tests.unit.mmaudio_model.media.videos import LIMITS

NOTHING = Disposition(0)


@dataclass(frozen=True)
class Track:
    """A video track of a file that a test makes; its width tells which it is."""

    width: int
    codec: str = "mpeg4"
    disposition: Disposition = NOTHING
    frames: int = 10


def made(path: Path, tracks: Sequence[Track], *, container: str = "matroska", fonts: int = 0) -> bytes:
    with av.open(str(path), "w", format=container) as out:
        streams: list[Any] = []
        for track in tracks:
            stream: Any = out.add_stream(track.codec, rate=25)
            stream.width, stream.height = track.width, 16
            stream.pix_fmt = "yuvj420p" if track.codec == "mjpeg" else "yuv420p"
            stream.disposition = track.disposition
            streams.append(stream)
        for number in range(fonts):
            out.add_attachment(f"{number}.ttf", "application/x-truetype-font", b"font")
        for track, stream in zip(tracks, streams, strict=True):
            for number in range(track.frames):
                frame = VideoFrame(track.width, 16, stream.pix_fmt)
                frame.pts = number
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize(
    ("tracks", "width"),
    [
        ([Track(32), Track(48)], 32),
        ([Track(32), Track(48, disposition=Disposition.default)], 48),
        ([Track(32, disposition=Disposition.default), Track(48, disposition=Disposition.default)], 32),
    ],
)
def test_the_default_video_is_taken_and_else_the_first_and_a_warning_says_so(
    tracks: list[Track], width: int, tmp_path: Path
) -> None:
    with opened(io.BytesIO(made(tmp_path / "v", tracks)), LIMITS) as (container, stream):
        assert stream.width == width
        (warning,) = stream_warnings(container, stream)
    assert warning.code is WarningCode.SEVERAL_VIDEOS
    assert warning.text.startswith("The file has 2 videos; ")


@pytest.mark.parametrize(
    "other",
    [
        Track(32, "mjpeg", Disposition.attached_pic, frames=1),
        Track(32, "mjpeg", frames=1),
    ],
)
def test_a_cover_or_a_thumbnail_before_the_video_is_not_taken(other: Track, tmp_path: Path) -> None:
    content = made(tmp_path / "v", [other, Track(48)], container="mp4")

    with opened(io.BytesIO(content), LIMITS) as (opened_, stream):
        assert stream.width == 48
        assert stream_warnings(opened_, stream) == ()


def test_one_jpeg_alone_is_still_a_video(tmp_path: Path) -> None:
    with opened(io.BytesIO(made(tmp_path / "v", [Track(32, "mjpeg", frames=1)], container="mp4")), LIMITS) as (
        _,
        stream,
    ):
        assert stream.width == 32


def test_a_track_of_an_unknown_codec_is_passed_over(tmp_path: Path) -> None:
    content = made(tmp_path / "v", [Track(32, "libx264"), Track(48)], container="mov")
    unknown = content.replace(b"avc1", b"zzzz")

    with opened(io.BytesIO(unknown), LIMITS) as (_, stream):
        assert stream.width == 48


def test_only_covers_are_no_video(tmp_path: Path) -> None:
    content = made(tmp_path / "v", [Track(32, "mjpeg", Disposition.attached_pic, frames=1)], container="mp4")

    with pytest.raises(MediaInvalidError, match="cover picture"), opened(io.BytesIO(content), LIMITS):
        pass


def test_fonts_do_not_count_among_the_streams(tmp_path: Path) -> None:
    content = made(tmp_path / "v", [Track(32)], fonts=100)

    with opened(io.BytesIO(content), MediaLimits(max_streams=1)) as (container, _):
        assert len(container.streams) == 101


@pytest.mark.parametrize(("tracks", "said"), [(70, "70 streams, at most 64"), (20_000, "more than 256 streams")])
def test_a_header_of_many_tracks_is_refused_before_they_are_all_made(tracks: int, said: str, tmp_path: Path) -> None:
    content = made(tmp_path / "v", [Track(32)], container="mp4")
    index, begin = content.index(b"moov") - 4, content.index(b"trak") - 4
    size, track_size = (int.from_bytes(content[place : place + 4]) for place in (index, begin))
    track = content[begin : begin + track_size]
    many = (
        content[:index]
        + (size + track_size * (tracks - 1)).to_bytes(4)
        + content[index + 4 : begin]
        + track * tracks
        + content[begin + track_size :]
    )

    with pytest.raises(MediaTooLargeError, match=said), opened(io.BytesIO(many), LIMITS):
        pass
