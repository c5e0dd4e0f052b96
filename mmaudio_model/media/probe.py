"""Opens untrusted video files safely and checks them against limits before any frame is decoded.

FFmpeg opens much more than videos: playlists that refer to other files and addresses, scripts, text. A file is given to
the one demuxer that its first bytes call for, nested files are never opened, and a first look without any decoder
checks the number of streams, the sizes of the pictures and encryption.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import Any, BinaryIO

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from mmaudio_model.errors import MediaEncryptedError, MediaInvalidError, MediaTooLargeError
from mmaudio_model.media import picture_size
from mmaudio_model.media.animation import as_video
from mmaudio_model.media.container_rules import DEMUXER_NAMES, HEAD_BYTES, cannot_be_read, demuxer_of
from mmaudio_model.media.encryption import is_picture_encrypted
from mmaudio_model.media.ffmpeg_log import LogEntry, recorded_errors
from mmaudio_model.media.picture_size import (
    NO_DECODERS,
    check_first_pictures,
    check_refusals,
    check_size,
    limit_decoder,
)
from mmaudio_model.media.stream_choice import check_stream_count, chosen_video

SMALLEST_SIDE = 8
FASTEST_RATE = 1000
"""Frames per second; a header that declares more says something else with it."""
MAX_ATTACHMENTS = 192
"""With more streams and attachments than are allowed together, FFmpeg stops reading the header."""
# Of these FFmpeg learns the streams while it decodes them already, and takes no limit for their decoders.
STREAMS_UNANNOUNCED = frozenset(("mpeg", "flv"))
ENCRYPTED = (
    "The video is encrypted (digital rights management or scrambling), so it cannot be read; hand in an unprotected "
    "copy."
)
ANIMATIONS = {"gif": "GIF", "apng": "PNG"}
# A seek may end after the time, or at a key frame after it: it is repeated so many seconds earlier.
SEEK_BACK_S = (0, 2, 8, 32, 128, 512)
_TOO_MANY_STREAMS = "exceeds max_streams"


@dataclass(frozen=True)
class MediaLimits:
    """Limits on input files. Sizes in pixels per frame, times in seconds.

    Attributes:
        max_pixels: of a frame of a video; 8K is allowed.
        max_image_pixels: of a still picture.
        max_decoded_s: of the source that may be decoded for one section, from the key frame before it to its end. The
            source itself may be longer.
        max_streams: of the file, without attachments.
        max_decoded_frames: of one section, from the key frame before it to its end.
        max_decoded_pixels: of all these frames together: 29,000 frames of 1080p.
    """

    max_pixels: int = 8192 * 4608
    max_image_pixels: int = 120_000_000
    max_decoded_s: float = 3600.0
    max_streams: int = 64
    max_decoded_frames: int = 200_000
    max_decoded_pixels: int = 60_000_000_000


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
    """Open a video; yield its container and the video stream that a player shows.

    The stream is the default one among the moving ones: see `stream_choice`.

    Raises:
        MediaInvalidError: not a readable video.
        MediaEncryptedError: its picture is encrypted.
        MediaTooLargeError: the video exceeds the limits.
    """
    with as_video(file, limits) as video, _opened_video(video, limits) as found:
        yield found


@contextlib.contextmanager
def _opened_video(file: BinaryIO, limits: MediaLimits) -> Iterator[tuple[InputContainer, VideoStream]]:
    head = file.read(HEAD_BYTES)
    if not head:
        raise MediaInvalidError("The file is empty.")
    demuxer = demuxer_of(head)
    _check_without_decoders(file, demuxer, limits)
    with recorded_errors() as errors:
        container = _opened(file, demuxer, limits, errors, decoders=True)
    with container:
        stream = chosen_video(container)
        context: Any = stream.codec_context
        if context is not None and (not context.width or context.pix_fmt is None):
            check_refusals(errors, limits.max_pixels)
        if context is None or not context.width:
            raise MediaInvalidError("The video codec is unknown, or the file declares no frame size.")
        check_size(context.width, context.height, limits.max_pixels)
        if min(context.width, context.height) < SMALLEST_SIDE:
            raise MediaInvalidError(
                f"The picture has {context.width}x{context.height} pixels; each side needs at least {SMALLEST_SIDE}."
            )
        limit_decoder(context, limits.max_pixels)
        yield container, stream


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


def too_many_pixels(width: int, height: int, limits: MediaLimits) -> str:
    return picture_size.too_many_pixels(width, height, limits.max_pixels)


def check_preroll(seconds: Fraction, limits: MediaLimits) -> None:
    """Refuse to decode more than is allowed of what comes before a section.

    Raises:
        MediaTooLargeError: the key frame is farther away.
    """
    if seconds > limits.max_decoded_s:
        raise MediaTooLargeError(
            f"The video has no key frame near the start of the section: {float(seconds):.0f} s before it would have to "
            f"be decoded, at most {limits.max_decoded_s:g} s are; choose an earlier start, or cut the section out."
        )


def first_time_s(stream: VideoStream) -> float:
    """Return the time of the first presented frame as declared by the header, in seconds."""
    if stream.start_time is None or stream.time_base is None:
        return 0.0
    return float(stream.start_time * stream.time_base)


def seek_keyframe(container: InputContainer, stream: VideoStream, time_s: Fraction | float) -> None:
    """Seek to a key frame at or before a container time, in seconds; to the beginning if none is found nearby.

    Not every seek ends where it should: a file may have no index, or an index of packets instead of key frames. What is
    found is read, and the seek is repeated from earlier.
    """
    base = time_base(stream)
    wanted = math.floor(Fraction(time_s) / base)
    for back_s in SEEK_BACK_S:
        target = wanted - math.floor(back_s / base)
        if back_s and target <= (stream.start_time or 0):
            break
        with contextlib.suppress(FFmpegError):
            container.seek(target, stream=stream, backward=True)
            if _next_keyframe_is_by(container, stream, wanted):
                container.seek(target, stream=stream, backward=True)
                return
    seek_beginning(container)


def seek_beginning(container: InputContainer) -> None:
    """Seek to the first packet of a file, whether it has an index or not."""
    try:
        container.seek(min(container.start_time or 0, 0))
    except FFmpegError:
        container.seek(0, unsupported_byte_offset=True)


def _next_keyframe_is_by(container: InputContainer, stream: VideoStream, wanted: int) -> bool:
    """Return whether a key frame that is shown at `wanted` or before comes next, without reading past that time."""
    for packet in _filled(container, stream):
        stamp = packet.dts if packet.pts is None else packet.pts
        if packet.is_keyframe and stamp is not None:
            return bool(stamp <= wanted)
        if packet.dts is not None and packet.dts > wanted:
            return False
    return False


def time_base(stream: VideoStream) -> Fraction:
    """Return the unit of the stream's time stamps, in seconds.

    Raises:
        MediaInvalidError: the file declares none.
    """
    if stream.time_base is None:
        raise MediaInvalidError("The video stream has no time base, so its time stamps cannot be read.")
    return stream.time_base


def frame_rate(stream: VideoStream) -> Fraction:
    """Return the average frame rate, at most FASTEST_RATE; 25 if the file declares none."""
    # FFmpeg declares the time base of DV as its average rate: 60000.
    rates = (Fraction(rate or 0) for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate))
    return next((rate for rate in rates if 0 < rate <= FASTEST_RATE), Fraction(25))


def _opened(
    file: BinaryIO, demuxer: str, limits: MediaLimits, errors: list[LogEntry], *, decoders: bool
) -> InputContainer:
    """Open a file with one demuxer. `decoders`: FFmpeg may decode the first frames to learn more of the streams."""
    file.seek(0)
    name = DEMUXER_NAMES.get(demuxer, demuxer)
    options = {
        "format_whitelist": name,
        "protocol_whitelist": "",
        "max_streams": str(limits.max_streams + MAX_ATTACHMENTS),
    }
    try:
        return av.open(
            file,
            "r",
            format=name,
            # These reach the demuxer and the decoder of every stream that it announces.
            options={"max_pixels": str(limits.max_pixels)},
            container_options=options if decoders else {**options, **NO_DECODERS},
            metadata_errors="replace",
            io_open=_refuse,
        )
    except (FFmpegError, ValueError, MemoryError) as exc:
        if any(_TOO_MANY_STREAMS in message for _, _, message in errors):
            raise MediaTooLargeError(
                f"The file has more than {limits.max_streams + MAX_ATTACHMENTS} streams and attachments; at most "
                f"{limits.max_streams} streams are allowed."
            ) from exc
        raise MediaInvalidError(cannot_be_read(demuxer)) from exc


def _check_without_decoders(file: BinaryIO, demuxer: str, limits: MediaLimits) -> None:
    """Check what the container and the headers of the streams say, before any decoder allocates memory."""
    stream_id: int | None = None
    try:
        with recorded_errors() as errors, _opened(file, demuxer, limits, errors, decoders=False) as container:
            check_stream_count(container, limits.max_streams)
            stream = chosen_video(container)
            stream_id = stream.id
            for video in container.streams.video:
                if video.codec_context is not None:
                    check_size(video.codec_context.width, video.codec_context.height, limits.max_pixels)
            if demuxer in ANIMATIONS and not _has_two_pictures(container, stream):
                raise MediaInvalidError(f"The file is a still picture ({ANIMATIONS[demuxer]}), not a video.")
            if demuxer in STREAMS_UNANNOUNCED:
                check_first_pictures(container, limits.max_pixels)
    except MediaInvalidError as exc:
        if is_picture_encrypted(demuxer, file, stream_id):
            raise MediaEncryptedError(ENCRYPTED) from exc
        raise
    if is_picture_encrypted(demuxer, file, stream_id):
        raise MediaEncryptedError(ENCRYPTED)


def _has_two_pictures(container: InputContainer, stream: VideoStream) -> bool:
    try:
        return len(list(islice(_filled(container, stream), 2))) == 2
    except FFmpegError:
        return False


def _filled(container: InputContainer, stream: VideoStream) -> Iterator[Any]:
    return (packet for packet in container.demux(stream) if packet.size)


def _refuse(url: str, flags: int, options: dict[str, str]) -> Any:  # noqa: ARG001 - PyAV's signature
    raise PermissionError("a video may not open other files")
