"""Recognises a file by its first bytes, so that FFmpeg is told which one demuxer may read it.

FFmpeg by itself guesses among hundreds of formats: playlists that refer to other files and addresses, scripts, and text
that becomes a picture. A file that is not recognised here never reaches it. Demuxers that accept almost anything (raw
DV, MPEG-PS, GIF) are only used for files that begin as theirs do.
"""

from __future__ import annotations

import re

from mmaudio_model.errors import MediaInvalidError

HEAD_BYTES = 65_536 + 512
"""MXF may begin after up to 65536 other bytes."""
SUPPORTED = (
    "MP4, MOV, M4V, 3GP, MKV, WebM, AVI, MPEG-TS, MPEG-PS (VOB), MXF, FLV, OGV, WMV (ASF), DV, GIF, APNG and animated "
    "WebP"
)

DEMUXER_NAMES = {"mov": "mov,mp4,m4a,3gp,3g2,mj2", "matroska": "matroska,webm"}
"""The whole names of demuxers that have several."""
_KINDS = {
    "matroska": "MKV or WebM",
    "avi": "AVI",
    "mpegts": "MPEG-TS",
    "mpeg": "MPEG-PS",
    "mxf": "MXF",
    "flv": "FLV",
    "ogg": "OGV",
    "asf": "WMV (ASF)",
    "dv": "DV",
    "gif": "GIF",
    "apng": "APNG",
}

_OTHER_FILES = (
    (b"#EXTM3U", "a playlist"),
    (b"ffconcat", "a list of other files"),
    (b"<?xml", "a text document"),
    (b"<svg", "a drawing (SVG)"),
    (b"<MPD", "a playlist"),
    (b"<asx", "a playlist"),
    (b"<ASX", "a playlist"),
    (b"[Reference]", "a playlist"),
    (b"[playlist]", "a playlist"),
    (b"\x89PNG", "a still picture (PNG)"),
    (b"\xff\xd8\xff", "a still picture (JPEG)"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"PK\x03\x04", "an archive (ZIP)"),
    (b"%PDF", "a text document (PDF)"),
    (b"fLaC", "a sound (FLAC)"),
    (b"ID3", "a sound (MP3)"),
)
_RIFF_FILES = {
    b"AVI ": "avi",
    b"AVIX": "avi",
    b"AVI\x19": "avi",
}
_OTHER_RIFF_FILES = {b"WAVE": "a sound (WAV)", b"WEBP": "a picture (WebP)"}
_STILL_BRANDS = {
    b"heic": "HEIC", b"heix": "HEIC", b"heim": "HEIC", b"heis": "HEIC", b"mif1": "HEIF", b"avif": "AVIF",
}  # fmt: skip
# The boxes that an MP4 or a QuickTime movie begins with.
_MOVIE_BOXES = frozenset(
    (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid", b"junk", b"pict",
     b"udta", b"sidx", b"ssix", b"prfl", b"emsg", b"prft", b"meta")
)  # fmt: skip
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_MXF_HEADER = bytes.fromhex("060e2b34020501010d01020101")  # the first 13 bytes of each kind of header partition
_TS_PACKET_BYTES = (188, 192, 204)
_TS_PACKETS_SEEN = 5
# Control characters that no text has; escape (ANSI art) and form feed are let through.
_NO_TEXT = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]")


def demuxer_of(head: bytes) -> str:
    """Return FFmpeg's name of the one demuxer that may read a file.

    Args:
        head: the first HEAD_BYTES of the file, or all of it.

    Raises:
        MediaInvalidError: the file is no video, or of a kind that is not supported.
    """
    named = _demuxer_by_magic(head)
    if named is not None:
        return named
    raise MediaInvalidError(_not_a_video(head))


def cannot_be_read(demuxer: str) -> str:
    """Return the sentence for a file that FFmpeg refuses although it begins as it should."""
    if demuxer == "mov":
        return "The file is truncated or damaged: its index (moov) is missing."
    return f"The file is truncated or damaged: it begins as {_KINDS[demuxer]}, but cannot be read."


def _demuxer_by_magic(head: bytes) -> str | None:
    if not _NO_TEXT.search(head[:512]):
        return None
    if head[4:8] in _MOVIE_BOXES:
        return None if head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS else "mov"
    if head[:4] == b"RIFF":
        return _RIFF_FILES.get(head[8:12])
    for begins, name in ((b"\x1aE\xdf\xa3", "matroska"), (b"OggS\0", "ogg"), (_ASF_HEADER, "asf")):
        if head.startswith(begins):
            return name
    if head[:6] in {b"GIF87a", b"GIF89a"}:
        return "gif"
    if head[:3] == b"FLV" and head[3:4] <= b"\x05" and 9 <= int.from_bytes(head[5:9]) < 1 << 16:  # version, header
        return "flv"
    if _is_animated_png(head):
        return "apng"
    if _is_raw_dv(head):
        return "dv"
    if head[:4] == b"\0\0\1\xba" and len(head) > 4 and (head[4] >> 6 == 1 or head[4] >> 4 == 2):  # MPEG-2 or MPEG-1
        return "mpeg"
    if _MXF_HEADER in head:
        return "mxf"
    return "mpegts" if _is_transport_stream(head) else None


def _is_animated_png(head: bytes) -> bool:
    """Return whether a PNG announces an animation before its first picture."""
    return head.startswith(b"\x89PNG\r\n\x1a\n") and 0 < head.find(b"acTL") < head.find(b"IDAT")


def _is_raw_dv(head: bytes) -> bool:
    """Return whether the head begins with the blocks of a DIF sequence: header, two of subcode, three of VAUX."""
    blocks = [head[index * 80 : index * 80 + 3] for index in range(6)]
    if len(blocks[5]) < 3 or head[3] & 0x7F != 0x3F:
        return False
    sections = [block[0] >> 5 for block in blocks]
    return sections == [0, 1, 1, 2, 2, 2] and all(block[1] >> 4 == 0 for block in blocks)


def _is_transport_stream(head: bytes) -> bool:
    """Return whether packets follow each other from one of the first bytes on; a cut recording begins within one."""
    for size in _TS_PACKET_BYTES:
        span = size * (_TS_PACKETS_SEEN - 1)
        start = head.find(b"\x47")
        while 0 <= start < len(head) - span:
            if all(head[start + index * size] == 0x47 for index in range(1, _TS_PACKETS_SEEN)):
                return True
            start = head.find(b"\x47", start + 1)
    return False


def _not_a_video(head: bytes) -> str:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for signature, name in _OTHER_FILES:
        if text.startswith(signature):
            return f"The file is {name}, not a video."
    if head[:4] == b"RIFF" and head[8:12] in _OTHER_RIFF_FILES:
        return f"The file is {_OTHER_RIFF_FILES[head[8:12]]}, not a video."
    if head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS:
        return f"The file is a still picture ({_STILL_BRANDS[head[8:12]]}), not a video."
    return f"The file is not a readable video; supported are {SUPPORTED}."
