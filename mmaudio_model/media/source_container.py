"""Names the kind of file that a video came in, as players and editors know it."""

from __future__ import annotations

from enum import StrEnum
from typing import BinaryIO

from av.container import InputContainer


class SourceContainer(StrEnum):
    """The kinds of files that are taken as a video. Brands of one kind are one: M4V and 3GP are `mp4`."""

    MP4 = "mp4"
    MOV = "mov"
    MATROSKA = "matroska"
    WEBM = "webm"
    AVI = "avi"
    MPEGTS = "mpegts"
    MPEGPS = "mpegps"
    MXF = "mxf"
    FLV = "flv"
    OGG = "ogg"
    DV = "dv"
    ASF = "asf"
    GIF = "gif"
    APNG = "apng"
    WEBP = "webp"


_BY_DEMUXER = {
    "avi": SourceContainer.AVI,
    "mpegts": SourceContainer.MPEGTS,
    "mpeg": SourceContainer.MPEGPS,
    "mxf": SourceContainer.MXF,
    "flv": SourceContainer.FLV,
    "ogg": SourceContainer.OGG,
    "dv": SourceContainer.DV,
    "asf": SourceContainer.ASF,
    "gif": SourceContainer.GIF,
    "apng": SourceContainer.APNG,
}
_QUICKTIME_BRAND = b"qt  "
_DOC_TYPE = b"\x42\x82"
_HEAD_BYTES = 512


def source_container(container: InputContainer, file: BinaryIO) -> SourceContainer:
    """Return the kind of an opened file; the position of `file` stays as it is.

    Args:
        container: opened from `file` by `probe.opened`.
        file: it is read from its start.

    Raises:
        KeyError: `container` was not opened by `probe.opened`.
    """
    position = file.tell()
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    file.seek(position)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":  # FFmpeg is given its frames in another container
        return SourceContainer.WEBP
    name = container.format.name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":  # opened as a video made of it, see `animation`
        return SourceContainer.WEBP
    if name.startswith("mov,"):
        return _quicktime_or_mp4(head)
    if name.startswith("matroska"):
        return SourceContainer.WEBM if _document_type(head) == b"webm" else SourceContainer.MATROSKA
    return _BY_DEMUXER[name]


def _quicktime_or_mp4(head: bytes) -> SourceContainer:
    """Tell by the major brand; files older than brands have no `ftyp` and are QuickTime's."""
    if head[4:8] != b"ftyp":
        return SourceContainer.MOV
    return SourceContainer.MOV if head[8:12] == _QUICKTIME_BRAND else SourceContainer.MP4


def _document_type(head: bytes) -> bytes:
    """Return the value of the element DocType of an EBML header."""
    place = head.find(_DOC_TYPE)
    if place < 0 or place + 3 > len(head):
        return b""
    size = head[place + 2] & 0x7F
    return head[place + 3 : place + 3 + size].rstrip(b"\0")
