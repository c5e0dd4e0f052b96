"""Opens untrusted video files safely and checks them against limits before any frame is decoded.

FFmpeg opens much more than videos: playlists that refer to other files and addresses, scripts, text. Only five
container families are allowed, nested files are never opened, and sizes are checked against limits first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from mmaudio_model.errors import MediaInvalidError, MediaTooLargeError
from mmaudio_model.media.animation import as_video

# ffconcat and HLS are demuxers, so a format whitelist excludes them; a protocol whitelist does not.
FORMATS = "mov,matroska,webm,avi,mpegts"
SIGNATURES = (
    (b"\x89PNG", "a still picture (PNG)"),
    (b"\xff\xd8\xff", "a still picture (JPEG)"),
    (b"GIF8", "an animated picture (GIF)"),
    (b"#EXTM3U", "a playlist"),
    (b"ffconcat", "a list of other files"),
    (b"<?xml", "a text document"),
    (b"<svg", "a drawing (SVG)"),
    (b"<MPD", "a playlist"),
    (b"\x7fELF", "a program"),
)
SMALLEST_SIDE = 8
# MPEG-TS has no index: a seek ends near the time, and the next key frame may be after it.
SEEK_BACK_S = (0.0, 2.0, 12.0)


@dataclass(frozen=True)
class MediaLimits:
    """Limits on input files. Sizes in pixels per frame, times in seconds."""

    max_pixels: int = 4096 * 2304
    max_image_pixels: int = 120_000_000
    max_source_duration_s: float = 3600.0
    max_streams: int = 16
    max_decoded_frames: int = 20_000


@dataclass(frozen=True)
class VideoInfo:
    """Properties of the video stream as declared by the container."""

    duration_s: float | None
    width: int
    height: int
    codec: str
    container: str
    has_audio: bool


@contextlib.contextmanager
def opened(file: BinaryIO, limits: MediaLimits) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video; yield its container and its first video stream that is not a cover picture.

    Raises:
        MediaInvalidError: not a readable video.
        MediaTooLargeError: the video exceeds the limits.
    """
    with as_video(file, limits) as video, _opened_video(video, limits) as found:
        yield found


@contextlib.contextmanager
def _opened_video(file: BinaryIO, limits: MediaLimits) -> Iterator[tuple[InputContainer, VideoStream]]:
    head = file.read(512)
    file.seek(0)
    if not head:
        raise MediaInvalidError("The file is empty.")
    try:
        container = av.open(
            file, "r", container_options={"format_whitelist": FORMATS, "protocol_whitelist": ""}, io_open=_refuse
        )
    except (FFmpegError, ValueError, MemoryError) as exc:
        raise MediaInvalidError(_not_a_video(head)) from exc
    with container:
        yield container, _video_stream(container, limits)


def probe_video(file: BinaryIO, limits: MediaLimits) -> VideoInfo:
    """Return the declared properties; raises the errors of `opened`."""
    with opened(file, limits) as (container, stream):
        return VideoInfo(
            duration_s=container_duration_s(container, stream),
            width=stream.codec_context.width,
            height=stream.codec_context.height,
            codec=stream.codec_context.name,
            container=container.format.name,
            has_audio=bool(container.streams.audio),
        )


def container_duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    """Return the duration declared by the header, in seconds; None if there is none."""
    if stream.duration is not None and stream.time_base is not None and stream.duration > 0:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def _video_stream(container: InputContainer, limits: MediaLimits) -> VideoStream:
    if len(container.streams) > limits.max_streams:
        raise MediaTooLargeError(
            f"The file has {len(container.streams)} streams, at most {limits.max_streams} are allowed."
        )
    videos = list(container.streams.video)
    if not videos:
        raise MediaInvalidError("The file has no video stream.")
    moving = [stream for stream in videos if not stream.disposition & Disposition.attached_pic]
    if not moving:
        raise MediaInvalidError("The only video stream in the file is a cover picture.")
    stream = moving[0]
    context: Any = stream.codec_context
    if context is None or not getattr(context, "width", 0):
        raise MediaInvalidError("The video codec is unknown, or the file declares no frame size.")
    width, height = context.width, context.height
    if width * height > limits.max_pixels:
        raise MediaTooLargeError(too_many_pixels(width, height, limits))
    if min(width, height) < SMALLEST_SIDE:
        raise MediaInvalidError(f"The picture has {width}x{height} pixels; each side needs at least {SMALLEST_SIDE}.")
    duration = container_duration_s(container, stream)
    if duration is not None and duration > limits.max_source_duration_s:
        raise MediaTooLargeError(
            f"The video lasts {duration:.0f} s; at most {limits.max_source_duration_s:.0f} s are allowed."
        )
    return stream


def too_many_pixels(width: int, height: int, limits: MediaLimits) -> str:
    return f"The picture has {width}x{height} pixels; at most {limits.max_pixels / 1e6:.1f} megapixels are allowed."


def first_time_s(stream: VideoStream) -> float:
    """Return the time of the first presented frame as declared by the header, in seconds."""
    if stream.start_time is None or stream.time_base is None:
        return 0.0
    return float(stream.start_time * stream.time_base)


def seek_keyframe(container: InputContainer, stream: VideoStream, time_s: float) -> None:
    """Seek to a key frame at or before a container time; to the beginning if none is found nearby."""
    base = time_base(stream)
    wanted = int(time_s / base)
    for back_s in SEEK_BACK_S:
        target = wanted - int(back_s / base)
        container.seek(target, stream=stream, backward=True)
        if "mpegts" not in container.format.name:
            return
        found = next((packet.pts for packet in container.demux(stream) if packet.is_keyframe and packet.size), None)
        if found is not None and found <= wanted:
            container.seek(target, stream=stream, backward=True)
            return
    container.seek(0)


def time_base(stream: VideoStream) -> Fraction:
    """Return the unit of the stream's time stamps, in seconds.

    Raises:
        MediaInvalidError: the file declares none.
    """
    if stream.time_base is None:
        raise MediaInvalidError("The video stream has no time base, so its time stamps cannot be read.")
    return stream.time_base


def frame_rate(stream: VideoStream) -> Fraction:
    """Return the average frame rate; 25 if the file declares none."""
    return Fraction(stream.average_rate or stream.guessed_rate or 25)


def _refuse(url: str, flags: int, options: dict[str, str]) -> Any:  # noqa: ARG001 - PyAV's signature
    raise PermissionError("a video may not open other files")


def _not_a_video(head: bytes) -> str:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for signature, name in SIGNATURES:
        if text.startswith(signature):
            return f"The file is {name}, not a video."
    if b"ftyp" in head[:16]:
        return "The file is truncated or damaged: its index (moov) is missing."
    return "The file is not a readable video; supported are MP4, MOV, MKV, WebM, AVI and MPEG-TS."
