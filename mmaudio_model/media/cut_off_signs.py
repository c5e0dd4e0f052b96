"""How the file of each container shows that its end is missing: sizes it declares, or a last part that is incomplete.

Every function takes a file and its size in bytes and returns the size that it should have, `UNKNOWN` if it is cut off
and does not tell, or None if nothing is missing. What follows a complete file, such as padding, is no fault, nor is a
live recording that declares no size. The names of the formats' fields are those of their specifications.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

UNKNOWN = 0
Sign = Callable[[BinaryIO, int], "int | None"]
# Steps after which a walk through a file's parts gives up: it must stay cheap.
MOST_STEPS = 200_000
TAIL_BYTES = 256 * 1024
LARGEST_PLACE = 2**62  # fields of 64 bits can hold more than a file can be sought to

_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_TS_PACKETS = (188, 192, 204)
_TS_SYNC = 0x47
_TS_RUN = 5
_MXF_PARTITION = b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01"
_MXF_HEADER, _MXF_FOOTER = _MXF_PARTITION + b"\x02", _MXF_PARTITION + b"\x04"
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_BROADCAST = 1
_OGG_LAST_PAGE = 4
_DV_FRAME_BYTES = (120_000, 144_000)  # 525 and 625 lines; other profiles have multiples
_FLV_TAGS = frozenset({8, 9, 18})
# AVI: sizes of a file that is still being written.
_AVI_OPEN = frozenset({0, 0xFFFFFFFF})
_AVI_SLACK_BYTES = 8  # some programs count the RIFF header itself


def at(file: BinaryIO, place: int, count: int) -> bytes:
    if place > LARGEST_PLACE:
        return b""
    file.seek(place)
    return file.read(count)


def avi(file: BinaryIO, size: int) -> int | None:
    place = 0
    while place + 12 <= size:
        kind, length = struct.unpack("<4sI", at(file, place, 8))
        if kind != b"RIFF":
            return None
        if length in _AVI_OPEN:
            return _open_avi(file, size, place + 12)
        end = place + 8 + length
        if end > size + _AVI_SLACK_BYTES:
            return int(end)
        place = end + length % 2
    return None


def _open_avi(file: BinaryIO, size: int, place: int) -> int | None:
    """Walk through the chunks of an AVI whose sizes were never filled in."""
    for _ in range(MOST_STEPS):
        head = at(file, place, 12)
        if len(head) < 8:
            return UNKNOWN if head else None
        kind, length = struct.unpack("<4sI", head[:8])
        if kind == b"LIST" and head[8:12] in {b"movi", b"rec "}:
            place += 12
            continue
        if not kind.strip().isalnum():
            return None
        if place + 8 + length > size:
            return UNKNOWN
        place += 8 + length + length % 2
    return None


def matroska(file: BinaryIO, size: int) -> int | None:
    header = _element(file, 0)
    if header is None or header[0] != _EBML or header[2] is None:
        return None
    segment = _element(file, header[1] + header[2])
    if segment is None or segment[0] != _SEGMENT:
        return None
    _, place, length = segment
    if length is not None:
        return place + length if place + length > size else None
    for _ in range(MOST_STEPS):
        if place >= size:
            return None
        element = _element(file, place)
        if element is None:
            return None
        kind, inside, length = element
        if length is None and kind != _CLUSTER:
            return None
        place = inside if length is None else inside + length  # a cluster of unknown size: on with what is in it
        if place > size:
            return UNKNOWN
    return None


def _element(file: BinaryIO, place: int) -> tuple[int, int, int | None] | None:
    """Return the id of an EBML element, where its content begins, and its length, None if it is unknown."""
    head = at(file, place, 12)
    if len(head) < 2 or head[0] < 0x10:
        return None
    id_bytes = 9 - head[0].bit_length()
    if len(head) <= id_bytes or head[id_bytes] == 0:
        return None
    length_bytes = 9 - head[id_bytes].bit_length()
    field = int.from_bytes(head[id_bytes : id_bytes + length_bytes]) & ((1 << 7 * length_bytes) - 1)
    unknown = field == (1 << 7 * length_bytes) - 1
    return int.from_bytes(head[:id_bytes]), place + id_bytes + length_bytes, None if unknown else field


def mpegts(file: BinaryIO, size: int) -> int | None:
    """Look for an incomplete last packet, or for a last part (PES) of the picture that declares more than is there."""
    start = max(0, size - TAIL_BYTES)
    tail = at(file, start, TAIL_BYTES)
    aligned = _last_packets(tail)
    if aligned is None:
        return None
    packet, last = aligned
    left = len(tail) - last
    if packet == 192:  # a time stamp of four bytes before each packet
        left += 4
    if left < packet or (packet == 192 and packet < left < packet + 4):
        return UNKNOWN
    missing: dict[int, int] = {}
    for place in range(last % packet, last + 1, packet):
        _count_pes(tail[place : place + 188], missing)
    return UNKNOWN if any(count > 0 for count in missing.values()) else None


def _last_packets(tail: bytes) -> tuple[int, int] | None:
    """Return the size of a packet and where the last one begins."""
    for packet in _TS_PACKETS:
        for last in range(len(tail) - 1, max(len(tail) - 1 - packet, packet * _TS_RUN), -1):
            if all(tail[last - step * packet] == _TS_SYNC for step in range(_TS_RUN)):
                return packet, last
    return None


def _count_pes(packet: bytes, missing: dict[int, int]) -> None:
    """Keep how many bytes the current PES packet of each video PID still lacks."""
    if len(packet) < 188 or packet[0] != _TS_SYNC or not packet[3] & 0x10:
        return
    pid = int.from_bytes(packet[1:3]) & 0x1FFF
    payload = packet[5 + packet[4] :] if packet[3] & 0x20 else packet[4:]
    if packet[1] & 0x40:
        missing.pop(pid, None)
        if payload[:3] == b"\0\0\1" and len(payload) >= 6 and 0xE0 <= payload[3] <= 0xEF:
            declared = int.from_bytes(payload[4:6])
            if declared:
                missing[pid] = 6 + declared - len(payload)
    elif pid in missing:
        missing[pid] -= len(payload)


def mpegps(file: BinaryIO, size: int) -> int | None:
    start = max(0, size - TAIL_BYTES)
    tail = at(file, start, TAIL_BYTES)
    place = tail.find(b"\0\0\1\xba")
    while 0 <= place < len(tail):
        head = tail[place : place + 14]
        if len(head) < 6:
            return UNKNOWN if b"\0\0\1".startswith(head[:3]) else None
        if head[:3] != b"\0\0\1":
            return None
        if head[3] == 0xB9:
            place += 4
        elif head[3] == 0xBA:
            second = head[4] & 0xC0 == 0x40
            if len(head) < 12 + 2 * second:
                return UNKNOWN
            place += 14 + (head[13] & 7) if second else 12
        elif head[3] >= 0xBB:
            place += 6 + int.from_bytes(head[4:6])
        else:
            return None
    return UNKNOWN if place > len(tail) else None


def flv(file: BinaryIO, size: int) -> int | None:
    declared = _flv_declared(at(file, 0, 4096))
    if declared > size:
        return declared
    before = int.from_bytes(at(file, size - 4, 4))
    if before <= size - 13:
        head = at(file, size - 4 - before, 4)
        if head[0] & 0x1F in _FLV_TAGS and int.from_bytes(head[1:4]) + 11 == before:
            return None
    place = int.from_bytes(at(file, 5, 4)) + 4
    for _ in range(MOST_STEPS):
        head = at(file, place, 11)
        if not head or head[0] & 0x1F not in _FLV_TAGS:
            return None
        place += 11 + int.from_bytes(head[1:4])
        if len(head) < 11 or place > size:
            return UNKNOWN
        place += 4
    return None


def _flv_declared(head: bytes) -> int:
    place = head.find(b"\0\x08filesize\0")
    field = head[place + 11 : place + 19]
    if place < 0 or len(field) < 8:
        return 0
    (value,) = struct.unpack(">d", field)
    return int(value) if 0 < value < 2**53 else 0


def mxf(file: BinaryIO, size: int) -> int | None:
    head = at(file, 0, 65_536 + 128)
    begin = head.find(_MXF_HEADER)
    if begin < 0 or len(head) < begin + 64:
        return None
    length_bytes = 1 + (head[begin + 16] & 0x7F if head[begin + 16] & 0x80 else 0)
    fields = begin + 16 + length_bytes
    footer = int.from_bytes(head[fields + 24 : fields + 32])
    if footer:
        return begin + footer if begin + footer + 16 > size else None
    return None if _MXF_FOOTER in at(file, max(0, size - TAIL_BYTES), TAIL_BYTES) else UNKNOWN


def asf(file: BinaryIO, size: int) -> int | None:
    head = at(file, 0, 65_536)
    place = head.find(_ASF_FILE_PROPERTIES)
    if place < 0 or len(head) < place + 92:
        return None
    (declared,) = struct.unpack_from("<Q", head, place + 40)
    (flags,) = struct.unpack_from("<I", head, place + 88)
    return declared if not flags & _ASF_BROADCAST and declared > size else None


def ogg(file: BinaryIO, size: int) -> int | None:
    tail = at(file, max(0, size - TAIL_BYTES), TAIL_BYTES)
    for found in reversed(list(re.finditer(rb"OggS\0", tail))):
        page = tail[found.start() : found.start() + 27 + 255]
        if len(page) < 27 or len(page) < 27 + page[26]:
            return UNKNOWN
        end = found.start() + 27 + page[26] + sum(page[27 : 27 + page[26]])
        return UNKNOWN if end > len(tail) or not page[5] & _OGG_LAST_PAGE else None
    return None


def dv(file: BinaryIO, size: int) -> int | None:
    lines_625 = at(file, 3, 1)[:1] >= b"\x80"
    return UNKNOWN if size % _DV_FRAME_BYTES[lines_625] else None


def gif(file: BinaryIO, size: int) -> int | None:
    return None if b"\0;" in at(file, max(0, size - 64), 64) else UNKNOWN


def apng(file: BinaryIO, size: int) -> int | None:
    return None if b"IEND\xaeB`\x82" in at(file, max(0, size - 4096), 4096) else UNKNOWN


def boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield kind, begin, begin of the content and end of each box of an MP4; a box to the end of the file ends there.

    It stops at what is no box, such as padding; the last box may end beyond the file.
    """
    place = 0
    for _ in range(MOST_STEPS):
        head = at(file, place, 16)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head[:8])
        inside = 8
        if length == 1 and len(head) == 16:
            length, inside = int.from_bytes(head[8:16]), 16
        elif length == 0:
            length = size - place
        if kind not in _BOXES or length < inside:
            return
        yield kind, place, place + inside, place + length
        place += length


