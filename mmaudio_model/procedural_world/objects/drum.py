"""A drum and two sticks that strike in turn."""

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
from mmaudio_model.procedural_world.sounds.texture import bursts, filtered_noise

STICK = 0.34


@dataclass(frozen=True)
class Drum:
    """A drum seen from the front, a little from above; lengths in picture heights."""

    radius: float
    tall: float
    shell: Colour
    skin: Colour
    body: Body
    events: tuple[Event, ...]

    def captions(self) -> tuple[str, ...]:
        size, pitch = ("large", "deep") if self.radius > 0.23 else ("small", "high")
        return (
            "a drum being played",
            "drum beats",
            f"somebody plays a {size} drum with two sticks",
            f"the {pitch} sound of a drum",
            f"slow beats on a {size} drum",
            "drumming, sticks strike the skin of a drum",
        )

    def height(self, time_s: float) -> float:
        """Return how far the lower stick is above the skin, as an angle in radians."""
        return min(self._angle(0, time_s), self._angle(1, time_s))

    def _angle(self, hand: int, time_s: float) -> float:
        return 0.95 * lift(self.events[hand::2], time_s)

    def draw(self, canvas: Canvas, time_s: float) -> None:
        since = min((time_s - event.time_s for event in self.events if event.time_s <= time_s), default=1.0)
        shake = 0.006 * math.exp(-since / 0.06) * math.cos(70 * since)
        top, radius, flat = self.tall, self.radius, 0.26 * self.radius
        canvas.shadow(0.0, radius * 1.1)
        canvas.ellipse(0, flat * 0.7, radius, flat, shade(self.shell, 0.6))
        canvas.box(-radius, flat * 0.7, radius, top, shade(self.shell, 0.85))
        canvas.box(-radius * 0.7, flat * 0.2, -radius * 0.1, top, self.shell)
        for index in range(-3, 4):  # the cords
            x = radius * math.sin(index * 0.45)
            canvas.line([(x, top - flat), (x + 0.05 * radius, flat * 0.4)], 0.007, (236, 226, 196))
        canvas.ellipse(0, top, radius * 1.03, flat * 1.08, shade(self.shell, 0.5))
        canvas.ellipse(0, top + shake, radius * 0.95, flat * 0.96, self.skin)
        for hand, side in ((0, -1), (1, 1)):
            tip = (side * 0.3 * radius, top + 0.012)
            # The stick turns about the hand, which is where it is when the tip lies on the skin.
            grip = (tip[0] + side * STICK * math.cos(0.35), tip[1] + STICK * math.sin(0.35))
            angle = 0.35 - self._angle(hand, time_s)
            end = (grip[0] - side * STICK * math.cos(angle), grip[1] - STICK * math.sin(angle))
            canvas.line([grip, end], 0.02, (196, 150, 96))
            canvas.ellipse(*end, 0.02, 0.02, (226, 190, 140))
            canvas.ellipse(*grip, 0.032, 0.032, (222, 178, 148))

    def sound(self, rng: np.random.Generator, samples: int, sample_rate_hz: int) -> np.ndarray:
        slap = filtered_noise(rng, samples, sample_rate_hz, [(100, -20), (700, 0), (2500, -8), (8000, -24)])
        slap *= 0.12 * bursts(self.events, samples, sample_rate_hz, decay_s=0.025)
        values: np.ndarray = strike_sound(rng, self.body, self.events, samples, sample_rate_hz) + slap
        return values


def make_drum(rng: np.random.Generator, duration_s: float, _setting: Setting) -> Drum:
    """Draw a drum and its beats; a large one is deep."""
    radius = rng.uniform(0.18, 0.28)
    return Drum(
        radius=radius,
        tall=rng.uniform(0.2, 0.32),
        shell=vivid(rng),
        skin=near(rng, (232, 222, 200), 12),
        body=make_body(rng, "membrane", size=radius / 0.23),
        events=irregular_events(rng, duration_s, mean_gap_s=rng.uniform(0.5, 1.0)),
    )
