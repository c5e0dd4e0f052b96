"""What a file says about itself, and which frames it shows when: an independent reading with PyAV alone."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.stream import Disposition
from av.video.frame import VideoFrame

from tests.media_collection.pictures import number_in, upright

UNSPECIFIED = {0, 2, -1}
WITH_ALPHA = ("yuva", "gbrap", "rgba", "argb", "bgra", "abgr", "pal8", "ya")
PARTS = 8
UPRIGHT = (1, 0, 0, 1)
MUXER_TAGS = {
    "encoder", "major_brand", "minor_version", "compatible_brands", "vendor_id", "handler_name", "duration", "timecode",
    "creation_time", "encoding_tool", "company_name", "product_name", "product_version", "application_platform",
    "product_uid", "generation_uid", "uid", "operational_pattern_ul", "modification_date", "material_package_umid",
    "material_package_name", "file_package_umid", "file_package_name", "toolkit_version", "data_type", "track_name",
    "service_name", "service_provider", "alpha_mode", "software",
    "product_version_num", "toolkit_version_num",
}  # fmt: skip
"""Tags that describe the file itself, or that a muxer writes on its own."""


@dataclass(frozen=True)
class OtherTrack:
    """A track that is not the picture; `what` is its codec and, for sound, its channels and rate."""

    kind: str
    what: str
    language: str | None
    title: str | None
    default: bool


@dataclass(frozen=True)
class Facts:
    """What `ffprobe` would say, and (time from the first frame in seconds, number) of each shown frame."""

    container: str
    codec: str
    tag: str
    size: tuple[int, int]
    sar: Fraction
    pix_fmt: str
    transparent: bool
    """Whether a part of the first picture is; formats with alpha may be opaque."""
    colour: tuple[int | None, int | None, int | None]
    full_range: bool
    interlaced: str | None
    interlaced_frames: bool
    """What the pictures themselves say; containers may say nothing."""
    matrix: tuple[int, int, int, int]
    frame_rate: Fraction | None
    hdr: frozenset[str]
    records: frozenset[str]
    timecode: str | None
    tracks: tuple[OtherTrack, ...]
    chapters: tuple[tuple[float, float, str], ...]
    tags: frozenset[tuple[str, str]]
    shown: tuple[tuple[Fraction, int], ...]
    looks: tuple[np.ndarray, ...]
    """The mean colours of the parts of each shown picture, float (PARTS, PARTS, 3)."""
    damaged: bool


def facts_of(file: BinaryIO) -> Facts:
    """Read a file, positioned at its start, with FFmpeg as it comes.

    Raises:
        FFmpegError, OSError: FFmpeg does not open it.
    """
    records = _records(file.read())
    file.seek(0)
    with av.open(file, "r", metadata_errors="ignore") as container:
        stream = _picture_stream(container)
        context: Any = stream.codec_context
        context.thread_count = 1
        others = [one for one in container.streams if one.index != stream.index and not _is_helper(one)]
        if container.format.name.startswith("mov") and container.chapters():
            # QuickTime's own titles of chapters are a track; it is the last one that FFmpeg writes.
            titles = [one for one in others if one.type == "data"]
            others = [one for one in others if one not in titles[-1:]]
        tracks = tuple(_other(one) for one in others)
        chapters = tuple(
            (
                round(float(one["start"] * (one["time_base"] or 0)), 2),
                round(float(one["end"] * (one["time_base"] or 0)), 2),
                one["metadata"].get("title", ""),
            )
            for one in container.chapters()
        )
        timecodes = [one.metadata["timecode"] for one in container.streams if "timecode" in one.metadata]
        timecodes += [container.metadata["timecode"]] if "timecode" in container.metadata else []
        tags = frozenset(
            (name.lower(), value)
            for name, value in container.metadata.items()
            if name.lower() not in MUXER_TAGS and not re.search("-[a-z]{3}$", name)
        )
        hidden_alpha = _has_hidden_alpha(stream)
        first, shown, looks, damaged = _decoded(container, stream)
        size, sar, pix_fmt = (context.width, context.height), context.sample_aspect_ratio, context.pix_fmt
        colour = (context.color_primaries, context.color_trc, context.colorspace)
        return Facts(
            container=container.format.name,
            codec=context.name.removeprefix("lib"),
            tag=context.codec_tag,
            size=size,
            sar=Fraction(sar) if sar else Fraction(1),
            pix_fmt=str(pix_fmt).replace("yuvj", "yuv"),
            transparent=_is_transparent(first) or hidden_alpha,
            colour=tuple(None if value in UNSPECIFIED else value for value in colour),  # type: ignore[arg-type]
            full_range=context.color_range == 2 or str(pix_fmt).startswith("yuvj"),
            interlaced=_fields(context, first),
            interlaced_frames=first is not None and first.interlaced_frame,
            matrix=_matrix(first),
            frame_rate=_rate(stream),
            hdr=frozenset(
                one.type.name
                for one in (first.side_data if first is not None else ())
                if one.type in {Type.MASTERING_DISPLAY_METADATA, Type.CONTENT_LIGHT_LEVEL}
            ),
            records=records,
            timecode=timecodes[0] if timecodes else None,
            tracks=tracks,
            chapters=chapters,
            tags=tags,
            shown=shown,
            looks=looks,
            damaged=damaged,
        )


def _picture_stream(container: Any) -> Any:
    moving = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
    return next((one for one in moving if one.disposition & Disposition.default), moving[0])


def _fields(context: Any, first: VideoFrame | None) -> str | None:
    if context.name == "dvvideo" and context.field_order == 0 and first is not None and first.interlaced_frame:
        return "bff"  # as DV always is; AVI does not say it
    return {2: "tff", 3: "bff", 4: "tff", 5: "bff"}.get(context.field_order)


def _is_transparent(frame: VideoFrame | None) -> bool:
    if frame is None or not frame.format.name.startswith(WITH_ALPHA):
        return False
    return bool((frame.to_ndarray(format="rgba")[..., 3] < 255).any())


def _rate(stream: Any) -> Fraction | None:
    """Return the average rate; that of raw DV is nonsense, the nominal one is right."""
    average = stream.average_rate
    return stream.guessed_rate if average is None or average > 1000 else average


def _has_hidden_alpha(stream: Any) -> bool:
    """Return whether the picture has transparency that FFmpeg's own decoders of VP8 and VP9 leave out."""
    return any(name.lower() == "alpha_mode" and value == "1" for name, value in stream.metadata.items())


