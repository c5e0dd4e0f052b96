"""Loudness after ITU-R BS.1770-5: measurement, normalisation limited by the true peak, and silence.

The filters are computed for each sample rate from the standard's analogue prototype, and channels have the weights of
their places (BS.1770-5 Annex 3). pyloudnorm has other filters (up to 0.2 LU), takes the low-frequency channel of 5.1
for a surround channel, and measures no more than five channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import numpy as np

from mmaudio_model.media.channel_layout import LOW_FREQUENCY, positions

TRUE_PEAK_CEILING_DBFS = -1.0
OVERSAMPLING = 4
STEPS_PER_BLOCK = 4
"""A block of 0.4 s begins every 0.1 s; a shorter sound is measured as one block."""
ABSOLUTE_GATE_LUFS = -70.0
RELATIVE_GATE_LU = -10.0
SILENCE_PEAK_TO_PEAK = 2e-4
"""A sound that moves less than this (-80 dBFS), around whatever constant, cannot be heard."""
NEAR_SILENT_LUFS = -60.0
NEAR_SILENT_PEAK_DBFS = -50.0
"""Programmes have -23 LUFS (EBU R 128): 37 LU below that, and 10 LU above the standard's absolute gate, nothing is
heard beside them; nor of a sound whose loudest sample is below -50 dBFS."""
SURROUND_WEIGHT = 1.41
CHUNK_STEPS = 100
PEAK_CHUNK_SAMPLES = 1 << 18
PEAK_CONTEXT_SAMPLES = 32


@dataclass(frozen=True)
class Normalised:
    """The scaled waveform, float32 in the shape that was given, and whether the peak ceiling kept it too quiet."""

    waveform: np.ndarray
    limited: bool


class Silence(StrEnum):
    """How little there is to hear."""

    SILENT = "silent"
    NEAR_SILENT = "near_silent"


def normalise_loudness(
    waveform: np.ndarray, sample_rate_hz: int, target_lufs: float, layout: str = "mono"
) -> Normalised:
    """Scale a waveform, (samples,) or (channels, samples), to a loudness, with true peaks below the ceiling.

    Silence is returned unchanged.
    """
    if is_silent(waveform):
        return Normalised(waveform, limited=False)
    ceiling = true_peak_ceiling() / true_peak(waveform)
    gain = _gain(_block_loudness(waveform, sample_rate_hz, layout), target_lufs, otherwise=ceiling)
    return Normalised((waveform * min(gain, ceiling)).astype(np.float32), limited=ceiling < gain)


def integrated_loudness(waveform: np.ndarray, sample_rate_hz: int, layout: str = "mono") -> float:
    """Return the gated loudness of a waveform, (samples,) or (channels, samples), in LUFS; -inf if all is gated."""
    blocks = _block_loudness(waveform, sample_rate_hz, layout)
    return _gated(np.sort(blocks)[::-1], int((blocks > ABSOLUTE_GATE_LUFS).sum()))


def silence_of(waveform: np.ndarray, sample_rate_hz: int, layout: str = "mono") -> Silence | None:
    """Return whether a waveform is silent, or so quiet that hardly anything can be heard of it; None if neither."""
    if is_silent(waveform):
        return Silence.SILENT
    if float(np.abs(waveform).max()) < 10 ** (NEAR_SILENT_PEAK_DBFS / 20):
        return Silence.NEAR_SILENT
    quiet = integrated_loudness(waveform, sample_rate_hz, layout) < NEAR_SILENT_LUFS
    return Silence.NEAR_SILENT if quiet else None


def is_silent(waveform: np.ndarray) -> bool:
    """Return whether a waveform, (samples,) or (channels, samples), is silent or constant."""
    return waveform.size == 0 or float(np.ptp(waveform, axis=-1).max()) < SILENCE_PEAK_TO_PEAK


def true_peak(waveform: np.ndarray) -> float:
    """Return the true peak of all channels, the largest magnitude at four times oversampling."""
    from scipy.signal import resample_poly

    channels = np.atleast_2d(waveform)
    peak = 0.0
    for start in range(0, channels.shape[1], PEAK_CHUNK_SAMPLES):
        begin = max(0, start - PEAK_CONTEXT_SAMPLES)
        end = min(channels.shape[1], start + PEAK_CHUNK_SAMPLES)
        part = channels[:, begin : end + PEAK_CONTEXT_SAMPLES].astype(np.float64)
        between = resample_poly(part, OVERSAMPLING, 1, axis=1)
        inside = between[:, (start - begin) * OVERSAMPLING : (end - begin) * OVERSAMPLING]
        peak = max(peak, float(np.abs(inside).max(initial=0.0)))
    return peak


def true_peak_ceiling() -> float:
    """Return the largest true peak of a delivered sound, as a factor of full scale."""
    return float(10 ** (TRUE_PEAK_CEILING_DBFS / 20))


def _gain(blocks: np.ndarray, target_lufs: float, *, otherwise: float) -> float:
    """Return the factor after which a sound with these blocks, in LUFS, measures the target.

    The factor decides which blocks the absolute gate lets through, and they decide the factor. So it is computed for
    each number of blocks, loudest first, and the one that lets through just that many is chosen. If there is none (the
    loudness jumps over the target as a block comes in), the nearest that can be had is taken.
    """
    loudest = np.sort(blocks[np.isfinite(blocks)])[::-1]
    if not len(loudest):
        return otherwise
    best_db, smallest_error = 0.0, math.inf
    for count in range(len(loudest), 0, -1):
        wanted_db = target_lufs - _gated(loudest, count)
        # With a higher gain more blocks would count; with a lower one, fewer.
        lowest = ABSOLUTE_GATE_LUFS - loudest[count - 1] + 1e-9
        highest = ABSOLUTE_GATE_LUFS - loudest[count] if count < len(loudest) else math.inf
        if highest < lowest:  # equally loud blocks count together
            continue
        gain_db = min(max(wanted_db, lowest), highest)
        if abs(gain_db - wanted_db) < smallest_error:
            best_db, smallest_error = gain_db, abs(gain_db - wanted_db)
    return float(10 ** (best_db / 20))


def _gated(loudest: np.ndarray, count: int) -> float:
    """Return the loudness of the first `count` blocks, sorted from the loudest on, after the relative gate."""
    if not count:
        return -math.inf
    powers = 10 ** (loudest[:count] / 10)
    gate = 10 * math.log10(powers.mean()) + RELATIVE_GATE_LU
    return float(10 * math.log10(powers[loudest[:count] > gate].mean()))


def _block_loudness(waveform: np.ndarray, sample_rate_hz: int, layout: str) -> np.ndarray:
    """Return the loudness of each block of 0.4 s in LUFS, float64 (blocks,); -inf where all is zero."""
    channels = np.atleast_2d(waveform)
    steps = channels.shape[1] * 10 // sample_rate_hz
    whole = np.array([0, channels.shape[1]])
    edges = whole if steps < STEPS_PER_BLOCK else np.arange(steps + 1) * sample_rate_hz // 10
    energy = np.zeros(len(edges) - 1)
    for channel, place in zip(channels, positions(layout), strict=True):
        if place not in LOW_FREQUENCY:
            energy += _weight(place, layout) * np.concatenate(list(_energies(channel, edges, sample_rate_hz)))
    if steps >= STEPS_PER_BLOCK:
        energy = np.convolve(energy, np.ones(STEPS_PER_BLOCK), "valid")
        edges = np.stack((edges[:-STEPS_PER_BLOCK], edges[STEPS_PER_BLOCK:]))
    with np.errstate(divide="ignore"):
        loudness: np.ndarray = -0.691 + 10 * np.log10(energy / (edges[1] - edges[0]))
    return loudness


def _energies(channel: np.ndarray, edges: np.ndarray, sample_rate_hz: int) -> Iterator[np.ndarray]:
    """Yield the sums of squares between the edges of a channel after the standard's filters, chunk by chunk."""
    from scipy.signal import sosfilt

    sections = _k_weighting(sample_rate_hz)
    state = np.zeros((len(sections), 2))
    for first in range(0, len(edges) - 1, CHUNK_STEPS):
        inside = edges[first : first + CHUNK_STEPS + 1]
        filtered, state = sosfilt(sections, channel[inside[0] : inside[-1]].astype(np.float64), zi=state)
        yield np.add.reduceat(filtered**2, inside[:-1] - inside[0])


