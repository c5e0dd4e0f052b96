"""What is said about the length of a video."""

from __future__ import annotations

import pytest

from mmaudio_model.media.media_warning import MediaWarning, WarningCode
from mmaudio_model.source_length import length_warnings


def said(duration_s: float, requested_s: float | None, *, start_s: float = 0.0, source_s: float | None) -> list[str]:
    warnings = length_warnings(duration_s, requested_s, start_s=start_s, longest_s=8.0, source_s=source_s)
    return [f"{warning.code}: {warning.text}" for warning in warnings]


@pytest.mark.parametrize(
    ("duration_s", "requested_s", "start_s", "source_s"),
    [
        (8.0, None, 0.0, 8.0),
        (8.0, None, 0.0, 8.04),
        (8.0, None, 0.0, None),
        (8.0, None, 52.0, 60.0),
        (8.0, 8.0, 0.0, 60.0),
        (7.96, 8.0, 0.0, 60.0),
        (5.0, None, 0.0, 60.0),  # the sound of the file is longer than its picture
    ],
)
def test_what_needs_no_word(
    duration_s: float, requested_s: float | None, start_s: float, source_s: float | None
) -> None:
    assert said(duration_s, requested_s, start_s=start_s, source_s=source_s) == []


def test_a_video_that_goes_on_and_one_that_ends_are_said() -> None:
    assert said(8.0, None, source_s=60.0) == ["video_longer: Only the first 8 s of the video's 60.00 s are used."]
    assert said(8.0, None, start_s=4.5, source_s=60.0) == [
        "video_longer: Only 8 s, from 4.5 s on, of the video's 60.00 s are used."
    ]
    assert length_warnings(2.0, 5.0, start_s=0.0, longest_s=8.0, source_s=2.0) == (
        MediaWarning(WarningCode.VIDEO_SHORTER, "The video has 2.00 s of the requested 5 s; the sound is as long."),
    )
