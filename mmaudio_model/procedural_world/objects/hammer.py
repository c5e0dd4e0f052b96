"""A hammer that drives a nail into a bench."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mmaudio_model.procedural_world.canvas import Canvas
from mmaudio_model.procedural_world.chance import Colour, near, shade, vivid
from mmaudio_model.procedural_world.event import Event
from mmaudio_model.procedural_world.motion import lift
from mmaudio_model.procedural_world.rhythm import irregular_events
from mmaudio_model.procedural_world.setting import Setting
from mmaudio_model.procedural_world.sounds.material import make_body
from mmaudio_model.procedural_world.sounds.modal import Body, strike_sound

SWING = 1.1
"""Angle in radians of the highest swing."""


@dataclass(frozen=True)
class Hammer:
    """A hammer that turns about the hand; lengths in picture heights."""

    side: int
    """1 if the hand is on the right, -1 on the left."""
    reach: float
    bench_height: float
    bench: Colour
    handle: Colour
    sleeve: Colour
    nail: Body
    wood: Body
    events: tuple[Event, ...]

    def captions(self) -> tuple[str, ...]:
        return (
            "a hammer striking a nail",
            "a hammer hits a nail into wood",
            "hammering on a workbench",
            "someone drives a nail into a bench with a hammer",
            "the sound of hammer blows on a nail",
            "hammer strikes, metal on metal over wood",
        )

    def height(self, time_s: float) -> float:
        """Return how far the head is above the nail, as an angle in radians."""
        return SWING * lift(self.events, time_s)

    def draw(self, canvas: Canvas, time_s: float) -> None:
        top = self.bench_height
        canvas.shadow(0.0, 0.42)
        for leg in (-0.3, 0.3):
            canvas.box(leg - 0.03, 0, leg + 0.03, top - 0.05, shade(self.bench, 0.6))
        canvas.box(-0.42, top - 0.08, 0.42, top, self.bench)
        canvas.box(-0.42, top - 0.02, 0.42, top, shade(self.bench, 1.25))
        nail_top = top + 0.055
        canvas.box(-0.006, top, 0.006, nail_top, (150, 152, 158))
        canvas.box(-0.02, nail_top - 0.012, 0.02, nail_top, (120, 122, 130))
        # At rest on the nail the handle is level; it turns about the hand.
        angle, head = self.height(time_s), 0.075
        hand = (self.side * self.reach, nail_top + head)
        along = (-self.side * math.cos(angle), math.sin(angle))
        down = (-self.side * math.sin(angle), -math.cos(angle))

        def at(forward: float, below: float) -> tuple[float, float]:
            return hand[0] + forward * along[0] + below * down[0], hand[1] + forward * along[1] + below * down[1]

        reach = self.reach
        canvas.line([at(-0.02, 0), at(reach, 0)], 0.03, self.handle)
        canvas.polygon(
            [at(reach - 0.04, -0.06), at(reach + 0.04, -0.06), at(reach + 0.04, head), at(reach - 0.04, head)],
            (84, 88, 98),
        )
        canvas.polygon(
            [at(reach - 0.045, 0.045), at(reach + 0.045, 0.045), at(reach + 0.045, head), at(reach - 0.045, head)],
            (156, 160, 170),
        )
        canvas.line([hand, (self.side * (reach + 0.3), nail_top - 0.12)], 0.08, self.sleeve)
        canvas.ellipse(*hand, 0.035, 0.035, (222, 178, 148))

    def sound(self, rng: np.random.Generator, samples: int, sample_rate_hz: int) -> np.ndarray:
        nail = strike_sound(rng, self.nail, self.events, samples, sample_rate_hz)
        return 0.75 * nail + 0.5 * strike_sound(rng, self.wood, self.events, samples, sample_rate_hz)


def make_hammer(rng: np.random.Generator, duration_s: float, _setting: Setting) -> Hammer:
    """Draw a hammer, a bench and when it strikes."""
    return Hammer(
        side=1 if rng.random() < 0.5 else -1,
        reach=rng.uniform(0.26, 0.36),
        bench_height=rng.uniform(0.16, 0.28),
        bench=near(rng, (146, 104, 66)),
        handle=near(rng, (182, 128, 72)),
        sleeve=vivid(rng),
        nail=make_body(rng, "nail"),
        wood=make_body(rng, "bench"),
        events=irregular_events(rng, duration_s, mean_gap_s=rng.uniform(0.6, 1.1)),
    )
