"""Resizes large pictures with FFmpeg's scaler, several times faster than `resizing.pillow_resize` and close to it.

One colour at a time, with the same kernel as Pillow and torch. They round to 8 bits between rows and columns and FFmpeg
does not: inside the picture that is at most one level, in test patterns of black and white sometimes two, as between
Pillow and torch. At the edges FFmpeg repeats the outermost pixel where the others cut the kernel off, so Pillow resizes
the few pixels there.
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
from av.video.plane import VideoPlane
from PIL import Image

from mmaudio_model.media.resizing import Window, crop_window

# Below, Pillow is fast enough and exact. FFmpeg leaves out the least weights of the kernel, which shows if a pixel is
# made of few: up to two levels of difference at some edges.
SMALLEST_PIXELS = 900_000
SMALLEST_REDUCTION = 2.5
# Pixels at each edge of the result that a kernel cut off by the picture's edge has made; it reaches two pixels far.
EDGE, REACH = 3, 3
# FFmpeg converts these to planes and to packed RGB with the same arithmetic, if the width is a multiple of 16 (the rest
# of a line has errors in the planes of FFmpeg 8.0); others are packed first.
DIRECT_FORMATS = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p"})
DIRECT_WIDTHS = 16
# Catmull-Rom, as Pillow has; all rounding exact.
FLAGS = "flags=bicubic+accurate_rnd:param0=0:param1=0.5:threads=1"

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Red, green and blue of a picture, each uint8 (H, W)."""


def rgb_planes(frame: VideoFrame) -> Planes:
    """Return the colours that `frame.to_ndarray(format="rgb24")` has."""
    direct = frame.format.name in DIRECT_FORMATS and frame.width % DIRECT_WIDTHS == 0
    source = frame if direct else frame.reformat(format="rgb24", threads=1)
    green, blue, red = (_pixels(plane) for plane in source.reformat(format="gbrp", threads=1).planes)
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

    _graphs: dict[tuple[int, ...], Graph] = field(default_factory=dict)

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
            result[..., colour] = self._scaled(plane, shape, left, width)[top : top + height]
        for rows, columns in _edges(shape, window):
            part = _by_pillow(planes, shape, rows, columns)
            result[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = part
        return result

    def _scaled(self, plane: np.ndarray, shape: tuple[int, int], left: int, width: int) -> np.ndarray:
        """Return all rows and `width` columns, from `left` on, of a plane resized to a shape."""
        key = *plane.shape, *shape, left, width
        if key not in self._graphs:
            self._graphs[key] = _graph(*key)
        frame = VideoFrame.from_numpy_buffer(plane, format="gray")
        frame.pts = 0
        self._graphs[key].vpush(frame)
        return _pixels(self._graphs[key].vpull().planes[0])


def _edges(shape: tuple[int, int], window: Window) -> Iterator[tuple[slice, slice]]:
    """Yield the rows and columns of those edges of the resized picture that lie in the window."""
    (full_height, full_width), (top, left, height, width) = shape, window
    bottom, right = top + height, left + width
    if top < EDGE:
        yield slice(top, EDGE), slice(left, right)
    if bottom > full_height - EDGE:
        yield slice(full_height - EDGE, bottom), slice(left, right)
    if left < EDGE:
        yield slice(top, bottom), slice(left, EDGE)
    if right > full_width - EDGE:
        yield slice(top, bottom), slice(full_width - EDGE, right)


def _by_pillow(planes: Planes, shape: tuple[int, int], rows: slice, columns: slice) -> np.ndarray:
    """Return a part of the resized picture; only what its pixels are made of is resized."""
    places, box = [], []
    for wanted, full, before in zip((rows, columns), shape, planes[0].shape, strict=True):
        step = before / full
        first = max(0, math.floor((wanted.start - REACH) * step))
        places.append(slice(first, min(before, math.ceil((wanted.stop + REACH) * step))))
        box.append((wanted.start * step - first, min(wanted.stop * step, before) - first))
    source = Image.fromarray(np.stack([plane[places[0], places[1]] for plane in planes], axis=-1))
    width, height = columns.stop - columns.start, rows.stop - rows.start
    (top, bottom), (left, right) = box
    # In two steps: Pillow takes that order for a whole picture, but not for every strip of one.
    narrow = source.resize((width, source.height), Image.Resampling.BICUBIC, box=(left, 0, right, source.height))
    return np.asarray(narrow.resize((width, height), Image.Resampling.BICUBIC, box=(0, top, width, bottom)))


def _pixels(plane: VideoPlane) -> np.ndarray:
    """Return a plane of 8 bits without the rest of its lines, uint8 (H, W)."""
    lines: np.ndarray = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return lines[: plane.height, : plane.width]


def _graph(rows: int, columns: int, height: int, full_width: int, left: int, width: int) -> Graph:
    """Return a filter that resizes a grey picture of (rows, columns) to (height, full_width) and crops its columns."""
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(width=columns, height=rows, format=av.VideoFormat("gray"), time_base=Fraction(1, 1000))
    # In two steps, since the others round, and so clip what overshoots, between rows and columns.
    steps = (
        source,
        graph.add("scale", f"{full_width}:{rows}:{FLAGS}"),
        graph.add("crop", f"{width}:{rows}:{left}:0"),
        graph.add("scale", f"{width}:{height}:{FLAGS}"),
        graph.add("buffersink"),
    )
    for before, after in pairwise(steps):
        before.link_to(after)
    graph.configure()
    return graph
