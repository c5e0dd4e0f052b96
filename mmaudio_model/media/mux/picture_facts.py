"""What describes the picture of a video beside its pixels: sampling, colour, shape, fields, rotation, HDR metadata.

The facts are those of the first frame shown, or of the stream where a frame does not carry them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from typing import Any

from av.filter import Graph
from av.sidedata.sidedata import Type as SideDataType
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mmaudio_model.media.probe import frame_rate

# ITU-T H.273 code points, which are FFmpeg's numbers.
UNSPECIFIED = 2
MATRIX_RGB, MATRIX_BT709, MATRIX_BT2020 = 0, 1, 9
PRIMARIES_BT2020 = 9
TRANSFER_PQ, TRANSFER_HLG = 16, 18
FULL_RANGE = 2
HIGHEST_RATE = 1000
# Metadata that changes from frame to frame; no encoder here can write it.
_DYNAMIC = {
    SideDataType.DYNAMIC_HDR_PLUS: "HDR10+ metadata",
    SideDataType.DOVI_METADATA: "Dolby Vision metadata",
    SideDataType.DYNAMIC_HDR_VIVID: "HDR Vivid metadata",
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
        alpha: its pixel format has transparency, used or not.
        sample_aspect: width of a pixel divided by its height.
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
    dynamic_metadata: tuple[str, ...] = ()

    @property
    def is_hdr(self) -> bool:
        return self.transfer in {TRANSFER_PQ, TRANSFER_HLG}


def picture_facts(stream: VideoStream, frame: VideoFrame) -> PictureFacts:
    """Return the facts of a stream and its first shown frame."""
    context = stream.codec_context
    pixels = frame.format
    side_data = {entry.type: bytes(entry) for entry in frame.side_data}
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
        matrix=_specified(frame.colorspace, context.colorspace),
        color_range=FULL_RANGE if full else frame.color_range or context.color_range,
        sample_aspect=sample_aspect(stream),
        field_order=_field_order(stream, frame),
        rate=_nominal_rate(stream),
        display_matrix=_display_matrix(side_data.get(SideDataType.DISPLAYMATRIX)),
        hdr=HdrMetadata(
            _mastering_display(side_data.get(SideDataType.MASTERING_DISPLAY_METADATA)),
            _content_light(side_data.get(SideDataType.CONTENT_LIGHT_LEVEL)),
        ),
        dynamic_metadata=tuple(name for kind, name in _DYNAMIC.items() if kind in side_data),
    )


def chroma_sampling(pixels: VideoFormat) -> str:
    """Return `4:2:0` and so on, `gray`, or `rgb`."""
    if pixels.is_rgb or pixels.has_palette:
        return "rgb"
    if sum(not part.is_alpha for part in pixels.components) == 1:
        return "gray"
    across, down = (
        _PROBE_SIDE // side for side in (pixels.chroma_width(_PROBE_SIDE), pixels.chroma_height(_PROBE_SIDE))
    )
    return _CHROMA.get((across, down), f"1/{across}x1/{down}")


def has_alpha(pixels: VideoFormat) -> bool:
    return pixels.has_palette or any(part.is_alpha for part in pixels.components)


def sample_aspect(stream: VideoStream) -> Fraction:
    """Return width of a pixel divided by its height; 1 where the file declares none."""
    declared = stream.sample_aspect_ratio
    return Fraction(declared) if declared else Fraction(1)


def _specified(of_frame: int, of_stream: int) -> int:
    return int(of_frame if of_frame != UNSPECIFIED else of_stream)


def _nominal_rate(stream: VideoStream) -> Fraction:
    """Return the rate that is written as the nominal one; time stamps, not this, say when frames are shown."""
    rate = frame_rate(stream)
    return rate if 0 < rate <= HIGHEST_RATE else Fraction(25)


def _field_order(stream: VideoStream, frame: VideoFrame) -> FieldOrder:
    declared = stream.codec_context.field_order
    order = FieldOrder(declared) if declared in set(FieldOrder) else FieldOrder.UNKNOWN
    if order.interlaced or not frame.interlaced_frame:
        return order
    return FieldOrder.TOP_TOP if _top_field_first(frame) else FieldOrder.BOTTOM_BOTTOM


def _top_field_first(frame: VideoFrame) -> bool:
    """Ask a filter: PyAV does not tell this flag of a frame."""
    graph: Any = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 25)
    )
    chosen = graph.add("select", "eq(interlace_type\\,TOPFIRST)")
    graph.link_nodes(source, chosen, graph.add("buffersink")).configure()
    graph.vpush(frame)
    graph.vpush(None)
    try:
        graph.vpull()
    except (EOFError, BlockingIOError):
        return False
    return True


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
    values = [Fraction(top, below) if below else Fraction(0) for top, below in zip(*[iter(numbers[:20])] * 2, strict=True)]
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
