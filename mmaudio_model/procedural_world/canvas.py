"""Drawing in the world's coordinates (see the package) on a Pillow image that is larger than the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

SUPERSAMPLING = 2
Ink = tuple[int, ...]
"""RGB, or RGBA where the alpha blends."""
Point = tuple[float, float]


@dataclass(frozen=True)
class View:
    """Mapping of the world to an image: pixels per picture height, and the pixel of the world's origin."""

    width_px: int
    height_px: int
    scale: float
    origin_x: float
    origin_y: float

    def moved(self, right_px: int, down_px: int) -> View:
        return View(self.width_px, self.height_px, self.scale, self.origin_x + right_px, self.origin_y + down_px)

    def pixel(self, x: float, y: float) -> Point:
        return self.origin_x + x * self.scale, self.origin_y - y * self.scale

    @property
    def left(self) -> float:
        return -self.origin_x / self.scale

    @property
    def right(self) -> float:
        return (self.width_px - self.origin_x) / self.scale

    @property
    def top(self) -> float:
        return self.origin_y / self.scale

    @property
    def bottom(self) -> float:
        return (self.origin_y - self.height_px) / self.scale


class Canvas:
    """An image to draw on; all lengths in picture heights."""

    def __init__(self, image: Image.Image, view: View) -> None:
        self.image = image
        self.view = view
        self._draw = ImageDraw.Draw(image, "RGBA")

    def ellipse(self, x: float, y: float, rx: float, ry: float, ink: Ink) -> None:
        px, py = self.view.pixel(x, y)
        rx, ry = max(rx * self.view.scale, 0.5), max(ry * self.view.scale, 0.5)
        self._draw.ellipse((px - rx, py - ry, px + rx, py + ry), fill=ink)

    def ring(self, x: float, y: float, rx: float, ry: float, ink: Ink, width: float) -> None:
        px, py = self.view.pixel(x, y)
        rx, ry = max(rx * self.view.scale, 1.0), max(ry * self.view.scale, 1.0)
        self._draw.ellipse((px - rx, py - ry, px + rx, py + ry), outline=ink, width=self._pixels(width))

    def polygon(self, points: Sequence[Point], ink: Ink) -> None:
        self._draw.polygon([self.view.pixel(x, y) for x, y in points], fill=ink)

    def box(self, left: float, bottom: float, right: float, top: float, ink: Ink) -> None:
        self.polygon([(left, bottom), (right, bottom), (right, top), (left, top)], ink)

    def line(self, points: Sequence[Point], width: float, ink: Ink) -> None:
        pixels = self._pixels(width)
        # Round joints are slow to draw and invisible on a thin line.
        joint = "curve" if len(points) > 2 and pixels > 4 else None
        self._draw.line([self.view.pixel(x, y) for x, y in points], fill=ink, width=pixels, joint=joint)

    def shadow(self, x: float, rx: float, *, height: float = 0.0, y: float = -0.012) -> None:
        """Darken the ground under something whose lowest point is `height` above it: wider and paler from higher up."""
        for share, alpha in ((1.3, 26), (1.0, 40), (0.7, 46)):
            wide = rx * (share + 0.6 * height)
            self.ellipse(x, y, wide, min(0.24 * wide, 0.045 * share), (0, 0, 0, int(alpha / (1 + 4 * height))))

    def _pixels(self, width: float) -> int:
        return max(1, round(width * self.view.scale))
