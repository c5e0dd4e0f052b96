"""The delivered sounds: channels, rates, loudness, the original sound, and what is said about quiet ones."""

from __future__ import annotations

import numpy as np
import pytest

from mmaudio_model.media.audio import Sound
from mmaudio_model.media.loudness import integrated_loudness
from mmaudio_model.media.media_warning import WarningCode
from mmaudio_model.result_sounds import SoundOptions, result_sounds, silence_warnings

RATE_HZ = 16_000


def tone(level: float = 0.1, rate_hz: int = RATE_HZ, hz: float = 440, seconds: float = 1.0) -> np.ndarray:
    made: np.ndarray = level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)
    return made.astype(np.float32)


def stereo(level: float = 0.1) -> Sound:
    right = tone(level, 48_000, hz=1000)
    return Sound(np.stack([np.zeros_like(right), right]), 48_000, "stereo")


def test_nothing_is_changed_that_was_not_asked_for() -> None:
    sounds = result_sounds(tone(), RATE_HZ, SoundOptions(), None)
    assert np.array_equal(sounds.effect.waveform[0], tone())
    assert (sounds.effect.sample_rate_hz, sounds.mix, sounds.warnings) == (RATE_HZ, None, ())
    assert sounds.of_video is sounds.effect


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", [None, 22_050, 44_100, 96_000])
def test_channels_rate_and_loudness_are_those_that_were_asked_for(channels: int, rate_hz: int | None) -> None:
    options = SoundOptions(channels=channels, sample_rate_hz=rate_hz, loudness_lufs=-30.0)
    sound = result_sounds(tone(), RATE_HZ, options, None).effect
    assert (sound.channels, sound.sample_rate_hz) == (channels, rate_hz or RATE_HZ)
    assert sound.duration_s == 1.0
    assert integrated_loudness(sound.waveform, sound.sample_rate_hz, sound.layout) == pytest.approx(-30, abs=0.1)


def test_a_sound_within_full_scale_stays_within_it_at_another_rate() -> None:
    square = np.sign(tone(1.0)) * np.float32(0.999)
    sounds = result_sounds(square.astype(np.float32), RATE_HZ, SoundOptions(sample_rate_hz=48_000), None)
    assert np.abs(sounds.effect.waveform).max() <= 1.0
    assert [warning.code for warning in sounds.warnings] == [WarningCode.AUDIO_LOWERED]


def test_a_mix_has_the_rate_and_the_channels_of_the_original_and_keeps_its_sides() -> None:
    sounds = result_sounds(tone(0.0), RATE_HZ, SoundOptions(mixes=True), stereo())
    assert sounds.mix is not None
    assert (sounds.mix.sample_rate_hz, sounds.mix.layout) == (48_000, "stereo")
    left, right = sounds.mix.waveform
    assert np.abs(left).max() < 1e-4 < 0.09 < np.abs(right).max()
    assert sounds.of_video is sounds.mix
    assert sounds.effect.sample_rate_hz == RATE_HZ


def test_the_mix_as_a_whole_has_the_loudness_and_the_effect_too() -> None:
    sounds = result_sounds(tone(), RATE_HZ, SoundOptions(mixes=True, loudness_lufs=-24.0), stereo(0.3))
    assert sounds.mix is not None
    for sound in (sounds.effect, sounds.mix):
        measured = integrated_loudness(sound.waveform, sound.sample_rate_hz, sound.layout)
        assert measured == pytest.approx(-24, abs=0.2)


def test_a_rate_that_was_asked_for_is_also_the_mix_s() -> None:
    sounds = result_sounds(tone(), RATE_HZ, SoundOptions(mixes=True, sample_rate_hz=44_100), stereo())
    assert sounds.mix is not None
    assert (sounds.effect.sample_rate_hz, sounds.mix.sample_rate_hz) == (44_100, 44_100)


def test_the_original_is_lowered_as_asked() -> None:
    def right(**options: float) -> float:
        sounds = result_sounds(tone(1e-3), RATE_HZ, SoundOptions(mixes=True, **options), stereo())
        assert sounds.mix is not None
        return float(np.abs(sounds.mix.waveform[1]).max())

    assert right(original_gain_db=-20.0) == pytest.approx(right() / 10, rel=0.1)


def test_without_an_original_sound_the_mix_is_the_effect() -> None:
    sounds = result_sounds(tone(), RATE_HZ, SoundOptions(mixes=True), None)
    assert sounds.mix is sounds.effect


def test_a_loudness_that_the_ceiling_forbids_is_said_once() -> None:
    click = np.zeros(RATE_HZ, np.float32)
    click[::4000] = 0.9
    sounds = result_sounds(click, RATE_HZ, SoundOptions(loudness_lufs=-5.0), None)
    assert [warning.code for warning in sounds.warnings] == [WarningCode.LOUDNESS_LIMITED]


def test_silent_and_nearly_silent_takes_are_said_apart() -> None:
    takes = [tone(0.0), tone(), tone(0.002), tone(0.0)]
    assert [(warning.code, warning.text) for warning in silence_warnings(takes, RATE_HZ)] == [
        (WarningCode.SILENT, "Take 1, 4 is silent; try another seed or prompt."),
        (WarningCode.NEAR_SILENT, "Take 3 is nearly silent; try another seed or prompt."),
    ]
    assert [warning.text for warning in silence_warnings(takes[:1], RATE_HZ)] == [
        "The sound is silent; try another seed or prompt."
    ]
    assert silence_warnings([tone()], RATE_HZ) == ()
