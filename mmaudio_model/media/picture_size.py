"""Refuses pictures that are larger than allowed, before their memory is asked for.

A decoder is given the limit and refuses by itself; FFmpeg's log alone says that this was the reason.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Any

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from mmaudio_model.errors import MediaTooLargeError
from mmaudio_model.media.ffmpeg_log import LogEntry, recorded_errors

PACKETS_TO_FIRST_PICTURE = 64
# A decoder with several threads reports a packet's error when it is given a later one.
PACKETS_REMEMBERED = 32
HEADERS_BYTES = 64 * 1024
NO_DECODERS = {"codec_whitelist": "none", "fpsprobesize": "0", "skip_estimate_duration_from_pts": "1"}
"""Options of a container that is looked at without any decoder, and without reading far ahead (rate, length)."""
_RAW_FORMATS = {
    "h264": "h264", "hevc": "hevc", "mpeg1video": "mpegvideo", "mpeg2video": "mpegvideo", "mpeg4": "m4v",
}  # fmt: skip
_REFUSED = re.compile(r"Picture size (\d+)x(\d+) exceeds")


def too_many_pixels(width: int, height: int, max_pixels: int) -> str:
    return f"The picture has {width}x{height} pixels; at most {max_pixels / 1e6:.1f} megapixels are allowed."


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise MediaTooLargeError if there are more pixels than allowed."""
    if width * height > max_pixels:
        raise MediaTooLargeError(too_many_pixels(width, height, max_pixels))


def limit_decoder(context: Any, max_pixels: int) -> None:
    """Let a decoder that is not open yet refuse larger pictures."""
    context.options = {**context.options, "max_pixels": str(max_pixels)}


def check_refusals(errors: Iterable[LogEntry], max_pixels: int) -> None:
    """Raise MediaTooLargeError if a decoder with a limit refused a picture for its size."""
    for _, _, message in errors:
        found = _REFUSED.search(message)
        if found:
            raise MediaTooLargeError(too_many_pixels(int(found[1]), int(found[2]), max_pixels))


def check_first_pictures(container: InputContainer, max_pixels: int) -> None:
    """Decode one picture of each video of a freshly opened file; damage is told by whoever reads it.

    Raises:
        MediaTooLargeError: one is larger than its header says, and than allowed.
    """
    videos = [stream for stream in container.streams.video if stream.codec_context is not None]
    for stream in videos:
        limit_decoder(stream.codec_context, max_pixels)
        stream.codec_context.thread_count = 1
    waiting = {stream.index for stream in videos}
    with recorded_errors() as errors, contextlib.suppress(FFmpegError):
        for packet in islice(container.demux(*videos), PACKETS_TO_FIRST_PICTURE * len(videos)):
            with contextlib.suppress(FFmpegError):
                if packet.stream_index in waiting and packet.decode():
                    waiting.remove(packet.stream_index)
            if not waiting:
                break
    check_refusals(errors, max_pixels)


class KeyFrameSizes:
    """Tells, when a stream cannot be decoded, whether a key frame larger than allowed is the reason.

    FFmpeg's log must not be recorded while a decoder with several threads runs: one of them may wait for Python's lock
    when it is stopped. So a parser is asked, for the codecs of broadcasting, whose pictures may change their size.
    """

    def __init__(self, stream: VideoStream, max_pixels: int) -> None:
        self._format = _RAW_FORMATS.get(stream.codec_context.name)
        self._max_pixels = max_pixels
        self._unchecked: deque[bytes] = deque(maxlen=PACKETS_REMEMBERED)

    def remember(self, packet: Packet[VideoStream]) -> None:
        """Keep the beginning of a packet that goes to the decoder, if it is a key frame."""
        if self._format is not None and packet.is_keyframe and packet.size:
            self._unchecked.append(bytes(memoryview(packet)[:HEADERS_BYTES]))

    def check(self) -> None:
        """Parse the headers of the last key frames; each is checked once.

        Raises:
            MediaTooLargeError: one is larger than allowed.
        """
        for content in self._unchecked:
            with contextlib.suppress(FFmpegError), _parsed(content, self._format) as container:
                for stream in container.streams.video:
                    if stream.codec_context is not None:
                        check_size(stream.codec_context.width, stream.codec_context.height, self._max_pixels)
        self._unchecked.clear()


def _parsed(content: bytes, raw_format: str | None) -> InputContainer:
    options = {**NO_DECODERS, "format_whitelist": raw_format or "", "protocol_whitelist": ""}
    return av.open(io.BytesIO(content), "r", format=raw_format, container_options=options)
