"""Tracks of the source beside its video and the sound that is replaced: which ones are kept, and their packets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition

from mmaudio_model.media.mux.result_container import QUICKTIME, ResultContainer, codec_name
from mmaudio_model.media.mux.subtitles import ASS_HEADER, codec_in, rewritten
from mmaudio_model.media.mux.tags import track_tags
from mmaudio_model.media.probe import first_time_s, seek_keyframe, time_base

# Files hold sound, text and picture of one time near each other; after this much more picture, none follows.
INTERLEAVING_S = 2
SEEK_LATER_S = 0.02
MAX_TITLE_CHARACTERS = 80
PICTURE_TYPES = MappingProxyType({"png": "image/png", "mjpeg": "image/jpeg", "bmp": "image/bmp", "gif": "image/gif"})


@dataclass(frozen=True)
class KeptTrack:
    """A track of the source that the result has too."""

    index: int
    """Index of the source's stream."""
    kind: str
    """`audio`, `subtitle`, `data`, `cover` or `attachment`."""
    codec: str
    """In the result: text may be written in another form."""
    name: str
    """For a person."""


@dataclass
class AddedTrack:
    """A kept track in the output."""

    kept: KeptTrack
    source: Any
    stream: Any
    codec: str
    """In the source."""
    last_dts: int | None = field(default=None)


def default_audio(container: Any) -> Any | None:
    """Return the audio stream that players choose, which the new sound replaces; None if there is none."""
    streams = list(container.streams.audio)
    return next((stream for stream in streams if stream.disposition & Disposition.default), next(iter(streams), None))


def plan_tracks(container: Any, video: Any, target: ResultContainer) -> tuple[list[KeptTrack], list[str]]:
    """Return the tracks that a container can hold by its rules, and what is lost with the reason."""
    kept: list[KeptTrack] = []
    lost: list[str] = []
    replaced = default_audio(container)
    for stream in container.streams:
        if stream is video or stream is replaced or _is_told_otherwise(stream):
            continue
        kind, name = _kind(stream), track_name(stream)
        codec, reason = _codec_in(stream, kind, target)
        if codec is None:
            lost.append(f"{name}: {reason}")
            continue
        kept.append(KeptTrack(stream.index, kind, codec, name))
        if kind == "subtitle" and codec_name(stream) in {"ass"} and codec != codec_name(stream):
            lost.append(f"the styles of {name}: {target.value.upper()} has plain text")
    return kept, lost


def track_name(stream: Any) -> str:
    """Return a name such as `subtitles "Deutsch" (subrip, deu)`."""
    names = {"subtitle": "subtitles", "cover": "cover picture", "attachment": "attachment"}
    kind = names.get(_kind(stream), f"{_kind(stream)} track")
    title = stream.metadata.get("title") or stream.metadata.get("filename") or ""
    codec = stream.metadata.get("mimetype") if stream.type == "attachment" else codec_name(stream)
    facts = ", ".join(word for word in (codec, stream.metadata.get("language")) if word and word != "und")
    called = f' "{title[:MAX_TITLE_CHARACTERS]}"' if title else f" {stream.index}"
    return f"{kind}{called} ({facts})" if facts else kind + called


def add_tracks(out: Any, container: Any, tracks: Sequence[KeptTrack], target: ResultContainer) -> list[AddedTrack]:
    """Add kept tracks to an output; attachments are complete with that.

    Raises:
        FFmpegError, ValueError: the container does not take one of them.
    """
    added: list[AddedTrack] = []
    for kept in tracks:
        source = container.streams[kept.index]
        stream = _added(out, container, kept, source, target)
        if stream is not None:
            added.append(AddedTrack(kept, source, stream, codec_name(source)))
    return added


def track_packets(
    container: Any, video: Any, tracks: Sequence[AddedTrack], start_s: Fraction, duration_s: Fraction, *, early: bool
) -> Iterator[Packet[Any]]:
    """Yield the packets of the tracks within a section, with times from its start.

    Args:
        container: not read yet.
        start_s: on the file's clock.
        early: give the packet before the start too, at a negative time, for sound that begins exactly there.
    """
    for track in tracks:
        if track.kept.kind == "cover":
            yield _cover_packet(container, track)
    open_tracks = {track.source.index: track for track in tracks if track.kept.kind != "cover"}
    if not open_tracks:
        return
    for stream in container.streams:
        if stream.index not in open_tracks and stream is not video:
            stream.discard = Discard.all
    if start_s > first_time_s(video):
        with contextlib.suppress(FFmpegError):  # a file that cannot be sought is read from its beginning
            seek_keyframe(container, video, float(start_s) + SEEK_LATER_S)
    waiting: dict[int, Packet[Any]] = {}
    ended: set[int] = set()
    for packet in _readable(container, [video, *(track.source for track in open_tracks.values())]):
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None or not packet.size:
            continue
        index = packet.stream_index
        time_s = stamp * packet.time_base - start_s
        if index == video.index:
            if time_s >= duration_s + INTERLEAVING_S:
                return
            continue
        track = open_tracks[index]
        if time_s >= duration_s:
            ended.add(index)
            if len(ended) == len(open_tracks):
                return
            continue
        if time_s < 0 and track.kept.kind == "audio":
            waiting[index] = packet
            continue
        before = waiting.pop(index, None)
        if before is not None and early:
            yield from _moved(track, before, start_s, duration_s)
        yield from _moved(track, packet, start_s, duration_s)


