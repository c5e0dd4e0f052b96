"""The video with its new sound: video packets copied as they are, sound encoded beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.media.audio import AUDIO_FORMATS, add_audio_stream, audio_frames
from mmaudio_model.media.probe import MediaLimits, first_time_s, frame_rate, opened

# What players take in MP4; VP8 has its home in WebM, whose sound is Opus. Anything else is encoded again.
MP4_CODECS = frozenset({"h264", "hevc", "av1", "libdav1d", "vp9", "mpeg4"})
WEBM_CODECS = frozenset({"vp8"})
KEYFRAME_TOLERANCE_S = 0.02
REENCODE_QUALITY = {"crf": "18", "preset": "veryfast"}


@dataclass(frozen=True)
class MuxResult:
    """The file that was written: its format (`mp4` or `webm`), its MIME type, and what the person should know."""

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
    """Write the stretch of `source` with the waveform, float32 (samples,), as its sound.

    The video is copied packet by packet when the stretch begins on a key frame and the codec has a container that
    players know; else it is encoded again, with a warning. Cut on packets: the picture may outlast the sound by the
    frames that others depend on.

    Args:
        original_gain_db: mix the video's own sound in at this gain; None drops it.

    Raises:
        MediaInvalidError, MediaTooLargeError: as for reading frames.
    """
    warnings: list[str] = []
    sound = waveform
    if original_gain_db is not None:
        sound = _mixed(source, waveform, sample_rate_hz, start_s, original_gain_db, limits, warnings)
        source.seek(0)
    with opened(source, limits) as (container, stream):
        codec = stream.codec_context.name
        why = _why_not_copy(container, stream, codec, start_s)
        if why is not None:
            warnings.append(f"The video was encoded again: {why}.")
        webm = why is None and codec in WEBM_CODECS
        with av.open(str(out_path), "w", format="webm" if webm else "mp4", options=_options(webm)) as out:
            write = _reencode if why is not None else _copy
            write(container, stream, out, start_s, duration_s, sound, sample_rate_hz, "opus" if webm else "m4a")
    return MuxResult(
        format="webm" if webm else "mp4",
        content_type="video/webm" if webm else "video/mp4",
        reencoded=why is not None,
        warnings=tuple(warnings),
    )


def _options(webm: bool) -> dict[str, str]:
    # faststart: the index comes first, so that a browser plays while it loads
    return {} if webm else {"movflags": "+faststart"}


def _why_not_copy(container: Any, stream: VideoStream, codec: str, start_s: float) -> str | None:
    if codec not in MP4_CODECS | WEBM_CODECS:
        return f"its codec ({codec}) is not one that players know in MP4 or WebM"
    if start_s <= 0:
        return None
    wanted = first_time_s(stream) + start_s
    keyframes = (packet for packet in _packets_from(container, stream, start_s) if packet.is_keyframe)
    first = next(keyframes, None)
    container.seek(0)
    if first is None or first.pts is None or abs(float(first.pts * stream.time_base) - wanted) > KEYFRAME_TOLERANCE_S:
        return "the stretch does not begin on a key frame"
    return None


def _packets_from(container: Any, stream: VideoStream, start_s: float) -> Iterator[Packet]:
    if start_s > 0:
        # The tolerance makes a key frame at the start itself the one that is found.
        wanted = first_time_s(stream) + start_s + KEYFRAME_TOLERANCE_S
        container.seek(int(wanted / stream.time_base), stream=stream, backward=True)
    try:
        yield from (packet for packet in container.demux(stream) if packet.size)
    except FFmpegError:
        return  # a damaged end: what came before it is kept


def _copy(
    container: Any,
    stream: VideoStream,
    out: Any,
    start_s: float,
    duration_s: float,
    sound: np.ndarray,
    sample_rate_hz: int,
    audio: str,
) -> None:
    copied = _stream_like(out, stream)
    audio_stream = add_audio_stream(out, AUDIO_FORMATS[audio], sample_rate_hz)
    packets = list(_packets_from(container, stream, start_s))
    if not packets:
        raise MediaInvalidError("The video has no packets that could be copied.")
    base = stream.time_base
    stamps = [packet.pts for packet in packets if packet.pts is not None]
    origin = min(stamps, default=0)
    end = origin + duration_s / base
    # Later packets in decoding order may be needed by earlier ones in presentation order: cut behind the last needed.
    last = max((i for i, packet in enumerate(packets) if packet.pts is None or packet.pts < end), default=0)
    waiting = _encoded(audio_stream, sound, sample_rate_hz)
    next_sound = next(waiting, None)
    for packet in packets[: last + 1]:
        if packet.dts is None:
            continue
        if packet.pts is not None:
            packet.pts -= origin
        packet.dts -= origin
        at_s = float(packet.dts * base)
        while next_sound is not None and _time_s(next_sound) <= at_s:
            out.mux(next_sound)
            next_sound = next(waiting, None)
        packet.stream = copied
        out.mux(packet)
    while next_sound is not None:
        out.mux(next_sound)
        next_sound = next(waiting, None)


def _stream_like(out: Any, stream: VideoStream) -> Any:
    """Add a stream for copied packets: codec data and display matrix come along."""
    context = stream.codec_context
    if context.codec.name == context.codec.canonical_name:
        return out.add_stream_from_template(stream)
    # A decoder of another name (libdav1d) has no encoder that a template could be made for.
    sides = {"width": context.width, "height": context.height}
    return out.add_mux_stream(context.codec.canonical_name, rate=frame_rate(stream), **sides)


def _reencode(
    container: Any,
    stream: VideoStream,
    out: Any,
    start_s: float,
    duration_s: float,
    sound: np.ndarray,
    sample_rate_hz: int,
    audio: str,
) -> None:
    from mmaudio_model.media.frames import timed_frames

    encoded = out.add_stream("libx264", rate=frame_rate(stream), options=REENCODE_QUALITY)
    # yuv420p needs even sides
    encoded.width, encoded.height = (
        side // 2 * 2 for side in (stream.codec_context.width, stream.codec_context.height)
    )
    encoded.pix_fmt = "yuv420p"
    time_base = Fraction(1, 90_000)
    encoded.codec_context.time_base = time_base
    audio_stream = add_audio_stream(out, AUDIO_FORMATS[audio], sample_rate_hz)
    first = True
    for time_s, frame in timed_frames(container, stream, start_s, MediaLimits(), []):
        if time_s >= duration_s:
            break
        if first and frame.rotation:
            encoded.set_display_rotation(frame.rotation)
        first = False
        picture = frame.reformat(width=encoded.width, height=encoded.height, format="yuv420p")
        picture.pts, picture.time_base = round(time_s * 90_000), time_base
        out.mux(encoded.encode(picture))
    out.mux(encoded.encode(None))
    for packet in _encoded(audio_stream, sound, sample_rate_hz):
        out.mux(packet)


def _encoded(stream: Any, sound: np.ndarray, sample_rate_hz: int) -> Iterator[Packet]:
    for frame in audio_frames(sound, sample_rate_hz):
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _time_s(packet: Packet) -> float:
    return float((packet.dts or 0) * packet.time_base)


def _mixed(
    source: BinaryIO,
    waveform: np.ndarray,
    sample_rate_hz: int,
    start_s: float,
    gain_db: float,
    limits: MediaLimits,
    warnings: list[str],
) -> np.ndarray:
    """Add the video's own sound to the waveform."""
    with opened(source, limits) as (container, stream):
        if not container.streams.audio:
            warnings.append("The video has no sound of its own to mix in.")
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
        pass  # what could be decoded is mixed
    return sound


def _lay(sound: np.ndarray, part: np.ndarray, place: int) -> int:
    """Write a part at a place that may lie outside; return the place behind it."""
    begin, end = max(place, 0), min(place + len(part), len(sound))
    if begin < end:
        sound[begin:end] = part[begin - place : end - place]
    return place + len(part)
