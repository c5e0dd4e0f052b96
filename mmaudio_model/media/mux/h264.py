"""Tells from the bytes of an H.264 packet whether a decoder can start there."""

from __future__ import annotations

import re

_IDR = 5
_NOT_IDR = 1
_START_CODE = re.compile(rb"\x00\x00\x01(.)", re.DOTALL)


def starts_anew(packet: bytes, extradata: bytes | None) -> bool:
    """Return whether a packet begins with an IDR picture, after which nothing earlier is needed.

    Other key frames are those of an open group of pictures: what follows may name pictures from before.
    """
    length_size = (extradata[4] & 3) + 1 if extradata and len(extradata) > 4 and extradata[0] == 1 else None
    kinds = _annex_b(packet) if length_size is None else _prefixed(packet, length_size)
    first = next((kind for kind in kinds if kind in {_IDR, _NOT_IDR}), _IDR)
    return first == _IDR


def _annex_b(packet: bytes) -> list[int]:
    return [found[1][0] & 31 for found in _START_CODE.finditer(packet)]


def _prefixed(packet: bytes, length_size: int) -> list[int]:
    kinds, place = [], 0
    while place + length_size < len(packet):
        size = int.from_bytes(packet[place : place + length_size])
        kinds.append(packet[place + length_size] & 31)
        place += length_size + size
    return kinds
