"""The `bext` chunk: where on the clock a sound begins, in samples, exactly."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.media.audio import Sound, write_audio
from mmaudio_model.media.broadcast_wave import BroadcastFacts, time_reference
from mmaudio_model.media.media_warning import WarningCode
from tests.unit.mmaudio_model.media.sounds import tones

FILM, NTSC, NTSC_60 = Fraction(24_000, 1001), Fraction(30_000, 1001), Fraction(60_000, 1001)
CREATED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("timecode", "rate", "samples"),
    [
        ("00:00:00:00", Fraction(25), 0),
        ("01:00:00:00", Fraction(25), 3600 * 48_000),
        ("10:00:00:12", Fraction(25), 36_000 * 48_000 + 23_040),
        ("23:59:59:29", Fraction(30), 86_399 * 48_000 + 46_400),
        ("01:00:00:00", FILM, 172_972_800),  # 86,400 frames of 2,002 samples
        ("01:00:00:00", NTSC, 172_972_800),
        ("01:00:00;00", NTSC, 107_892 * 8008 // 5),  # 108,000 numbers less 2 in each of 54 minutes
        ("00:01:00;02", NTSC, 1800 * 8008 // 5),  # the frame after 00:00:59;29
        ("00:10:00;00", NTSC, 17_982 * 8008 // 5),
        ("00:01:00;04", NTSC_60, 3600 * 4004 // 5),
        ("01:00:00;00", NTSC_60, 215_784 * 4004 // 5),
        ("12:00:00.00", NTSC, round(Fraction(1_294_704 * 8008, 5))),
    ],
)
def test_a_timecode_is_counted_in_frames_and_given_in_samples(timecode: str, rate: Fraction, samples: int) -> None:
    assert time_reference(timecode, rate, 48_000) == samples


def test_a_day_of_drop_frame_timecode_follows_the_clock() -> None:
    last = time_reference("23:59:59;29", NTSC, 48_000)
    assert 24 * 3600 * 48_000 - last == pytest.approx(48_000 * 1001 / 30_000, abs=0.1 * 48_000)


@pytest.mark.parametrize(
    ("timecode", "rate"),
    [
        ("1:00:00:00", Fraction(25)),
        ("24:00:00:00", Fraction(25)),
        ("00:60:00:00", Fraction(25)),
        ("00:00:00:25", Fraction(25)),
        ("00:00:00;10", Fraction(25)),
        ("00:00:00;10", Fraction(30)),
        ("00:00:00;10", FILM),
        ("00:01:00;01", NTSC),
        ("00:00:00:00", Fraction(0)),
        ("", Fraction(25)),
    ],
)
def test_a_timecode_that_does_not_exist_is_refused(timecode: str, rate: Fraction) -> None:
    with pytest.raises(MediaInvalidError, match="timecode"):
        time_reference(timecode, rate, 48_000)


def chunks(content: bytes) -> dict[bytes, bytes]:
    found, place = {}, 12
    while place < len(content):
        kind, size = struct.unpack_from("<4sI", content, place)
        found[kind] = content[place + 8 : place + 8 + size]
        place += 8 + size + size % 2
    return found


def written(path: Path, facts: BroadcastFacts | None) -> tuple[dict[bytes, bytes], list[WarningCode]]:
    result = write_audio(path, Sound(tones(2, 0.5, 48_000), 48_000, "stereo"), "wav", broadcast=facts)
    return chunks(path.read_bytes()), [warning.code for warning in result.warnings]


def test_a_wav_says_where_its_sound_begins(tmp_path: Path) -> None:
    facts = BroadcastFacts("Take 1 of clip.mov – wind", CREATED, "10:00:00:12", Fraction(25))
    found, warnings = written(tmp_path / "sound.wav", facts)
    bext = found[b"bext"]

    assert warnings == []
    assert bext[:256].rstrip(b"\0") == b"Take 1 of clip.mov ? wind"
    assert bext[256:288].rstrip(b"\0") == b"mmaudio-platform"
    assert bext[320:338] == b"2026-03-0405:06:07"
    low, high, version = struct.unpack_from("<IIH", bext, 338)
    assert (low + (high << 32), version) == (36_000 * 48_000 + 23_040, 1)
    assert bext[602:].rstrip(b"\0") == b"A=PCM,F=48000,W=24,M=stereo,T=mmaudio-platform\r\n"


def test_a_reference_beyond_32_bits_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    facts = BroadcastFacts("", CREATED, "23:00:00:00", Fraction(25))
    write_audio(path, Sound.mono(np.zeros(9600, np.float32), 96_000), "wav", broadcast=facts)
    low, high = struct.unpack_from("<II", chunks(path.read_bytes())[b"bext"], 338)

    assert low + (high << 32) == 23 * 3600 * 96_000 > 2**32


def test_a_timecode_that_does_not_exist_is_left_out_and_said(tmp_path: Path) -> None:
    found, warnings = written(tmp_path / "sound.wav", BroadcastFacts("", CREATED, "99:99:99:99", Fraction(25)))

    assert warnings == [WarningCode.TIMECODE_INVALID]
    assert struct.unpack_from("<II", found[b"bext"], 338) == (0, 0)


def test_without_facts_there_is_no_chunk_and_other_formats_ignore_them(tmp_path: Path) -> None:
    facts = BroadcastFacts("", CREATED, "10:00:00:00", Fraction(25))
    write_audio(tmp_path / "sound.flac", Sound.mono(tones(1, 0.5, 48_000)[0], 48_000), "flac", broadcast=facts)

    assert b"bext" not in written(tmp_path / "sound.wav", None)[0]
    assert (tmp_path / "sound.flac").read_bytes()[:4] == b"fLaC"
