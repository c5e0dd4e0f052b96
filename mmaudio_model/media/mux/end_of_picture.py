"""Ends the picture of a written MP4 or MOV with the sound: its edit list hides the frames after that time.

Frames in the middle may need a frame that is shown after the section's end, so it is in the file; FFmpeg's muxer would
show it. Only files that this program wrote itself are changed, and only numbers in place.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

_HEADER = 8
_LARGE_HEADER = 16


def end_picture(path: Path, end_s: Fraction) -> None:
    """Let the first track of a file end at a time, in seconds from its start, if it lasts longer.

    Raises:
        ValueError: the file is not one that FFmpeg's muxer wrote.
    """
    with path.open("r+b") as file:
        moov = _box(file, 0, path.stat().st_size, b"moov")
        mvhd = _box(file, *moov, b"mvhd")
        scale_at, duration_at, wide = _movie_fields(file, mvhd)
        end = round(end_s * _number(file, scale_at, wide=False))
        tracks = [span for kind, span in _boxes(file, *moov) if kind == b"trak"]
        if not tracks:
            raise ValueError("the file has no track")
        elst = _box(file, *_box(file, *tracks[0], b"edts"), b"elst")
        kept = _shorten_edits(file, elst, end)
        headers = [_track_duration(file, _box(file, *track, b"tkhd")) for track in tracks]
        _write(file, *headers[0], min(kept, _number(file, *headers[0])))
        _write(file, duration_at, wide, max(_number(file, *header) for header in headers))


def _shorten_edits(file: BinaryIO, elst: tuple[int, int], end: int) -> int:
    """Cut the edits to a whole length; return the length they have then."""
    file.seek(elst[0])
    version, count = struct.unpack(">B3xI", file.read(8))
    wide = version == 1
    length = 0
    for index in range(count):
        place = elst[0] + 8 + index * (20 if wide else 12)
        duration = min(_number(file, place, wide), max(0, end - length))
        _write(file, place, wide, duration)
        length += duration
    return length


def _movie_fields(file: BinaryIO, mvhd: tuple[int, int]) -> tuple[int, int, bool]:
    """Return the places of the time scale and of the duration, and whether the latter has 64 bits."""
    file.seek(mvhd[0])
    wide = file.read(1) == b"\x01"
    scale = mvhd[0] + 4 + (16 if wide else 8)
    return scale, scale + 4, wide


def _track_duration(file: BinaryIO, tkhd: tuple[int, int]) -> tuple[int, bool]:
    file.seek(tkhd[0])
    wide = file.read(1) == b"\x01"
    return tkhd[0] + 4 + (16 if wide else 8) + 8, wide


def _number(file: BinaryIO, place: int, wide: bool) -> int:
    file.seek(place)
    return int.from_bytes(file.read(8 if wide else 4))


def _write(file: BinaryIO, place: int, wide: bool, value: int) -> None:
    file.seek(place)
    file.write(value.to_bytes(8 if wide else 4))


def _box(file: BinaryIO, begin: int, end: int, kind: bytes) -> tuple[int, int]:
    """Return where the content of the first box of a kind begins and ends."""
    found = next((span for name, span in _boxes(file, begin, end) if name == kind), None)
    if found is None:
        raise ValueError(f"the file has no {kind.decode()} box")
    return found


def _boxes(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    place = begin
    while place + _HEADER <= end:
        file.seek(place)
        size, kind = struct.unpack(">I4s", file.read(_HEADER))
        content = place + _HEADER
        if size == 1:
            size = int.from_bytes(file.read(8))
            content = place + _LARGE_HEADER
        if size < content - place:
            raise ValueError(f"a box of the file has the size {size}")
        yield kind, (content, place + size)
        place += size
