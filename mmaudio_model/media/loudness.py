"""Loudness normalisation after ITU-R BS.1770 (pyloudnorm), limited by the true peak."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

TRUE_PEAK_CEILING_DBFS = -1.0
OVERSAMPLING = 4
BLOCK_S = 0.4
"""Length of the standard's measurement block; shorter sounds are measured as one block."""
SILENCE_PEAK_TO_PEAK = 2e-4
"""A sound that moves less than this (-80 dBFS), around whatever constant, cannot be heard."""
TOLERANCE_LU = 0.05
MAX_MEASUREMENTS = 8


@dataclass(frozen=True)
class Normalised:
    """The scaled waveform, float32 (samples,), and whether the peak ceiling kept it below the target."""

    waveform: np.ndarray
    limited: bool


def normalise_loudness(waveform: np.ndarray, sample_rate_hz: int, target_lufs: float) -> Normalised:
    """Scale a mono waveform to `target_lufs`, with true peaks below the ceiling; silence is returned unchanged."""
    if is_silent(waveform):
        return Normalised(waveform, limited=False)
    ceiling = 10 ** (TRUE_PEAK_CEILING_DBFS / 20) / true_peak(waveform)
    gain = _gain(waveform.astype(np.float64), sample_rate_hz, target_lufs, start=ceiling)
    return Normalised((waveform * min(gain, ceiling)).astype(np.float32), limited=ceiling < gain)


def is_silent(waveform: np.ndarray) -> bool:
    """Return whether a waveform, (samples,), is silent or constant."""
    return waveform.size == 0 or float(np.ptp(waveform)) < SILENCE_PEAK_TO_PEAK


def _gain(waveform: np.ndarray, sample_rate_hz: int, target_lufs: float, *, start: float) -> float:
    """Return the factor after which the waveform measures `target_lufs`.

    The standard ignores blocks below -70 LUFS, so the factor decides which blocks count: it is found step by step,
    from a factor (`start`) at which the loud blocks count.
    """
    import pyloudnorm

    meter = pyloudnorm.Meter(sample_rate_hz, block_size=min(BLOCK_S, len(waveform) / sample_rate_hz))
    gain = closest = start
    smallest_error_lu = math.inf
    for _ in range(MAX_MEASUREMENTS):
        loudness = meter.integrated_loudness(waveform * gain)
        if not math.isfinite(loudness):  # every block is below the gate
            break
        error_lu = target_lufs - loudness
        if abs(error_lu) < smallest_error_lu:
            smallest_error_lu, closest = abs(error_lu), gain
        if smallest_error_lu <= TOLERANCE_LU:
            break
        gain *= 10 ** (error_lu / 20)
    return closest


def true_peak(waveform: np.ndarray) -> float:
    """Return the true peak, the largest magnitude at four times oversampling."""
    from scipy.signal import resample_poly

    return float(np.abs(resample_poly(waveform.astype(np.float64), OVERSAMPLING, 1)).max(initial=0.0))
