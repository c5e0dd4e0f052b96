"""Subtitles that are text, in the form that a container has for them. Their styles are not carried over."""

from __future__ import annotations

import re
import struct
from types import MappingProxyType

from mmaudio_model.media.mux.result_container import ResultContainer

TEXT_CODECS = frozenset({"subrip", "text", "ass", "ssa", "webvtt", "mov_text"})
TEXT_OF_CONTAINER = MappingProxyType(
    {
        ResultContainer.MP4: "mov_text",
        ResultContainer.MOV: "mov_text",
        ResultContainer.MKV: "subrip",
        ResultContainer.WEBM: "webvtt",
    }
)
# The encoder takes the style of MP4's text from an ASS header.
ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+
PlayResX: 384
PlayResY: 288

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
_ASS_FIELDS_BEFORE_TEXT = 8
_MARKUP = re.compile(r"</?[a-zA-Z][^<>]{0,200}>|\{\\[^{}]{0,500}\}")
_LONGEST = 0xFFFF


def codec_in(container: ResultContainer, codec: str) -> str | None:
    """Return the codec that subtitles get in a container; None if it cannot hold them.

    Pictures are not made into text, and the muxer has the last word on what is kept as it is.
    """
    if codec == TEXT_OF_CONTAINER[container]:
        return codec
    if container is ResultContainer.MKV and codec != "mov_text":
        return codec
    if codec in TEXT_CODECS:
        return TEXT_OF_CONTAINER[container]
    return None if container is ResultContainer.WEBM else codec


def rewritten(content: bytes, codec: str, wanted: str) -> bytes | None:
    """Return a subtitle in another form; None if it has no text."""
    text = _text(content, codec)
    if not text.strip():
        return None
    encoded = text.encode()[:_LONGEST]
    encoded = encoded.decode(errors="ignore").encode()  # not within a character
    return struct.pack(">H", len(encoded)) + encoded if wanted == "mov_text" else encoded


def _text(content: bytes, codec: str) -> str:
    if codec == "mov_text":
        if len(content) < 2:
            return ""
        (size,) = struct.unpack_from(">H", content)
        return content[2 : 2 + size].decode(errors="replace")
    text = content.rstrip(b"\0").decode(errors="replace")
    if codec in {"ass", "ssa"}:
        text = text.split(",", _ASS_FIELDS_BEFORE_TEXT)[-1]
        text = text.replace(r"\N", "\n").replace(r"\n", "\n").replace(r"\h", " ")
    return _MARKUP.sub("", text).replace("\r\n", "\n")
