"""Chooses the video stream that a player shows, among covers, thumbnails and other videos."""

from __future__ import annotations

from collections.abc import Sequence

from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from mmaudio_model.errors import MediaInvalidError, MediaTooLargeError
from mmaudio_model.media.media_warning import MediaWarning, WarningCode

_NOT_MOVING = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
_COVER_CODECS = frozenset(("mjpeg", "png", "bmp", "gif", "webp", "jpeg2000"))


def check_stream_count(container: InputContainer, max_streams: int) -> None:
    """Refuse a file with too many streams; attachments (fonts, pictures) cost nothing and do not count.

    Raises:
        MediaTooLargeError: there are more than `max_streams`.
    """
    count = sum(not _is_attachment(stream) for stream in container.streams)
    if count > max_streams:
        raise MediaTooLargeError(f"The file has {count} streams, at most {max_streams} are allowed.")


def chosen_video(container: InputContainer) -> VideoStream:
    """Return the moving video that is marked as the default one, or else the first.

    Raises:
        MediaInvalidError: there is none.
    """
    if not container.streams.video:
        raise MediaInvalidError("The file has no video stream.")
    moving = moving_videos(container.streams.video)
    if not moving:
        raise MediaInvalidError("The only video stream in the file is a cover picture.")
    return next((stream for stream in moving if stream.disposition & Disposition.default), moving[0])


def moving_videos(videos: Sequence[VideoStream]) -> list[VideoStream]:
    """Return the videos that are no cover, thumbnail or still picture, and that depend on no other.

    A stream whose codec or size is unknown, or a single JPEG or PNG, is only returned when there is nothing else.
    """
    moving = [stream for stream in videos if not stream.disposition & _NOT_MOVING]
    for unlikely in (_depends_on_another, _is_unreadable, _is_single_picture):
        moving = [stream for stream in moving if not unlikely(stream)] or moving
    return moving


def stream_warnings(container: InputContainer, stream: VideoStream) -> tuple[MediaWarning, ...]:
    """Return a warning if the file has other moving videos than the chosen one."""
    others = len(moving_videos(container.streams.video)) - 1
    if others < 1:
        return ()
    by_default = bool(stream.disposition & Disposition.default)
    text = (
        f"The file has {others + 1} videos; {'the default one' if by_default else 'the first one'} "
        f"(stream {stream.index}) was taken."
    )
    return (MediaWarning(WarningCode.SEVERAL_VIDEOS, text),)


def _is_attachment(stream: Stream) -> bool:
    return stream.type == "attachment" or bool(stream.disposition & Disposition.attached_pic)


def _depends_on_another(stream: VideoStream) -> bool:
    return bool(stream.disposition & Disposition.dependent)


def _is_unreadable(stream: VideoStream) -> bool:
    return getattr(stream, "codec_context", None) is None or not stream.codec_context.width


def _is_single_picture(stream: VideoStream) -> bool:
    """Return whether a stream is one JPEG, PNG or the like, as some cameras and editors store a thumbnail."""
    return stream.frames == 1 and stream.codec_context is not None and stream.codec_context.name in _COVER_CODECS
