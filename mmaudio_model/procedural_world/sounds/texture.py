"""Textures: noise with a spectrum, and envelopes that start at events."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.fft

from mmaudio_model.procedural_world.event import Event


def filtered_noise(
    rng: np.random.Generator, samples: int, sample_rate_hz: int, spectrum: Sequence[tuple[float, float]]
) -> np.ndarray:
    """Return Gaussian noise of RMS 1, float64 (samples,).

    Args:
        spectrum: (frequency in Hz, level in dB) points, joined by straight lines over log frequency.
    """
    size = scipy.fft.next_fast_len(samples, real=True)
    bins = scipy.fft.rfft(rng.standard_normal(size))
    frequency = np.maximum(scipy.fft.rfftfreq(size, 1 / sample_rate_hz), 1.0)
    points = np.array(spectrum)
    bins *= 10 ** (np.interp(np.log(frequency), np.log(points[:, 0]), points[:, 1]) / 20)
    noise = scipy.fft.irfft(bins, size)[:samples]
    values: np.ndarray = noise / max(float(np.sqrt(np.mean(noise**2))), 1e-12)
    return values


def bursts(
    events: Sequence[Event], samples: int, sample_rate_hz: int, *, decay_s: float, attack_s: float = 0.0
) -> np.ndarray:
    """Return an envelope, float64 (samples,), that jumps (or rises) to each event's strength and then decays."""
    envelope = np.zeros(samples)
    time = np.arange(int((attack_s + 7 * decay_s) * sample_rate_hz) + 1) / sample_rate_hz
    shape = np.exp(-np.maximum(time - attack_s, 0.0) / decay_s)
    if attack_s:
        shape *= np.minimum(1.0, (time + 1 / sample_rate_hz) / attack_s)
    for event in events:
        start = int(np.ceil(event.time_s * sample_rate_hz))
        end = min(start + len(shape), samples)
        envelope[start:end] += event.strength * shape[: end - start]
    return envelope
