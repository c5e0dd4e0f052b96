"""One small video of each kind that is taken; frame N of each shows the number N."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame

from mmaudio_model.media.source_container import SourceContainer
from tests.unit.mmaudio_model.media.videos import numbered, regular, write_video

THEORA = Path(__file__).parents[3] / "data" / "media" / "real" / "numbered_theora.ogv"
FRAMES = 60
KEYFRAME_EVERY = 10


@dataclass(frozen=True)
class SourceKind:
    """How a kind of video is made, and what it is.

    Attributes:
        frames: how many it has, at 25 a second.
    """

    name: str
    container: SourceContainer
    write: Callable[[Path], Path]
    frames: int = FRAMES

    def made(self, folder: Path) -> Path:
        """Return the file of this kind in a folder; it is written once."""
        path = folder / self.name
        return path if path.exists() else self.write(path)


def _kind(name: str, kind: SourceContainer, muxer: str, codec: str, pix_fmt: str = "yuv420p") -> SourceKind:
    def write(path: Path) -> Path:
        return write_video(
            path,
            regular(FRAMES, 25),
            container=muxer,
            codec=codec,
            pix_fmt=pix_fmt,
            keyframe_every=KEYFRAME_EVERY,
            options={"bf": "0"} if muxer in {"flv", "mxf"} else {},  # FFmpeg writes no order of H.264 into MXF
        )

    return SourceKind(name, kind, write)


def write_dv(path: Path, count: int = 20) -> Path:
    """Write raw DV, 720x576; the numbered picture is the square in the middle."""
    with av.open(str(path), "w", format="dv") as out:
        stream: Any = out.add_stream("dvvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for number in range(count):
            picture = np.pad(np.kron(numbered(number), np.ones((9, 9, 1), dtype=np.uint8)), ((0, 0), (72, 72), (0, 0)))
            frame = VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def write_m2ts(path: Path) -> Path:
    """Write the packets of 192 bytes of AVCHD and Blu-ray: a time stamp of four bytes before each packet."""
    content = write_video(
        path, regular(FRAMES, 25), container="mpegts", codec="libx264", keyframe_every=KEYFRAME_EVERY
    ).read_bytes()
    packets = [content[place : place + 188] for place in range(0, len(content), 188)]
    path.write_bytes(b"".join((index * 300).to_bytes(4) + packet for index, packet in enumerate(packets)))
    return path


def _theora(path: Path) -> Path:
    path.write_bytes(THEORA.read_bytes())
    return path


KINDS = (
    _kind("mp4", SourceContainer.MP4, "mp4", "libx264"),
    _kind("3gp", SourceContainer.MP4, "3gp", "mpeg4"),
    _kind("3g2", SourceContainer.MP4, "3g2", "mpeg4"),
    _kind("m4v", SourceContainer.MP4, "ipod", "libx264"),
    _kind("mov", SourceContainer.MOV, "mov", "libx264"),
    _kind("mkv", SourceContainer.MATROSKA, "matroska", "libx264"),
    _kind("webm", SourceContainer.WEBM, "webm", "libvpx"),
    _kind("avi", SourceContainer.AVI, "avi", "mpeg4"),
    _kind("ts", SourceContainer.MPEGTS, "mpegts", "libx264"),
    SourceKind("m2ts", SourceContainer.MPEGTS, write_m2ts),
    _kind("mpg", SourceContainer.MPEGPS, "mpeg", "mpeg2video"),
    _kind("vob", SourceContainer.MPEGPS, "vob", "mpeg2video"),
    _kind("mxf", SourceContainer.MXF, "mxf", "mpeg2video", "yuv422p"),
    _kind("mxf_h264", SourceContainer.MXF, "mxf", "libx264"),
    _kind("flv", SourceContainer.FLV, "flv", "flv"),
    _kind("flv_h264", SourceContainer.FLV, "flv", "libx264"),
    SourceKind("ogv", SourceContainer.OGG, _theora, frames=50),
    _kind("ogv_vp8", SourceContainer.OGG, "ogg", "libvpx"),
    _kind("wmv", SourceContainer.ASF, "asf", "wmv2"),
    SourceKind("dv", SourceContainer.DV, write_dv, frames=20),
    _kind("gif", SourceContainer.GIF, "gif", "gif", "rgb8"),
    _kind("apng", SourceContainer.APNG, "apng", "apng", "rgb24"),
)
