"""Numbers of tokens, frames and samples for a duration (`N`, `T`, `S` in the paper). Pure functions.

The arithmetic matches the published model, in double precision and in the same order, since one token more or less
changes the sound. Below 0.64 s the published formulas give no synchronisation token; one segment of repeated frames is
used instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mmaudio_model.errors import RequestInvalidError
from mmaudio_model.variants import CLIP_FPS, SEGMENT_FRAMES, SEGMENT_STRIDE, SEGMENT_TOKENS, SYNC_FPS, Variant


@dataclass(frozen=True)
class SequenceLengths:
    """Token counts of one request."""

    latent: int
    clip: int
    sync: int
    decoded_samples: int
    """Samples returned by the vocoder: whole latent tokens, so up to one token more than requested."""
    samples: int
    """Samples of the final sound: the exact duration."""


def sequence_lengths(variant: Variant, duration_s: float) -> SequenceLengths:
    """Return the lengths for a duration.

    Raises:
        RequestInvalidError: the duration is outside the variant's limits.
    """
    if not variant.min_duration_s <= duration_s <= variant.max_duration_s:
        raise RequestInvalidError(
            f"Got a duration of {duration_s:g} s; {variant.name} makes {variant.min_duration_s:g} to "
            f"{variant.max_duration_s:g} s."
        )
    mode = variant.mode
    latent = math.ceil(duration_s * mode.sample_rate_hz / mode.hop / 2)
    if variant.sync.token_a_frame:
        segments = max(1, math.ceil(round(duration_s * SYNC_FPS, 6) / SEGMENT_TOKENS))
    else:
        segments = max(1, int((duration_s * SYNC_FPS - SEGMENT_FRAMES) // SEGMENT_STRIDE + 1))
    return SequenceLengths(
        latent=latent,
        clip=max(1, int(duration_s * CLIP_FPS)),
        sync=segments * SEGMENT_TOKENS,
        decoded_samples=latent * mode.hop * 2,
        samples=round(duration_s * mode.sample_rate_hz),
    )


def segment_frames(variant: Variant, sync_tokens: int) -> list[list[int]]:
    """Return the indices of the 16 frames at 25 fps of each segment; callers repeat the last frame beyond the end."""
    if variant.sync.token_a_frame:
        starts = range(0, sync_tokens, SEGMENT_TOKENS)
        return [[start + token + later for token in range(SEGMENT_TOKENS) for later in (0, 1)] for start in starts]
    starts = range(0, sync_tokens // SEGMENT_TOKENS * SEGMENT_STRIDE, SEGMENT_STRIDE)
    return [list(range(start, start + SEGMENT_FRAMES)) for start in starts]


def frame_counts(duration_s: float) -> tuple[int, int]:
    """Return the numbers of frames for the two encoders, (at 8 fps, at 25 fps), at least (1, 16)."""
    return max(1, int(duration_s * CLIP_FPS)), max(SEGMENT_FRAMES, int(duration_s * SYNC_FPS))
