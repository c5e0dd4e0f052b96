"""Onset detection by spectral flux with a maximum filter (SuperFlux: Böck and Widmer, DAFx 2013).

An impact raises the energy of many bands at once. The flux compares each band with the loudest of its neighbours in an
earlier frame, so a tone that wavers between two bands is not detected as an onset.
"""

from __future__ import annotations

import numpy as np
import scipy.ndimage
import scipy.signal

from mmaudio_model.errors import RequestInvalidError

FRAME_S = 0.032
HOP_S = 0.005
LAG_S = 0.02
"""Distance to the earlier frame of the comparison; a vocoder smears an attack over about this time."""
BANDS_PER_OCTAVE = 6
LOWEST_HZ = 60.0
HIGHEST_HZ = 7_600.0
QUIET = 1e-3
"""Amplitude below which a tone counts as silent, about the noise floor of a recording."""
THRESHOLD = 0.08
"""Least height of a peak above the surrounding flux: the mean rise over all bands, in decades."""
PEAK_S = 0.03
AROUND_S = (0.1, 0.07)
MIN_GAP_S = 0.08
EARLY_S = 0.008
"""Time by which the flux peaks before the impact, since the frame reaches it before its centre does. Measured on
training seeds."""


def detect_onsets(waveform: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Return the times of onsets in seconds, float64 (onsets,), increasing.

    Args:
        waveform: mono, (samples,), in [-1, 1].

    Raises:
        RequestInvalidError: the sound is not mono, or its sample rate is too low.
    """
    flux = onset_strength(waveform, sample_rate_hz)
    reach = round(PEAK_S / HOP_S)
    before, after = (round(span / HOP_S) for span in AROUND_S)
    around = scipy.ndimage.uniform_filter1d(flux, before + after + 1, mode="constant", origin=(before - after) // 2)
    peak = (flux == scipy.ndimage.maximum_filter1d(flux, 2 * reach + 1)) & (flux > around + THRESHOLD)
    times: list[float] = []
    for index in np.flatnonzero(peak):
        time_s = index * HOP_S + EARLY_S
        if not times or time_s - times[-1] >= MIN_GAP_S:
            times.append(time_s)
    return np.array(times)


def onset_strength(waveform: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Return the flux of frames HOP_S apart, float64 (frames,); frame k is centred on k * HOP_S.

    The last frame ends with the sound; a sound shorter than a frame has none.
    """
    if waveform.ndim != 1:
        raise RequestInvalidError(f"Got a sound of shape {waveform.shape}; a mono one, (samples,), is needed.")
    if sample_rate_hz < 2 * HIGHEST_HZ:
        raise RequestInvalidError(f"Got {sample_rate_hz} Hz; onsets need at least {2 * HIGHEST_HZ:g} Hz.")
    if len(waveform) < FRAME_S * sample_rate_hz:
        return np.zeros(0)
    levels = np.log10(1 + _band_levels(waveform, sample_rate_hz) / QUIET)  # (bands, frames)
    lag = min(round(LAG_S / HOP_S), levels.shape[1])
    earlier = scipy.ndimage.maximum_filter1d(levels, 3, axis=0)
    rise = np.maximum(levels[:, lag:] - earlier[:, :-lag], 0)
    # The rise from frame k - lag to k is assigned to the frame between them.
    flux = np.zeros(levels.shape[1])
    flux[lag // 2 : lag // 2 + rise.shape[1]] = rise.mean(axis=0)
    return flux


def _band_levels(waveform: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Return amplitudes of logarithmically spaced bands, float64 (bands, frames)."""
    frame, hop = round(FRAME_S * sample_rate_hz), round(HOP_S * sample_rate_hz)
    # Mirrored at the start, so that a sound which is already on does not count as an onset. Not padded at the end: a
    # sound that is cut off would look like a click.
    padded = np.pad(waveform.astype(np.float64), (frame // 2, 0), mode="symmetric")
    frames = np.lib.stride_tricks.sliding_window_view(padded, frame)[::hop]
    window = scipy.signal.get_window("hann", frame)
    power = np.abs(np.fft.rfft(frames * window)) ** 2 * (2 / window.sum()) ** 2  # (frames, bins)
    hertz = np.fft.rfftfreq(frame, 1 / sample_rate_hz)
    octaves = np.log2(HIGHEST_HZ / LOWEST_HZ)
    edges = np.geomspace(LOWEST_HZ, HIGHEST_HZ, round(octaves * BANDS_PER_OCTAVE) + 1)
    band = np.searchsorted(edges, hertz) - 1  # low bands without a bin are dropped
    used = [index for index in range(len(edges) - 1) if (band == index).any()]
    values: np.ndarray = np.sqrt(np.stack([power[:, band == index].sum(axis=1) for index in used]))
    return values
