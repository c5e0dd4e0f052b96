"""The mix of an effect with an original sound: channels, ducking, peaks, loudness."""

from __future__ import annotations

import numpy as np
import pytest

from mmaudio_model.media.audio import Sound
from mmaudio_model.media.ducking import ducking_gain
from mmaudio_model.media.loudness import integrated_loudness, true_peak
from mmaudio_model.media.media_warning import WarningCode
from mmaudio_model.media.mixing import Mixed, mix
from tests.unit.mmaudio_model.media.sounds import bursts, lag, tones
from tests.unit.mmaudio_model.media.videos import sine, strength

EFFECT_HZ = 2500


def effect(seconds: float = 1.0, *, amplitude: float = 0.2, rate: int = 16_000) -> Sound:
    return Sound.mono(sine(EFFECT_HZ, seconds, rate, amplitude=amplitude), rate)


def silence(layout: str, channels: int, seconds: float = 1.0, rate: int = 48_000) -> Sound:
    return Sound(np.zeros((channels, round(seconds * rate)), np.float32), rate, layout)


def mixed(
    new: Sound, original: Sound, gain_db: float = 0.0, duck_db: float | None = None, loudness: float | None = None
) -> Mixed:
    return mix(new, original, gain_db=gain_db, duck_db=duck_db, loudness_lufs=loudness)


