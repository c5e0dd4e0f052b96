"""Modal synthesis: a struck body rings in its modes, each a damped cosine (van den Doel and Pai, 1998).

A stronger impact has a shorter force pulse, so the strength determines level and brightness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmaudio_model.procedural_world.event import Event
from mmaudio_model.procedural_world.sounds.texture import bursts

NYQUIST_SHARE = 0.47
"""Modes above this share of the sample rate are left out: they would alias."""
ATTACK_S = 0.0004
CLICK_S = 0.002
CLICK_POWER = 1.6
"""The click is the brightest part; it grows faster with strength than the ringing."""


@dataclass(frozen=True)
class Body:
    """A struck body. Modes are (frequency in Hz, T60 in seconds, weight)."""

    modes: tuple[tuple[float, float, float], ...]
    contact_s: float
    """Contact time in seconds at full strength; short for hard bodies."""
    click: float
    """Relative level of the contact noise."""


def strike_sound(
    rng: np.random.Generator, body: Body, events: Sequence[Event], samples: int, sample_rate_hz: int
) -> np.ndarray:
    """Return the body's sound, float64 (samples,); an impact of strength 1 has a peak of about 1."""
    clicks = [Event(event.time_s, event.strength**CLICK_POWER) for event in events]
    clicking = bursts(clicks, samples, sample_rate_hz, decay_s=CLICK_S)
    sound: np.ndarray = rng.standard_normal(samples) * clicking * 0.4 * body.click
    modes = np.array([mode for mode in body.modes if mode[0] < NYQUIST_SHARE * sample_rate_hz]).reshape(-1, 3)
    if not len(modes) or not events:
        return sound
    frequency, t60, weight = modes.T  # each (K,)
    time = np.arange(int(1.1 * t60.max() * sample_rate_hz)) / sample_rate_hz  # (L,)
    ringing = np.cos(2 * np.pi * frequency[:, None] * time) * 10 ** (-3 * time / t60[:, None])  # (K, L)
    ringing *= np.minimum(1.0, (time + 1 / sample_rate_hz) / ATTACK_S)
    weight = weight / weight.sum()
    for event in events:
        contact_s = body.contact_s * max(event.strength, 0.05) ** -0.5
        loudness = event.strength**1.1 * weight / (1 + (2 * frequency * contact_s) ** 2)
        # Normalised to equal level at full strength; weaker impacts lose their high modes.
        full = (weight / (1 + (2 * frequency * body.contact_s) ** 2)).sum()
        start = int(np.ceil(event.time_s * sample_rate_hz))
        end = min(start + len(time), samples)
        sound[start:end] += (loudness / full) @ ringing[:, : end - start]
    return sound
