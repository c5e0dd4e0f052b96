"""Loudness after BS.1770, and the ceiling for true peaks."""

from __future__ import annotations

import numpy as np
import pyloudnorm
import pytest

from mmaudio_model.media.loudness import TRUE_PEAK_CEILING_DBFS, is_silent, normalise_loudness, true_peak
from tests.unit.mmaudio_model.media.videos import sine

RATE = 44_100


@pytest.mark.parametrize("target_lufs", [-16.0, -23.0, -40.0])
@pytest.mark.parametrize("amplitude", [0.001, 0.05, 0.9])
def test_a_sound_gets_the_loudness_that_was_asked_for(target_lufs: float, amplitude: float) -> None:
    changed = normalise_loudness(sine(997, 3.0, RATE, amplitude=amplitude), RATE, target_lufs)

    measured = pyloudnorm.Meter(RATE).integrated_loudness(changed.waveform.astype(np.float64))
    assert measured == pytest.approx(target_lufs, abs=0.1)
    assert not changed.limited
    assert changed.waveform.dtype == np.float32


def test_a_click_keeps_the_sound_below_the_ceiling_and_says_so() -> None:
    quiet = sine(997, 3.0, RATE, amplitude=0.01)
    quiet[RATE] = 0.9
    changed = normalise_loudness(quiet, RATE, -16.0)

    assert changed.limited
    assert 20 * np.log10(true_peak(changed.waveform)) == pytest.approx(TRUE_PEAK_CEILING_DBFS, abs=0.01)


def test_a_peak_between_the_samples_counts() -> None:
    between = np.sin(2 * np.pi * np.arange(4000) / 4 + np.pi / 4)

    assert np.abs(between).max() == pytest.approx(np.sqrt(0.5))
    assert true_peak(between[1000:3000]) > 0.99


@pytest.mark.parametrize("samples", [100, RATE])
def test_silence_stays_silence(samples: int) -> None:
    changed = normalise_loudness(np.zeros(samples, dtype=np.float32), RATE, -16.0)

    assert not changed.waveform.any()
    assert not changed.limited


def test_a_sound_shorter_than_a_measuring_block_is_made_louder_as_well() -> None:
    short = sine(997, 0.32, RATE, amplitude=0.01)
    changed = normalise_loudness(short, RATE, -20.0)

    assert 5 < np.abs(changed.waveform).max() / np.abs(short).max() < 20


def fading(peak: float) -> np.ndarray:
    """Noise that fades by 40 dB: at a low level most of its blocks are below the standard's gate of -70 LUFS."""
    noise = np.random.default_rng(3).standard_normal(6 * RATE) * np.geomspace(1, 0.01, 6 * RATE)
    return (noise * peak / np.abs(noise).max()).astype(np.float32)


@pytest.mark.parametrize("target_lufs", [-16.0, -40.0, -60.0])
@pytest.mark.parametrize("peak", [0.9, 0.01, 0.003, 0.0005])
def test_a_quiet_sound_gets_its_loudness_although_more_of_it_counts_after_the_gain(
    peak: float, target_lufs: float
) -> None:
    changed = normalise_loudness(fading(peak), RATE, target_lufs)

    measured = pyloudnorm.Meter(RATE).integrated_loudness(changed.waveform.astype(np.float64))
    assert changed.limited or measured == pytest.approx(target_lufs, abs=0.2)


@pytest.mark.parametrize("constant", [0.0, 0.5, -1.0])
def test_a_constant_with_the_least_noise_is_silence_and_never_made_louder(constant: float) -> None:
    noise = np.random.default_rng(0).uniform(-5e-5, 5e-5, RATE)
    waveform = (constant + noise).astype(np.float32)

    assert is_silent(waveform)
    assert not is_silent(fading(0.0005))
    assert np.array_equal(normalise_loudness(waveform, RATE, -16.0).waveform, waveform)
