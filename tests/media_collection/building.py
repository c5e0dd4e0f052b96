"""Writes one file from a description of its tracks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.filter import Graph
from av.packet import Packet
from av.stream import Disposition
from av.subtitles.subtitle import SubtitleSet
from av.video.frame import VideoFrame

from tests.media_collection.pictures import numbered
from tests.media_collection.subtitle_bytes import ASS_HEADER, DVB_END_OF_SET, TELETEXT

FINE = Fraction(1, 90_000)
FULL, LIMITED = 2, 1
"""Colour ranges."""
BT709, BT601, PQ, HLG, P3 = (1, 1, 1), (6, 6, 6), (9, 16, 9), (9, 18, 9), (12, 13, 1)
"""Colour primaries, transfer and matrix, as numbers of ISO 23091-2."""
CODEC_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "libx264": {"preset": "ultrafast", "crf": "12", "sc_threshold": "0", "threads": "1"},
    "libx264rgb": {"preset": "ultrafast", "crf": "8", "threads": "1"},
    "libx265": {"preset": "ultrafast", "crf": "14"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "crf": "10", "b": "2000000", "threads": "1"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0", "threads": "1"},
    "libsvtav1": {"preset": "12", "crf": "20", "svtav1-params": "lp=1"},
}
# PCM has no frames of its own: each packet of it holds so many samples.
CHUNK_SAMPLES = 1024
os.environ.setdefault("SVT_LOG", "1")  # errors only
X265_QUIET = "log-level=none:pools=none:frame-threads=1"


@dataclass(frozen=True)
class Picture:
    """A video track. `times` are those of its frames, in seconds; without them there are `count` at `rate`."""

    codec: str = "libx264"
    width: int = 96
    height: int = 64
    pix_fmt: str = "yuv420p"
    rate: Fraction | int = 25
    count: int = 40
    times: Sequence[Fraction] | None = None
    first: Fraction = Fraction(0)
    base: Fraction | None = None
    keyframe_every: int = 15
    bframes: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    tag: str | None = None
    sar: Fraction | None = None
    colour: tuple[int, int, int] | None = None
    range: int | None = None
    turn: int = 0
    mirrored: bool = False
    fields: str | None = None
    """`tff` or `bff` for interlaced pictures."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    disposition: Disposition | None = None
    first_number: int = 0

    def shown_at(self) -> list[Fraction]:
        if self.times is not None:
            return [Fraction(time) for time in self.times]
        return [self.first + index / Fraction(self.rate) for index in range(self.count)]


@dataclass(frozen=True)
class Tone:
    """A sound track: a sine in every channel, 300 Hz in the first, 200 Hz more in each further one."""

    codec: str = "aac"
    rate: int = 48_000
    layout: str = "stereo"
    seconds: float | None = None
    bit_rate: int | None = 96_000
    metadata: Mapping[str, str] = field(default_factory=dict)
    disposition: Disposition | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    first_hz: int = 300


@dataclass(frozen=True)
class Texts:
    """A subtitle track with one text a second."""

    codec: str = "mov_text"
    metadata: Mapping[str, str] = field(default_factory=dict)
    disposition: Disposition | None = None


@dataclass(frozen=True)
class Data:
    """A track of packets that no codec reads; one each half second."""

    codec: str = "bin_data"
    content: bytes = b"\x00\x01\x02\x03" * 8
    metadata: Mapping[str, str] = field(default_factory=dict)


Track = Picture | Tone | Texts | Data


def write(
    path: Path,
    container: str,
    *tracks: Track,
    options: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    chapters: Sequence[tuple[float, float, str]] = (),
    attachments: Sequence[tuple[str, str, bytes]] = (),
    cover: bytes | None = None,
) -> Path:
    """Write a file; chapters are (begin, end, title), attachments (name, MIME type, content), a cover is a JPEG."""
    length = max((float(one.shown_at()[-1]) for one in tracks if isinstance(one, Picture)), default=1.5) + 0.04
    with av.open(str(path), "w", format=container, options=dict(options or {})) as out:
        out.metadata.update(tags or {})
        added = [_ADD[type(one)](out, one) for one in tracks]
        covered: Any = out.add_mux_stream("mjpeg", rate=25, width=96, height=64) if cover else None
        if covered is not None:
            covered.disposition, covered.time_base = Disposition.attached_pic, FINE
        for name, mime, content in attachments:
            out.add_attachment(name, mime, content)
        if chapters:
            out.set_chapters(
                [
                    {
                        "id": index + 1,
                        "start": round(begin * 1000),
                        "end": round(end * 1000),
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": title},
                    }
                    for index, (begin, end, title) in enumerate(chapters)
                ]
            )
        out.start_encoding()
        if covered is not None:
            packet = Packet(cover)
            packet.stream, packet.pts, packet.dts, packet.time_base = covered, 0, 0, FINE
            packet.is_keyframe = True
            out.mux(packet)
        flows = [_PACKETS[type(one)](stream, one, length) for one, stream in zip(tracks, added, strict=True)]
        for flow in flows:
            for packet in flow:
                out.mux(packet)
    return path


