"""The original sound of a section: its own rate and channels, exact to the sample, and what is missing is said."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from mmaudio_model.media.audio import Sound, write_audio
from mmaudio_model.media.media_warning import WarningCode
from mmaudio_model.media.mixing import OriginalSound, mix, original_sound_bytes, read_original_sound
from mmaudio_model.media.sound import read_sound
from tests.unit.mmaudio_model.media.sounds import bursts, lag, pitches, tones, write_video_with_sounds
from tests.unit.mmaudio_model.media.videos import LIMITS, regular, sine, sound_of, strength, write_video

KINDS = [
    ("mp4", "aac", 48_000),
    ("mov", "aac", 44_100),
    ("mov", "pcm_s24be", 96_000),
    ("mp4", "libmp3lame", 44_100),
    ("mp4", "libopus", 48_000),
    ("matroska", "aac", 44_100),
    ("matroska", "libmp3lame", 44_100),
    ("matroska", "flac", 44_100),
    ("webm", "libopus", 48_000),
    ("mpegts", "aac", 44_100),
    ("mpegts", "ac3", 48_000),
    ("avi", "pcm_s16le", 44_100),
]
BURSTS_S = (1.0001, 2.5016, 7.0028, 9.0833, 11.0004)


def original(path: Path, start_s: float, duration_s: float) -> OriginalSound:
    with path.open("rb") as file:
        return read_original_sound(file, start_s=start_s, duration_s=duration_s, limits=LIMITS)


@pytest.mark.parametrize(("container", "codec", "rate"), KINDS)
def test_a_section_is_exact_to_the_sample_wherever_it_starts(
    tmp_path: Path, container: str, codec: str, rate: int
) -> None:
    right = bursts(rate, 12.0, BURSTS_S)
    both = np.stack((np.zeros_like(right), right))
    path = write_video_with_sounds(tmp_path / "v", 12.0, [both], container=container, codec=codec, rate=rate)

    for start_s, duration_s in ((0.0, 4.0), (0.88, 2.0), (2.36, 1.0), (6.5, 1.2), (8.72, 1.0), (10.96, 0.5)):
        found = original(path, start_s, duration_s)
        assert found.sound is not None
        assert found.warnings == ()
        assert (found.sound.layout, found.sound.sample_rate_hz) == ("stereo", rate)
        assert found.sound.samples == round(duration_s * rate)
        first = round(start_s * rate)
        assert lag(found.sound.waveform[1], right[first : first + found.sound.samples]) == 0
        assert np.abs(found.sound.waveform[0]).max() < 0.01


@pytest.mark.parametrize("layout", ["mono", "stereo", "2.1", "quad", "5.0", "5.1", "5.1(side)", "6.1", "7.1"])
@pytest.mark.parametrize("codec", ["flac", "pcm_f32le"])
def test_every_layout_is_kept(tmp_path: Path, layout: str, codec: str) -> None:
    channels = len(av.AudioLayout(layout).channels)
    path = write_video_with_sounds(
        tmp_path / "v.mkv", 1.0, [tones(channels, 1.0, 48_000)], container="matroska", codec=codec, layouts=[layout]
    )
    found = original(path, 0.0, 1.0).sound

    assert found is not None
    assert pitches(found.waveform, 48_000) == list(range(channels))
    # Matroska has no channel layout for PCM: what plays is the usual one of as many channels.
    assert found.layout == layout or codec == "pcm_f32le"


def test_eight_separate_planes_are_read(tmp_path: Path) -> None:
    path = write_video_with_sounds(tmp_path / "v.mp4", 1.0, [tones(8, 1.0, 48_000)], layouts=["7.1"])
    found = original(path, 0.0, 1.0).sound

    assert found is not None
    assert found.layout == "7.1"
    heard = pitches(found.waveform, 48_000)
    assert heard[:3] + heard[4:] == [0, 1, 2, 4, 5, 6, 7]  # AAC keeps bass only in the fourth one


def test_sixteen_channels_are_reduced_to_eight_and_it_is_said(tmp_path: Path) -> None:
    path = write_video_with_sounds(
        tmp_path / "v.mkv",
        1.0,
        [tones(16, 1.0, 48_000)],
        container="matroska",
        codec="pcm_s16le",
        layouts=["hexadecagonal"],
    )
    found = original(path, 0.0, 1.0)

    assert found.sound is not None
    assert found.sound.layout == "7.1"
    assert [warning.code for warning in found.warnings] == [WarningCode.AUDIO_LAYOUT_CHANGED]


@pytest.mark.parametrize("default", [0, 1])
def test_the_default_track_is_mixed_and_trained_on_and_not_simply_the_first(tmp_path: Path, default: int) -> None:
    sounds = [np.stack([sine(pitch, 1.0, 48_000)] * 2) for pitch in (500, 900)]
    path = write_video_with_sounds(
        tmp_path / "v.mkv", 1.0, sounds, container="matroska", layouts=["stereo"] * 2, default=default
    )
    found = original(path, 0.0, 1.0).sound
    with path.open("rb") as file:
        trained = read_sound(file, start_s=0.0, duration_s=1.0, sample_rate_hz=16_000, limits=LIMITS)

    assert found is not None
    for heard, rate in ((found.waveform[1], 48_000), (trained, 16_000)):
        assert [strength(heard, rate, pitch) > 0.2 for pitch in (500, 900)] == [default == 0, default == 1]


@pytest.mark.parametrize("container", ["matroska", "mpegts", "mp4"])
def test_a_gap_in_the_track_is_silence_and_what_follows_is_in_its_place(tmp_path: Path, container: str) -> None:
    right = bursts(48_000, 4.0, (0.5, 1.5, 3.2))
    path = write_video_with_sounds(
        tmp_path / "v", 4.0, [np.stack((right, right))], container=container, left_out_s=[(1.2, 2.2)]
    )
    found = original(path, 0.0, 4.0).sound
    expected = bursts(48_000, 4.0, (0.5, 3.2))

    assert found is not None
    assert np.abs(found.waveform[0] - expected).max() < 0.05


def test_sound_that_starts_later_is_preceded_by_silence_and_what_ends_early_is_padded(tmp_path: Path) -> None:
    sound = tones(2, 1.5, 48_000)
    path = write_video_with_sounds(tmp_path / "v.mkv", 4.0, [sound], container="matroska", sound_from_s=1.0)
    found = original(path, 0.0, 4.0)

    assert found.sound is not None
    assert found.sound.samples == 4 * 48_000
    loud = np.flatnonzero(np.abs(found.sound.waveform[0]) > 0.05) / 48_000
    assert (loud[0], loud[-1]) == pytest.approx((1.0, 2.5), abs=0.03)
    assert [warning.code for warning in found.warnings] == [WarningCode.ORIGINAL_AUDIO_MISSING]
    assert found.warnings[0].text.startswith("The original has sound for 1.5")


def test_a_video_without_sound_and_a_section_without_sound_are_told_apart(tmp_path: Path) -> None:
    silent = write_video(tmp_path / "silent.mp4", regular(25, 25))
    short = write_video_with_sounds(tmp_path / "short.mp4", 8.0, [tones(2, 1.0, 48_000)])

    for path, start_s, text in (
        (silent, 0.0, "The video has no original sound to mix in."),
        (short, 4.0, "The original has no sound in this section."),
        (short, 7.0, "The original has no sound in this section."),
    ):
        found = original(path, start_s, 0.5)
        assert found.sound is None
        assert [(warning.code, warning.text) for warning in found.warnings] == [
            (WarningCode.ORIGINAL_AUDIO_MISSING, text)
        ]


def damaged(path: Path, packets: slice) -> Path:
    """Overwrite packets of the audio track with zeros."""
    with av.open(str(path)) as container:
        broken = [bytes(packet) for packet in container.demux(audio=0) if packet.size][packets]
    content = path.read_bytes()
    for packet in broken:
        assert content.count(packet) == 1
        content = content.replace(packet, b"\xff" * len(packet))
    path.write_bytes(content)
    return path


def test_packets_that_cannot_be_decoded_are_silence_and_how_much_is_said(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 96_000)).astype(np.float32)
    path = write_video_with_sounds(tmp_path / "v.mkv", 2.0, [noise], container="matroska", codec="flac")
    found = original(damaged(path, slice(4, 8)), 0.0, 2.0)

    assert found.sound is not None
    (warning,) = found.warnings
    assert warning.code == WarningCode.ORIGINAL_AUDIO_DAMAGED
    assert warning.text.startswith("The original sound is damaged: 0.38 s of 2.00 s of it could not be decoded (")
    missing = np.flatnonzero(~found.sound.waveform.any(axis=0))
    assert len(missing) == 4 * 4608
    assert np.abs(found.sound.waveform[:, missing[-1] + 1 :] - noise[:, missing[-1] + 1 :]).max() < 1e-4


def test_a_track_of_which_nothing_can_be_decoded_is_said_and_not_raised(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 48_000)).astype(np.float32)
    path = write_video_with_sounds(tmp_path / "v.mkv", 1.0, [noise], container="matroska", codec="flac")
    found = original(damaged(path, slice(0, None)), 0.0, 1.0)

    assert found.sound is None
    assert [warning.code for warning in found.warnings] == [WarningCode.ORIGINAL_AUDIO_DAMAGED]


def test_a_codec_that_nothing_decodes_is_said_and_not_raised(tmp_path: Path) -> None:
    path = write_video_with_sounds(tmp_path / "v.mkv", 1.0, [tones(2, 1.0, 48_000)], container="matroska", codec="flac")
    path.write_bytes(path.read_bytes().replace(b"A_FLAC", b"A_XYZW"))
    found = original(path, 0.0, 1.0)

    assert found.sound is None
    assert [warning.code for warning in found.warnings] == [WarningCode.ORIGINAL_AUDIO_DAMAGED]


def test_channels_that_change_within_the_section_become_what_they_were(tmp_path: Path) -> None:
    parts = []
    for layout, codec_channels in (("stereo", 2), ("mono", 1)):
        name = tmp_path / f"{layout}.ts"
        sound = [tones(codec_channels, 2.0, 48_000)]
        parts.append(write_video_with_sounds(name, 2.0, sound, container="mpegts", codec="ac3", layouts=[layout]))
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    found = original(path, 0.0, 4.0).sound

    assert found is not None
    assert found.layout == "stereo"
    assert pitches(found.waveform[:, 10_000:80_000], 48_000) == [0, 1]
    assert pitches(found.waveform[:, 110_000:180_000], 48_000) == [0, 0]


def test_the_samples_of_a_section_have_an_upper_bound() -> None:
    assert original_sound_bytes(8.0) == 8 * 192_000 * 8 * 4
    assert original_sound_bytes(1e-9) == 8 * 4


@pytest.mark.parametrize("audio_format", ["wav", "flac", "mp3", "opus", "m4a"])
def test_the_right_channel_stays_the_right_channel_in_the_delivered_mix(tmp_path: Path, audio_format: str) -> None:
    left, right = sine(500, 2.0, 44_100, amplitude=0.3), sine(900, 2.0, 44_100, amplitude=0.1)
    path = write_video_with_sounds(tmp_path / "v.mp4", 2.0, [np.stack((left, right))], rate=44_100)
    found = original(path, 0.5, 1.0).sound
    assert found is not None
    effect = Sound.mono(sine(2000, 1.0, 16_000), 16_000)
    mixed = mix(effect, found, gain_db=0.0, duck_db=None, loudness_lufs=None)
    written = write_audio(tmp_path / "mix", mixed.sound, audio_format)
    sound, rate = sound_of(tmp_path / "mix")

    assert (written.sample_rate_hz, written.layout) == (rate, "stereo")
    assert [strength(sound[0], rate, pitch) for pitch in (500, 900, 2000)] == pytest.approx([0.3, 0, 0.177], abs=0.01)
    assert [strength(sound[1], rate, pitch) for pitch in (500, 900, 2000)] == pytest.approx([0, 0.1, 0.177], abs=0.01)
