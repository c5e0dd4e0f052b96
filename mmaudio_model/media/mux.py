"""Muxes a video with its new sound: video packets are copied, sound is encoded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import dropwhile, pairwise
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.media.audio import AUDIO_FORMATS, add_audio_stream, audio_frames
from mmaudio_model.media.frames import timed_frames
from mmaudio_model.media.probe import MediaLimits, first_time_s, frame_rate, opened, seek_keyframe, time_base

# Codecs that players accept in MP4; VP8 needs WebM with Opus sound. Other codecs are re-encoded.
MP4_CODECS = frozenset({"h264", "hevc", "av1", "libdav1d", "vp9", "mpeg4"})
WEBM_CODECS = frozenset({"vp8"})
KEYFRAME_TOLERANCE_S = 0.02
REENCODE_QUALITY = {"crf": "18", "preset": "veryfast"}


@dataclass(frozen=True)
class _Section:
    """Packets to copy, in decoding order from a key frame; times in units of the stream's time base."""

    packets: list[Packet[VideoStream]]
    decoding_times: list[int]
    origin: int
    """Time stamp of the first frame shown."""


@dataclass(frozen=True)
class MuxResult:
    """The written file: format (`mp4` or `webm`), MIME type, and warnings for the user."""

    format: str
    content_type: str
    reencoded: bool
    warnings: tuple[str, ...] = ()


def mux_video(
    source: BinaryIO,
    waveform: np.ndarray,
    sample_rate_hz: int,
    out_path: Path,
    *,
    start_s: float,
    duration_s: float,
    original_gain_db: float | None = None,
    limits: MediaLimits,
) -> MuxResult:
    """Write a section of `source` with the waveform, float32 (samples,), as its sound.

    The video is copied packet by packet if the section starts on a key frame and players accept the codec; otherwise it
    is re-encoded, with a warning. A copy ends on a packet, so the picture may be longer than the sound by the frames
    that others depend on.

    Args:
        original_gain_db: mix in the video's original sound at this gain; None drops it.

    Raises:
        MediaInvalidError, MediaTooLargeError: see `frames.read_video_frames`.
    """
    warnings: list[str] = []
    sound = waveform
    if original_gain_db is not None:
        sound = _mixed(source, waveform, sample_rate_hz, start_s, original_gain_db, limits, warnings)
        source.seek(0)
    with opened(source, limits) as (container, stream):
        webm = stream.codec_context.name in WEBM_CODECS
        section = _section_to_copy(container, stream, start_s, duration_s)
        if isinstance(section, _Section):
            with _output(out_path, webm=webm) as out:
                _copy(section, stream, out, sound, sample_rate_hz, "opus" if webm else "m4a")
            return MuxResult(
                format="webm" if webm else "mp4",
                content_type="video/webm" if webm else "video/mp4",
                reencoded=False,
                warnings=tuple(warnings),
            )
    source.seek(0)
    with opened(source, limits) as (container, stream), _output(out_path, webm=False) as out:
        _reencode(container, stream, out, start_s, duration_s, sound, sample_rate_hz, limits)
    warnings.append(f"The video was re-encoded: {section}.")
    return MuxResult(format="mp4", content_type="video/mp4", reencoded=True, warnings=tuple(warnings))


def _output(path: Path, *, webm: bool) -> OutputContainer:
    if webm:
        return av.open(str(path), "w", format="webm")
    # faststart: the index comes first, so that browsers can play while loading
    return av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})


def _section_to_copy(container: Any, stream: VideoStream, start_s: float, duration_s: float) -> _Section | str:
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
    return _Section(packets, times, origin)


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