def _readable(container: Any, streams: Sequence[Any]) -> Iterator[Packet[Any]]:
    try:
        yield from container.demux(*streams)
    except FFmpegError:
        return  # the end is damaged: keep the packets before it


def _moved(track: AddedTrack, packet: Packet[Any], start_s: Fraction, duration_s: Fraction) -> Iterator[Packet[Any]]:
    """Move a packet to the result's clock, and into the result's form; drop it if it has no place there."""
    base = packet.time_base
    shift = round(start_s / base)
    length = packet.duration or 0
    stamp = packet.pts if packet.pts is not None else packet.dts
    assert stamp is not None, "packets without time stamps are left out"
    pts = stamp - shift
    dts = packet.dts - shift if packet.dts is not None else pts
    if track.kept.kind in {"subtitle", "data"}:
        if pts < 0:
            if track.kept.kind == "data" or pts + length <= 0:
                return
            length, pts = length + pts, 0  # a line that is shown at the start began before it
        dts = pts
        if length:
            length = max(1, min(length, round(duration_s / base) - pts))
    if track.last_dts is not None and dts <= track.last_dts:
        return
    track.last_dts = dts
    if track.codec == "mov_text" and bytes(packet)[:2] == b"\0\0":
        return  # the muxer writes the times without text by itself
    if track.codec != track.kept.codec:
        text = rewritten(bytes(packet), track.codec, track.kept.codec)
        if text is None:
            return
        packet = Packet(text)
        packet.time_base = base
    packet.pts, packet.dts, packet.duration = max(pts, dts), dts, length
    packet.stream = track.stream
    yield packet


def _kind(stream: Any) -> str:
    if stream.type == "video" and stream.disposition & Disposition.attached_pic:
        return "cover"
    return str(stream.type)


def _is_told_otherwise(stream: Any) -> bool:
    """Return whether the muxer writes a track anew from what is known, or players of a file need none of it.

    Those are chapters as text and timecodes, and the navigation of a DVD's menus.
    """
    if stream.type != "data":
        return False
    chapters = stream.discard == Discard.all
    return chapters or "timecode" in stream.metadata or codec_name(stream) == "dvd_nav_packet"


def _codec_in(stream: Any, kind: str, target: ResultContainer) -> tuple[str | None, str]:
    """Return the codec that a track gets in a container, or the reason why it is lost."""
    codec, name = codec_name(stream), target.value.upper()
    refused = f"{name} does not hold it"
    match kind:
        case "audio" | "subtitle" if stream.codec_context is None:
            return None, "its codec is unknown"
        case "audio":
            return codec, ""
        case "subtitle":
            return codec_in(target, codec), refused
        case "cover":
            if target is ResultContainer.WEBM or codec not in PICTURE_TYPES:
                return None, refused
            return codec, ""
        case "attachment":
            return (codec, "") if target is ResultContainer.MKV else (None, refused)
        case "data":
            return (codec, "") if target in QUICKTIME else (None, refused)
        case "video":
            return None, "a second picture is not kept"
    return None, "its kind is unknown"


def _added(out: Any, container: Any, kept: KeptTrack, source: Any, target: ResultContainer) -> Any | None:
    """Add a stream; return None for one that has no packets."""
    if kept.kind == "attachment":
        name = source.metadata.get("filename") or f"attachment {kept.index}"
        kind = source.metadata.get("mimetype") or "application/octet-stream"
        out.add_attachment(name, kind, source.data)
        return None
    if kept.kind == "cover" and target is ResultContainer.MKV:
        kind = PICTURE_TYPES[kept.codec]
        name = source.metadata.get("filename") or f"cover.{kind.rpartition('/')[2].replace('jpeg', 'jpg')}"
        out.add_attachment(name, kind, _cover(container, source))
        return None
    if kept.codec == codec_name(source):
        stream = out.add_stream_from_template(source, opaque=True)
    elif kept.codec == "mov_text":
        stream = out.add_stream("mov_text")
        stream.codec_context.subtitle_header = ASS_HEADER
        stream.time_base = Fraction(1, 1000)
    else:
        stream = out.add_mux_stream(kept.codec)
        stream.time_base = Fraction(1, 1000)
    stream.metadata.update(track_tags(source.metadata, target))
    disposition = source.disposition
    stream.disposition = disposition & ~Disposition.default if kept.kind == "audio" else disposition
    return stream


def _cover(container: Any, stream: Any) -> bytes:
    """Return the picture; FFmpeg gives it before all other packets."""
    packet = next((packet for packet in container.demux(stream) if packet.size), None)
    if packet is None:
        raise ValueError("the cover picture is empty")
    return bytes(packet)


def _cover_packet(container: Any, track: AddedTrack) -> Packet[Any]:
    packet = Packet(_cover(container, track.source))
    packet.pts = packet.dts = 0
    packet.time_base = time_base(track.source)
    packet.is_keyframe = True
    packet.stream = track.stream
    return packet
