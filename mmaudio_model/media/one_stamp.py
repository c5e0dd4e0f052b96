"""Containers that keep one time stamp for each packet, so that the times of reordered frames are not known."""

from __future__ import annotations

import contextlib
from itertools import islice

from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from mmaudio_model.media.continuity import rewind

# AVI has no presentation times at all; those that FFmpeg derives are wrong for reordered frames.
NEVER_PRESENTED = frozenset({"avi"})
# These may have them: some muxers, FFmpeg's own among them, leave them out for some codecs.
SOMETIMES_PRESENTED = frozenset({"mxf"})
# So many packets show whether there are any: frames are reordered within groups of fewer.
LOOKED_AT = 64


def has_decoding_times_only(container: InputContainer, stream: VideoStream) -> bool:
    """Return whether the frames' order is that in which the decoder returns them, at the packets' decoding times.

    The container must be at its beginning, and is left there.
    """
    name = container.format.name
    if name in NEVER_PRESENTED:
        return True
    if name not in SOMETIMES_PRESENTED or not stream.codec_context.has_b_frames:
        return False
    differs = False
    with contextlib.suppress(FFmpegError):  # what is damaged is said when it is decoded
        packets = (packet for packet in container.demux(stream) if packet.size)
        differs = any(packet.pts != packet.dts for packet in islice(packets, LOOKED_AT))
    rewind(container, stream)
    return not differs
