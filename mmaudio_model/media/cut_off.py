"""Tells whether a video file ends before its own headers say that it does, without decoding anything.

Players show what is there and say nothing. Each container has its own way to tell: sizes in headers, an index that
points beyond the end, a last part that is incomplete. Where a container declares nothing, only an incomplete last part
is a sign; a recording that was stopped between two parts is complete as far as anybody can tell.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

from av.container import InputContainer
from av.video.stream import VideoStream

from mmaudio_model.media.cut_off_signs import BY_DEMUXER, fragments
from mmaudio_model.media.media_warning import MediaWarning, WarningCode


@dataclass(frozen=True)
class _There:
    """How much is there: seconds of the picture from its first frame, or the share of the bytes; None: not known."""

    until_s: Fraction | None = None
    of_s: Fraction | None = None
    share: float | None = None


def cut_off(
    file: BinaryIO, container: InputContainer, stream: VideoStream, *, section_end_s: float | None = None
) -> MediaWarning | None:
    """Return a warning if the file is cut off, with how much is there and whether the section is affected.

    It reads a few headers, at most some hundred kilobytes, and leaves the position of `file` as it is.

    Args:
        container, stream: opened from `file` by `probe.opened`.
        section_end_s: the end of the section that is wanted, in seconds from the first frame of the picture.
    """
    position = file.tell()
    try:
        size = file.seek(0, os.SEEK_END)
        missing = _missing(file, size, container, stream)
    finally:
        file.seek(position)
    if missing is None:
        return None
    text = "The file is cut off: it ends before it is complete."
    if missing.until_s is not None:
        whole = f" of {float(missing.of_s):.1f} s" if missing.of_s else ""
        text += f" Its picture is there for {float(missing.until_s):.1f} s{whole}."
        if section_end_s is not None:
            touched = "ends early because of it" if section_end_s > missing.until_s else "is not affected"
            text += f" The chosen section {touched}."
    elif missing.share is not None:
        text += f" About {missing.share:.0%} of it are there."
    return MediaWarning(WarningCode.VIDEO_CUT_OFF, text)


def _missing(file: BinaryIO, size: int, container: InputContainer, stream: VideoStream) -> _There | None:
    name = container.format.name.split(",")[0]
    if name == "mov":
        fragmented, expected = fragments(file, size)
        if expected is not None:
            # What a fragment or its index lacks says nothing about how many fragments were to follow.
            return _There() if fragmented else _beyond_the_end(size, container, stream)
    else:
        sign = BY_DEMUXER.get(name)
        expected = None if sign is None else sign(file, size)
    if expected is None:
        return None
    return _There(share=size / expected if expected > size else None)


def _beyond_the_end(size: int, container: InputContainer, stream: VideoStream) -> _There | None:
    """Look for samples that the index of an MP4 or MOV places beyond the end of the file."""
    begin: int | None = None
    for entry in stream.index_entries:  # in decoding order
        begin = entry.timestamp if begin is None else begin
        if entry.pos + entry.size > size and stream.time_base is not None:
            whole = stream.duration * stream.time_base if stream.duration else None
            return _There((entry.timestamp - begin) * stream.time_base, whole)
    others = (entry for other in container.streams if other.type == "audio" for entry in other.index_entries)
    return _There() if any(entry.pos + entry.size > size for entry in others) else None
