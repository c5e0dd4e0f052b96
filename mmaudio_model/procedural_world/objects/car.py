"""A car on a road: wheels, road and engine follow one speed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mmaudio_model.procedural_world.canvas import Canvas
from mmaudio_model.procedural_world.chance import Colour, shade, vivid
from mmaudio_model.procedural_world.event import Event
from mmaudio_model.procedural_world.motion import Curve, draw_curve
from mmaudio_model.procedural_world.setting import Setting
from mmaudio_model.procedural_world.sounds.texture import filtered_noise
from mmaudio_model.procedural_world.sounds.tone import harmonic_tone

TOP_SPEED = 1.9
"""Picture heights a second that the road passes at speed 1."""
DASH_GAP, TREE_GAP = 0.9, 1.7
# Even firings are strong; odd orders of half the firing rate make the rumble.
ORDERS = (0.5, 1.0, 0.35, 0.7, 0.25, 0.45, 0.15, 0.3, 0.1, 0.18, 0.06, 0.1)


def draw_wheel(canvas: Canvas, x: float, radius: float, turn: float) -> None:
    """Draw a wheel that stands on the ground, turned clockwise by `turn` radians."""
    canvas.ellipse(x, radius, radius, radius, (32, 32, 36))
    canvas.ellipse(x, radius, 0.62 * radius, 0.62 * radius, (176, 180, 188))
    for spoke in range(3):
        angle = -turn + spoke * math.pi / 3
        dx, dy = 0.6 * radius * math.cos(angle), 0.6 * radius * math.sin(angle)
        canvas.line([(x - dx, radius - dy), (x + dx, radius + dy)], 0.012, (70, 72, 80))


@dataclass(frozen=True)
class Car:
    """A car that the camera follows; speed in 0..1, engine in firings a second."""

    speed: Curve
    side: int
    """1 if it drives to the right."""
    colour: Colour
    idle_hz: float
    top_hz: float
    trees_seed: int

    @property
    def events(self) -> tuple[Event, ...]:
        return ()

    def captions(self) -> tuple[str, ...]:
        gain = self.speed.values[-1] - self.speed.values[0]
        how = "speeds up" if gain > 0.3 else "slows down" if gain < -0.3 else "drives along a road"
        return (
            "a car engine running",
            f"a car {how}, its engine is heard",
            "the sound of a car engine, its pitch rising and falling with speed",
            "an engine revving while a car drives",
            "a motor car on a road, engine noise",
            f"engine of a car that {how}",
        )

    def frequency_hz(self, times_s: np.ndarray | float) -> np.ndarray:
        """Return the engine's pitch at these times: it follows the speed."""
        return self.idle_hz + (self.top_hz - self.idle_hz) * self.speed.at(times_s)

    def draw(self, canvas: Canvas, time_s: float) -> None:
        way = TOP_SPEED * float(self.speed.integral(time_s))
        side = self.side
        trees = np.random.default_rng(self.trees_seed).uniform(0.7, 1.3, 16)
        # The wood behind passes at half the road's speed.
        for index in range(-2, 3):
            passed = math.floor(0.5 * way / TREE_GAP)
            x = -side * (0.5 * way - (passed + index) * TREE_GAP)
            size = 0.2 * float(trees[(passed + index) % 16])
            canvas.box(x - 0.02, 0.06, x + 0.02, 0.06 + size, (94, 70, 50))
            canvas.ellipse(x, 0.1 + 1.4 * size, 0.7 * size, 0.9 * size, (66, 104, 62))
        canvas.box(-3, -0.6, 3, 0.06, (82, 82, 88))
        for index in range(-3, 4):
            x = -side * (way % DASH_GAP) + index * DASH_GAP
            canvas.box(x - 0.16, -0.085, x + 0.16, -0.06, (236, 234, 220))
        speed = float(self.speed.at(time_s))
        canvas.shadow(0.0, 0.32)
        for puff in range(4):  # the exhaust: more of it with more speed
            age = (time_s * 2.2 + puff / 4) % 1
            x = -side * (0.34 + 0.25 * age * (0.4 + speed))
            canvas.ellipse(
                x,
                0.07 + 0.05 * age,
                0.02 + 0.03 * age,
                0.015 + 0.025 * age,
                (220, 220, 220, int((40 + 90 * speed) * (1 - age))),
            )
        lift = 0.004 * math.sin(2 * math.pi * 4.3 * time_s) * speed
        glass = (186, 214, 228)
        canvas.polygon(
            [(side * x, y + lift) for x, y in ((-0.2, 0.17), (-0.14, 0.29), (0.08, 0.29), (0.19, 0.17))],
            shade(self.colour, 0.8),
        )
        canvas.polygon(
            [(side * x, y + lift) for x, y in ((-0.165, 0.18), (-0.12, 0.27), (-0.04, 0.27), (-0.04, 0.18))], glass
        )
        canvas.polygon(
            [(side * x, y + lift) for x, y in ((-0.02, 0.18), (-0.02, 0.27), (0.07, 0.27), (0.15, 0.18))], glass
        )
        canvas.polygon(
            [
                (side * x, y + lift)
                for x, y in ((-0.33, 0.06), (-0.33, 0.16), (-0.2, 0.18), (0.2, 0.18), (0.33, 0.14), (0.34, 0.06))
            ],
            self.colour,
        )
        canvas.ellipse(side * 0.32, 0.125 + lift, 0.02, 0.018, (255, 244, 190))
        for x in (-0.2, 0.2):
            draw_wheel(canvas, x, 0.075, side * way / 0.075 / 4)

    def sound(self, rng: np.random.Generator, samples: int, sample_rate_hz: int) -> np.ndarray:
        time = np.arange(samples) / sample_rate_hz
        speed = self.speed.at(time)
        engine = harmonic_tone(self.frequency_hz(time) / 2, ORDERS, sample_rate_hz)
        road = filtered_noise(rng, samples, sample_rate_hz, [(50, -10), (300, 0), (1500, -14), (8000, -40)])
        values: np.ndarray = (0.55 + 0.45 * speed) * engine + 0.05 * speed * road
        return values


def make_car(rng: np.random.Generator, duration_s: float, _setting: Setting) -> Car:
    """Draw a car and how it speeds up and slows down."""
    idle_hz = rng.uniform(45, 70)
    return Car(
        speed=draw_curve(rng, duration_s, low=0.05, high=1.0, gap_s=(1.2, 2.8)),
        side=1 if rng.random() < 0.5 else -1,
        colour=vivid(rng),
        idle_hz=idle_hz,
        top_hz=idle_hz * rng.uniform(3.2, 4.2),
        trees_seed=int(rng.integers(2**31)),
    )
