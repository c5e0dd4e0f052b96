"""Pictures to show the model: noise of the right size."""

from __future__ import annotations

import numpy as np

from mmaudio_model.lengths import frame_counts
from mmaudio_model.media.frames import ImageFrame, VideoFrames
from mmaudio_model.variants import get_variant

TINY = get_variant("tiny_16k")


def noise(seed: int, count: int, size: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def moving_picture(duration_s: float, *, seed: int = 0) -> VideoFrames:
    """Frames that change from one to the next, as long as asked for."""
    clip_frames, sync_frames = frame_counts(duration_s)
    clip = noise(seed, clip_frames, TINY.clip.frame_size)
    return VideoFrames(clip=clip, sync=noise(seed + 1, sync_frames, TINY.sync.frame_size), duration_s=duration_s)


def still_picture(*, seed: int = 0) -> ImageFrame:
    return ImageFrame(clip=noise(seed, 1, TINY.clip.frame_size))
