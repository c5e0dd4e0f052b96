"""Resizes large pictures with FFmpeg's scaler to within one level of `resizing.pillow_resize`, several times faster.

Pillow and torch resize an 8-bit picture first along the rows, round to 8 bits, and then along the columns. So does this
module. The rows, which is most of the work, are resized by FFmpeg's vectorised scaler, one colour at a time, with the
same kernel. Only at the edges it differs: it repeats the outermost pixel where the others cut the kernel off, so Pillow
resizes a few pixels there, and the columns, of which less is left.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from PIL import Image

from mmaudio_model.media.resizing import Window, crop_window

# Below, Pillow is fast enough and exact. FFmpeg leaves out the least weights of the kernel, which shows if a pixel is
# made of few: up to two levels of difference at some edges.
SMALLEST_PIXELS = 1_500_000
SMALLEST_REDUCTION = 2.5
# Pixels at each edge of the result that a kernel cut off by the picture's edge has made; it is two pixels wide.
EDGE = 3
# A kernel reaches this many pixels of the result to each side, and one more for rounding.
KERNEL = 3
# FFmpeg converts these to planes and to packed RGB with the same arithmetic, if the width is a multiple of 16 (the rest
# of a line has errors in the planes of FFmpeg 8.0); others are packed first.
DIRECT_FORMATS = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p"})
DIRECT_WIDTHS = 16
# Catmull-Rom, as Pillow has. Accurate rounding is of columns only and would make the rows slower.
ROWS = "flags=bicubic:param0=0:param1=0.5:threads=1"
COLUMNS = "flags=bicubic+accurate_rnd+bitexact:param0=0:param1=0.5:threads=1"


Planes = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Red, green and blue of a picture, each uint8 (H, W)."""


def rgb_planes(frame: VideoFrame) -> Planes:
    """Return the colours that `frame.to_ndarray(format="rgb24")` has."""
    direct = frame.format.name in DIRECT_FORMATS and frame.width % DIRECT_WIDTHS == 0
    source = frame if direct else frame.reformat(format="rgb24", threads=1)
    green, blue, red = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in source.reformat(format="gbrp", threads=1).planes
    )
    return red, green, blue


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
    """Resizes pictures; keeps the scalers for the sizes it was asked for."""

    _graphs: dict[tuple[int, int, tuple[int, int], Window], Graph] = field(default_factory=dict)

    def stretch(self, planes: Planes, size: int) -> np.ndarray:
        """Do what `resizing.stretch` does."""
        return self._resized(planes, (size, size), (0, 0, size, size))

    def crop(self, planes: Planes, size: int) -> np.ndarray:
        """Do what `resizing.crop` does."""
        height, width = planes[0].shape
        shape, window = crop_window((height, width), size)
        return self._resized(planes, shape, window)

    def _resized(self, planes: Planes, shape: tuple[int, int], window: Window) -> np.ndarray:
        top, left, height, width = window
        result = np.empty((height, width, len(planes)), np.uint8)
        for colour, plane in enumerate(planes):
            result[..., colour] = self._scaled(plane, shape, window)
        for part in _edges(shape, window):
            y, x = part[0] - top, part[1] - left
            result[y : y + part[2], x : x + part[3]] = _exact(planes, shape, part)
        return result

    def _scaled(self, plane: np.ndarray, shape: tuple[int, int], window: Window) -> np.ndarray:
        key = plane.shape[0], plane.shape[1], shape, window
        graph = self._graphs.get(key) or self._graphs.setdefault(key, _graph(*key))
        frame = VideoFrame.from_numpy_buffer(plane, format="gray")
        frame.pts = 0
        graph.vpush(frame)
        (scaled,) = graph.vpull().planes
        lines = np.frombuffer(memoryview(scaled), np.uint8).reshape(-1, scaled.line_size)
        return lines[: window[2], : window[3]]


def _edges(shape: tuple[int, int], window: Window) -> Iterator[Window]:
    """Yield the parts of a window that lie at the picture's edges."""
    top, left, height, width = window
    for first, last in ((0, EDGE), (shape[0] - EDGE, shape[0])):
        y, below = max(first, top), min(last, top + height)
        if y < below:
            yield y, left, below - y, width
    for first, last in ((0, EDGE), (shape[1] - EDGE, shape[1])):
        x, beside = max(first, left), min(last, left + width)
        if x < beside:
            yield top, x, height, beside - x


def _exact(planes: Planes, shape: tuple[int, int], part: Window) -> np.ndarray:
    """Resize with Pillow what is needed for a part of the result."""
    (rows, row_box), (columns, column_box) = (
        _needed(before, after, part[axis], part[axis + 2])
        for axis, (before, after) in enumerate(zip(planes[0].shape, shape, strict=True))
    )
    source = Image.fromarray(np.stack([plane[rows, columns] for plane in planes], axis=-1))
    box = (column_box[0], row_box[0], column_box[1], row_box[1])
    return np.asarray(source.resize((part[3], part[2]), Image.Resampling.BICUBIC, box=box))


def _needed(before: int, after: int, first: int, count: int) -> tuple[slice, tuple[float, float]]:
    """Return the source pixels on which some pixels of the result depend, and the place of these among them."""
    step = before / after
    begin = max(0, math.floor((first - KERNEL) * step))
    end = min(before, math.ceil((first + count + KERNEL) * step))
    return slice(begin, end), (first * step - begin, min((first + count) * step, before) - begin)


def _graph(height: int, width: int, shape: tuple[int, int], window: Window) -> Graph:
    """Return a filter that resizes a grey picture: its rows, rounded to 8 bits, and then the window's columns."""
    top, left, window_height, window_width = window
    graph = Graph()
    graph.threads = 1
    steps = [
        graph.add_buffer(width=width, height=height, format=av.VideoFormat("gray"), time_base=Fraction(1, 1000)),
        graph.add("scale", f"{shape[1]}:{height}:{ROWS}"),
        graph.add("crop", f"{window_width}:{height}:{left}:0:exact=1"),
        graph.add("scale", f"{window_width}:{shape[0]}:{COLUMNS}"),
        graph.add("crop", f"{window_width}:{window_height}:0:{top}:exact=1"),
        graph.add("buffersink"),
    ]
    for step, following in pairwise(steps):
        step.link_to(following)
    graph.configure()
    return graph
