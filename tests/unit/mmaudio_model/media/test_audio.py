"""Sound to files, in every format."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from mmaudio_model.errors import RequestInvalidError
from mmaudio_model.media import audio
from mmaudio_model.media.audio import AUDIO_FORMATS, Sound, resampled, with_channels, write_audio
from mmaudio_model.media.media_warning import WarningCode
from tests.unit.mmaudio_model.media.sounds import bursts, lag, pitches, tones
from tests.unit.mmaudio_model.media.videos import sine, sound_of, strength

CODECS = {"flac": "flac", "wav": "pcm_s24le", "mp3": "mp3", "opus": "opus", "m4a": "aac"}
LOSSLESS = ("flac", "wav")


def test_every_format_is_tested_here() -> None:
    assert set(AUDIO_FORMATS) == set(CODECS)


@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize("sample_rate_hz", [16_000, 44_100])
def test_a_sound_comes_back_at_its_pitch_strength_and_length(tmp_path: Path, kind: str, sample_rate_hz: int) -> None:
    path = tmp_path / f"sound.{kind}"
    write_audio(path, Sound.mono(sine(440, 2.5, sample_rate_hz), sample_rate_hz), kind)

    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.name.removeprefix("lib").removesuffix("float") == CODECS[kind]
    sound, rate = sound_of(path)
    assert len(sound) == 1
    assert rate == (48_000 if kind == "opus" else sample_rate_hz)
    assert sound.shape[1] / rate == pytest.approx(2.5, abs=0 if kind in LOSSLESS else 0.15)
    assert strength(sound[0], rate, 440) == pytest.approx(0.25, rel=0.05)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_lossless_format_keeps_24_bits(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, 40_000).astype(np.float32)
    write_audio(tmp_path / "sound", Sound.mono(noise, 44_100), kind)
    sound, _ = sound_of(tmp_path / "sound")

    assert np.abs(sound[0] - noise).max() <= 2**-23


@pytest.mark.parametrize("kind", LOSSLESS)
def test_what_is_too_loud_is_clipped_and_not_wrapped(tmp_path: Path, kind: str) -> None:
    loud = np.array([0.0, 1.5, -1.5, 1.0, -1.0, 100.0] * 100, dtype=np.float32)
    write_audio(tmp_path / "sound", Sound.mono(loud, 16_000), kind)
    sound, _ = sound_of(tmp_path / "sound")

    assert sound[0] == pytest.approx(np.clip(loud, -1, 1), abs=2**-22)


def test_an_unknown_format_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(RequestInvalidError, match="Got audio format 'aiff'; there are flac, wav, mp3, opus, m4a"):
        write_audio(tmp_path / "sound.aiff", Sound.mono(sine(440, 1.0, 16_000), 16_000), "aiff")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_earlier_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sound.flac"
    path.write_bytes(b"earlier")

    def broken(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(audio, "audio_frames", broken)
    with pytest.raises(OSError, match="no space left"):
        write_audio(path, Sound.mono(sine(440, 1.0, 16_000), 16_000), "flac")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"earlier"


LAYOUTS = ("mono", "stereo", "2.1", "quad", "5.0", "5.1", "5.1(side)", "6.1", "7.1")
# What a format writes where it has no such layout.
CHANGED = {
    **{("mp3", layout): "stereo" for layout in LAYOUTS[2:]},
    ("opus", "2.1"): "5.1",
    ("opus", "5.1(side)"): "5.1",
    ("m4a", "2.1"): "5.1",
    ("m4a", "quad"): "5.0",
    ("m4a", "5.1(side)"): "5.1",
    ("m4a", "6.1"): "7.1",
}
# Channels that a layout with more of them leaves silent, or that two speakers share; the fourth is for bass only.
HEARD = {
    ("opus", "2.1"): [0, 1, None, None, None],
    ("m4a", "2.1"): [0, 1, None, None, None],
    ("m4a", "quad"): [0, 1, None, 2, 3],
    ("m4a", "6.1"): [0, 1, 2, 4, 4, 5, 6],
}


def decoded(path: Path) -> tuple[np.ndarray, str]:
    """Return a file's sound, (channels, samples), interleaved on the way since PyAV cannot read eight planes."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="flt")
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
        channels = frames[0].layout.nb_channels
        sound = np.concatenate([frame.to_ndarray().reshape(-1, channels) for frame in frames]).T
        return sound, frames[0].layout.name