def _is_helper(stream: Any) -> bool:
    """Return whether a track is only the timecode."""
    return stream.type == "data" and "timecode" in stream.metadata


def _other(stream: Any) -> OtherTrack:
    context = stream.codec_context
    if context is not None:
        what = context.name.removeprefix("lib")
    else:  # no decoder; the name of such a subtitle stream cannot be asked for
        what = str(stream.name or "unknown") if stream.type in {"data", "attachment"} else "unknown"
    if stream.type == "audio" and context is not None:
        what = f"{what} {context.channels} channels {context.sample_rate} Hz"
    kind = "cover" if stream.disposition & Disposition.attached_pic else stream.type
    language = stream.language if stream.language not in {"und", None} else None
    title = stream.metadata.get("title") or stream.metadata.get("name")
    return OtherTrack(kind, what, language, title, bool(stream.disposition & Disposition.default))


def _decoded(
    container: Any, stream: Any
) -> tuple[VideoFrame | None, tuple[tuple[Fraction, int], ...], tuple[np.ndarray, ...], bool]:
    """Decode every frame; times that go back (joined recordings) go on after the last one."""
    first: VideoFrame | None = None
    shown: list[tuple[Fraction, int]] = []
    looks: list[np.ndarray] = []
    damaged = False
    step = 1 / Fraction(_rate(stream) or 25)
    # AVI and FFmpeg's MXF have no presentation times: frames come in their order, at the times of the packets.
    counted: list[Fraction] | None = [] if container.format.name in {"avi", "mxf"} else None
    origin = Fraction(0)
    for packet in _packets(container, stream):
        if counted is not None and packet.size and packet.dts is not None:
            counted.append(packet.dts * packet.time_base)
        try:
            frames = packet.decode()
        except av.FFmpegError:
            damaged = True
            continue
        for frame in frames:
            first = first or frame
            following = shown[-1][0] + step if shown else Fraction(0)
            time = following
            if counted is not None:
                time = counted[len(shown)] - counted[0]
            elif frame.pts is not None:
                if not shown:
                    origin = frame.pts * frame.time_base
                time = frame.pts * frame.time_base - origin
                if shown and time <= shown[-1][0]:
                    origin += time - following
                    time = following
            picture = upright(frame.to_ndarray(format="rgb24"), _matrix(frame))
            shown.append((time, number_in(np.asarray(picture))))
            looks.append(_look(picture))
    return first, tuple(shown), tuple(looks), damaged


def _look(picture: np.ndarray) -> np.ndarray:
    height, width = (side // PARTS * PARTS for side in picture.shape[:2])
    parts = picture[:height, :width].reshape(PARTS, height // PARTS, PARTS, width // PARTS, 3)
    return np.asarray(parts.mean(axis=(1, 3)))


def _packets(container: Any, stream: Any) -> Any:
    try:
        yield from container.demux(stream)
    except av.FFmpegError:
        return


def _matrix(frame: VideoFrame | None) -> tuple[int, int, int, int]:
    data = frame.side_data.get(Type.DISPLAYMATRIX) if frame is not None else None
    if data is None:
        return UPRIGHT
    numbers = struct.unpack("<9i", bytes(data))
    return tuple((numbers[place] > 0) - (numbers[place] < 0) for place in (0, 1, 3, 4))  # type: ignore[return-value]


def _records(content: bytes) -> frozenset[str]:
    """Return the boxes about the picture that PyAV does not show."""
    if content[4:8] != b"ftyp":
        return frozenset()
    index = content[content.find(b"moov") :]
    return frozenset(name for name, kind in {"Dolby Vision": b"dvvC", "360 degrees": b"sv3d"}.items() if kind in index)
