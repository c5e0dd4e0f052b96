"""Which encoder, pixel format and tags keep what describes a picture in a container, and what cannot be kept.

MP4 is for players: H.264 with 4:2:0 and 8 bits, which all of them show, or HEVC with 10 bits for HDR and for sources
that are 10-bit HEVC already. MOV and MKV are for editors: chroma sampling and bit depth stay. Transparency stays as
ProRes 4444 in MOV and as VP9 in MKV and WebM.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from types import MappingProxyType

from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mmaudio_model.errors import RequestInvalidError
from mmaudio_model.media.media_warning import MediaWarning, WarningCode
from mmaudio_model.media.mux.encoding_memory import LARGE, EncoderLoad, encoder_load, require_memory
from mmaudio_model.media.mux.picture_facts import (
    MATRIX_BT709,
    MATRIX_BT2020,
    MATRIX_RGB,
    PRIMARIES_BT2020,
    TRANSFER_HLG,
    TRANSFER_PQ,
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
HIGHEST_CRF, HIGHEST_VP9_CRF = 51, 63
LIMITED_RANGE = 1
SHOWN_ON_BLACK = "transparent parts are shown on black"
CAPTIONS_LEFT_OUT = "the closed captions in the picture are left out"
# Chroma sampling for MOV and MKV by that of the source, where it is not 4:4:4.
_EDITING_CHROMA: Mapping[str, str] = MappingProxyType(
    {"4:2:0": "4:2:0", "gray": "4:2:0", "4:1:0": "4:2:0", "4:2:2": "4:2:2", "4:1:1": "4:2:2"}
)
_CODEC_NAMES = {"libx264": "H.264", "libx265": "HEVC", "libvpx-vp9": "VP9", "prores_ks": "ProRes"}
# Slow presets refer to up to 16 pictures, each of them in memory.
_MANY_REFERENCES, _REFERENCES = frozenset({"slow", "slower", "veryslow"}), 3
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
        sample_aspect: width of a pixel divided by its height; 0 where the source does not tell.
        description: the result in words.
        changes: what is not kept, each a part of a sentence.
        background: transparency is composed on black.
    """

    codec: str
    pix_fmt: str
    depth: int
    container: str
    width: int
    height: int
    facts: PictureFacts
    matrix: int
    color_range: int
    sample_aspect: Fraction
    options: Mapping[str, str]
    tag: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    interlaced: bool = False
    background: bool = False
    description: str = ""
    changes: tuple[str, ...] = ()

    @property
    def has_captions(self) -> bool:
        """Whether the encoder writes the closed captions that frames carry."""
        return self.codec in {"libx264", "libx265"}

    @property
    def cropped(self) -> bool:
        """Whether the last row or column of the source is left out."""
        return self.sample_aspect == self.facts.sample_aspect and (self.width, self.height) != (
            self.facts.width,
            self.facts.height,
        )

    def refits(self, width: int, height: int, sample_aspect: Fraction) -> bool:
        """Return whether a frame has another size or shape than the first one."""
        facts = self.facts
        return (width, height, sample_aspect or 1) != (facts.width, facts.height, facts.sample_aspect or 1)

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

    Raises:
        MediaTooLargeError: this process has too little memory to encode such a picture.
        RequestInvalidError: the container is not one of these.
    """
    encoding = encoding_for(picture_facts(stream, first_frame), container, settings or EncoderSettings())
    require_memory(encoding.facts.width, encoding.facts.height, encoding.codec, encoding.depth)
    return encoding


def encoding_for(facts: PictureFacts, container: str, settings: EncoderSettings) -> Encoding:
    """Choose by the facts of a picture alone; see `choose_encoding`."""
    if container not in CONTAINERS:
        raise RequestInvalidError(f"Got the video container {container!r}; there are {', '.join(CONTAINERS)}.")
    codec, chroma, depth = _codec(facts, container)
    alpha = facts.alpha and codec in {"prores_ks", "libvpx-vp9"}
    interlaced = facts.field_order.interlaced and codec in {"libx264", "prores_ks"}
    # VP9 does not hold the shape of pixels itself, and PyAV cannot set the container's.
    square = codec == "libvpx-vp9" and facts.sample_aspect not in {0, 1}
    width, height = _squared(facts) if square else _even_sides(facts, codec, chroma, interlaced)
    encoding = Encoding(
        codec=codec,
        pix_fmt=_pixel_format(chroma, depth, alpha),
        depth=depth,
        container=container,
        width=width,
        height=height,
        facts=facts,
        matrix=_matrix(facts),
        color_range=LIMITED_RANGE if facts.chroma == "rgb" else facts.color_range,
        sample_aspect=Fraction(1) if square else facts.sample_aspect,
        options=_options(codec, facts, settings, alpha=alpha, interlaced=interlaced),
        tag="hvc1" if codec == "libx265" and container in {"mp4", "mov"} else None,  # QuickTime and Safari refuse hev1
        metadata={"alpha_mode": "1"} if alpha and codec == "libvpx-vp9" else {},
        interlaced=interlaced,
        background=facts.alpha and not alpha,
        description=_description(facts, codec, chroma, depth, interlaced=interlaced, alpha=alpha),
    )
    return replace(encoding, changes=tuple(_changes(encoding, chroma, depth)))


def _codec(facts: PictureFacts, container: str) -> tuple[str, str, int]:
    """Return encoder, chroma sampling and bit depth."""
    if container == "webm" or (facts.alpha and container == "mkv"):
        return "libvpx-vp9", "4:2:0", 8
    if facts.alpha and container == "mov":
        return "prores_ks", "4:4:4", 10
    if container == "mp4":
        chroma = "4:2:0"
        depth = 10 if facts.is_hdr or (facts.depth > 8 and facts.codec == "hevc") else 8
    else:
        chroma = _EDITING_CHROMA.get(facts.chroma, "4:4:4")
        depth = next((bits for bits in (8, 10) if facts.depth <= bits), 12)
        depth = max(depth, 10) if facts.is_hdr else depth
    if depth > 8 and not facts.field_order.interlaced:
        return "libx265", chroma, depth
    return "libx264", chroma, min(depth, 10)  # HEVC has no interlaced coding that players know


def _pixel_format(chroma: str, depth: int, alpha: bool) -> str:
    name = f"yuv{'a' if alpha else ''}{chroma.replace(':', '')}p"
    return name if depth == 8 else f"{name}{depth}le"


def _squared(facts: PictureFacts) -> tuple[int, int]:
    """Return the sides with square pixels, none of them smaller than before."""
    if facts.sample_aspect > 1:
        return round(facts.width * facts.sample_aspect), facts.height
    return facts.width, round(facts.height / facts.sample_aspect)


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
    load = encoder_load(facts.width, facts.height, codec)
    threads = {"threads": str(load.threads)}
    fields = {"flags": "+ildct+ilme"} if interlaced else {}
    if codec == "prores_ks":
        return {"profile": "4444", "alpha_bits": "16", "vendor": "apl0", **threads, **fields}
    if codec == "libvpx-vp9":
        speed = max(PRESETS[settings.preset], 0 if load.reorders else _FASTEST_GOOD + 1)
        return {
            "crf": str(round(settings.crf * HIGHEST_VP9_CRF / HIGHEST_CRF)),
            "b": "0",
            "deadline": "good" if speed <= _FASTEST_GOOD else "realtime",
            "cpu-used": str(speed),
            "row-mt": "1",
            "lag-in-frames": str(load.lookahead),
            **threads,
            **({"auto-alt-ref": "0"} if alpha else {}),  # the encoder cannot have both
        }
    quality = {"crf": str(settings.crf), "preset": settings.preset}
    if codec == "libx265":
        return {**quality, "x265-params": ":".join(_x265_parameters(facts, load))}
    parameters = ["tff=1" if facts.field_order.top_first else "bff=1"] if interlaced else []
    parameters += [] if load.reorders else ["bframes=0", "mbtree=0", "sliced-threads=1"]
    if facts.width * facts.height > LARGE and settings.preset in _MANY_REFERENCES:
        parameters += [f"ref={_REFERENCES}"]
    return {
        **quality,
        **threads,
        **fields,
        "rc-lookahead": str(load.lookahead),
        **({"x264-params": ":".join(parameters)} if parameters else {}),
    }


def _x265_parameters(facts: PictureFacts, load: EncoderLoad) -> Iterator[str]:
    yield from ("log-level=none", f"pools={load.threads}", "frame-threads=1", f"rc-lookahead={load.lookahead}")
    if load.reorders:
        yield from ("bframes=4", f"ref={_REFERENCES}")  # it must look further ahead than it reorders
    else:
        yield from ("bframes=0", "b-adapt=0", "ref=1", "cutree=0", "scenecut=0", "lookahead-slices=0")
    if facts.hdr.mastering_display:
        yield from ("hdr10=1", f"master-display={facts.hdr.mastering_display}")
    if facts.hdr.content_light:
        yield f"max-cll={facts.hdr.content_light}"


def _description(facts: PictureFacts, codec: str, chroma: str, depth: int, *, interlaced: bool, alpha: bool) -> str:
    hdr = {TRANSFER_PQ: "HDR (PQ)", TRANSFER_HLG: "HDR (HLG)"}.get(facts.transfer)
    parts = [chroma, f"{depth} bits", hdr, "interlaced" if interlaced else None, "transparency" if alpha else None]
    return f"{_CODEC_NAMES[codec]} ({', '.join(part for part in parts if part)})"


def _changes(encoding: Encoding, chroma: str, depth: int) -> Iterator[str]:
    facts = encoding.facts
    if facts.chroma == "rgb":
        yield f"RGB is stored as YUV {chroma}"
    elif facts.chroma not in {chroma, "gray"}:
        yield f"its chroma sampling is {chroma} instead of {facts.chroma}"
    if facts.depth > depth:
        yield f"it has {depth} bits instead of {facts.depth}"
    sides = f"{encoding.width}x{encoding.height} pixels instead of {facts.width}x{facts.height}"
    if encoding.sample_aspect != facts.sample_aspect:
        shape = f"{facts.sample_aspect.numerator}:{facts.sample_aspect.denominator}"
        yield f"it has {sides}, because the container holds no pixels of the shape {shape}, only square ones"
    elif encoding.cropped:
        yield f"it has {sides}, because the encoder needs even sides; the last row or column was left out"
    if facts.field_order.interlaced and not encoding.interlaced:
        yield "its interlaced fields are stored as whole frames, without the order of the fields"
    if encoding.codec != "libx265" and (facts.hdr.mastering_display or facts.hdr.content_light):
        yield "the HDR metadata of the mastering display and the light level are left out"
    for name in facts.unwritable:
        yield f"{name} is left out"
    if encoding.background and facts.transparent:
        yield SHOWN_ON_BLACK
    if facts.captions and not encoding.has_captions:
        yield CAPTIONS_LEFT_OUT