_BOXES = frozenset(
    {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"moof", b"mfra", b"sidx", b"styp", b"ssix",
     b"uuid", b"pdin", b"emsg", b"prft", b"meta", b"udta", b"PICT", b"junk"}
)  # fmt: skip


def fragments(file: BinaryIO, size: int) -> tuple[bool, int | None]:
    """Return whether an MP4 is in fragments, and the sign as by the other functions.

    Without fragments, the sign is only that the media data end beyond the file or have no declared size; whether a
    sample is missing is for the index to tell.
    """
    fragmented, expected, last, reached = False, None, b"", 0
    for kind, begin, inside, end in boxes(file, size):
        fragmented = fragmented or kind == b"moof"
        if kind == b"sidx" and end <= size:
            indexed = _indexed_end(at(file, inside, min(end - inside, TAIL_BYTES)), end)
            expected = indexed if indexed > size else expected
        if end > size:
            expected = max(expected or 0, end)
        elif kind == b"mdat" and end == size and at(file, begin, 4) == bytes(4):
            expected = UNKNOWN if expected is None else expected
        last, reached = kind, end
    if expected is None and fragmented and (last == b"moof" or 0 < size - reached < 8):
        expected = UNKNOWN
    return fragmented, expected


def _indexed_end(content: bytes, end: int) -> int:
    """Return the end of the last fragment that a segment index refers to."""
    wide = content[:1] == b"\x01"
    place = 12 + (16 if wide else 8)
    if len(content) < place + 4:
        return 0
    first = int.from_bytes(content[place - 8 : place] if wide else content[place - 4 : place])
    count = int.from_bytes(content[place + 2 : place + 4])
    sizes = (content[place + 4 + 12 * index : place + 8 + 12 * index] for index in range(count))
    return end + first + sum(int.from_bytes(field) & 0x7FFFFFFF for field in sizes)


BY_DEMUXER: dict[str, Sign] = {
    "avi": avi,
    "matroska": matroska,
    "mpegts": mpegts,
    "mpeg": mpegps,
    "flv": flv,
    "live_flv": flv,
    "mxf": mxf,
    "asf": asf,
    "ogg": ogg,
    "dv": dv,
    "gif": gif,
    "apng": apng,
}
"""By the first name of FFmpeg's demuxer; MP4 and MOV have an index that tells more."""
