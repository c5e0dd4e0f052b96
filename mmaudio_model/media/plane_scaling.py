"""Resizes large pictures with FFmpeg's scaler to within one level of `resizing.pillow_resize`, several times faster.

Pillow and torch resize an 8-bit picture first along the rows, round to 8 bits, and then along the columns. So does this
module. The rows, which is most of the work, are resized by FFmpeg's vectorised scaler, one colour at a time, with the
same kernel. Only at the edges it differs: it repeats the outermost pixel where the others cut the kernel off, so Pillow
resizes a few pixels there, and the columns, of which less is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

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
# FFmpeg converts these to planes and to packed RGB with the same arithmetic, if the width is a multiple of 16 (the rest
# of a line has errors in the planes of FFmpeg 8.0); others are packed first.
DIRECT_FORMATS = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p"})
DIRECT_WIDTHS = 16
# Catmull-Rom, as Pillow has; all rounding exact.
FLAGS = "flags=bicubic+accurate_rnd+bitexact:param0=0:param1=0.5:threads=1"

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

    _graphs: dict[tuple[int, int, int], Graph] = field(default_factory=dict)

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
        rows = len(planes[0])
        narrow = np.empty((rows, width, len(planes)), np.uint8)
        for colour, plane in enumerate(planes):
            self._along_rows(plane, shape[1], left, narrow[..., colour])
        box = (0, top * rows / shape[0], width * len(planes), min((top + height) * rows / shape[0], rows))
        lines = Image.fromarray(narrow.reshape(rows, -1))
        columns = lines.resize((width * len(planes), height), Image.Resampling.BICUBIC, box=box)
        return np.asarray(columns).reshape(height, width, len(planes))

    def _along_rows(self, plane: np.ndarray, full_width: int, left: int, result: np.ndarray) -> None:
        """Resize to `full_width` and write the pixels from `left` on to `result`, uint8 (H, window's width)."""
        (rows, before), width = plane.shape, result.shape[1]
        key = rows, before, full_width
        if key not in self._graphs:
            self._graphs[key] = _graph(*key)
        frame = VideoFrame.from_numpy_buffer(plane, format="gray")
        frame.pts = 0
        self._graphs[key].vpush(frame)
        (scaled,) = self._graphs[key].vpull().planes
        lines = np.frombuffer(memoryview(scaled), np.uint8).reshape(-1, scaled.line_size)
        result[:] = lines[:rows, left : left + width]
        step = before / full_width
        reach = math.ceil((EDGE + 3) * step)
        if left < EDGE:
            part = Image.fromarray(np.ascontiguousarray(plane[:, :reach]))
            result[:, : EDGE - left] = _edge(part, (0, 0, EDGE * step, rows))[:, left:]
        if left + width > full_width - EDGE:
            part = Image.fromarray(np.ascontiguousarray(plane[:, -reach:]))
            edge = _edge(part, (reach - EDGE * step, 0, reach, rows))
            result[:, full_width - EDGE - left :] = edge[:, : left + width - full_width + EDGE]


def _edge(part: Image.Image, box: tuple[float, float, float, float]) -> np.ndarray:
    return np.asarray(part.resize((EDGE, part.height), Image.Resampling.BICUBIC, box=box))


def _graph(rows: int, before: int, after: int) -> Graph:
    """Return a filter that resizes each row of a grey picture."""
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(width=before, height=rows, format=av.VideoFormat("gray"), time_base=Fraction(1, 1000))
    scale, sink = graph.add("scale", f"{after}:{rows}:{FLAGS}"), graph.add("buffersink")
    source.link_to(scale)
    scale.link_to(sink)
    graph.configure()
    return graph
