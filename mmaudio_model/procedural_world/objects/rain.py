"""Rain: streaks, splashes and a hiss that follow one intensity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import fftconvolve

from mmaudio_model.procedural_world.canvas import Canvas
from mmaudio_model.procedural_world.chance import Colour
from mmaudio_model.procedural_world.event import Event
from mmaudio_model.procedural_world.motion import Curve, draw_curve
from mmaudio_model.procedural_world.setting import Setting
from mmaudio_model.procedural_world.sounds.texture import filtered_noise

RAIN_SKY: Colour = (124, 132, 144)
HALF_WIDTH, HEIGHT = 1.2, 1.3
"""The shower's extent, in picture heights."""
MOST_DROPS = 420
SPLASH_S = 0.2


@dataclass(frozen=True)
class Rain:
    """A shower; intensity in 0..1, slant as x over y, speed in picture heights a second."""

    intensity: Curve
    slant: float
    speed: float
    drops_seed: int

    @property
    def events(self) -> tuple[Event, ...]:
        return ()

    def captions(self) -> tuple[str, ...]:
        mean = sum(self.intensity.values) / len(self.intensity.values)
        how = "heavy" if mean > 0.7 else "light" if mean < 0.45 else "steady"
        return (
            "rain falling",
            f"{how} rain",
            f"{how} rain falls on the ground",
            "the sound of rain",
            "rain drops hiss and patter outside",
            f"a {how} shower of rain under a grey sky",
        )

    def draw(self, canvas: Canvas, time_s: float) -> None:
        rng = np.random.default_rng(self.drops_seed)
        count = int(MOST_DROPS * float(self.intensity.at(time_s)))
        drops = rng.random((MOST_DROPS, 3))[:count]  # x, y, distance
        near_by = 0.5 + 0.5 * drops[:, 2]
        y = HEIGHT - (drops[:, 1] * HEIGHT + self.speed * near_by * time_s) % HEIGHT - 0.15
        x = (drops[:, 0] * 2 - 1) * HALF_WIDTH + self.slant * (y - 0.4)
        for left, low, size in zip(x.tolist(), y.tolist(), near_by.tolist(), strict=True):
            length = 0.07 * size
            ends = [(left, low), (left + self.slant * length, low + length)]
            canvas.line(ends, 0.0045 * size, (226, 234, 246, int(190 * size)))
        splashes = rng.random((MOST_DROPS // 5, 3))[: count // 5]
        for across, deep, phase in splashes.tolist():
            cycle = time_s / SPLASH_S + phase
            # Each splash turns up at another place every time.
            place = (across + 0.618 * int(cycle)) % 1
            grown = 0.035 * (cycle % 1)
            fade = int(150 * (1 - cycle % 1))
            centre = ((place * 2 - 1) * HALF_WIDTH, 0.04 - 0.22 * deep)
            canvas.ring(*centre, grown, 0.35 * grown, (232, 240, 250, fade), 0.005)

    def sound(self, rng: np.random.Generator, samples: int, sample_rate_hz: int) -> np.ndarray:
        intensity = self.intensity.at(np.arange(samples) / sample_rate_hz)
        hiss = filtered_noise(
            rng, samples, sample_rate_hz, [(80, -34), (600, -14), (3500, 0), (9000, -4), (20000, -20)]
        )
        # Single drops: a random train of clicks, each a short burst of mid-band noise.
        falls = rng.random(samples) < 140 * intensity / sample_rate_hz
        ring = np.arange(int(0.02 * sample_rate_hz)) / sample_rate_hz
        click = np.exp(-ring / 0.003) * np.sin(2 * np.pi * 2300 * ring)
        drops = fftconvolve(falls * rng.exponential(1.0, samples), click)[:samples]
        values: np.ndarray = 0.22 * intensity * hiss + 0.06 * drops
        return values


def make_rain(rng: np.random.Generator, duration_s: float, _setting: Setting) -> Rain:
    """Draw a shower that swells and ebbs about a mean of its own."""
    mean = rng.uniform(0.35, 0.85)
    return Rain(
        intensity=draw_curve(rng, duration_s, low=0.7 * mean, high=1.15 * mean, gap_s=(1.5, 3.0)),
        slant=rng.uniform(-0.35, 0.35),
        speed=rng.uniform(1.8, 2.8),
        drops_seed=int(rng.integers(2**31)),
    )