def _add_picture(out: Any, one: Picture) -> Any:
    options = {**CODEC_OPTIONS.get(one.codec, {}), **one.options}
    if one.codec == "libx265":
        options["x265-params"] = ":".join(filter(None, [X265_QUIET, one.options.get("x265-params")]))
    stream = out.add_stream(one.codec, rate=Fraction(one.rate), options=options)
    stream.width, stream.height, stream.pix_fmt = one.width, one.height, one.pix_fmt
    context = stream.codec_context
    context.gop_size = one.keyframe_every
    context.time_base = one.base or FINE
    if one.bframes is not None:
        context.max_b_frames = one.bframes
    if one.tag:
        context.codec_tag = one.tag
    if one.sar:
        stream.sample_aspect_ratio = one.sar
    if one.colour:
        context.color_primaries, context.color_trc, context.colorspace = one.colour
    if one.range:
        context.color_range = one.range
    if one.fields:
        context.flags |= 1 << 18 | 1 << 29  # interlaced DCT and motion estimation
        context.field_order = {"tff": 2, "bff": 3}[one.fields]
    if one.turn or one.mirrored:
        stream.set_display_rotation(one.turn, hflip=one.mirrored)
    return _described(stream, one)


def _add_tone(out: Any, one: Tone) -> Any:
    stream = out.add_stream(one.codec, rate=one.rate, layout=one.layout, options=dict(one.options))
    if one.bit_rate:
        stream.bit_rate = one.bit_rate
    return _described(stream, one)


def _add_texts(out: Any, one: Texts) -> Any:
    if one.codec in {"dvb_subtitle", "dvb_teletext"}:
        return _described(out.add_mux_stream(one.codec), one)
    stream = out.add_stream(one.codec)
    stream.codec_context.subtitle_header = ASS_HEADER
    stream.codec_context.time_base = Fraction(1, 1000)
    return _described(stream, one)


def _add_data(out: Any, one: Data) -> Any:
    return _described(out.add_data_stream(one.codec), one)


def _described(stream: Any, one: Track) -> Any:
    stream.metadata.update(one.metadata)
    disposition = getattr(one, "disposition", None)
    if disposition is not None:
        stream.disposition = disposition
    return stream


def _picture_packets(stream: Any, one: Picture, _: float) -> Iterator[Packet]:
    base = stream.codec_context.time_base
    fields = _field_setter(one) if one.fields else None
    for index, time in enumerate(one.shown_at()):
        picture = numbered(one.first_number + index, one.width, one.height, turn=one.turn, mirrored=one.mirrored)
        if "a" in one.pix_fmt.removeprefix("gray") or one.pix_fmt == "pal8":
            alpha = np.full((*picture.shape[:2], 1), 255, np.uint8)
            alpha[: one.height // 8] = 0
            picture = np.concatenate([picture, alpha], axis=2)
        frame = VideoFrame.from_ndarray(picture, format="rgba" if picture.shape[2] == 4 else "rgb24")
        if one.pix_fmt != frame.format.name:
            frame = frame.reformat(format=one.pix_fmt, dst_color_range=one.range, dst_colorspace=_matrix(one))
        frame.pts, frame.time_base = round(time / base), base
        if fields is not None:
            frame.colorspace, frame.color_range = 2, 0  # unknown, as the filter expects
            fields.push(frame)
            frame = fields.pull()
        if one.colour:
            frame.color_primaries, frame.color_trc, frame.colorspace = one.colour
        if one.range:
            frame.color_range = one.range
        yield from stream.encode(frame)
    yield from stream.encode(None)
    if one.codec == "libsvtav1":
        # As root this encoder makes the calling thread a real-time one, and every thread that it starts later.
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _matrix(one: Picture) -> str | None:
    return "itu709" if one.colour == BT709 else None


def _field_setter(one: Picture) -> Any:
    graph = Graph()
    source = graph.add_buffer(width=one.width, height=one.height, format=one.pix_fmt, time_base=one.base or FINE)
    graph.link_nodes(source, graph.add("setfield", one.fields), graph.add("buffersink")).configure()
    return graph


def _tone_packets(stream: Any, one: Tone, length: float) -> Iterator[Packet]:
    samples = round((one.seconds or length) * one.rate)
    times = np.arange(samples) / one.rate
    channels = stream.codec_context.channels
    sound = np.stack([0.2 * np.sin(2 * np.pi * (one.first_hz + 200 * index) * times) for index in range(channels)])
    sound = sound.astype(np.float32)
    for begin in range(0, samples, CHUNK_SAMPLES):
        part = np.ascontiguousarray(sound[:, begin : begin + CHUNK_SAMPLES])
        frame = AudioFrame.from_ndarray(part, format="fltp", layout=one.layout)
        frame.sample_rate, frame.pts, frame.time_base = one.rate, begin, Fraction(1, one.rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _text_packets(stream: Any, one: Texts, length: float) -> Iterator[Packet]:
    for second in range(int(length) + 1):
        if one.codec in {"dvb_subtitle", "dvb_teletext"}:
            packet = Packet(DVB_END_OF_SET if one.codec == "dvb_subtitle" else TELETEXT)
        else:
            text = f"{second},0,Default,,0,0,0,,Text {second}".encode()
            packet = stream.codec_context.encode_subtitle(SubtitleSet.create(text, 0, 800, pts=second * 1_000_000))
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = second * 1000
        packet.duration = 800
        packet.is_keyframe = True
        yield packet


def _data_packets(stream: Any, one: Data, length: float) -> Iterator[Packet]:
    for half in range(int(2 * length) + 1):
        packet = Packet(one.content + bytes([half]))
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = half * 500
        packet.duration, packet.is_keyframe = 500, True
        yield packet


_ADD: Mapping[type, Any] = {Picture: _add_picture, Tone: _add_tone, Texts: _add_texts, Data: _add_data}
_PACKETS: Mapping[type, Any] = {
    Picture: _picture_packets, Tone: _tone_packets, Texts: _text_packets, Data: _data_packets,
}  # fmt: skip
