"""Small files of huge pictures are refused before a decoder has the memory for one."""

from __future__ import annotations

import io
import lzma
import struct
from pathlib import Path
from typing import Any

import av
import pytest
from av.video.frame import VideoFrame

from mmaudio_model.errors import MediaTooLargeError
from mmaudio_model.media import probe
from mmaudio_model.media.frames import read_video_frames
from mmaudio_model.media.probe import MediaLimits, opened
from tests.hostile_media import DATA
from tests.unit.mmaudio_model.media.videos import LIMITS, regular, write_video

SIDE_OF_THE_BOMB = 16_000
SAID = "16000x16000 pixels; at most 37.7 megapixels are allowed"


def bomb() -> bytes:
    return lzma.decompress((DATA / "packed" / "bomb_16000x16000.mp4.xz").read_bytes())


def repacked(content: bytes, container: str) -> bytes:
    """Copy the packets of an MP4 into another container."""
    out_file = io.BytesIO()
    with av.open(io.BytesIO(content)) as source, av.open(out_file, "w", format=container) as out:
        (stream,) = source.streams.video
        copied: Any = out.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.size:
                packet.stream = copied
                out.mux(packet)
    return out_file.getvalue()


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska", "mpegts", "flv", "asf"])
def test_a_bomb_is_refused_before_any_decoder_is_opened(container: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = repacked(bomb(), container)
    whole = probe._opened

    def without_decoders(*arguments: Any, decoders: bool) -> Any:
        assert not decoders, "FFmpeg was allowed to decode"
        return whole(*arguments, decoders=decoders)

    monkeypatch.setattr(probe, "_opened", without_decoders)
    with pytest.raises(MediaTooLargeError, match=SAID), opened(io.BytesIO(content), LIMITS):
        pass


def test_a_bomb_with_a_small_header_is_refused_by_its_decoder() -> None:
    content = bytearray(bomb())
    place = content.rindex(b"avc1") + 28
    assert struct.unpack(">HH", content[place : place + 4]) == (SIDE_OF_THE_BOMB, SIDE_OF_THE_BOMB)
    content[place : place + 4] = struct.pack(">HH", 64, 64)

    with pytest.raises(MediaTooLargeError, match=SAID), opened(io.BytesIO(bytes(content)), LIMITS):
        pass


def test_a_bomb_that_announces_its_streams_late_and_lies_about_the_size_is_refused(tmp_path: Path) -> None:
    # Sorenson's codec has no parser, so the size comes from the metadata before its decoder reads the picture.
    path = tmp_path / "v.flv"
    with av.open(str(path), "w", format="flv") as out:
        stream: Any = out.add_stream("flv", rate=25)
        stream.width, stream.height, stream.pix_fmt = 1024, 768, "yuv420p"
        out.mux(stream.encode(VideoFrame(1024, 768, "yuv420p")))
        out.mux(stream.encode(None))
    content = path.read_bytes()
    for name, size in ((b"width", 1024.0), (b"height", 768.0)):
        declared = name + b"\0" + struct.pack(">d", size)
        assert declared in content
        content = content.replace(declared, name + b"\0" + struct.pack(">d", 64.0))

    with (
        pytest.raises(MediaTooLargeError, match="1024x768 pixels"),
        opened(io.BytesIO(content), MediaLimits(max_pixels=1024 * 768 - 1)),
    ):
        pass


@pytest.mark.parametrize(
    ("container", "codec"), [("mpegts", "libx264"), ("mpegts", "mpeg2video"), ("mpeg", "mpeg2video")]
)
def test_a_picture_that_grows_is_refused_with_its_size(container: str, codec: str, tmp_path: Path) -> None:
    small = write_video(tmp_path / "small", regular(200, 25), container=container, codec=codec).read_bytes()
    with av.open(str(tmp_path / "big"), "w", format=container) as out:
        stream: Any = out.add_stream(codec, rate=25)
        stream.width = stream.height = 512
        for _ in range(10):
            out.mux(stream.encode(VideoFrame(512, 512, "yuv420p")))
        out.mux(stream.encode(None))
    both = io.BytesIO(small + (tmp_path / "big").read_bytes())

    with pytest.raises(MediaTooLargeError, match="512x512 pixels"):
        read_video_frames(
            both, start_s=7.5, duration_s=2.0, clip_size=64, sync_size=64, limits=MediaLimits(max_pixels=100_000)
        )


@pytest.mark.parametrize("size", [(5312, 2988), (7680, 4320), (8192, 4608)])
def test_5k_and_8k_are_allowed(size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w", format="matroska") as out:
        stream: Any = out.add_stream("mjpeg", rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p"
        out.mux(stream.encode(VideoFrame(*size, "yuvj420p")))
        out.mux(stream.encode(None))

    with path.open("rb") as file, opened(file, LIMITS) as (_, found):
        assert (found.width, found.height) == size
