"""Tells whether the picture of a file is encrypted. It reads headers only, and a bounded part of the file.

FFmpeg takes encrypted pictures for damaged ones, or shows noise.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import BinaryIO

_READ_BYTES = 256 * 1024
_MOST_BOXES = 4096
# Sample entries: Common Encryption (cenc, cbcs), and what iTunes sold.
_ENCRYPTED_ENTRIES = frozenset((b"encv", b"drmi"))
_ASF_ENCRYPTION = tuple(
    bytes.fromhex(guid)
    for guid in (
        "fbb31122 23bdd211 b4b700a0c955fc6e",  # content encryption
        "14e68a29 2226174c b935dae07ee9289c",  # extended content encryption
        "33850543 8169e649 9b74ad12cb86d58c",  # advanced content encryption
    )
)
# The keys of the cryptographic context and of an encrypted packet, and the label of the encrypted essence container;
# each without its first half, which holds a version.
_MXF_ENCRYPTION = tuple(bytes.fromhex(key) for key in ("0d01040102020000", "0d010301027e0100", "0d010301020b0100"))
_TS_PACKET_BYTES = (188, 192, 204)


def is_picture_encrypted(demuxer: str, file: BinaryIO, stream_id: int | None) -> bool:
    """Return whether the video of a file is encrypted.

    Args:
        demuxer: from `container_rules.demuxer_of`.
        file: its position is changed.
        stream_id: the container's own number of the video stream; None if it is not known.
    """
    file.seek(0)
    match demuxer:
        case "mov":
            entries = _sample_entries(file)
            return any(kind in _ENCRYPTED_ENTRIES for track, kind in entries if stream_id in {None, track})
        case "matroska":
            return _has_encrypted_track(file)
        case "mpegts":
            return stream_id is not None and _is_scrambled(file.read(_READ_BYTES), stream_id)
        case "mpeg":
            return _has_scrambled_packets(file.read(_READ_BYTES))
        case "asf":
            head = file.read(24)
            header = file.read(min(int.from_bytes(head[16:24], "little"), _READ_BYTES))
            return any(guid in header for guid in _ASF_ENCRYPTION)
        case "mxf":
            header = file.read(_READ_BYTES)
            return any(key in header for key in _MXF_ENCRYPTION)
        case "flv":
            return _has_filtered_tags(file.read(_READ_BYTES))
        case _:
            return False


def _sample_entries(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield (id of the track, type) of the sample entries of an MP4."""
    end = file.seek(0, 2)
    for movie, movie_start, movie_end in _boxes(file, 0, end):
        if movie != b"moov":
            continue
        for track, start, track_end in _boxes(file, movie_start, movie_end):
            if track != b"trak":
                continue
            number = 0
            for kind, inside, inside_end in _boxes(file, start, track_end):
                if kind == b"tkhd":
                    file.seek(inside)
                    header = file.read(24)
                    number = int.from_bytes(header[20:24] if header[:1] == b"\1" else header[12:16])
                elif kind == b"mdia":
                    for entry in _entries_of(file, inside, inside_end):
                        yield number, entry


