"""A clock whose hand jumps and whose pendulum passes its lowest point at each tick."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mmaudio_model.procedural_world.canvas import Canvas
from mmaudio_model.procedural_world.chance import Colour, near, pick, shade, vivid
from mmaudio_model.procedural_world.event import Event
from mmaudio_model.procedural_world.rhythm import steady_events
from mmaudio_model.procedural_world.setting import Setting
from mmaudio_model.procedural_world.sounds.material import make_body
from mmaudio_model.procedural_world.sounds.modal import Body, strike_sound

CENTRE_Y = 0.45
JUMP_S = 0.06
"""How long the hand takes to jump; it starts at the tick."""


@dataclass(frozen=True)
class Clock:
    """A clock on the wall; lengths in picture heights, angles in radians clockwise from the top."""

    x: float
    radius: float
    rim: Colour
    face: Colour
    second_hand: Colour
    step: float
    started: tuple[float, float, float]
    gap_s: float
    tick: Body
    tock: Body
    events: tuple[Event, ...]

    def captions(self) -> tuple[str, ...]:
        return (
            "a clock ticking",
            "the ticking of a clock",
            f"a clock ticks {'slowly' if self.gap_s > 0.8 else 'quickly'}",
            "tick tock of a wall clock",
            "a pendulum clock ticking on the wall",
            "quiet ticking, a clock with a swinging pendulum",
        )

    def height(self, time_s: float) -> float:
        """Return how far the pendulum is from its lowest point, as a share of its swing."""
        return abs(self._swing(time_s))

    def _swing(self, time_s: float) -> float:
        first = self.events[0].time_s if self.events else 0.0
        return math.sin(math.pi * (time_s - first) / self.gap_s)

    def draw(self, canvas: Canvas, time_s: float) -> None:
        x, y, radius = self.x, CENTRE_Y, self.radius
        angle = 0.42 * self._swing(time_s)
        long = 1.75 * radius
        bob = (x + long * math.sin(angle), y - long * math.cos(angle))
        canvas.line([(x, y), bob], 0.014, shade(self.rim, 0.8))
        canvas.ellipse(*bob, 0.26 * radius, 0.26 * radius, (214, 178, 84))
        canvas.ellipse(x + 0.015, y - 0.02, 1.04 * radius, 1.04 * radius, (0, 0, 0, 60))
        canvas.ellipse(x, y, radius, radius, self.rim)
        canvas.ellipse(x, y, 0.87 * radius, 0.87 * radius, self.face)
        dark = (34, 34, 40)
        for hour in range(12):
            self._hand(canvas, hour * math.pi / 6, 0.72, 0.82, 0.014, dark)
        ticks = sum(event.time_s <= time_s for event in self.events)
        since = time_s - self.events[ticks - 1].time_s if ticks else JUMP_S
        jumped = ticks - 1 + min(since / JUMP_S, 1.0) if ticks else 0.0
        hours, minutes, seconds = self.started
        self._hand(canvas, hours, 0.0, 0.45, 0.026, dark)
        self._hand(canvas, minutes, 0.0, 0.66, 0.018, dark)
        self._hand(canvas, seconds + self.step * jumped, -0.15, 0.78, 0.014, self.second_hand)
        canvas.ellipse(x, y, 0.06 * radius, 0.06 * radius, dark)

    def _hand(self, canvas: Canvas, angle: float, start: float, end: float, width: float, ink: Colour) -> None:
        dx, dy = self.radius * math.sin(angle), self.radius * math.cos(angle)
        ends = [(self.x + start * dx, CENTRE_Y + start * dy), (self.x + end * dx, CENTRE_Y + end * dy)]
        canvas.line(ends, width, ink)

    def sound(self, rng: np.random.Generator, samples: int, sample_rate_hz: int) -> np.ndarray:
        tick = strike_sound(rng, self.tick, self.events[0::2], samples, sample_rate_hz)
        values: np.ndarray = 0.5 * (tick + strike_sound(rng, self.tock, self.events[1::2], samples, sample_rate_hz))
        return values


def make_clock(rng: np.random.Generator, duration_s: float, _setting: Setting) -> Clock:
    """Draw a clock; the tock is a little lower than the tick."""
    gap_s = round(rng.uniform(0.5, 1.1), 6)
    return Clock(
        x=rng.uniform(-0.15, 0.15),
        radius=rng.uniform(0.16, 0.21),
        rim=near(rng, pick(rng, ((110, 70, 40), (60, 62, 70), (196, 160, 70)))),
        face=near(rng, (240, 236, 222), 12),
        second_hand=vivid(rng),
        step=2 * math.pi / pick(rng, (12, 20, 30)),
        started=(rng.uniform(0, 6.28), rng.uniform(0, 6.28), rng.uniform(0, 6.28)),
        gap_s=gap_s,
        tick=make_body(rng, "escapement"),
        tock=make_body(rng, "escapement", size=1.25),
        events=steady_events(rng, duration_s, gap_s=gap_s),
    )
