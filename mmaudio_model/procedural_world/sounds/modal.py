"""Modal synthesis: a struck body rings in its modes, each a damped cosine (van den Doel and Pai, 1998).

The force of a blow is a pulse that a faster blow makes shorter, so strength sets level and brightness.
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
"""The click is the brightest part: it grows faster with strength than the ringing does."""


@dataclass(frozen=True)
class Body:
    """What is struck. Modes are (frequency in Hz, time to fall by 60 dB in seconds, weight)."""

    modes: tuple[tuple[float, float, float], ...]
    contact_s: float
    """How long the blow lasts at full strength: short for hard things."""
    click: float
    """Share of the noise of the contact itself."""


def strike_sound(
    rng: np.random.Generator, body: Body, events: Sequence[Event], samples: int, sample_rate_hz: int
) -> np.ndarray:
    """Return the body's sound, float64 (samples,); a blow of strength 1 has a peak of about 1."""
    clicks = [Event(event.time_s, event.strength**CLICK_POWER) for event in events]
    sound = rng.standard_normal(samples) * bursts(clicks, samples, sample_rate_hz, decay_s=CLICK_S) * 0.4 * body.click
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
        # Full strength keeps its level whatever the body; weaker blows lose their high modes.
        full = (weight / (1 + (2 * frequency * body.contact_s) ** 2)).sum()
        start = int(np.ceil(event.time_s * sample_rate_hz))
        end = min(start + len(time), samples)
        sound[start:end] += (loudness / full) @ ringing[:, : end - start]
    return sound
