"""The sound of a scene: its subject's, over the faint noise of any recording."""

from __future__ import annotations

import numpy as np

from mmaudio_model.procedural_world.scene import Scene

GAIN = 0.6
"""Level of a blow of full strength. Not normalised clip by clip: what is seen to be soft sounds soft."""
PEAK = 0.9
NOISE_FLOOR = 1e-4
SOUND_STREAM = 1
"""Names the generator of noises: the seed's own draws the scene."""


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
