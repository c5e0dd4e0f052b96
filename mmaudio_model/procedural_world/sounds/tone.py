"""Harmonic tones of varying fundamental frequency."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def harmonic_tone(frequency_hz: np.ndarray, weights: Sequence[float], sample_rate_hz: int) -> np.ndarray:
    """Return the sum of harmonics 1, 2, ... with these weights, float64 (samples,), peak at most 1.

    Args:
        frequency_hz: the fundamental at each sample, (samples,). Harmonics fade out before they would alias.
    """
    phase = 2 * np.pi * np.cumsum(frequency_hz) / sample_rate_hz
    tone = np.zeros(len(frequency_hz))
    for order, weight in enumerate(weights, start=1):
        fade = np.clip(10 * (0.48 - order * frequency_hz / sample_rate_hz), 0.0, 1.0)
        # Phases spread by Schroeder's rule, so that the harmonics do not pile up into clicks.
        tone += weight * fade * np.sin(order * phase - np.pi * order * (order - 1) / len(weights))
    return tone / sum(weights)
