"""Small videos with what describes a picture: colour, fields, shape, transparency, rotation; and what a file tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame

from mmaudio_model.media.mux.encoder_choice import EncoderSettings
from mmaudio_model.media.mux.encoding import Reencoding
from mmaudio_model.media.mux.picture_facts import PictureFacts, picture_facts
from mmaudio_model.media.probe import MediaLimits, opened

FORMATS = {"mp4": "mp4", "mov": "mov", "mkv": "matroska", "webm": "webm", "ts": "mpegts", "avi": "avi", "gif": "gif"}
MASTERING = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
X265_HDR = {"x265-params": f"log-level=none:hdr10=1:master-display={MASTERING}:max-cll=1000,400"}
X265 = {"x265-params": "log-level=none"}
HDR = {"color_primaries": 9, "color_trc": 16, "colorspace": 9, "color_range": 1}
HLG = {**HDR, "color_trc": 18}
SD = {"color_primaries": 5, "color_trc": 6, "colorspace": 5, "color_range": 1}
FIELDS = {"flags": "+ildct+ilme"}


@dataclass(frozen=True)
class Source:
    """How a video is made; `tags` are attributes of the encoder's context, `turned` arguments of its rotation."""

    kind: str
    codec: str
    pix_fmt: str = "yuv420p"
    size: tuple[int, int] = (64, 48)
    rate: Fraction = Fraction(25)
    frames: int = 10
    options: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, Any] = field(default_factory=dict)
    fields: str | None = None
    turned: tuple[float, bool, bool] | None = None
    transparent: bool = False
    ticks: tuple[int, ...] | None = None
    unit: Fraction | None = None
    muxer: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    def written(self, path: Path) -> Path:
        unit = self.unit or 1 / self.rate
        with av.open(str(path), "w", format=FORMATS[self.kind], options=dict(self.muxer)) as out:
            stream: Any = out.add_stream(self.codec, rate=self.rate, options=dict(self.options))
            (stream.width, stream.height), stream.pix_fmt = self.size, self.pix_fmt
            stream.codec_context.time_base = unit
            stream.metadata.update(self.metadata)
            if self.turned:
                stream.set_display_rotation(*self.turned)
            for name, value in self.tags.items():
                setattr(stream.codec_context, name, value)
            for index in range(self.frames):
                frame = self._frame(index)
                frame.pts = self.ticks[index] if self.ticks else round(index / self.rate / unit)
                frame.time_base = unit
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        return path

    def _frame(self, index: int) -> VideoFrame:
        width, height = self.size
        picture = np.full((height, width, 4), 255, dtype=np.uint8)
        picture[..., 0] = np.linspace(0, 255, width)[None]
        picture[..., 1] = np.linspace(0, 255, height)[:, None]
        picture[..., 2] = index * 20 % 256
        if self.transparent:
            picture[:, : width // 2, 3] = 0
        frame = VideoFrame.from_ndarray(picture, format="rgba").reformat(format=self.pix_fmt)
        if self.fields:
            frame = with_fields(frame, self.fields)
        for name, value in self.tags.items():
            if name.startswith("color"):
                setattr(frame, name, value)
        return frame


def with_fields(frame: VideoFrame, order: str) -> VideoFrame:
    """Return the frame with the flags of its fields set: `tff` or `bff`."""
    graph: Any = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25))
    graph.link_nodes(source, graph.add("setfield", order), graph.add("buffersink")).configure()
    graph.vpush(frame)
    changed: VideoFrame = graph.vpull()
    return changed


@dataclass(frozen=True)
class Reencoded:
    """The written file, its video packets' times, and the words about it."""

    path: Path
    warnings: tuple[str, ...]
    description: str
    unit: Fraction
    pts: tuple[int, ...]
    end: int
    """When the last frame ends."""


def reencode(
    path: Path,
    target: str,
    *,
    start_s: float = 0.0,
    duration_s: float = 0.4,
    settings: EncoderSettings | None = None,
) -> Reencoded:
    out_path = path.with_name(f"{path.stem}-again.{target}")
    limits = MediaLimits()
    spans = []
    with (
        path.open("rb") as file,
        opened(file, limits) as (container, stream),
        av.open(str(out_path), "w", format=FORMATS[target]) as out,
    ):
        work = Reencoding(
            container,
            stream,
            out,
            target=target,
            start_s=start_s,
            duration_s=duration_s,
            settings=settings,
            limits=limits,
        )
        for packet in work.packets():
            assert packet.pts is not None
            spans.append((packet.pts, packet.duration or 0))
            out.mux(packet)
        warnings = tuple(warning.text for warning in work.warnings)
    spans.sort()
    return Reencoded(
        out_path,
        warnings,
        work.encoding.description,
        work.time_base,
        tuple(pts for pts, _ in spans),
        max(pts + duration for pts, duration in spans),
    )


def facts_of(path: Path) -> PictureFacts:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return picture_facts(stream, next(container.decode(stream)))


def frames_of(path: Path, decoder: str | None = None) -> list[VideoFrame]:
    """Decode a file, by a decoder of this name if FFmpeg's usual one leaves something out."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if decoder is None:
            return list(container.decode(stream))
        context = av.CodecContext.create(decoder, "r")
        return [frame for packet in container.demux(stream) for frame in context.decode(packet)]  # type: ignore[attr-defined]