@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_channel_comes_back_in_its_place(tmp_path: Path, kind: str, layout: str) -> None:
    channels = len(av.AudioLayout(layout).channels)
    sound = Sound(tones(channels, 0.5, 48_000), 48_000, layout)
    result = write_audio(tmp_path / "sound", sound, kind)
    heard, named = decoded(tmp_path / "sound")

    assert named == result.layout == CHANGED.get((kind, layout), layout)
    found = pitches(heard, 48_000)
    bass = [3] if kind in {"opus", "m4a"} and len(heard) > 5 else []
    found = [pitch for index, pitch in enumerate(found) if index not in bass]
    expected = [index for index in range(len(heard)) if index not in bass]
    assert found == (HEARD.get((kind, layout), expected) if kind != "mp3" else found)
    said = [warning.code for warning in result.warnings]
    assert said == ([WarningCode.AUDIO_LAYOUT_CHANGED] if len(heard) != channels else [])


def test_a_downmix_to_stereo_keeps_the_sides_and_leaves_out_the_bass_channel(tmp_path: Path) -> None:
    result = write_audio(tmp_path / "sound", Sound(tones(6, 0.5, 48_000), 48_000, "5.1"), "mp3")
    heard, _ = decoded(tmp_path / "sound")
    levels = [[strength(side[4000:20_000], 48_000, 300 + 100 * tone) / 0.2 for tone in range(6)] for side in heard]

    assert levels[0] == pytest.approx([1, 0, 0.707, 0, 0.707, 0], abs=0.03)
    assert levels[1] == pytest.approx([0, 1, 0.707, 0, 0, 0.707], abs=0.03)
    assert result.warnings[0].text == "MP3 cannot hold the sound's 5.1 channels: it was downmixed to stereo."


def test_a_wav_of_more_than_two_channels_names_its_speakers(tmp_path: Path) -> None:
    for layout, mask in (("5.1", 0x3F), ("5.1(side)", 0x60F), ("7.1", 0x63F)):
        sound = Sound(tones(len(av.AudioLayout(layout).channels), 0.1, 48_000), 48_000, layout)
        write_audio(tmp_path / "sound.wav", sound, "wav")
        content = (tmp_path / "sound.wav").read_bytes()
        place = content.index(b"fmt ") + 8
        assert int.from_bytes(content[place : place + 2], "little") == 0xFFFE  # WAVE_FORMAT_EXTENSIBLE
        assert int.from_bytes(content[place + 20 : place + 24], "little") == mask


@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize("sample_rate_hz", [8_000, 16_000, 44_100, 48_000])
def test_a_burst_comes_back_at_the_same_sample_and_the_file_is_as_long(
    tmp_path: Path, kind: str, sample_rate_hz: int
) -> None:
    sound = Sound.mono(bursts(sample_rate_hz, 2.5013, (0.25, 2.1)), sample_rate_hz)
    written = write_audio(tmp_path / "sound", sound, kind)
    expected = resampled(sound, written.sample_rate_hz).waveform[0]
    heard, _ = decoded(tmp_path / "sound")
    with av.open(str(tmp_path / "sound")) as container:
        stream = container.streams.audio[0]
        declared = float(stream.duration * stream.time_base) if stream.duration is not None else None

    # A player of MP4 ends at the edit list's end; FFmpeg's decoder gives the last frame's padding as well.
    assert heard.shape[1] == len(expected) or kind == "m4a"
    assert 0 <= heard.shape[1] - len(expected) < 1024
    if kind != "opus":  # the last page says how long it is
        assert declared == pytest.approx(len(expected) / written.sample_rate_hz, abs=0.5 / written.sample_rate_hz)
    assert lag(heard[0], expected) == 0


