"""Renders the sound of a scene: that of its subject over a faint noise floor."""

from __future__ import annotations

import numpy as np

from mmaudio_model.procedural_world.scene import Scene

GAIN = 0.6
"""Level of an impact of full strength. Clips are not normalised, so a soft impact sounds soft."""
PEAK = 0.9
NOISE_FLOOR = 1e-4
SOUND_STREAM = 1
"""Stream of the random generator for noise; the scene uses the plain seed."""


def make_sound(scene: Scene, sample_rate_hz: int) -> np.ndarray:
    """Return the scene's sound, mono float32 (round(duration * rate),), peak at most 0.9."""
    rng = np.random.default_rng((scene.seed, SOUND_STREAM))
    samples = round(scene.duration_s * sample_rate_hz)
    floor = NOISE_FLOOR * rng.standard_normal(samples)
    sound = GAIN * scene.subject.sound(rng, samples, sample_rate_hz) + floor
    peak = float(np.abs(sound).max(initial=0.0))
    if peak > PEAK:
        sound *= PEAK / peak
    return np.clip(sound, -PEAK, PEAK).astype(np.float32)
