"""Which container a result is written in, and what can be in it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from mmaudio_model.media.source_container import SourceContainer

# Codecs that players accept in MP4, whatever the file came in.
MP4_CODECS = frozenset({"h264", "hevc", "av1", "vp9", "mpeg4"})
WEBM_CODECS = frozenset({"vp8", "vp9", "av1"})
# What broadcasters and editors put into MXF and MOV.
EDITING_CODECS = frozenset({"prores", "dnxhd", "dvvideo", "mpeg2video"})
MXF_TO_MOV = EDITING_CODECS | {"h264"}
MOV_CODECS = EDITING_CODECS | {"h264", "hevc", "mpeg4", "mjpeg"}


class ResultContainer(StrEnum):
    """Containers that results are written in; the value is the ending of the file's name."""

    MP4 = "mp4"
    MOV = "mov"
    MKV = "mkv"
    WEBM = "webm"


# They have edit lists, data tracks and QuickTime's tags.
QUICKTIME = frozenset({ResultContainer.MP4, ResultContainer.MOV})


@dataclass(frozen=True)
class ContainerFacts:
    """What the muxer needs to know of a container."""

    muxer: str
    content_type: str
    increasing: bool
    """Decoding times must increase; otherwise equal ones are allowed, as frames that are not shown have them."""
    hides: bool
    """An edit list can hide frames before the start and after the end."""


CONTAINERS = MappingProxyType(
    {
        ResultContainer.MP4: ContainerFacts("mp4", "video/mp4", increasing=True, hides=True),
        ResultContainer.MOV: ContainerFacts("mov", "video/quicktime", increasing=True, hides=True),
        ResultContainer.MKV: ContainerFacts("matroska", "video/x-matroska", increasing=False, hides=False),
        ResultContainer.WEBM: ContainerFacts("webm", "video/webm", increasing=False, hides=False),
    }
)


def codec_name(stream: Any) -> str:
    """Return the name of a stream's codec, whichever decoder reads it; `unknown` if none does."""
    if stream.codec_context is None:
        return "unknown" if stream.type == "attachment" else getattr(stream, "name", None) or "unknown"
    return str(stream.codec_context.codec.canonical_name)


def container_for_copy(source: SourceContainer, codec: str, wanted: str) -> ResultContainer | None:
    """Return the container in which a video can be copied, or None if it must be encoded again.

    The muxer has the last word, since not every codec fits into every container.
    """
    match wanted:
        case "mkv":
            return ResultContainer.MKV
        case "webm":
            return ResultContainer.WEBM if codec in WEBM_CODECS else None
        case "mp4":
            return ResultContainer.MP4 if source is SourceContainer.MP4 or codec in MP4_CODECS else None
        case "mov":
            return ResultContainer.MOV if source is SourceContainer.MOV or codec in MOV_CODECS else None
    match source:
        case SourceContainer.MP4:
            return ResultContainer.MP4
        case SourceContainer.MOV:
            return ResultContainer.MOV
        case SourceContainer.MATROSKA:
            return ResultContainer.MKV
        case SourceContainer.WEBM:
            return ResultContainer.WEBM if codec in WEBM_CODECS else ResultContainer.MKV
    if source is SourceContainer.MXF and codec in MXF_TO_MOV:
        return ResultContainer.MOV
    if codec in MP4_CODECS:
        return ResultContainer.MP4
    return ResultContainer.WEBM if codec == "vp8" else None


def container_for_encoding(source: SourceContainer, wanted: str, *, transparent: bool) -> ResultContainer:
    """Return the container to encode for; H.264 is in every one except WebM, which keeps transparency in VP9."""
    if wanted != "auto":
        return ResultContainer(wanted)
    if source is SourceContainer.WEBM and transparent:
        return ResultContainer.WEBM
    if source is SourceContainer.MOV:
        return ResultContainer.MOV
    return ResultContainer.MKV if source is SourceContainer.MATROSKA else ResultContainer.MP4


def copied_tag(stream: Any, source: SourceContainer, target: ResultContainer) -> str | None:
    """Return the four letters of a copied video's codec; None leaves them to the muxer.

    QuickTime and Safari refuse HEVC as `hev1`. The letters of other codecs tell editors the kind, such as ProRes 422.
    """
    if target not in QUICKTIME:
        return None
    try:
        tag: str = stream.codec_context.codec_tag
    except UnicodeDecodeError:
        tag = ""
    codec = codec_name(stream)
    if codec == "hevc":
        return "dvh1" if tag in {"dvh1", "dvhe"} else "hvc1"
    if codec in {"h264", "av1", "vp8", "vp9"}:
        return tag if tag.startswith("ai") else None
    known = source in {SourceContainer.MP4, SourceContainer.MOV} or (
        source is SourceContainer.MATROSKA and codec in {"prores", "dnxhd"}
    )
    return tag if known and tag.isprintable() and tag.strip() else None


def sound_format(container: ResultContainer, codec: str, *, reencoded: bool) -> str:
    """Return the audio format (a key of `AUDIO_FORMATS`) of the new sound."""
    if container is ResultContainer.WEBM:
        return "opus"
    editing = container is ResultContainer.MOV and codec in EDITING_CODECS and not reencoded
    return "wav" if editing else "m4a"
