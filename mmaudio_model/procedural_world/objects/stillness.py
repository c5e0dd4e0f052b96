"""Silence: objects that rest or drift without sound."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mmaudio_model.procedural_world.canvas import Canvas
from mmaudio_model.procedural_world.chance import Colour, near, shade, vivid
from mmaudio_model.procedural_world.event import Event
from mmaudio_model.procedural_world.setting import Setting


@dataclass(frozen=True)
class Stillness:
    """A still life: a plant and a box, and a cloth that moves without a sound. Lengths in picture heights."""

    x: float
    size: float
    pot: Colour
    box: Colour
    cloth: Colour
    outdoors: bool

    @property
    def events(self) -> tuple[Event, ...]:
        return ()

    def captions(self) -> tuple[str, ...]:
        where = "outdoors" if self.outdoors else "in a room"
        return (
            "silence",
            f"silence {where}",
            "complete silence, nothing makes a sound",
            "a silent scene",
            f"a still life {where}, silent",
            "no sound at all, silence",
        )

    def draw(self, canvas: Canvas, time_s: float) -> None:
        size, x = self.size, self.x
        canvas.shadow(-x, 0.6 * size)
        canvas.box(-x - 0.5 * size, 0, -x + 0.5 * size, 0.7 * size, self.box)
        canvas.box(-x - 0.5 * size, 0.58 * size, -x + 0.5 * size, 0.7 * size, shade(self.box, 1.4))
        drape = 0.05 * size * math.sin(2 * math.pi * 0.22 * time_s)
        canvas.polygon(
            [
                (-x - 0.2 * size, 0.7 * size),
                (-x + 0.4 * size, 0.7 * size),
                (-x + 0.3 * size + drape, 0.25 * size),
                (-x - 0.1 * size + drape, 0.3 * size),
            ],
            self.cloth,
        )
        canvas.shadow(x, 0.4 * size)
        for leaf in range(-3, 4):
            angle = 0.3 * leaf
            tip = (x + size * math.sin(angle), 0.45 * size + size * math.cos(angle))
            canvas.line([(x, 0.4 * size), tip], 0.022, shade((70, 128, 66), 0.8 + 0.08 * abs(leaf)))
        canvas.polygon(
            [(x - 0.25 * size, 0), (x + 0.25 * size, 0), (x + 0.36 * size, 0.5 * size), (x - 0.36 * size, 0.5 * size)],
            self.pot,
        )

    def sound(self, rng: np.random.Generator, samples: int, sample_rate_hz: int) -> np.ndarray:  # noqa: ARG002 - silence
        return np.zeros(samples)


def make_stillness(rng: np.random.Generator, _duration_s: float, setting: Setting) -> Stillness:
    """Draw a still life."""
    return Stillness(
        x=rng.uniform(0.12, 0.3) * (1 if rng.random() < 0.5 else -1),
        size=rng.uniform(0.16, 0.3),
        pot=near(rng, (176, 96, 62)),
        box=near(rng, (150, 120, 84), 40),
        cloth=vivid(rng),
        outdoors=setting.place in ("meadow", "street"),
    )
