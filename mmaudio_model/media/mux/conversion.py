"""Brings decoded frames into an encoder's size and pixel format with FFmpeg's filters, without a change of colour.

Sampling positions, range and matrix stay; interlaced chroma is converted field by field. Frames whose size or shape
differ from that of the first are scaled into its picture, with black bars.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from av.filter import Graph
from av.sidedata.sidedata import Type as SideDataType
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from mmaudio_model.media.mux.encoder_choice import LIMITED_RANGE, Encoding
from mmaudio_model.media.mux.picture_facts import (
    FULL_RANGE,
    MATRIX_RGB,
    chroma_sampling,
    has_alpha,
    is_transparent,
    straight_alpha,
)

# The scaler's own names of the matrices that it knows, by their code points.
_MATRIX_NAMES = {1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020"}
_EXACT = "bicubic+accurate_rnd+full_chroma_int"
_TICK = Fraction(1, 1000)  # filters need a time base; these use no times


@dataclass(frozen=True)
class _Input:
    """What a filter graph is made for."""

    pix_fmt: str
    width: int
    height: int
    matrix: int
    color_range: int
    sample_aspect: Fraction


class Conversion:
    """Converts the frames of one stream; see the module.

    Attributes:
        refitted: frames of another size or shape than the first.
        transparent: frames with transparency that was composed on black.
        interlaced_as_progressive: frames whose fields are stored as whole frames.
        captions: frames with closed captions.
    """

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._graph: Any = None
        self._made_for: _Input | None = None
        self.refitted = 0
        self.transparent = 0
        self.interlaced_as_progressive = 0
        self.captions = 0

    def converted(self, frame: VideoFrame, sample_aspect: Fraction) -> VideoFrame:
        """Return the frame as the encoder takes it, with neither time nor picture type.

        Args:
            sample_aspect: of this frame, width of a pixel divided by its height.
        """
        encoding = self._encoding
        full = frame.color_range == FULL_RANGE or frame.format.name.startswith("yuvj")
        given = _Input(
            frame.format.name,
            frame.width,
            frame.height,
            int(frame.colorspace),
            FULL_RANGE if full else int(frame.color_range),
            sample_aspect,
        )
        facts = encoding.facts
        if encoding.refits(given.width, given.height, given.sample_aspect):
            self.refitted += 1
        if SideDataType.A53_CC in frame.side_data:
            self.captions += 1
        if frame.interlaced_frame and not encoding.interlaced:
            self.interlaced_as_progressive += 1
        if given != self._made_for:
            self._graph, self._made_for = self._new_graph(given, frame.format), given
        if encoding.background and is_transparent(frame):
            self.transparent += 1
        self._graph.vpush(frame)
        picture: VideoFrame = self._graph.vpull()
        picture.pict_type = 0  # the source's types would force the encoder's
        picture.color_primaries, picture.color_trc = facts.primaries, facts.transfer
        picture.colorspace, picture.color_range = encoding.matrix, encoding.color_range
        return picture

    def _new_graph(self, given: _Input, pixels: VideoFormat) -> Any:
        graph, source = _graph(given)
        sink = graph.add("buffersink")
        steps = [graph.add(name, arguments) for name, arguments in self._steps(given, pixels)]
        graph.link_nodes(source, *steps, sink).configure()
        return graph

    def _steps(self, given: _Input, pixels: VideoFormat) -> Iterator[tuple[str, str]]:
        """Yield filters and their arguments."""
        encoding = self._encoding
        facts = encoding.facts
        if encoding.background and has_alpha(pixels):
            yield "format", straight_alpha(pixels)
            yield "premultiply", "inplace=1"
        width, height, padding = encoding.width, encoding.height, ""
        if encoding.refits(given.width, given.height, given.sample_aspect):
            width, height = fitted(given.width, given.height, given.sample_aspect, encoding)
            padding = f"{encoding.width}:{encoding.height}:(ow-iw)/2:(oh-ih)/2"
        elif encoding.cropped:
            yield "crop", f"{width}:{height}:0:0:exact=1"
        yield "scale", ":".join(self._scale(given, pixels, width, height))
        yield "format", encoding.pix_fmt
        if padding:
            yield "pad", padding
        if encoding.interlaced and facts.field_order.interlaced:
            yield "setfield", "tff" if facts.field_order.top_first else "bff"
        elif encoding.facts.field_order.interlaced:
            yield "setfield", "prog"
        if encoding.sample_aspect:
            yield "setsar", f"{encoding.sample_aspect.numerator}/{encoding.sample_aspect.denominator}:max=100000"

    def _scale(self, given: _Input, pixels: VideoFormat, width: int, height: int) -> Iterator[str]:
        yield from (f"{width}:{height}", f"flags={_EXACT}")
        if self._encoding.interlaced:
            yield "interl=1"
        from_rgb = chroma_sampling(pixels) == "rgb" or given.matrix == MATRIX_RGB
        target = _MATRIX_NAMES.get(self._encoding.matrix)
        if target is not None and (from_rgb or given.matrix != self._encoding.matrix):
            yield f"out_color_matrix={target}"
            if not from_rgb and given.matrix in _MATRIX_NAMES:
                yield f"in_color_matrix={_MATRIX_NAMES[given.matrix]}"
            elif not from_rgb:
                yield f"in_color_matrix={target}"
        if not from_rgb:
            yield f"in_range={'full' if given.color_range == FULL_RANGE else 'limited'}"
        yield f"out_range={'full' if self._encoding.color_range == FULL_RANGE else 'limited'}"


def fitted(width: int, height: int, sample_aspect: Fraction, encoding: Encoding) -> tuple[int, int]:
    """Return the even sides of a picture as large as the encoding's picture allows, with its shape kept."""
    shape = Fraction(width, height) * (sample_aspect or 1) / (encoding.sample_aspect or 1)
    if shape >= Fraction(encoding.width, encoding.height):
        wide, high = encoding.width, round(encoding.width / shape)
    else:
        wide, high = round(encoding.height * shape), encoding.height
    return max(2, wide // 2 * 2), max(2, high // 2 * 2)


def _graph(given: _Input) -> tuple[Any, Any]:
    graph: Any = Graph()
    graph.threads = 1  # each would have a stack and a heap of its own
    optional = {}
    if given.matrix in {MATRIX_RGB, *_MATRIX_NAMES}:
        optional["colorspace"] = str(given.matrix)
    if given.color_range in {LIMITED_RANGE, FULL_RANGE}:
        optional["range"] = str(given.color_range)
    source = graph.add(
        "buffer",
        video_size=f"{given.width}x{given.height}",
        pix_fmt=given.pix_fmt,
        time_base=str(_TICK),
        pixel_aspect=f"{given.sample_aspect.numerator}/{given.sample_aspect.denominator}",
        **optional,
    )
    return graph, source
