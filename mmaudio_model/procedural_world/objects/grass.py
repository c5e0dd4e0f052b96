"""Tall grass in the wind: gusts bend the blades and make the sound swell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmaudio_model.procedural_world.canvas import Canvas
from mmaudio_model.procedural_world.chance import Colour, near, pick, shade
from mmaudio_model.procedural_world.event import Event
from mmaudio_model.procedural_world.motion import Curve, draw_curve
from mmaudio_model.procedural_world.setting import Setting
from mmaudio_model.procedural_world.sounds.texture import filtered_noise

BLADES = 150
HALF_WIDTH = 1.1
PARTS = np.array([0.0, 0.35, 0.7, 1.0])
"""Where along a blade its joints are."""


@dataclass(frozen=True)
class Grass:
    """Blades that bend with the gust, in 0..1; lengths in picture heights."""

    gust: Curve
    side: int
    """1 if the wind blows to the right."""
    tall: float
    colour: Colour
    blades_seed: int

    @property
    def events(self) -> tuple[Event, ...]:
        return ()

    def captions(self) -> tuple[str, ...]:
        strong = "strong" if max(self.gust.values) > 0.8 else "gentle"
        return (
            "wind blowing through grass",
            f"a {strong} wind blows through tall grass",
            "the sound of wind in a meadow",
            "grass sways in gusts of wind",
            "wind rustles the grass, swelling and fading",
            f"{strong} wind over a field",
        )

    def draw(self, canvas: Canvas, time_s: float) -> None:
        rng = np.random.default_rng(self.blades_seed)
        x, depth, size, phase, tint = rng.random((5, BLADES))
        x = (2 * x - 1) * HALF_WIDTH
        order = np.argsort(-depth)  # far blades first
        gust = float(self.gust.at(time_s))
        # A gust runs over the field as a wave; weak wind only trembles.
        wave = np.sin(2 * np.pi * (1.1 * time_s - 0.9 * self.side * x) + phase)
        bend = self.side * (0.12 + 1.0 * gust) + (0.05 + 0.22 * gust) * wave + 0.3 * (phase - 0.5)
        foot, long = 0.07 - 0.3 * (1 - depth), self.tall * (0.6 + 0.6 * size)
        angle = bend[:, None] * PARTS[None, :]  # (blades, joints): bent more towards the tip
        xs = x[:, None] + long[:, None] * PARTS * np.sin(angle)
        ys = foot[:, None] + long[:, None] * PARTS * np.cos(angle)
        joints = np.stack([xs, ys], -1)
        for index in order.tolist():
            ink = shade(self.colour, 0.6 + 0.7 * float(tint[index]))
            canvas.line([(px, py) for px, py in joints[index].tolist()], 0.013, ink)

    def sound(self, rng: np.random.Generator, samples: int, sample_rate_hz: int) -> np.ndarray:
        gust = self.gust.at(np.arange(samples) / sample_rate_hz)
        low = filtered_noise(rng, samples, sample_rate_hz, [(40, -12), (180, 0), (420, -4), (1200, -26), (8000, -60)])
        rustle = filtered_noise(
            rng, samples, sample_rate_hz, [(200, -40), (700, -8), (1300, 0), (2600, -12), (8000, -36)]
        )
        # Leaves join in as the wind gets up: the sound brightens with the gust.
        values: np.ndarray = (0.05 + 0.24 * gust) * low + 0.22 * gust**2 * rustle
        return values


def make_grass(rng: np.random.Generator, duration_s: float, _setting: Setting) -> Grass:
    """Draw a field and its gusts."""
    strength = rng.uniform(0.55, 1.0)
    return Grass(
        gust=draw_curve(rng, duration_s, low=0.05, high=strength, gap_s=(0.9, 2.2)),
        side=1 if rng.random() < 0.5 else -1,
        tall=rng.uniform(0.3, 0.48),
        colour=near(rng, pick(rng, ((110, 150, 60), (160, 160, 80), (90, 132, 72)))),
        blades_seed=int(rng.integers(2**31)),
    )