def _copy(section: _Section, stream: VideoStream, out: Any, sound: np.ndarray, sample_rate_hz: int, audio: str) -> None:
    # `opaque` permits a template whose decoder has no encoder of the same name (libdav1d).
    copied = out.add_stream_from_template(stream, opaque=True)
    audio_stream = add_audio_stream(out, AUDIO_FORMATS[audio], sample_rate_hz)
    base = time_base(stream)
    waiting = _encoded(audio_stream, sound, sample_rate_hz)
    next_sound = next(waiting, None)
    for packet, dts in zip(section.packets, section.decoding_times, strict=True):
        assert packet.pts is not None, "packets without time stamps are not copied"
        packet.pts, packet.dts = packet.pts - section.origin, dts - section.origin
        packet.duration = packet.duration or round(1 / (frame_rate(stream) * base))  # MPEG-TS declares none
        while next_sound is not None and _time_s(next_sound) <= float(packet.dts * base):
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


def _reencode(
    container: Any,
    stream: VideoStream,
    out: Any,
    start_s: float,
    duration_s: float,
    sound: np.ndarray,
    sample_rate_hz: int,
    limits: MediaLimits,
) -> None:
    encoded = out.add_stream("libx264", rate=frame_rate(stream), options=REENCODE_QUALITY)
    # yuv420p needs even sides
    encoded.width, encoded.height = (
        side // 2 * 2 for side in (stream.codec_context.width, stream.codec_context.height)
    )
    encoded.pix_fmt = "yuv420p"
    encoded_base = Fraction(1, 90_000)
    encoded.codec_context.time_base = encoded_base
    audio_stream = add_audio_stream(out, AUDIO_FORMATS["m4a"], sample_rate_hz)
    first = True
    for time_s, frame in timed_frames(container, stream, start_s, limits, []):
        if time_s >= duration_s:
            break
        if first and frame.rotation:
            encoded.set_display_rotation(frame.rotation)
        first = False
        picture = frame.reformat(width=encoded.width, height=encoded.height, format="yuv420p")
        picture.pts, picture.time_base = round(max(time_s, 0.0) * 90_000), encoded_base
        out.mux(encoded.encode(picture))
    if first:
        raise MediaInvalidError("The video is damaged: none of its frames can be decoded.")
    out.mux(encoded.encode(None))
    for packet in _encoded(audio_stream, sound, sample_rate_hz):
        out.mux(packet)


def _encoded(stream: Any, sound: np.ndarray, sample_rate_hz: int) -> Iterator[Packet[AudioStream]]:
    for frame in audio_frames(sound, sample_rate_hz):
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _time_s(packet: Packet[AudioStream]) -> float:
    return float((packet.dts or 0) * (packet.time_base or 0))


def _mixed(
    source: BinaryIO,
    waveform: np.ndarray,
    sample_rate_hz: int,
    start_s: float,
    gain_db: float,
    limits: MediaLimits,
    warnings: list[str],
) -> np.ndarray:
    """Mix the video's original sound into the waveform."""
    with opened(source, limits) as (container, stream):
        if not container.streams.audio:
            warnings.append("The video has no original sound to mix in.")
            return waveform
        original = _original_sound(container, first_time_s(stream) + start_s, len(waveform), sample_rate_hz)
    return np.clip(waveform + original * 10 ** (gain_db / 20), -1.0, 1.0).astype(np.float32)


def _original_sound(container: Any, from_s: float, samples: int, sample_rate_hz: int) -> np.ndarray:
    """Decode `samples` mono samples of the first audio stream from the container time `from_s` on."""
    stream = container.streams.audio[0]
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=sample_rate_hz)
    sound = np.zeros(samples, dtype=np.float32)
    if from_s > 1:
        container.seek(int((from_s - 0.5) / stream.time_base), stream=stream, backward=True)
    place: int | None = None
    try:
        for frame in container.decode(stream):
            if place is None:
                place = round(((frame.time or 0.0) - from_s) * sample_rate_hz)
            for part in resampler.resample(frame):
                place = _lay(sound, part.to_ndarray()[0], place)
            if place >= samples:
                break
    except FFmpegError:
        pass  # mix what could be decoded
    return sound


def _lay(sound: np.ndarray, part: np.ndarray, place: int) -> int:
    """Write a part at an index that may be out of range; return the index after it."""
    begin, end = max(place, 0), min(place + len(part), len(sound))
    if begin < end:
        sound[begin:end] = part[begin - place : end - place]
    return place + len(part)
