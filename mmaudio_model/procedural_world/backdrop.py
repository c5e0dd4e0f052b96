"""The static background: sky or wall, and the patterned ground. Painted once per clip, then shifted by the camera."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from mmaudio_model.procedural_world.canvas import Canvas, View
from mmaudio_model.procedural_world.chance import shade
from mmaudio_model.procedural_world.setting import OUTDOORS, Setting

# Extent of the noise in picture heights; fixed, so that it does not depend on the aspect ratio.
NOISE_HALF_WIDTH, NOISE_TOP, NOISE_BOTTOM = 2.2, 1.6, -0.6
ROUGHNESS = {"carpet": 20, "grass": 30, "gravel": 40, "asphalt": 24}
CELLS = {"carpet": (90, 90), "grass": (130, 26), "gravel": (60, 90), "asphalt": (110, 130)}
"""Noise cells per picture height, horizontally and vertically."""


def paint_backdrop(setting: Setting, view: View) -> Image.Image:
    """Return the backdrop, an RGB image of the view's size."""
    rng = np.random.default_rng(setting.texture_seed)
    rows = view.top - (np.arange(view.height_px) + 0.5) / view.scale
    up = np.clip((rows - setting.horizon) / 0.9, 0.0, 1.0)[:, None, None]
    wall = np.array(setting.wall) * (1 - up) + np.array(shade(setting.wall, 0.72)) * up
    near_by = np.clip((setting.horizon - rows) / 0.4, 0.0, 1.0)[:, None, None]
    floor = np.array(setting.floor) * (0.82 + 0.3 * near_by)
    below = rows < setting.horizon
    paint = np.repeat(np.where(below[:, None, None], floor, wall), view.width_px, axis=1)
    paint += _noise(rng, view, (3, 3))[..., None] * 9
    if setting.ground in ROUGHNESS:
        paint[below] += (_noise(rng, view, CELLS[setting.ground])[..., None] * ROUGHNESS[setting.ground])[below]
    paint = np.clip(paint * setting.light, 0, 255).astype(np.uint8)
    canvas = Canvas(Image.fromarray(paint), view)
    if setting.place in OUTDOORS:
        _hills(rng, canvas, setting)
    elif setting.place == "room":
        _furnish(rng, canvas, setting)
    if setting.ground in ("planks", "tiles"):
        _joints(canvas, setting)
    return canvas.image


def _noise(rng: np.random.Generator, view: View, cells: tuple[int, int]) -> np.ndarray:
    """Return smooth noise in -1..1, float64 (height, width), fixed to the world."""
    across, tall = round(2 * NOISE_HALF_WIDTH * cells[0]), round((NOISE_TOP - NOISE_BOTTOM) * cells[1])
    grid = Image.fromarray(rng.integers(0, 256, (tall, across), dtype=np.uint8))
    box = (
        max((view.left + NOISE_HALF_WIDTH) * cells[0], 0.0),
        max((NOISE_TOP - view.top) * cells[1], 0.0),
        min((view.right + NOISE_HALF_WIDTH) * cells[0], across),
        min((NOISE_TOP - view.bottom) * cells[1], tall),
    )
    smooth = grid.resize((view.width_px, view.height_px), Image.Resampling.BICUBIC, box=box)
    return np.asarray(smooth) / 127.5 - 1


def _hills(rng: np.random.Generator, canvas: Canvas, setting: Setting) -> None:
    for distance in (2, 1):
        height, phase, length = rng.uniform(0.03, 0.12), rng.uniform(0, 7), rng.uniform(0.25, 0.7)
        xs = np.linspace(-NOISE_HALF_WIDTH, NOISE_HALF_WIDTH, 60)
        ridge = setting.horizon + height * distance * (0.6 + 0.4 * np.sin(xs / length + phase))
        tint = shade((92, 118, 96), (1.5 if distance == 2 else 1.0) * setting.light)
        outline = [(float(x), float(y)) for x, y in zip(xs, ridge, strict=True)]
        canvas.polygon([(xs[0], setting.horizon), *outline, (xs[-1], setting.horizon)], tint)


def _furnish(rng: np.random.Generator, canvas: Canvas, setting: Setting) -> None:
    """Hang frames on the wall and run a skirting board along it."""
    canvas.box(-3, setting.horizon, 3, setting.horizon + 0.025, shade(setting.wall, 0.8 * setting.light))
    for _ in range(int(rng.integers(3))):
        x, y = rng.uniform(-0.75, 0.75), rng.uniform(0.45, 0.75)
        half_width, half_height = rng.uniform(0.05, 0.13), rng.uniform(0.05, 0.11)
        canvas.box(x - half_width, y - half_height, x + half_width, y + half_height, shade(setting.wall, 0.55))
        inner = tuple(int(part) for part in rng.integers(70, 230, 3))
        canvas.box(
            x - half_width + 0.012, y - half_height + 0.012, x + half_width - 0.012, y + half_height - 0.012, inner
        )


def _joints(canvas: Canvas, setting: Setting) -> None:
    """Draw the joints of planks or tiles, narrower towards the horizon, where the floor's lines meet above the wall."""
    ink = shade(setting.floor, 0.7 * setting.light)
    vanishing = setting.horizon + 0.55
    bottom = -0.5
    step = 0.09 if setting.ground == "planks" else 0.16
    for index in range(-40, 41):
        far = index * step
        near_by = far * (vanishing - bottom) / (vanishing - setting.horizon)
        canvas.line([(far, setting.horizon), (near_by, bottom)], 0.004, ink)
    if setting.ground == "tiles":
        for row in range(1, 14):
            y = setting.horizon - 0.024 * row * math.pow(1.13, row)
            canvas.line([(-3, y), (3, y)], 0.004, ink)
