"""When something strikes in a sound: spectral flux with a maximum filter (SuperFlux: Böck and Widmer, DAFx 2013).

A blow raises the energy of many bands at once. The flux of a frame is how much louder its bands are than the loudest
of their neighbours a moment before, so a tone that wavers between two bands is not taken for a blow.
"""

from __future__ import annotations

import numpy as np
import scipy.ndimage
import scipy.signal

from mmaudio_model.errors import RequestInvalidError

FRAME_S = 0.032
HOP_S = 0.005
LAG_S = 0.02
"""A frame is compared with the one this long before it: a vocoder smears an attack over as much."""
BANDS_PER_OCTAVE = 6
LOWEST_HZ = 60.0
HIGHEST_HZ = 7_600.0
QUIET = 1e-3
"""Amplitude of a tone that is as good as silent: about the noise that a recording has anyway."""
THRESHOLD = 0.08
"""Least mean rise of a peak over all bands, in units of a factor of ten, above the flux around it."""
PEAK_S = 0.03
AROUND_S = (0.1, 0.07)
MIN_GAP_S = 0.08
EARLY_S = 0.008
"""How much before a blow the flux peaks: a frame hears the blow before its centre does. Measured on training seeds."""


def detect_onsets(waveform: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Return the times of blows in seconds, float64, increasing.

    Args:
        waveform: mono, (samples,), in [-1, 1].

    Raises:
        RequestInvalidError: the sound is not mono, or has too low a rate.
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
    """Return the flux of frames that are HOP_S apart, float64 (frames,); frame k is centred on k * HOP_S.

    The last frame ends with the sound; what is shorter than a frame has none.
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
    # The rise from frame k - lag to k is put in between.
    flux = np.zeros(levels.shape[1])
    flux[lag // 2 : lag // 2 + rise.shape[1]] = rise.mean(axis=0)
    return flux


def _band_levels(waveform: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Return amplitudes of bands that are even on a logarithmic scale, float64 (bands, frames)."""
    frame, hop = round(FRAME_S * sample_rate_hz), round(HOP_S * sample_rate_hz)
    # Mirrored, so that a sound which goes on from before its beginning does not strike there. After its end nothing is
    # made up: a sound that is cut off in full swing is a click to a frame that sees the cut.
    padded = np.pad(waveform.astype(np.float64), (frame // 2, 0), mode="symmetric")
    frames = np.lib.stride_tricks.sliding_window_view(padded, frame)[::hop]
    window = scipy.signal.get_window("hann", frame)
    power = np.abs(np.fft.rfft(frames * window)) ** 2 * (2 / window.sum()) ** 2  # (frames, bins)
    hertz = np.fft.rfftfreq(frame, 1 / sample_rate_hz)
    octaves = np.log2(HIGHEST_HZ / LOWEST_HZ)
    edges = np.geomspace(LOWEST_HZ, HIGHEST_HZ, round(octaves * BANDS_PER_OCTAVE) + 1)
    band = np.searchsorted(edges, hertz) - 1  # low bands that hold no bin are left out
    used = [index for index in range(len(edges) - 1) if (band == index).any()]
    values: np.ndarray = np.sqrt(np.stack([power[:, band == index].sum(axis=1) for index in used]))
    return values
