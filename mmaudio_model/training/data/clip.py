"""A training clip: frames as the encoders read them, the sound, and captions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmaudio_model.lengths import frame_counts
from mmaudio_model.variants import Variant


@dataclass(frozen=True)
class TrainingClip:
    """A clip of a fixed length.

    Attributes:
        waveform: float32 (samples,), in [-1, 1], at the variant's rate.
        clip_frames: uint8 (T, size, size, 3), RGB, at 8 fps.
        sync_frames: uint8 (F, size, size, 3), RGB, at 25 fps.
        captions: one or more; training draws one each time the clip is used.
    """

    name: str
    waveform: np.ndarray
    clip_frames: np.ndarray
    sync_frames: np.ndarray
    captions: tuple[str, ...]


@dataclass(frozen=True)
class ClipShape:
    """Properties shared by all clips of a data set."""

    duration_s: float
    sample_rate_hz: int
    clip_size: int
    sync_size: int

    @classmethod
    def of(cls, variant: Variant, duration_s: float) -> ClipShape:
        return cls(duration_s, variant.sample_rate_hz, variant.clip.frame_size, variant.sync.frame_size)

    @property
    def samples(self) -> int:
        return round(self.duration_s * self.sample_rate_hz)

    @property
    def clip_count(self) -> int:
        return frame_counts(self.duration_s)[0]

    @property
    def sync_count(self) -> int:
        return frame_counts(self.duration_s)[1]
