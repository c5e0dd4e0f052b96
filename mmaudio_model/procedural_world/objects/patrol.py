"""A standing patrol van with its siren on: the lamps show the phase of the siren."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmaudio_model.procedural_world.canvas import Canvas
from mmaudio_model.procedural_world.chance import Colour, near, pick, shade
from mmaudio_model.procedural_world.event import Event
from mmaudio_model.procedural_world.objects.car import draw_wheel
from mmaudio_model.procedural_world.setting import Setting
from mmaudio_model.procedural_world.sounds.tone import harmonic_tone

ORDERS = (1.0, 0.3, 0.35, 0.12, 0.15, 0.06)
RED, BLUE = (255, 50, 40), (60, 110, 255)


@dataclass(frozen=True)
class Patrol:
    """A van with two lamps; frequencies in Hz, the period in seconds, `phase` as a share of it."""

    two_tone: bool
    low_hz: float
    high_hz: float
    period_s: float
    phase: float
    body: Colour
    stripe: Colour
    side: int

    @property
    def events(self) -> tuple[Event, ...]:
        return ()

    def captions(self) -> tuple[str, ...]:
        how = "two-tone" if self.two_tone else "wailing"
        return (
            "a siren",
            f"a {how} siren",
            "the siren of an emergency van",
            f"a {how} siren while red and blue lights flash",
            "a siren sounds, its lights flashing",
            f"{how} siren of an ambulance that stands in the street",
        )

    def wail(self, times_s: np.ndarray | float) -> np.ndarray:
        """Return where the siren is between its low (0) and its high tone (1)."""
        turn = np.asarray(times_s) / self.period_s + self.phase
        if self.two_tone:
            # A fast slide, not a jump: a jump would click.
            return np.clip(0.5 + 12 * np.sin(2 * np.pi * turn), 0.0, 1.0)
        return 0.5 - 0.5 * np.cos(2 * np.pi * turn)

    def frequency_hz(self, times_s: np.ndarray | float) -> np.ndarray:
        """Return the siren's pitch at these times."""
        return self.low_hz * (self.high_hz / self.low_hz) ** self.wail(times_s)

    def draw(self, canvas: Canvas, time_s: float) -> None:
        high = float(self.wail(time_s))
        side = self.side
        canvas.box(-3, -0.6, 3, 0.05, (86, 86, 92))
        canvas.shadow(0.0, 0.36)
        canvas.polygon(
            [
                (side * x, y)
                for x, y in ((-0.34, 0.06), (-0.34, 0.38), (0.14, 0.38), (0.26, 0.23), (0.35, 0.19), (0.35, 0.06))
            ],
            self.body,
        )
        canvas.polygon(
            [(side * x, y) for x, y in ((0.04, 0.23), (0.04, 0.35), (0.12, 0.35), (0.22, 0.23))], (120, 150, 170)
        )
        canvas.box(min(side * -0.34, side * 0.34), 0.14, max(side * -0.34, side * 0.34), 0.18, self.stripe)
        cross = -0.17 * side
        canvas.box(cross - 0.015, 0.24, cross + 0.015, 0.34, self.stripe)
        canvas.box(cross - 0.05, 0.275, cross + 0.05, 0.305, self.stripe)
        for x in (-0.21, 0.21):
            draw_wheel(canvas, x, 0.07, 0.3)
        # Red shines with the high tone, blue with the low one.
        for x, colour, glow in ((-0.1, RED, high), (0.02, BLUE, 1 - high)):
            x *= side
            canvas.ellipse(x, 0.4, 0.045, 0.035, shade(colour, 0.35 + 0.65 * glow))
            for size, alpha in ((0.3, 26), (0.19, 44), (0.11, 80)):
                canvas.ellipse(x, 0.41, size, size, (*colour, int(alpha * glow)))
            canvas.ellipse(x, 0.405, 0.022, 0.018, (255, 255, 255, int(240 * glow)))

    def sound(self, rng: np.random.Generator, samples: int, sample_rate_hz: int) -> np.ndarray:  # noqa: ARG002 - a tone without noise
        time = np.arange(samples) / sample_rate_hz
        return 0.7 * harmonic_tone(self.frequency_hz(time), ORDERS, sample_rate_hz)


def make_patrol(rng: np.random.Generator, _duration_s: float, _setting: Setting) -> Patrol:
    """Draw a van and its siren: a slow wail or two tones in turn."""
    two_tone = bool(rng.random() < 0.4)
    low_hz = rng.uniform(400, 560)
    return Patrol(
        two_tone=two_tone,
        low_hz=low_hz,
        high_hz=low_hz * (rng.uniform(1.25, 1.4) if two_tone else rng.uniform(1.9, 2.5)),
        period_s=rng.uniform(0.9, 1.5) if two_tone else rng.uniform(1.4, 3.6),
        phase=rng.uniform(0, 1),
        body=near(rng, (236, 236, 238), 12),
        stripe=pick(rng, ((206, 44, 40), (40, 84, 170), (232, 150, 30))),
        side=1 if rng.random() < 0.5 else -1,
    )
