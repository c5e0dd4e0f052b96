"""Copies the packets of a section of a video, without decoding them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import dropwhile, pairwise
from typing import Any

from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from mmaudio_model.media.audio import AUDIO_FORMATS, Sound, add_audio_stream, fitted_sound
from mmaudio_model.media.mux.sound_track import encoded_sound, packet_time_s
from mmaudio_model.media.probe import first_time_s, frame_rate, seek_keyframe, time_base

# Codecs that players accept in MP4; VP8 needs WebM with Opus sound. Other codecs are re-encoded.
MP4_CODECS = frozenset({"h264", "hevc", "av1", "libdav1d", "vp9", "mpeg4"})
WEBM_CODECS = frozenset({"vp8"})
KEYFRAME_TOLERANCE_S = 0.02


@dataclass(frozen=True)
class Section:
    """Packets to copy, in decoding order from a key frame; times in units of the stream's time base."""

    packets: list[Packet[VideoStream]]
    decoding_times: list[int]
    origin: int
    """Time stamp of the first frame shown."""


def section_to_copy(container: Any, stream: VideoStream, start_s: float, duration_s: float) -> Section | str:
    """Return the packets of the section, or the reason why they cannot be copied."""
    codec = stream.codec_context.name
    if codec not in MP4_CODECS | WEBM_CODECS:
        return f"players do not accept its codec ({codec}) in MP4 or WebM"
    base = time_base(stream)
    if container.format.name == "avi":
        return "AVI files have no presentation times"
    packets = _packets_until_shown(_packets_from(container, stream, start_s), duration_s / base)
    if not packets:
        return "it has no key frame"
    stamps = [packet.pts for packet in packets if packet.pts is not None]
    if len(stamps) < len(packets):
        return "its frames have no time stamps"
    if start_s > 0 and abs(float(stamps[0] * base) - first_time_s(stream) - start_s) > KEYFRAME_TOLERANCE_S:
        return "the section does not start on a key frame"
    # Packets hidden by an edit list come first, since the shown ones need them; they are hidden again by an edit list.
    shown = (pts for packet, pts in zip(packets, stamps, strict=True) if not packet.is_discard and pts >= stamps[0])
    origin = min(shown, default=stamps[0])
    end = origin + duration_s / base
    if any(packet.is_discard and origin <= pts < end for packet, pts in zip(packets, stamps, strict=True)):
        return "its edit list skips parts of the video"
    # Frames shown earlier may depend on packets that come later in decoding order: cut after the last one needed.
    last = max(index for index, pts in enumerate(stamps) if pts < end)
    packets = packets[: last + 1]
    times = _decoding_times(packets, round(1 / (frame_rate(stream) * base)))
    if any(after <= before for before, after in pairwise(times)):
        return "its time stamps are out of order"
    return Section(packets, times, origin)


def _packets_from(container: Any, stream: VideoStream, start_s: float) -> Iterator[Packet[VideoStream]]:
    """Yield the non-empty packets from the last key frame at or before the start."""
    if start_s > 0:
        # With the tolerance, a key frame exactly at the start is found.
        seek_keyframe(container, stream, first_time_s(stream) + start_s + KEYFRAME_TOLERANCE_S)
    filled = (packet for packet in container.demux(stream) if packet.size)
    try:
        yield from dropwhile(lambda packet: not packet.is_keyframe, filled)
    except FFmpegError:
        return  # the end is damaged: keep the packets before it


def _packets_until_shown(packets: Iterable[Packet[VideoStream]], ticks: float) -> list[Packet[VideoStream]]:
    """Read packets until all that are shown in the first `ticks` are read; no packet is shown before it is decoded."""
    taken: list[Packet[VideoStream]] = []
    end = math.inf
    for packet in packets:
        taken.append(packet)
        if end == math.inf and packet.pts is not None and not packet.is_discard:
            end = packet.pts + ticks
        if packet.dts is not None and packet.dts >= end:
            break
    return taken


def copy_section(section: Section, stream: VideoStream, out: Any, sound: Sound, audio: str) -> None:
    # `opaque` permits a template whose decoder has no encoder of the same name (libdav1d).
    copied = out.add_stream_from_template(stream, opaque=True)
    fitted = fitted_sound(sound, AUDIO_FORMATS[audio]).sound
    audio_stream = add_audio_stream(out, AUDIO_FORMATS[audio], fitted)
    base = time_base(stream)
    waiting = encoded_sound(audio_stream, fitted)
    next_sound = next(waiting, None)
    for packet, dts in zip(section.packets, section.decoding_times, strict=True):
        assert packet.pts is not None, "packets without time stamps are not copied"
        packet.pts, packet.dts = packet.pts - section.origin, dts - section.origin
        packet.duration = packet.duration or round(1 / (frame_rate(stream) * base))  # MPEG-TS declares none
        while next_sound is not None and packet_time_s(next_sound) <= float(packet.dts * base):
            out.mux(next_sound)
            next_sound = next(waiting, None)
        packet.stream = copied
        out.mux(packet)
    while next_sound is not None:
        out.mux(next_sound)
        next_sound = next(waiting, None)


def _decoding_times(packets: Sequence[Packet[VideoStream]], step: int) -> list[int]:
    """Return all DTS. Matroska stores none, and FFmpeg cannot derive the first ones if frames are reordered."""
    known = next((index for index, packet in enumerate(packets) if packet.dts is not None), 0)
    first = packets[known].dts if packets[known].dts is not None else packets[known].pts
    assert first is not None, "packets without time stamps are not copied"
    times = [first - (known - index) * step for index in range(known + 1)]
    for packet in packets[known + 1 :]:
        times.append(packet.dts if packet.dts is not None else times[-1] + 1)
    return times