def differ(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("mono", [1.0]),
        ("stereo", [0.707, 0.707]),
        ("2.1", [0.707, 0.707, 0]),
        ("quad", [0.707, 0.707, 0, 0]),
        ("5.1", [0.707, 0.707, 0, 0, 0, 0]),
        ("5.1(side)", [0.707, 0.707, 0, 0, 0, 0]),
        ("7.1", [0.707, 0.707, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_a_mono_effect_lies_in_front_at_equal_power_and_never_in_the_bass_channel(
    layout: str, expected: list[float]
) -> None:
    result = mixed(effect(), silence(layout, len(expected)))

    assert (result.sound.layout, result.sound.sample_rate_hz) == (layout, 48_000)
    levels = [strength(channel, 48_000, EFFECT_HZ) / 0.2 for channel in result.sound.waveform]
    assert levels == pytest.approx(expected, abs=0.01)
    alone = integrated_loudness(effect(rate=48_000).waveform, 48_000)
    assert integrated_loudness(result.sound.waveform, 48_000, layout) == pytest.approx(alone, abs=0.1)


def test_a_stereo_effect_keeps_its_sides_and_both_are_heard_in_mono() -> None:
    new = Sound(tones(2, 1.0, 48_000), 48_000, "stereo")
    wide, narrow = mixed(new, silence("5.1", 6)).sound, mixed(new, silence("mono", 1)).sound

    assert differ(wide.waveform[:2], new.waveform) < 1e-6
    assert not wide.waveform[2:].any()
    assert differ(narrow.waveform[0], new.waveform.mean(axis=0)) < 1e-6


@pytest.mark.parametrize("gain_db", [0.0, -6.0, 6.0])
def test_the_original_keeps_its_channels_and_gets_its_gain(gain_db: float) -> None:
    original = Sound(tones(6, 1.0, 48_000, amplitude=0.1), 48_000, "5.1")
    result = mixed(effect(amplitude=0.0), original, gain_db)

    assert differ(result.sound.waveform, original.waveform * 10 ** (gain_db / 20)) < 1e-6
    assert not result.limited


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 96_000])
def test_the_effect_is_resampled_to_the_originals_rate_in_time(rate: int) -> None:
    new = Sound.mono(bursts(16_000, 2.0, (0.5, 1.5)), 16_000)
    result = mixed(new, silence("mono", 1, 2.0, rate)).sound
    later = mixed(Sound.mono(np.roll(new.waveform[0], 1600), 16_000), silence("mono", 1, 2.0, rate)).sound

    assert (result.sample_rate_hz, result.samples) == (rate, 2 * rate)
    assert lag(later.waveform[0], result.waveform[0]) == rate // 10


@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_the_mix_is_as_long_as_the_effect(seconds: float) -> None:
    original = Sound(tones(2, seconds, 48_000), 48_000, "stereo")
    result = mixed(effect(1.0), original).sound

    assert result.samples == 48_000
    assert bool(np.abs(result.waveform[0, 40_000:]).max() > 0.3) == (seconds > 1)


def test_what_would_exceed_full_scale_is_lowered_as_a_whole_and_said() -> None:
    original = Sound(np.stack((sine(440, 1.0, 48_000, amplitude=0.9),) * 2), 48_000, "stereo")
    result = mixed(effect(amplitude=0.9), original)
    quiet = mixed(effect(amplitude=0.09), Sound(original.waveform * np.float32(0.1), 48_000, "stereo"))

    assert 20 * np.log10(true_peak(result.sound.waveform)) == pytest.approx(-1.0, abs=0.02)
    assert result.limited
    assert [warning.code for warning in result.warnings] == [WarningCode.AUDIO_LOWERED]
    assert not quiet.limited
    ratio = result.sound.waveform / np.where(np.abs(quiet.sound.waveform) > 0.01, quiet.sound.waveform, np.nan)
    assert np.nanmin(ratio) == pytest.approx(np.nanmax(ratio), rel=1e-3)  # nothing is distorted


@pytest.mark.parametrize("target", [-40.0, -23.0, -14.0])
@pytest.mark.parametrize(("layout", "channels"), [("mono", 1), ("stereo", 2), ("5.1", 6)])
def test_the_whole_mix_has_the_loudness_that_was_asked_for(target: float, layout: str, channels: int) -> None:
    original = Sound(tones(channels, 3.0, 44_100, amplitude=0.05), 44_100, layout)
    result = mixed(effect(3.0), original, loudness=target)

    assert not result.limited
    assert integrated_loudness(result.sound.waveform, 44_100, layout) == pytest.approx(target, abs=0.05)


def test_a_peak_that_keeps_the_mix_too_quiet_is_said() -> None:
    peaky = Sound(np.stack((bursts(48_000, 2.0, (0.5,)),) * 2), 48_000, "stereo")
    result = mixed(effect(2.0, amplitude=0.001), peaky, loudness=-10.0)

    assert result.limited
    assert [warning.code for warning in result.warnings] == [WarningCode.LOUDNESS_LIMITED]
    assert true_peak(result.sound.waveform) < 10 ** (-0.99 / 20)


def test_the_original_is_lowered_while_the_effect_sounds_and_before_and_after_it_is_not() -> None:
    new = np.zeros(5 * 16_000, np.float32)
    new[2 * 16_000 : 3 * 16_000] = sine(EFFECT_HZ, 1.0, 16_000)
    original = Sound(np.stack((sine(440, 5.0, 48_000, amplitude=0.1),) * 2), 48_000, "stereo")
    sound = mixed(Sound.mono(new, 16_000), original, duck_db=12.0).sound

    def level(begin_s: float, end_s: float) -> float:
        part = sound.waveform[1, round(begin_s * 48_000) : round(end_s * 48_000)]
        return strength(part, 48_000, 440) / 0.1

    assert level(0.5, 1.9) == pytest.approx(1.0, abs=0.01)
    assert level(2.0, 3.0) == pytest.approx(10 ** (-12 / 20), abs=0.01)
    assert level(3.0, 3.15) == pytest.approx(10 ** (-12 / 20), abs=0.01)  # held
    assert level(3.6, 4.9) == pytest.approx(1.0, abs=0.01)


def test_ducking_is_down_when_the_effect_begins_is_smooth_and_the_same_each_time() -> None:
    new = Sound.mono(bursts(16_000, 2.0, (1.0,)), 16_000)
    gain = ducking_gain(new, 48_000, 96_000, 20.0)

    assert gain[48_000] == pytest.approx(0.1)
    assert gain[48_000 - 4_800] == 1.0
    steps_db = np.abs(np.diff(20 * np.log10(gain)))
    assert steps_db.max() < 20 / (0.04 * 48_000)  # the attack takes 50 ms
    assert np.array_equal(gain, ducking_gain(new, 48_000, 96_000, 20.0))


@pytest.mark.parametrize("duck_db", [None, 0.0])
def test_without_ducking_or_without_an_effect_the_original_stays(duck_db: float | None) -> None:
    original = Sound(tones(2, 1.0, 48_000), 48_000, "stereo")

    assert differ(mixed(effect(amplitude=0.0), original, duck_db=12.0).sound.waveform, original.waveform) < 1e-6
    result = mixed(effect(amplitude=1e-4), original, duck_db=duck_db).sound.waveform
    assert differ(result, original.waveform) < 2e-4
