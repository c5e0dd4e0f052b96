"""Sound to files, in every format."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from mmaudio_model.errors import RequestInvalidError
from mmaudio_model.media import audio
from mmaudio_model.media.audio import AUDIO_FORMATS, Sound, write_audio
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
