"""Refuses pictures that are larger than allowed, before their memory is asked for.

A decoder is given the limit and refuses by itself; FFmpeg's log alone says that this was the reason.
"""

from __future__ import annotations

import contextlib
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
    """Tells, when a stream cannot be decoded, whether a key frame larger than allowed is the reason."""

    def __init__(self, stream: VideoStream, max_pixels: int) -> None:
        self._stream, self._max_pixels = stream, max_pixels
        self._unchecked: deque[Packet[VideoStream]] = deque(maxlen=PACKETS_REMEMBERED)

    def remember(self, packet: Packet[VideoStream]) -> None:
        """Keep a packet that goes to the decoder, if it is a key frame."""
        if packet.is_keyframe and packet.size:
            self._unchecked.append(packet)

    def check(self) -> None:
        """Decode the last key frames again, with one thread and the limit; each is checked once.

        Raises:
            MediaTooLargeError: one is larger than allowed.
        """
        context = av.CodecContext.create(self._stream.codec_context.codec.name, "r")
        context.extradata = self._stream.codec_context.extradata
        context.thread_count = 1
        limit_decoder(context, self._max_pixels)
        with recorded_errors() as errors:
            for packet in self._unchecked:
                with contextlib.suppress(FFmpegError):
                    context.decode(packet)
        self._unchecked.clear()
        check_refusals(errors, self._max_pixels)
