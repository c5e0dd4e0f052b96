"""Which encoder, pixel format and tags keep what describes a picture in a container, and what cannot be kept.

MP4 is for players: H.264 with 4:2:0 and 8 bits, which all of them show, or HEVC with 10 bits for HDR and for sources
that are 10-bit HEVC already. MOV and MKV are for editors: chroma sampling and bit depth stay. Transparency stays as
ProRes 4444 in MOV and as VP9 in MKV and WebM.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mmaudio_model.errors import RequestInvalidError
from mmaudio_model.media.media_warning import MediaWarning, WarningCode
from mmaudio_model.media.mux.encoding_memory import encoder_threads, lookahead_frames
from mmaudio_model.media.mux.picture_facts import (
    FULL_RANGE,
    MATRIX_BT709,
    MATRIX_BT2020,
    MATRIX_RGB,
    PRIMARIES_BT2020,
    UNSPECIFIED,
    PictureFacts,
    picture_facts,
)

CONTAINERS = ("mp4", "mov", "mkv", "webm")
# Presets of x264 and x265, with the `cpu-used` of VP9 that takes about the same share of the time of its slowest.
PRESETS: Mapping[str, int] = MappingProxyType(
    {
        "ultrafast": 8,
        "superfast": 7,
        "veryfast": 5,
        "faster": 4,
        "fast": 3,
        "medium": 2,
        "slow": 1,
        "slower": 0,
        "veryslow": 0,
    }
)
HIGHEST_CRF = 51
LIMITED_RANGE = 1
_FASTEST_GOOD = 5  # VP9 has higher values of `cpu-used` in its real-time mode only


@dataclass(frozen=True)
class EncoderSettings:
    """How a picture is encoded again.

    Attributes:
        crf: constant rate factor of x264, 0 (largest and best) to 51; the other encoders get their equivalent.
        preset: x264's name for a speed; a slower one makes smaller files.

    Raises:
        RequestInvalidError: a value is not one of these.
    """

    crf: int = 18
    preset: str = "veryfast"

    def __post_init__(self) -> None:
        if not 0 <= self.crf <= HIGHEST_CRF:
            raise RequestInvalidError(f"Got the rate factor {self.crf} for encoding; it may be 0 to {HIGHEST_CRF}.")
        if self.preset not in PRESETS:
            raise RequestInvalidError(f"Got the encoder preset {self.preset!r}; there are {', '.join(PRESETS)}.")


@dataclass(frozen=True)
class Encoding:
    """How a picture will be encoded.

    Attributes:
        codec: FFmpeg's name of the encoder; `tag` is the container's four letters for it, if not the usual ones.
        width, height: of the written picture; the source's, less a row or column where an encoder needs even sides.
        facts: those of the source, which the written picture keeps except for what `changes` names.
        kept: what is worth a word, for a person ("10 bits, HLG").
        changes: what is not kept, each a part of a sentence.
        background: transparency is composed on black.
    """

    codec: str
    pix_fmt: str
    container: str
    width: int
    height: int
    facts: PictureFacts
    matrix: int
    color_range: int
    options: Mapping[str, str]
    tag: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    interlaced: bool = False
    background: bool = False
    kept: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[MediaWarning, ...]:
        """One warning that names what is not kept, or none."""
        return changed_picture(self.changes)


def changed_picture(changes: tuple[str, ...]) -> tuple[MediaWarning, ...]:
    if not changes:
        return ()
    return (MediaWarning(WarningCode.PICTURE_CHANGED, f"Encoding changed the picture: {'; '.join(changes)}."),)


def choose_encoding(
    stream: VideoStream, first_frame: VideoFrame, container: str, settings: EncoderSettings | None = None
) -> Encoding:
    """Choose how the picture of a stream is encoded for a container (`mp4`, `mov`, `mkv` or `webm`).

    Args:
        first_frame: a decoded frame of the stream; colour, fields and metadata are read from it.
    """
    return encoding_for(picture_facts(stream, first_frame), container, settings or EncoderSettings())


def encoding_for(facts: PictureFacts, container: str, settings: EncoderSettings) -> Encoding:
    """Choose by the facts of a picture alone; see `choose_encoding`."""
    if container not in CONTAINERS:
        raise RequestInvalidError(f"Got the video container {container!r}; there are {', '.join(CONTAINERS)}.")
    codec, chroma, depth = _codec(facts, container)
    alpha = facts.alpha and codec in {"prores_ks", "libvpx-vp9"}
    interlaced = facts.field_order.interlaced and codec in {"libx264", "prores_ks"}
    width, height = _even_sides(facts, codec, chroma, interlaced)
    return Encoding(
        codec=codec,
        pix_fmt=_pixel_format(chroma, depth, alpha),
        container=container,
        width=width,
        height=height,
        facts=facts,
        matrix=_matrix(facts),
        color_range=LIMITED_RANGE if facts.chroma == "rgb" else facts.color_range,
        options=_options(codec, facts, settings, alpha=alpha, interlaced=interlaced),
        tag="hvc1" if codec == "libx265" and container in {"mp4", "mov"} else None,  # QuickTime and Safari refuse hev1
        metadata={"alpha_mode": "1"} if alpha and codec == "libvpx-vp9" else {},
        interlaced=interlaced,
        background=facts.alpha and not alpha,
        kept=tuple(_kept(facts, depth, interlaced=interlaced, alpha=alpha)),
        changes=tuple(_changes(facts, codec, container, chroma, depth, width, height, interlaced=interlaced)),
    )


def _codec(facts: PictureFacts, container: str) -> tuple[str, str, int]:
    """Return encoder, chroma sampling and bit depth."""
    if container == "webm":
        return "libvpx-vp9", "4:2:0", 8
    if facts.alpha and container == "mov":
        return "prores_ks", "4:4:4", 10
    if facts.alpha and container == "mkv":
        return "libvpx-vp9", "4:2:0", 8
    if container == "mp4":
        chroma, deep = "4:2:0", facts.is_hdr or (facts.depth > 8 and facts.codec == "hevc")
        depth = 10 if deep else 8
    else:
        chroma = {"4:2:0": "4:2:0", "gray": "4:2:0", "4:1:0": "4:2:0", "4:2:2": "4:2:2", "4:1:1": "4:2:2"}.get(
            facts.chroma, "4:4:4"
        )
        depth = next((bits for bits in (8, 10) if facts.depth <= bits), 12)
        depth = max(depth, 10) if facts.is_hdr else depth
    if depth > 8 and not facts.field_order.interlaced:
        return "libx265", chroma, depth
    return "libx264", chroma, min(depth, 10)  # HEVC has no interlaced coding that players know


def _pixel_format(chroma: str, depth: int, alpha: bool) -> str:
    name = f"yuv{'a' if alpha else ''}{chroma.replace(':', '')}p"
    return name if depth == 8 else f"{name}{depth}le"


def _even_sides(facts: PictureFacts, codec: str, chroma: str, interlaced: bool) -> tuple[int, int]:
    """Return sides that the encoder takes; at most three pixels are left out, at the right and at the bottom."""
    if codec == "libvpx-vp9":
        return facts.width, facts.height
    across = 1 if chroma == "4:4:4" and codec != "prores_ks" else 2
    down = 2 if chroma == "4:2:0" else 1
    down *= 2 if interlaced else 1
    return facts.width // across * across, facts.height // down * down


def _matrix(facts: PictureFacts) -> int:
    if facts.chroma == "rgb" or facts.matrix == MATRIX_RGB:
        return MATRIX_BT2020 if facts.primaries == PRIMARIES_BT2020 else MATRIX_BT709
    return facts.matrix


def _options(
    codec: str, facts: PictureFacts, settings: EncoderSettings, *, alpha: bool, interlaced: bool
) -> dict[str, str]:
    threads = str(encoder_threads(facts.width, facts.height))
    fields = {"flags": "+ildct+ilme"} if interlaced else {}
    if codec == "prores_ks":
        return {"profile": "4444", "alpha_bits": "16", "vendor": "apl0", "threads": threads, **fields}
    if codec == "libvpx-vp9":
        speed = PRESETS[settings.preset]
        return {
            "crf": str(round(settings.crf * 63 / HIGHEST_CRF)),
            "b": "0",
            "deadline": "good" if speed <= _FASTEST_GOOD else "realtime",
            "cpu-used": str(speed),
            "row-mt": "1",
            "threads": threads,
            **({"auto-alt-ref": "0"} if alpha else {}),  # the encoder cannot have both
        }
    lookahead = str(lookahead_frames(facts.width, facts.height))
    quality = {"crf": str(settings.crf), "preset": settings.preset}
    if codec == "libx264":
        return {**quality, "threads": threads, "rc-lookahead": lookahead, "sc_threshold": "40", **fields}
    return {**quality, "x265-params": ":".join(_x265_parameters(facts, threads, lookahead))}


def _x265_parameters(facts: PictureFacts, threads: str, lookahead: str) -> Iterator[str]:
    yield from ("log-level=error", f"pools={threads}", "frame-threads=1", f"rc-lookahead={lookahead}")
    if facts.hdr.mastering_display:
        yield from ("hdr10=1", f"master-display={facts.hdr.mastering_display}")
    if facts.hdr.content_light:
        yield f"max-cll={facts.hdr.content_light}"


def _kept(facts: PictureFacts, depth: int, *, interlaced: bool, alpha: bool) -> Iterator[str]:
    if depth > 8:
        yield f"{depth} bits"
    if facts.is_hdr:
        yield "HDR"
    if interlaced:
        yield "interlaced"
    if alpha:
        yield "transparency"


def _changes(
    facts: PictureFacts,
    codec: str,
    container: str,
    chroma: str,
    depth: int,
    width: int,
    height: int,
    *,
    interlaced: bool,
) -> Iterator[str]:
    if facts.chroma == "rgb":
        detail = "" if chroma == "4:4:4" else ", with a colour for every four pixels"
        yield f"RGB is stored as YUV {chroma}{detail}"
    elif facts.chroma not in {chroma, "gray"}:
        yield f"its chroma is stored as {chroma} instead of {facts.chroma}"
    if facts.depth > depth and facts.codec != "prores":  # FFmpeg decodes 10-bit ProRes 4444 into 12 bits
        yield f"it has {depth} bits instead of {facts.depth}"
    if (width, height) != (facts.width, facts.height):
        yield (
            f"it has {width}x{height} pixels instead of {facts.width}x{facts.height}, "
            "because the encoder needs even sides; the last row or column was left out"
        )
    if facts.field_order.interlaced and not interlaced:
        yield "its interlaced fields are stored as whole frames, without the order of the fields"
    if codec != "libx265" and (facts.hdr.mastering_display or facts.hdr.content_light):
        yield "the HDR metadata of the mastering display and the light level are left out"
    for name in facts.dynamic_metadata:
        yield f"{name} is left out"
    if facts.alpha and container == "mp4":
        return  # only frames tell whether anything is transparent: see `encoding.Reencoding`
