"""Ducking: how much an original sound is lowered while a new one sounds."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from mmaudio_model.media.waveform import Sound

BLOCK_S = Fraction(1, 100)
THRESHOLD_DB = -30.0
"""The effect sounds where it is no more than this below its loudest block..."""
FLOOR_DBFS = -60.0
"""... and above this level."""
ATTACK_S = 0.05
"""The original is lowered within this time, and is down when the effect begins: the gain looks ahead."""
HOLD_S = 0.2
"""It stays down this long after the effect has ended, so that it does not pump between close sounds."""
RELEASE_S = 0.3


def ducking_gain(effect: Sound, sample_rate_hz: int, samples: int, duck_db: float) -> np.ndarray:
    """Return the factor for each sample of the original, float64 (samples,), between 10^(-duck_db / 20) and 1.

    In blocks of 10 ms the effect's level (root mean square of its loudest channel) decides whether it sounds. The gain
    changes evenly in decibels. The same sounds give the same gain.
    """
    sounding = _sounding(effect)
    release, attack = (duck_db * float(BLOCK_S) / time_s for time_s in (RELEASE_S, ATTACK_S))
    gain_db = np.zeros(len(sounding))
    level, quiet_blocks, hold = 0.0, math.inf, round(HOLD_S / float(BLOCK_S))
    for block, sounds in enumerate(sounding):
        quiet_blocks = 0 if sounds else quiet_blocks + 1
        level = -duck_db if quiet_blocks <= hold else min(0.0, level + release)
        gain_db[block] = level
    for block in range(len(gain_db) - 2, -1, -1):
        gain_db[block] = min(gain_db[block], gain_db[block + 1] + attack)
    # A block's gain holds at its beginning and, if it is lower, over the whole block.
    edges = np.minimum(np.append(gain_db, gain_db[-1:]), np.insert(gain_db, 0, gain_db[:1]))
    times = np.arange(samples) / (sample_rate_hz * float(BLOCK_S))
    gain: np.ndarray = 10 ** (np.interp(times, np.arange(len(edges)), edges) / 20)
    return gain


def _sounding(effect: Sound) -> np.ndarray:
    """Return for each block whether the effect sounds in it, bool (blocks,)."""
    size = max(1, round(effect.sample_rate_hz * BLOCK_S))
    blocks = max(1, math.ceil(effect.samples / size))
    padded = np.zeros((effect.channels, blocks * size))
    padded[:, : effect.samples] = effect.waveform
    power = (padded.reshape(effect.channels, blocks, size) ** 2).mean(axis=2).max(axis=0)
    threshold = max(10 ** (FLOOR_DBFS / 10), power.max() * 10 ** (THRESHOLD_DB / 10))
    loud: np.ndarray = power >= threshold
    return loud
