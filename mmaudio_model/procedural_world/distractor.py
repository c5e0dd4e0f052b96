"""Distractors: silent moving objects, so that motion alone does not imply sound."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mmaudio_model.procedural_world.canvas import Canvas
from mmaudio_model.procedural_world.chance import Colour, pick, shade, vivid

KINDS = ("balloon", "butterfly", "bubble", "paper plane")


@dataclass(frozen=True)
class Distractor:
    """A drifting object; lengths in picture heights, speeds per second, rate in Hz."""

    kind: str
    x: float
    y: float
    speed: float
    wobble: float
    rate: float
    phase: float
    size: float
    colour: Colour

    def place(self, time_s: float) -> tuple[float, float]:
        """Return its position. It leaves on one side and re-enters on the other."""
        turn = 2 * math.pi * self.rate * time_s + self.phase
        if self.kind in ("balloon", "bubble"):  # upwards
            rising = (self.y + abs(self.speed) * time_s) % 1.5
            return self.x + self.wobble * math.sin(turn), rising - 0.1
        across = (self.x + 1.1 + self.speed * time_s) % 2.2 - 1.1
        return across, 0.45 + 0.3 * self.y + self.wobble * math.sin(turn)

    def draw(self, canvas: Canvas, time_s: float) -> None:
        x, y = self.place(time_s)
        size = self.size
        if self.kind == "balloon":
            canvas.line([(x, y - size), (x + 0.2 * size, y - 3 * size)], 0.004, (90, 90, 90))
            canvas.ellipse(x, y, 0.85 * size, size, self.colour)
            canvas.ellipse(x - 0.3 * size, y + 0.4 * size, 0.2 * size, 0.26 * size, (255, 255, 255, 120))
        elif self.kind == "bubble":
            canvas.ellipse(x, y, size, size, (220, 240, 255, 50))
            canvas.ring(x, y, size, size, (240, 250, 255, 170), 0.005)
        elif self.kind == "butterfly":
            open_by = size * (0.25 + 0.75 * abs(math.sin(2 * math.pi * 3.1 * time_s + self.phase)))
            for side in (-1, 1):
                canvas.ellipse(x + side * 0.5 * open_by, y + 0.3 * size, 0.5 * open_by, 0.55 * size, self.colour)
                canvas.ellipse(
                    x + side * 0.4 * open_by, y - 0.4 * size, 0.4 * open_by, 0.4 * size, shade(self.colour, 0.8)
                )
            canvas.line([(x, y + 0.6 * size), (x, y - 0.6 * size)], 0.007, (40, 32, 32))
        else:
            nose = math.copysign(1.5 * size, self.speed)
            canvas.polygon(
                [(x + nose, y), (x - nose, y + 0.7 * size), (x - 0.6 * nose, y - 0.1 * size)], (248, 248, 250)
            )
            canvas.polygon(
                [(x + nose, y), (x - 0.6 * nose, y - 0.1 * size), (x - nose, y - 0.6 * size)], (196, 200, 208)
            )


def draw_distractor(rng: np.random.Generator) -> Distractor:
    """Draw a random distractor."""
    speed = rng.uniform(0.05, 0.3)
    return Distractor(
        kind=pick(rng, KINDS),
        x=rng.uniform(-0.6, 0.6),
        y=rng.uniform(0.0, 1.0),
        speed=speed if rng.random() < 0.5 else -speed,
        wobble=rng.uniform(0.02, 0.1),
        rate=rng.uniform(0.1, 0.6),
        phase=rng.uniform(0, 2 * math.pi),
        size=rng.uniform(0.025, 0.055),
        colour=vivid(rng),
    )
