"""Loudness after BS.1770, and the ceiling for true peaks."""

from __future__ import annotations

import av
import numpy as np
import pyloudnorm
import pytest
from av.audio.frame import AudioFrame

from mmaudio_model.media import loudness
from mmaudio_model.media.loudness import (
    TRUE_PEAK_CEILING_DBFS,
    Silence,
    integrated_loudness,
    is_silent,
    normalise_loudness,
    silence_of,
    true_peak,
)
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


def measured_by_ffmpeg(waveform: np.ndarray, rate: int, layout: str = "mono") -> float:
    """Return the integrated loudness of a waveform, (channels, samples), as FFmpeg's own meter finds it."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=rate, format="flt", layout=layout, time_base=f"1/{rate}")
    meter, sink = graph.add("ebur128", "metadata=1"), graph.add("abuffersink")
    source.link_to(meter)
    meter.link_to(sink)
    graph.configure()
    found = float("-inf")
    for start in range(0, waveform.shape[1], 8192):
        part = np.ascontiguousarray(waveform[:, start : start + 8192].T).reshape(1, -1)
        frame = AudioFrame.from_ndarray(part, format="flt", layout=layout)
        frame.sample_rate, frame.pts = rate, start
        graph.push(frame)
        while True:
            try:
                found = float(graph.pull().metadata.get("lavfi.r128.I", found))
            except (av.BlockingIOError, av.EOFError):
                break
    return found


def some_sound(kind: str, rate: int, channels: int, seconds: float = 3.0) -> np.ndarray:
    """Return a sound, float32 (channels, samples), that has much, little or nothing in parts of it."""
    rng, samples = np.random.default_rng(4), round(seconds * rate)
    times = np.arange(samples) / rate
    match kind:
        case "noise":
            sound = rng.standard_normal((channels, samples))
        case "tone":
            sound = np.sin(2 * np.pi * 440 * times)[None] * np.linspace(1, 0.5, channels)[:, None]
        case "fading":
            sound = rng.standard_normal((channels, samples)) * np.geomspace(1, 0.01, samples)
        case "sparse":  # knocks in silence
            sound = rng.standard_normal((channels, samples)) * np.exp(-30 * (times % 1.0)) * (times > 0.5)
        case "mostly silent":
            sound = rng.standard_normal((channels, samples)) * (times < 0.5)
        case _:
            raise AssertionError(kind)
    return (sound * 0.1 / np.abs(sound).max()).astype(np.float32)


@pytest.mark.parametrize("kind", ["noise", "tone", "fading", "sparse", "mostly silent"])
@pytest.mark.parametrize("target_lufs", [-50.0, -42.0, -34.0, -26.0, -18.0, -10.0])
def test_thirty_sounds_get_their_loudness_as_another_meter_measures_it(kind: str, target_lufs: float) -> None:
    changed = normalise_loudness(some_sound(kind, RATE, 1)[0], RATE, target_lufs)

    found = measured_by_ffmpeg(changed.waveform[None], RATE)
    if changed.limited:
        assert found < target_lufs
        assert 20 * np.log10(true_peak(changed.waveform)) == pytest.approx(TRUE_PEAK_CEILING_DBFS, abs=0.01)
    else:
        assert found == pytest.approx(target_lufs, abs=0.1)


@pytest.mark.parametrize("rate", [8_000, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000])
def test_every_sample_rate_is_measured_alike(rate: int) -> None:
    for kind in ("noise", "fading"):
        sound = some_sound(kind, rate, 1)
        assert integrated_loudness(sound[0], rate) == pytest.approx(measured_by_ffmpeg(sound, rate), abs=0.05)


@pytest.mark.parametrize("layout", ["stereo", "2.1", "quad", "5.0", "5.1", "5.1(side)"])
def test_channels_count_as_much_as_their_places_say(layout: str) -> None:
    sound = some_sound("noise", 48_000, len(av.AudioLayout(layout).channels))

    assert integrated_loudness(sound, 48_000, layout) == pytest.approx(
        measured_by_ffmpeg(sound, 48_000, layout), abs=0.05
    )


def test_a_full_scale_tone_of_1_khz_has_the_standards_loudness() -> None:
    assert integrated_loudness(sine(997, 3.0, 48_000, amplitude=1.0), 48_000) == pytest.approx(-3.01, abs=0.01)


def test_bass_does_not_count_and_surround_counts_more() -> None:
    tone = sine(997, 1.0, 48_000)
    alone = integrated_loudness(tone, 48_000)
    for channel, difference in ((0, 0.0), (2, 0.0), (3, -np.inf), (4, 1.49), (5, 1.49)):
        sound = np.zeros((6, 48_000), np.float32)
        sound[channel] = tone
        assert integrated_loudness(sound, 48_000, "5.1") - alone == pytest.approx(difference, abs=0.01)


@pytest.mark.parametrize("seconds", [0.02, 0.1, 0.3, 0.39, 0.4, 0.45])
@pytest.mark.parametrize("rate", [11_025, 16_000, 44_100])
def test_short_sounds_get_their_loudness(seconds: float, rate: int) -> None:
    changed = normalise_loudness(sine(997, seconds, rate, amplitude=0.01), rate, -23.0)

    # a block of the whole sound, whose mean square is that of the tone
    level = 20 * np.log10(np.abs(changed.waveform).max()) - 3.01
    assert level == pytest.approx(-23.0, abs=0.5)


@pytest.mark.parametrize("peak", [1.5e-4, 1e-3])
def test_very_quiet_sounds_get_their_loudness(peak: float) -> None:
    quiet = some_sound("noise", RATE, 2) * np.float32(peak / 0.1)
    changed = normalise_loudness(quiet, RATE, -23.0, "stereo")

    assert measured_by_ffmpeg(changed.waveform, RATE, "stereo") == pytest.approx(-23.0, abs=0.1)


def test_a_loudness_between_those_that_can_be_had_gives_the_nearest() -> None:
    # A loud block that the gate lets through at any gain, and many that it does only from -70 LUFS on.
    sound = some_sound("noise", 16_000, 1, 6.0)[0] * np.float32(0.3)
    sound[8_000:] *= np.float32(0.1)
    for target in np.arange(-69.0, -40.0, 1.5):
        found = integrated_loudness(normalise_loudness(sound, 16_000, float(target)).waveform, 16_000)
        assert found == pytest.approx(target, abs=0.05) or target < -60


def test_the_true_peak_of_a_long_sound_is_that_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = some_sound("noise", 16_000, 2, 2.0)
    whole = true_peak(sound)
    monkeypatch.setattr(loudness, "PEAK_CHUNK_SAMPLES", 1000)

    assert true_peak(sound) == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize(
    ("amplitude", "expected"),
    [(0.0, Silence.SILENT), (5e-5, Silence.SILENT), (0.0005, Silence.NEAR_SILENT), (0.0025, Silence.NEAR_SILENT)],
)
def test_silence_and_near_silence_are_told_apart(amplitude: float, expected: Silence) -> None:
    assert silence_of(sine(440, 1.0, 16_000, amplitude=amplitude), 16_000) == expected


def test_quiet_but_audible_sounds_and_single_clicks_are_not_near_silent() -> None:
    click = np.zeros(16_000, np.float32)
    click[8_000:8_020] = 0.3

    assert silence_of(sine(440, 1.0, 16_000, amplitude=0.005), 16_000) is None
    assert silence_of(click, 16_000) is None
    assert silence_of(np.stack((np.zeros(16_000, np.float32), click)), 16_000, "stereo") is None
