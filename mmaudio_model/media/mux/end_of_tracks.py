"""Ends the tracks of a written MP4 or MOV with its section: their edit lists hide what comes after that time.

Frames in the middle may need a frame that is shown after the section's end, so it is in the file; FFmpeg's muxer would
show it. The last packet of a sound may be longer than the section. Only files that this program wrote itself are
changed, and only numbers in place.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

_HEADER = 8
_LARGE_HEADER = 16


def end_tracks(path: Path, end_s: Fraction) -> None:
    """Let all tracks of a file end at a time, in seconds from its start, if they last longer.

    Raises:
        ValueError: the file is not one that FFmpeg's muxer wrote.
    """
    with path.open("r+b") as file:
        moov = _box(file, 0, path.stat().st_size, b"moov")
        scale_at, duration_at, wide = _movie_fields(file, _box(file, *moov, b"mvhd"))
        end = round(end_s * _number(file, scale_at, wide=False))
        longest = 0
        for kind, track in _boxes(file, *moov):
            if kind != b"trak":
                continue
            header = _track_duration(file, _box(file, *track, b"tkhd"))
            duration = min(end, _number(file, *header))
            for name, edits in _boxes(file, *track):
                if name == b"edts":
                    _shorten_edits(file, _box(file, *edits, b"elst"), end)
            _write(file, *header, duration)
            longest = max(longest, duration)
        _write(file, duration_at, wide, longest)


def _shorten_edits(file: BinaryIO, elst: tuple[int, int], end: int) -> None:
    """Cut the edits to a whole length."""
    file.seek(elst[0])
    version, count = struct.unpack(">B3xI", file.read(8))
    wide = version == 1
    length = 0
    for index in range(count):
        place = elst[0] + 8 + index * (20 if wide else 12)
        duration = min(_number(file, place, wide), max(0, end - length))
        _write(file, place, wide, duration)
        length += duration


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
