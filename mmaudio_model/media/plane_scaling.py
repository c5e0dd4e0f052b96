"""Resizes large pictures with FFmpeg's scaler to within one level of `resizing.pillow_resize`, several times faster.

Pillow and torch resize an 8-bit picture first along the rows, round to 8 bits (which cuts off what overshoots), and
then along the columns. So does this module, with the same kernel, by FFmpeg's vectorised scaler, one colour at a time.
Only at the edges it differs: it repeats the outermost pixel where the others cut the kernel off, so that the outermost
pixels are made here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane

from mmaudio_model.media.resizing import Window, crop_window

# Below, Pillow is fast enough and exact. FFmpeg leaves out the least weights of the kernel, which shows if a pixel is
# made of few: up to two levels of difference at some edges.
SMALLEST_PIXELS = 1_500_000
SMALLEST_REDUCTION = 2.5
# Pixels at each edge of the result that a kernel cut off by the picture's edge may have made; it is two pixels wide.
EDGE = 3
# FFmpeg converts these to planes and to packed RGB with the same arithmetic, if the width is a multiple of 16 (the rest
# of a line has errors in the planes of FFmpeg 8.0); others are packed first.
DIRECT_FORMATS = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p"})
DIRECT_WIDTHS = 16
# Catmull-Rom, as Pillow has. Accurate rounding is of the columns' sums; it would only make the rows slower.
ROWS = "flags=bicubic:param0=0:param1=0.5:threads=1"
COLUMNS = "flags=bicubic+accurate_rnd+bitexact:param0=0:param1=0.5:threads=1"

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Red, green and blue of a picture, each uint8 (H, W)."""


def is_large(width: int, height: int, shape: tuple[int, int]) -> bool:
    """Return whether a picture should be resized to (height, width) by `PlaneScaler`."""
    return (
        width * height >= SMALLEST_PIXELS
        and height >= SMALLEST_REDUCTION * shape[0]
        and width >= SMALLEST_REDUCTION * shape[1]
        and min(shape) >= 2 * EDGE
    )


@dataclass
class PlaneScaler:
    """Resizes pictures; keeps the filters for the sizes and formats it was asked for.

    Filters also keep the memory of their results, which would otherwise be asked of the system for each picture anew;
    that takes longer than the conversion.
    """

    _filters: dict[_Filter, Graph] = field(default_factory=dict)

    def planes(self, frame: VideoFrame) -> Planes:
        """Return the colours that `frame.to_ndarray(format="rgb24")` has."""
        direct = frame.format.name in DIRECT_FORMATS and frame.width % DIRECT_WIDTHS == 0
        source = frame if direct else frame.reformat(format="rgb24", threads=1)
        green, blue, red = (
            _lines(plane) for plane in self._filtered(source, "flags=bilinear:threads=1", "gbrp").planes
        )
        return red, green, blue

    def stretch(self, planes: Planes, size: int) -> np.ndarray:
        """Do what `resizing.stretch` does."""
        return self._resized(planes, (size, size), (0, 0, size, size))

    def crop(self, planes: Planes, size: int) -> np.ndarray:
        """Do what `resizing.crop` does."""
        height, width = planes[0].shape
        return self._resized(planes, *crop_window((height, width), size))

    def _resized(self, planes: Planes, shape: tuple[int, int], window: Window) -> np.ndarray:
        (full_height, full_width), (top, left, height, width) = shape, window
        result = np.empty((height, width, len(planes)), np.uint8)
        for colour, plane in enumerate(planes):
            rows = len(plane)
            # A copy, since the scaler is slower where lines begin at odd addresses.
            lines = self._scaled(plane, (rows, full_width), ROWS)[:, left : left + width].copy()
            _make_edges(plane.T, full_width, left, lines.T)
            columns = self._scaled(lines, (full_height, width), COLUMNS)
            result[..., colour] = columns[top : top + height]
            _make_edges(lines, full_height, top, result[..., colour])
        return result

    def _scaled(self, picture: np.ndarray, shape: tuple[int, int], options: str) -> np.ndarray:
        frame = VideoFrame.from_numpy_buffer(picture, format="gray")
        frame.pts = 0
        return _lines(self._filtered(frame, f"{shape[1]}:{shape[0]}:{options}", "gray").planes[0])

    def _filtered(self, frame: VideoFrame, scale: str, pix_fmt: str) -> VideoFrame:
        kind = _Filter.of(frame, scale, pix_fmt)
        if kind not in self._filters:
            self._filters[kind] = kind.graph()
        self._filters[kind].vpush(frame)
        return self._filters[kind].vpull()


@dataclass(frozen=True)
class _Filter:
    """FFmpeg's scaler, for pictures of one kind."""

    buffer: str
    scale: str
    pix_fmt: str

    @classmethod
    def of(cls, frame: VideoFrame, scale: str, pix_fmt: str) -> _Filter:
        """Return the one for pictures like a frame."""
        buffer = (
            f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1000"
            f":colorspace={int(frame.colorspace)}:range={int(frame.color_range)}"
        )
        return cls(buffer, scale, pix_fmt)

    def graph(self) -> Graph:
        graph = Graph()
        graph.threads = 1
        steps = [
            graph.add("buffer", self.buffer),
            graph.add("scale", self.scale),
            graph.add("format", f"pix_fmts={self.pix_fmt}"),
            graph.add("buffersink"),
        ]
        for step, following in pairwise(steps):
            step.link_to(following)
        graph.configure()
        return graph


def _lines(plane: VideoPlane) -> np.ndarray:
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]


def _make_edges(source: np.ndarray, after: int, first: int, result: np.ndarray) -> None:
    """Resize the outermost lines of `source`, uint8 (N, W).

    Args:
        after: the number of lines that all of `source` becomes.
        first: the one with which `result`, uint8 (M, W), begins.
    """
    weights = _edge_weights(len(source), after)
    reach = weights.shape[1]
    ends = ((0, weights, source[:reach]), (after - EDGE, weights[::-1, ::-1], source[-reach:]))
    for begin, mirrored, needed in ends:
        from_, to = max(begin, first), min(begin + EDGE, first + len(result))
        if from_ < to:
            made = mirrored[from_ - begin : to - begin] @ needed.astype(np.float32)
            result[from_ - first : to - first] = np.clip(np.floor(made + 0.5), 0, 255)


@lru_cache(maxsize=16)
def _edge_weights(before: int, after: int) -> np.ndarray:
    """Return what each of the first lines counts in the first ones of the result, float32 (EDGE, lines)."""
    step = before / after
    centres = (np.arange(EDGE)[:, None] + 0.5) * step
    lines = np.arange(min(before, int((EDGE + 2) * step) + 1))
    distance = np.abs(lines + 0.5 - centres) / step
    near, far = (1.5 * distance - 2.5) * distance**2 + 1, ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0))
    shares: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
    return shares.astype(np.float32)
