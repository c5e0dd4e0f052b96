"""Loudness normalisation after ITU-R BS.1770 (pyloudnorm), limited by the true peak."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

TRUE_PEAK_CEILING_DBFS = -1.0
OVERSAMPLING = 4
BLOCK_S = 0.4
"""Length of the standard's measurement block; shorter sounds are measured as one block."""


@dataclass(frozen=True)
class Normalised:
    """The scaled waveform, float32 (samples,), and whether the peak ceiling kept it below the target."""

    waveform: np.ndarray
    limited: bool


def normalise_loudness(waveform: np.ndarray, sample_rate_hz: int, target_lufs: float) -> Normalised:
    """Scale a mono waveform to `target_lufs`, with true peaks below the ceiling; silence is returned unchanged."""
    import pyloudnorm

    block_s = min(BLOCK_S, len(waveform) / sample_rate_hz)
    loudness = pyloudnorm.Meter(sample_rate_hz, block_size=block_s).integrated_loudness(waveform.astype(np.float64))
    if not math.isfinite(loudness):
        return Normalised(waveform, limited=False)
    gain = 10 ** ((target_lufs - loudness) / 20)
    ceiling = 10 ** (TRUE_PEAK_CEILING_DBFS / 20) / max(true_peak(waveform), 1e-9)
    return Normalised((waveform * min(gain, ceiling)).astype(np.float32), limited=ceiling < gain)


def true_peak(waveform: np.ndarray) -> float:
    """Return the true peak, the largest magnitude at four times oversampling."""
    from scipy.signal import resample_poly

    return float(np.abs(resample_poly(waveform.astype(np.float64), OVERSAMPLING, 1)).max(initial=0.0))
