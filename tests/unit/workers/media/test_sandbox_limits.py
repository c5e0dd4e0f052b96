"""Time limits that follow the work."""

from __future__ import annotations

import pytest

from mmaudio_model.media.probe import MediaLimits
from mmaudio_model.media.source_facts import SourceFacts
from workers.media.sandbox_limits import ENCODE_PIXELS_PER_S, READ_PIXELS_PER_S, SandboxLimits, section_pixels

LIMITS = SandboxLimits(cpu_s=240, wall_s=120.0, max_wall_s=900.0)
SMALL = SourceFacts(pixels=640 * 360, frame_rate=25.0, duration_s=60.0)
LARGE = SourceFacts(pixels=3840 * 2160, frame_rate=60.0, duration_s=60.0)


def wall_s(source: SourceFacts, *, start_s: float = 0.0, duration_s: float = 8.0, per_s: float) -> float:
    return LIMITS.time_for(section_pixels(source, start_s, duration_s, MediaLimits()), pixels_per_s=per_s)


def test_more_pixels_get_more_time_between_floor_and_ceiling() -> None:
    assert 120 < wall_s(SMALL, per_s=READ_PIXELS_PER_S) < 125
    assert pytest.approx(wall_s(LARGE, per_s=READ_PIXELS_PER_S)) == 120 + 8 * 60 * 3840 * 2160 / 40e6
    assert wall_s(LARGE, per_s=READ_PIXELS_PER_S) < wall_s(LARGE, per_s=ENCODE_PIXELS_PER_S)
    assert wall_s(LARGE, duration_s=30.0, per_s=ENCODE_PIXELS_PER_S) == 900


def test_what_is_decoded_before_the_section_counts() -> None:
    beginning, middle, later = (
        wall_s(LARGE, start_s=start_s, per_s=READ_PIXELS_PER_S) for start_s in (0.0, 5.0, 600.0)
    )
    assert beginning < middle < later
    assert later == wall_s(LARGE, start_s=10.0, per_s=READ_PIXELS_PER_S)


def test_an_absurd_frame_rate_counts_as_the_frames_that_may_be_decoded() -> None:
    fast = SourceFacts(pixels=100, frame_rate=1e6, duration_s=None)
    assert section_pixels(fast, 0.0, 8.0, MediaLimits(max_decoded_frames=500)) == 50_000
    assert section_pixels(fast, 0.0, 8.0, MediaLimits(max_decoded_pixels=4000)) == 4000


def test_processor_time_grows_with_wall_time() -> None:
    assert [LIMITS.cpu_for(seconds) for seconds in (120.0, 240.0, 900.0)] == [240, 480, 1800]
    assert SandboxLimits(wall_s=100.0, cpu_s=1).cpu_for(0.1) == 1


def test_a_ceiling_below_the_floor_does_not_lower_it() -> None:
    assert SandboxLimits(wall_s=2000.0, max_wall_s=900.0).time_for(1e15, pixels_per_s=1.0) == 2000


def test_a_lack_of_memory_names_the_limit_and_its_setting() -> None:
    limits = SandboxLimits(memory_bytes=300 * 1024**2)
    message = limits.with_setting("Encoding a picture of 64x64 pixels needs more memory than is allowed.")
    assert message.startswith("Encoding a picture of 64x64 pixels needs more memory than the allowed 300 MiB;")
    assert message.endswith("(MMAUDIO_DECODE_MEMORY_BYTES).")
    assert limits.with_setting("The file is empty.") == "The file is empty."
