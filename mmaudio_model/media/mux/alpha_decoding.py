"""Decodes VP8 and VP9 with their transparency, which FFmpeg's own decoders leave out and libvpx's do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mmaudio_model.media.picture_size import limit_decoder

_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


def is_declared_transparent(stream: VideoStream) -> bool:
    """Return whether a Matroska or WebM file says that its packets have transparency beside them."""
    # The element and the tag of that name differ in case.
    return any(name.lower() == "alpha_mode" and value == "1" for name, value in stream.metadata.items())


def with_alpha(container: Any, stream: VideoStream, max_pixels: int) -> Any:
    """Return the container, or one like it whose packets of this stream are decoded with their transparency."""
    if not is_declared_transparent(stream) or stream.codec_context.name not in _DECODERS:
        return container
    context: Any = av.CodecContext.create(_DECODERS[stream.codec_context.name], "r")
    context.thread_count = stream.thread_count
    limit_decoder(context, max_pixels)
    return _Container(container, context)


class _Container:
    """A container as `section_frames` uses it."""

    def __init__(self, container: Any, context: Any) -> None:
        self._container, self._context = container, context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def seek(self, *args: Any, **kwargs: Any) -> None:
        self._container.seek(*args, **kwargs)
        if self._context.is_open:
            self._context.flush_buffers()

    def demux(self, stream: VideoStream) -> Iterator[_Packet]:
        return (_Packet(packet, self._context) for packet in self._container.demux(stream))


class _Packet:
    """A packet that another decoder than its stream's decodes."""

    __slots__ = ("_context", "_packet")

    def __init__(self, packet: Packet[VideoStream], context: Any) -> None:
        object.__setattr__(self, "_packet", packet)
        object.__setattr__(self, "_context", context)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._packet, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._packet, name, value)

    def __bytes__(self) -> bytes:
        return bytes(self._packet)

    def decode(self) -> list[VideoFrame]:
        frames: list[VideoFrame] = self._context.decode(self._packet)
        return frames
