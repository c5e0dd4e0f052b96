"""Peaks and spectrograms: right, small, the same every time, whatever the sound."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mmaudio_model.media.waveform import Sound
from mmaudio_model.sound_preview import FLOOR_DB, HEIGHT, MAX_PNG_BYTES, WIDTH, peaks_of, spectrogram_of

RATE = 16_000


def tone(hz: float, seconds: float = 2.0) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE)) / RATE).astype(np.float32)


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(int(seconds * RATE)).astype(np.float32)


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        assert image.size == (WIDTH, HEIGHT)
        return np.asarray(image.convert("L"), dtype=int)


def test_peaks_are_the_extremes_of_equal_stretches() -> None:
    waveform = np.zeros(2_000, np.float32)
    waveform[100], waveform[101], waveform[1_999] = 0.5, -1.0, 1.0
    peaks = peaks_of(Sound.mono(waveform, RATE))
    document = peaks.as_json()
    assert (document["length"], document["samples_per_pixel"], document["sample_rate"]) == (1_000, 2, RATE)
    assert peaks.values[100:102] == [-127, 64]
    assert peaks.values[-2:] == [0, 127]
    assert sum(map(abs, peaks.values)) == 127 + 64 + 127


@pytest.mark.parametrize("samples", [1, 999, 1_000, 1_001, 2_999, 48_000])
def test_there_are_about_a_thousand_pairs_and_no_sample_is_left_out(samples: int) -> None:
    waveform = np.zeros(samples, np.float32)
    waveform[-1] = 1.0
    peaks = peaks_of(Sound.mono(waveform, RATE))
    assert min(samples, 500) <= len(peaks.values) // 2 <= 1_000
    assert peaks.values[-1] == 127


def test_both_channels_and_values_beyond_full_scale_are_shown() -> None:
    stereo = Sound(np.array([[0.0, 2.0], [-3.0, 0.0]], np.float32), RATE, "stereo")
    assert peaks_of(stereo).values == [-128, 0, 0, 127]


@pytest.mark.parametrize("hz", [200, 1_000, 6_000])
def test_a_tone_is_a_line_at_its_frequency(hz: float) -> None:
    picture = spectrogram_of(Sound.mono(tone(hz), RATE))
    mel = 2595 * np.log10(1 + np.array([picture.min_hz, hz, picture.max_hz]) / 700)
    expected = (HEIGHT - 1) * (1 - (mel[1] - mel[0]) / (mel[2] - mel[0]))
    rows = pixels(picture.png)[:, 8:-8].mean(axis=1)
    assert abs(int(rows.argmax()) - expected) <= 2
    assert rows.min() < 10


def test_time_runs_from_left_to_right() -> None:
    late = np.concatenate([np.zeros(RATE, np.float32), tone(1_000, 1.0)])
    columns = pixels(spectrogram_of(Sound.mono(late, RATE)).png).mean(axis=0)
    assert columns[: WIDTH // 2 - 16].max() < columns[WIDTH // 2 + 16 :].min()


@pytest.mark.parametrize("seconds", [0.0001, 0.05, 2, 30])
def test_noise_is_small_and_the_same_every_time(seconds: float) -> None:
    sound = Sound.mono(noise(seconds), RATE)
    picture = spectrogram_of(sound)
    assert len(picture.png) <= MAX_PNG_BYTES
    assert picture == spectrogram_of(sound)
    assert peaks_of(sound) == peaks_of(sound)


def test_silence_and_what_is_no_number_are_shown_as_silence() -> None:
    for value in (0.0, np.nan):
        sound = Sound.mono(np.full(RATE, value, np.float32), RATE)
        assert set(peaks_of(sound).values) == {0}
        assert pixels(spectrogram_of(sound).png).max() <= 1
    assert spectrogram_of(sound).floor_db == FLOOR_DB
