"""What describes the picture of a video beside its pixels: sampling, colour, shape, fields, rotation, HDR metadata.

The facts are those of the first frame shown, or of the stream where a frame does not carry them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from typing import Any

from av.filter import Graph
from av.sidedata.sidedata import Type as SideDataType
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mmaudio_model.media.probe import frame_rate

# ITU-T H.273 code points, which are FFmpeg's numbers.
UNSPECIFIED = 2
MATRIX_RGB, MATRIX_BT709, MATRIX_BT601, MATRIX_BT2020 = 0, 1, 5, 9
PRIMARIES_BT2020 = 9
TRANSFER_PQ, TRANSFER_HLG = 16, 18
FULL_RANGE = 2
HIGHEST_RATE = 1000
OPAQUE = 255
# Rates are declared with rounding errors where a container's units are coarse.
RATE_ERROR = Fraction(1, 10_000)
_NTSC = Fraction(1000, 1001)
# Metadata that cannot be written with an encoded picture.
_UNWRITABLE = {
    SideDataType.DYNAMIC_HDR_PLUS: "HDR10+ metadata",
    SideDataType.DOVI_METADATA: "Dolby Vision metadata",
    SideDataType.DYNAMIC_HDR_VIVID: "HDR Vivid metadata",
    SideDataType.AMBIENT_VIEWING_ENVIRONMENT: "the ambient viewing environment",
    SideDataType.SPHERICAL: "the projection of a spherical video",
    SideDataType.STEREO3D: "the arrangement of a stereoscopic video",
    SideDataType.AFD: "the active format description",
    SideDataType.ICC_PROFILE: "the ICC colour profile",
}
_CHROMA = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (4, 1): "4:1:1", (1, 2): "4:4:0", (4, 4): "4:1:0"}
_PROBE_SIDE = 64


class FieldOrder(IntEnum):
    """FFmpeg's AVFieldOrder: which field is coded, and which shown first."""

    UNKNOWN = 0
    PROGRESSIVE = 1
    TOP_TOP = 2
    BOTTOM_BOTTOM = 3
    TOP_BOTTOM = 4
    BOTTOM_TOP = 5

    @property
    def interlaced(self) -> bool:
        return self > FieldOrder.PROGRESSIVE

    @property
    def top_first(self) -> bool:
        """Whether the upper field is shown first."""
        return self in {FieldOrder.TOP_TOP, FieldOrder.BOTTOM_TOP}


@dataclass(frozen=True)
class HdrMetadata:
    """Static HDR metadata in the units of its SEI messages; None where the source has none.

    Attributes:
        mastering_display: x265's notation, chromaticities in 0.00002 and luminances in 0.0001 cd/m2.
        content_light: MaxCLL and MaxFALL, in cd/m2.
    """

    mastering_display: str | None = None
    content_light: str | None = None


@dataclass(frozen=True)
class PictureFacts:
    """Facts of a picture; colour numbers are the code points of ITU-T H.273.

    Attributes:
        chroma: `4:2:0` and so on, `gray`, or `rgb`.
        depth: bits of a sample.
        alpha: its pixel format has transparency, used or not; `transparent`: the first frame uses it.
        sample_aspect: width of a pixel divided by its height; 0 where the source does not tell.
        display_matrix: FFmpeg's nine numbers that turn and mirror the picture; None where it is shown as it is.
    """

    codec: str
    pix_fmt: str
    width: int
    height: int
    chroma: str
    depth: int
    alpha: bool
    primaries: int
    transfer: int
    matrix: int
    color_range: int
    sample_aspect: Fraction
    field_order: FieldOrder
    rate: Fraction
    display_matrix: tuple[int, ...] | None = None
    hdr: HdrMetadata = HdrMetadata()
    unwritable: tuple[str, ...] = ()
    transparent: bool = False
    captions: bool = False

    @property
    def is_hdr(self) -> bool:
        return self.transfer in {TRANSFER_PQ, TRANSFER_HLG}


def picture_facts(stream: VideoStream, frame: VideoFrame) -> PictureFacts:
    """Return the facts of a stream and its first shown frame."""
    context = stream.codec_context
    pixels = frame.format
    entries: Iterable[Any] = frame.side_data  # a list of them, whatever its type says
    side_data = {entry.type: bytes(entry) for entry in entries}
    full = frame.color_range == FULL_RANGE or pixels.name.startswith("yuvj")
    return PictureFacts(
        codec=context.name,
        pix_fmt=pixels.name,
        width=frame.width,
        height=frame.height,
        chroma=chroma_sampling(pixels),
        depth=8 if pixels.has_palette else max(part.bits for part in pixels.components),
        alpha=has_alpha(pixels),
        primaries=_specified(frame.color_primaries, context.color_primaries),
        transfer=_specified(frame.color_trc, context.color_trc),
        matrix=_matrix(frame, context),
        color_range=FULL_RANGE if full else frame.color_range or context.color_range,
        sample_aspect=sample_aspect(stream),
        field_order=_field_order(stream, frame),
        rate=_nominal_rate(stream),
        display_matrix=_display_matrix(side_data.get(SideDataType.DISPLAYMATRIX)),
        hdr=HdrMetadata(
            _mastering_display(side_data.get(SideDataType.MASTERING_DISPLAY_METADATA)),
            _content_light(side_data.get(SideDataType.CONTENT_LIGHT_LEVEL)),
        ),
        unwritable=tuple(name for kind, name in _UNWRITABLE.items() if kind in side_data),
        transparent=is_transparent(frame),
        captions=SideDataType.A53_CC in side_data,
    )


