"""Changes the boxes of MP4 and MOV files whose index is at the end, where FFmpeg cannot write what devices write."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"udta", b"dinf", b"edts"}
SAMPLE_ENTRY_BYTES = 8 + 78
"""A visual sample entry's own fields come before the boxes in it."""


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def add_box(path: Path, parents: Sequence[tuple[bytes, int]], added: bytes) -> None:
    """Add a box at the end of another one.

    Args:
        parents: kind and which of that kind, from `moov` down to the box that gets it.
    """
    content = bytearray(path.read_bytes())
    places = _places(content, parents)
    end = places[-1] + _size(content, places[-1])
    for place in places:
        content[place : place + 4] = struct.pack(">I", _size(content, place) + len(added))
    content[end:end] = added
    path.write_bytes(content)


def rename(path: Path, parents: Sequence[tuple[bytes, int]], kind: bytes) -> None:
    """Give a box another kind."""
    content = bytearray(path.read_bytes())
    place = _places(content, parents)[-1]
    content[place + 4 : place + 8] = kind
    path.write_bytes(content)


def replace(path: Path, old: bytes, new: bytes, *, count: int = 1) -> None:
    """Replace bytes by as many others, from the end of the file; asserts that they are there."""
    assert len(old) == len(new), "the offsets would be wrong"
    content = bytearray(path.read_bytes())
    for _ in range(count):
        place = content.rindex(old)
        content[place : place + len(old)] = new
    path.write_bytes(content)


def sample_entry(track: int, codec: bytes) -> list[tuple[bytes, int]]:
    """Return the parents of a track's sample entry."""
    return [(b"moov", 0), (b"trak", track), (b"mdia", 0), (b"minf", 0), (b"stbl", 0), (b"stsd", 0), (codec, 0)]


def _places(content: bytes | bytearray, parents: Sequence[tuple[bytes, int]]) -> list[int]:
    begin, end, places = 0, len(content), []
    for kind, which in parents:
        found = [place for place, name in _children(content, begin, end) if name == kind]
        assert len(found) > which, f"no {kind!r} number {which} in it"
        place = found[which]
        places.append(place)
        skipped = 8 if kind in CONTAINERS else 16 if kind in {b"stsd", b"meta"} else SAMPLE_ENTRY_BYTES
        begin, end = place + skipped, place + _size(content, place)
    return places


def _children(content: bytes | bytearray, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
    while begin + 8 <= end:
        yield begin, bytes(content[begin + 4 : begin + 8])
        begin += max(_size(content, begin), 8)


def _size(content: bytes | bytearray, place: int) -> int:
    return int(struct.unpack_from(">I", content, place)[0])