@pytest.mark.parametrize(
    ("kind", "given", "written"),
    [
        ("flac", 192_000, 192_000),
        ("wav", 192_000, 192_000),
        ("wav", 12_345, 12_345),
        ("mp3", 12_345, 16_000),
        ("mp3", 96_000, 48_000),
        ("opus", 22_050, 48_000),
        ("opus", 96_000, 48_000),
        ("m4a", 50_000, 64_000),
        ("m4a", 96_000, 96_000),
        ("m4a", 192_000, 96_000),
    ],
)
def test_a_rate_that_the_codec_lacks_becomes_the_next_higher_one_and_the_files_rate_is_told(
    tmp_path: Path, kind: str, given: int, written: int
) -> None:
    result = write_audio(tmp_path / "sound", Sound.mono(sine(440, 0.5, given), given), kind)
    sound, rate = sound_of(tmp_path / "sound")

    assert result.sample_rate_hz == rate == written
    assert strength(sound[0], rate, 440) == pytest.approx(0.25, rel=0.05)
    lowered = [WarningCode.AUDIO_RATE_LOWERED] if written < given else []
    assert [warning.code for warning in result.warnings] == lowered


def test_clipped_samples_are_said_with_their_number(tmp_path: Path) -> None:
    loud = np.array([0.0, 1.5, -1.5, 1.0] * 100, np.float32)
    (warning,) = write_audio(tmp_path / "sound", Sound.mono(loud, 16_000), "flac").warnings

    assert warning.code == WarningCode.AUDIO_CLIPPED
    assert warning.text.startswith("200 samples beyond full scale (by up to 3.5 dB) were clipped")


def test_peaks_that_resampling_brings_out_are_lowered_and_not_clipped(tmp_path: Path) -> None:
    full = np.sign(sine(441, 0.5, 44_100)) * np.float32(0.999)
    result = write_audio(tmp_path / "sound", Sound.mono(full, 44_100), "opus")

    assert [warning.code for warning in result.warnings] == [WarningCode.AUDIO_LOWERED]
    assert write_audio(tmp_path / "sound", Sound.mono(full, 44_100), "wav").warnings == ()


@pytest.mark.parametrize(("given", "wanted"), [(16_000, 48_000), (44_100, 48_000), (44_100, 22_050), (48_000, 44_100)])
def test_resampling_keeps_pitch_place_and_length_and_does_not_alias(given: int, wanted: int) -> None:
    sound = Sound(np.stack((bursts(given, 2.0, (0.5,)), sine(1000, 2.0, given))), given, "stereo")
    changed = resampled(sound, wanted)

    assert (changed.samples, changed.sample_rate_hz, changed.layout) == (2 * wanted, wanted, "stereo")
    assert strength(changed.waveform[1], wanted, 1000) == pytest.approx(0.25, rel=0.001)
    back = resampled(changed, given).waveform[0]
    assert np.abs(back - sound.waveform[0]).max() < 1e-3
    if wanted < given:
        high = Sound.mono(sine((wanted + given) / 4, 1.0, given), given)
        assert np.abs(resampled(high, wanted).waveform[0, 1000:-1000]).max() < 1e-5


@pytest.mark.parametrize("samples", [0, 1, 2, 7, 11_024])
def test_the_length_after_resampling_is_rounded_to_the_nearest_sample(samples: int) -> None:
    changed = resampled(Sound.mono(np.ones(samples, np.float32), 11_025), 48_000)

    assert changed.samples == round(samples * 48_000 / 11_025)


def test_mono_and_stereo_become_each_other_at_the_same_level() -> None:
    mono = Sound.mono(sine(440, 0.1, 16_000), 16_000)
    stereo = with_channels(mono, 2)

    assert stereo.layout == "stereo"
    assert np.array_equal(stereo.waveform[0], mono.waveform[0])
    assert np.array_equal(stereo.waveform[1], mono.waveform[0])
    assert np.array_equal(with_channels(stereo, 1).waveform, mono.waveform)
    with pytest.raises(ValueError, match="Got 3 channels; a sound can be given 1 or 2"):
        with_channels(mono, 3)


def test_a_sound_whose_array_and_layout_disagree_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 5\); a sound in the layout '5.1' has the shape \(6, samples\)"):
        Sound(np.zeros((2, 5), np.float32), 48_000, "5.1")
    with pytest.raises(ValueError, match="sample rate of 0 Hz"):
        Sound.mono(np.zeros(5, np.float32), 0)
