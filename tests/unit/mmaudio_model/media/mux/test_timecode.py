"""Timecodes count frames, and drop numbers where the clock needs it."""

from __future__ import annotations

from fractions import Fraction

import pytest

from mmaudio_model.media.mux.timecode import Timecode

NTSC = Fraction(30_000, 1001)


@pytest.mark.parametrize(
    ("text", "rate", "frames", "later"),
    [
        ("01:00:00:00", Fraction(25), 0, "01:00:00:00"),
        ("01:00:59:24", Fraction(25), 1, "01:01:00:00"),
        ("10:00:00:00", Fraction(24_000, 1001), 24, "10:00:01:00"),
        ("23:59:59:24", Fraction(25), 1, "00:00:00:00"),
        ("00:00:59;29", NTSC, 1, "00:01:00;02"),
        ("00:09:59;29", NTSC, 1, "00:10:00;00"),
        ("01:00:00;00", NTSC, 17_982, "01:10:00;00"),
        ("23:59:59;29", NTSC, 1, "00:00:00;00"),
        ("00:00:59;59", Fraction(60_000, 1001), 1, "00:01:00;04"),
        ("00:00:59:29", NTSC, 1, "00:01:00:00"),
        ("00:00:00:99", Fraction(120), 1, "00:00:00:100"),
    ],
)
def test_a_timecode_goes_on_by_frames(text: str, rate: Fraction, frames: int, later: str) -> None:
    timecode = Timecode.parsed(text, rate)

    assert timecode is not None
    assert str(timecode) == text
    assert str(timecode.advanced(frames)) == later


def test_dropped_numbers_are_never_given() -> None:
    timecode = Timecode.parsed("00:00:00;00", NTSC)
    assert timecode is not None

    seen = [str(timecode.advanced(count)) for count in range(18_000)]

    assert len(set(seen)) == len(seen)
    assert seen == sorted(seen)
    for minute in range(1, 10):
        assert f"00:{minute:02}:00;00" not in seen
        assert f"00:{minute:02}:00;01" not in seen


@pytest.mark.parametrize(
    "text", ["", "01:00:00", "25:00:00:00", "00:60:00:00", "00:00:00:25", "a1:00:00:00", "1:2:3:4"]
)
def test_what_is_no_timecode_at_the_rate_is_none(text: str) -> None:
    assert Timecode.parsed(text, Fraction(25)) is None
