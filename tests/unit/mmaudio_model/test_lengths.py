"""Lengths follow from the duration alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmaudio_model.errors import RequestInvalidError
from mmaudio_model.lengths import frame_counts, segment_frames, sequence_lengths
from mmaudio_model.variants import SEGMENT_FRAMES, SEGMENT_STRIDE, SEGMENT_TOKENS, SYNC_FPS, VARIANTS, get_variant

variants = st.sampled_from(sorted(VARIANTS)).map(get_variant)
durations = st.floats(min_value=0.32, max_value=30)


@given(variants, durations)
def test_the_sound_is_as_long_as_asked_for_to_the_sample(variant, duration_s) -> None:
    lengths = sequence_lengths(variant, duration_s)

    assert abs(lengths.samples - duration_s * variant.sample_rate_hz) <= 0.5
    assert 0 <= lengths.decoded_samples - lengths.samples <= 2 * variant.mode.hop


@given(variants, durations)
def test_every_stream_has_at_least_one_token_and_enough_frames_behind_it(variant, duration_s) -> None:
    lengths = sequence_lengths(variant, duration_s)
    clip_frames, sync_frames = frame_counts(duration_s)

    assert lengths.latent >= 1
    assert lengths.clip == clip_frames
    segments, rest = divmod(lengths.sync, SEGMENT_TOKENS)
    assert rest == 0
    assert segments >= 1
    if variant.sync.token_a_frame:
        assert int(duration_s * SYNC_FPS) <= lengths.sync < duration_s * SYNC_FPS + SEGMENT_TOKENS
    else:
        assert sync_frames >= SEGMENT_FRAMES + (segments - 1) * SEGMENT_STRIDE


def test_published_segments_overlap_by_half_and_ours_see_each_frame_with_the_next() -> None:
    published, ours = (segment_frames(get_variant(name), 16) for name in ("small_16k", "tiny_16k"))

    assert published == [list(range(16)), list(range(8, 24))]
    assert ours[0][:6] == [0, 1, 1, 2, 2, 3]
    assert ours[1] == [frame + 8 for frame in ours[0]]


@pytest.mark.parametrize("duration_s", [-1.0, 0.0, 0.31, 30.01, float("inf"), float("nan")])
def test_a_duration_outside_the_limits_is_refused_with_the_limits(duration_s: float) -> None:
    with pytest.raises(RequestInvalidError, match=r"small_16k makes 0\.32 to 30 s"):
        sequence_lengths(get_variant("small_16k"), duration_s)