@cache
def _k_weighting(sample_rate_hz: int) -> np.ndarray:
    """Return the two filters of the standard, as second-order sections, at a sample rate.

    The prototype's frequencies, quality factors and gain are those that give the standard's coefficients at 48 kHz
    (Brecht De Man, "Evaluation of implementations of the EBU R128 loudness measurement", 2018).
    """
    slope, quality = math.tan(math.pi * 1681.974450955533 / sample_rate_hz), 0.7071752369554196
    high = 10 ** (3.999843853973347 / 20)
    middle = high**0.4996667741545416
    norm = 1 + slope / quality + slope**2
    shelf = [
        (high + middle * slope / quality + slope**2) / norm,
        2 * (slope**2 - high) / norm,
        (high - middle * slope / quality + slope**2) / norm,
        1.0,
        2 * (slope**2 - 1) / norm,
        (1 - slope / quality + slope**2) / norm,
    ]
    slope, quality = math.tan(math.pi * 38.13547087602444 / sample_rate_hz), 0.5003270373238773
    norm = 1 + slope / quality + slope**2
    high_pass = [1.0, -2.0, 1.0, 1.0, 2 * (slope**2 - 1) / norm, (1 - slope / quality + slope**2) / norm]
    return np.array([shelf, high_pass])


def _weight(place: str, layout: str) -> float:
    """Return the weight of a channel's power: channels at 60 to 120 degrees to a side count more."""
    places = positions(layout)
    # Back channels are the surround channels (110 degrees) where there are no side channels, else behind them (135).
    sides = {"SL", "SR", "WL", "WR"} if "SL" in places else {"BL", "BR", "WL", "WR"}
    return SURROUND_WEIGHT if place in sides else 1.0