def chroma_sampling(pixels: VideoFormat) -> str:
    """Return `4:2:0` and so on, `gray`, or `rgb`."""
    if pixels.is_rgb or pixels.has_palette or pixels.name.startswith("xyz"):
        return "rgb"
    if sum(not part.is_alpha for part in pixels.components) == 1:
        return "gray"
    across, down = (
        _PROBE_SIDE // side for side in (pixels.chroma_width(_PROBE_SIDE), pixels.chroma_height(_PROBE_SIDE))
    )
    return _CHROMA.get((across, down), f"1/{across}x1/{down}")


def has_alpha(pixels: VideoFormat) -> bool:
    return pixels.has_palette or any(part.is_alpha for part in pixels.components)


def is_transparent(frame: VideoFrame) -> bool:
    """Return whether any pixel of a frame is less than opaque."""
    if not has_alpha(frame.format):
        return False
    # FFmpeg extracts transparency only from formats whose samples are apart from each other.
    steps = [("format", straight_alpha(frame.format)), ("alphaextract", None), ("format", "gray")]
    return bool(_filtered(frame, steps).to_ndarray().min() < OPAQUE)


def straight_alpha(pixels: VideoFormat) -> str:
    """Return the planar pixel format with full chroma that holds a format with transparency without loss."""
    deep = not pixels.has_palette and any(part.bits > 8 for part in pixels.components)
    if chroma_sampling(pixels) == "rgb":
        return "gbrap16le" if deep else "gbrap"
    return "yuva444p16le" if deep else "yuva444p"


def sample_aspect(stream: VideoStream) -> Fraction:
    """Return width of a pixel divided by its height; 0 where the file declares none."""
    return Fraction(stream.sample_aspect_ratio or 0)


def _matrix(frame: VideoFrame, context: VideoCodecContext) -> int:
    # VP8 has no other; the decoder that knows its transparency does not say so.
    only = MATRIX_BT601 if context.name == "vp8" else UNSPECIFIED
    return _specified(_specified(frame.colorspace, context.colorspace), only)


def _specified(of_frame: int, of_stream: int) -> int:
    return int(of_frame if of_frame != UNSPECIFIED else of_stream)


def _nominal_rate(stream: VideoStream) -> Fraction:
    """Return the rate that is written as the nominal one; time stamps, not this, say when frames are shown."""
    rate = frame_rate(stream)
    if not 0 < rate <= HIGHEST_RATE:
        return Fraction(25)
    whole, ntsc = Fraction(round(rate)), round(rate / _NTSC) * _NTSC
    return next((known for known in (whole, ntsc) if abs(rate - known) <= RATE_ERROR * rate), rate)


def _field_order(stream: VideoStream, frame: VideoFrame) -> FieldOrder:
    declared = stream.codec_context.field_order
    order = FieldOrder(declared) if declared in set(FieldOrder) else FieldOrder.UNKNOWN
    if order.interlaced or not frame.interlaced_frame:
        return order
    return FieldOrder.TOP_TOP if _top_field_first(frame) else FieldOrder.BOTTOM_BOTTOM


def _top_field_first(frame: VideoFrame) -> bool:
    """Ask a filter: PyAV does not tell this flag of a frame."""
    return _filtered(frame, [("select", "eq(interlace_type\\,TOPFIRST)")]) is not None


def _filtered(frame: VideoFrame, steps: Sequence[tuple[str, str | None]]) -> Any:
    """Return the frame after filters; None if they dropped it."""
    graph: Any = Graph()
    graph.threads = 1  # each would have a stack and a heap of its own
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 25)
    )
    graph.link_nodes(source, *(graph.add(*step) for step in steps), graph.add("buffersink")).configure()
    graph.vpush(frame)
    graph.vpush(None)
    try:
        return graph.vpull()
    except (EOFError, BlockingIOError):
        return None


def _display_matrix(content: bytes | None) -> tuple[int, ...] | None:
    if content is None:
        return None
    matrix = struct.unpack("=9i", content[:36])
    unturned = matrix[1] == matrix[3] == 0 and matrix[0] > 0 and matrix[4] > 0
    return None if unturned else matrix


def _mastering_display(content: bytes | None) -> str | None:
    if content is None:
        return None
    numbers = struct.unpack("=22i", content[:88])
    values = [
        Fraction(top, below) if below else Fraction(0) for top, below in zip(*[iter(numbers[:20])] * 2, strict=True)
    ]
    if not (numbers[20] and numbers[21]):
        return None  # x265 can write only both, primaries and luminance
    red, green, blue, white = (
        f"({round(values[index] * 50_000)},{round(values[index + 1] * 50_000)})" for index in (0, 2, 4, 6)
    )
    darkest, brightest = (round(value * 10_000) for value in values[8:10])
    return f"G{green}B{blue}R{red}WP{white}L({brightest},{darkest})"


def _content_light(content: bytes | None) -> str | None:
    if content is None:
        return None
    brightest, average = struct.unpack("=2I", content[:8])
    return f"{brightest},{average}"
