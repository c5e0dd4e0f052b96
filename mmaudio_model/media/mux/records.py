"""Finds records of Dolby Vision and of 360-degree or stereoscopic pictures in a source.

FFmpeg's muxer writes them into MP4 but not into MOV.
"""

from __future__ import annotations

import struct
from types import MappingProxyType
from typing import BinaryIO

RECORDS = MappingProxyType(
    {
        b"dvcC": "Dolby Vision",
        b"dvvC": "Dolby Vision",
        b"dvwC": "Dolby Vision",
        b"sv3d": "the form of a 360-degree picture",
        b"st3d": "the places of a stereoscopic picture",
    }
)
# Indices of long recordings are smaller; the boxes before the index are few.
LARGEST_INDEX = 64 * 1024**2
MOST_BOXES = 1000


def records_of(file: BinaryIO) -> tuple[str, ...]:
    """Return the names of the records that are in the index of an MP4 or MOV."""
    file.seek(0)
    for _ in range(MOST_BOXES):
        head = file.read(16)
        if len(head) < 8:
            return ()
        size, kind = struct.unpack_from(">I4s", head)
        read = len(head)
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack_from(">Q", head, 8)
        if kind == b"moov":
            index = head[8:] + file.read(min(max(0, size - read), LARGEST_INDEX))
            return tuple(sorted({name for record, name in RECORDS.items() if record in index}))
        if size < 8:
            return ()
        file.seek(size - read, 1)
    return ()