def _entries_of(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    """Yield the types of the sample entries below a box `mdia`."""
    spans = [(start, end)]
    for wanted in (b"minf", b"stbl", b"stsd"):
        spans = [(at, to) for span in spans for kind, at, to in _boxes(file, *span) if kind == wanted]
    for at, to in spans:
        yield from (kind for kind, _, _ in _boxes(file, at + 8, to))  # after version, flags and count


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start, end) of the contents of the boxes in a part of a file."""
    for _ in range(_MOST_BOXES):
        file.seek(start)
        head = file.read(16)
        if len(head) < 8 or start + 8 > end:
            return
        size, begins = int.from_bytes(head[:4]), start + 8
        if size == 1:
            size, begins = int.from_bytes(head[8:16]), start + 16
        elif size == 0:
            size = end - start
        if start + size < begins:
            return
        yield head[4:8], begins, min(start + size, end)
        start += size


_TRACKS, _TRACK, _TRACK_TYPE, _ENCODINGS, _ENCODING, _ENCRYPTION = 0x1654AE6B, 0xAE, 0x83, 0x6D80, 0x6240, 0x5035
_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675


def _has_encrypted_track(file: BinaryIO) -> bool:
    """Return whether a video track of a Matroska file has an encryption among its encodings."""
    end = file.seek(0, 2)
    for segment in _elements(file, 0, end, _SEGMENT):
        for tracks in _elements(file, *segment, _TRACKS):
            for track in _elements(file, *tracks, _TRACK):
                kinds = [_number(file, *span) for span in _elements(file, *track, _TRACK_TYPE)]
                encrypted = (
                    True
                    for encodings in _elements(file, *track, _ENCODINGS)
                    for encoding in _elements(file, *encodings, _ENCODING)
                    for _ in _elements(file, *encoding, _ENCRYPTION)
                )
                if 1 in kinds and any(encrypted):
                    return True
    return False


def _elements(file: BinaryIO, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of the contents of the elements of one kind in a part of a Matroska file, before its data."""
    for _ in range(_MOST_BOXES):
        file.seek(start)
        head = file.read(12)
        if len(head) < 2 or start >= end or not head[0]:
            return
        name_bytes = 9 - head[0].bit_length()
        name = int.from_bytes(head[:name_bytes])
        first = head[name_bytes] if name_bytes < len(head) else 0
        if name_bytes > 4 or not first or name == _CLUSTER:
            return
        size_bytes = 9 - first.bit_length()
        size = int.from_bytes(head[name_bytes : name_bytes + size_bytes]) & ((1 << 7 * size_bytes) - 1)
        begins = start + name_bytes + size_bytes
        unknown = size == (1 << 7 * size_bytes) - 1
        ends = end if unknown else min(begins + size, end)
        if name == wanted:
            yield begins, ends
        start = ends


def _number(file: BinaryIO, start: int, end: int) -> int:
    file.seek(start)
    return int.from_bytes(file.read(min(end - start, 8)))


def _is_scrambled(content: bytes, pid: int) -> bool:
    """Return whether most packets of a stream of an MPEG-TS are scrambled, by themselves or by their PES packet."""
    scrambled = clear = 0
    within = False
    for packet in _ts_packets(content):
        if (packet[1] & 0x1F) << 8 | packet[2] != pid or not packet[3] & 0x10:  # another stream, or no payload
            continue
        payload = packet[5 + packet[4] :] if packet[3] & 0x20 else packet[4:]
        if packet[1] & 0x40 and len(payload) > 6:  # a PES packet begins
            within = payload[6] >> 6 == 2 and payload[6] >> 4 & 3 != 0
        if packet[3] >> 6 or within:
            scrambled += 1
        else:
            clear += 1
    return scrambled > clear


def _ts_packets(content: bytes) -> Iterator[bytes]:
    for size, start in itertools.product(_TS_PACKET_BYTES, range(204)):
        if len(content) > start + 4 * size and all(content[start + index * size] == 0x47 for index in range(5)):
            for place in range(start, len(content) - 187, size):
                yield content[place : place + 188]
            return


def _has_scrambled_packets(content: bytes) -> bool:
    """Return whether video packets of an MPEG-PS are scrambled, as on a protected DVD: often every second one."""
    scrambled = clear = 0
    place = content.find(b"\0\0\1")
    while 0 <= place < len(content) - 7:
        if content[place + 3] >> 4 == 0xE and content[place + 6] >> 6 == 2:
            scrambled, clear = (scrambled + 1, clear) if content[place + 6] >> 4 & 3 else (scrambled, clear + 1)
            place += 6 + int.from_bytes(content[place + 4 : place + 6])
        place = content.find(b"\0\0\1", place + 1)
    return scrambled * 4 > clear


def _has_filtered_tags(content: bytes) -> bool:
    """Return whether the first video tags of an FLV say that they are encrypted."""
    place = int.from_bytes(content[5:9]) + 4
    for _ in range(64):
        tag = content[place : place + 11]
        if len(tag) < 11:
            return False
        if tag[0] & 0x1F == 9:
            return bool(tag[0] & 0x20)
        place += 11 + int.from_bytes(tag[1:4]) + 4
    return False
