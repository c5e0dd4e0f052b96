"""The sound of a section of a video, mono at a given sample rate. Only training needs it."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.media.audio import resampled, with_channels
from mmaudio_model.media.audio_track import read_track_section
from mmaudio_model.media.probe import MediaLimits


def read_sound(
    file: BinaryIO, *, start_s: float, duration_s: float, sample_rate_hz: int, limits: MediaLimits
) -> np.ndarray:
    """Return the sound of a section, float32 (samples,), mono, in [-1, 1].

    It is that of the default audio track, the mean of its front channels. It is shorter if the sound ends within the
    section, and empty after its end. Times are relative to the first presented frame, as in `read_video_frames`; sound
    that starts later is preceded by silence.

    Raises:
        MediaInvalidError: not a video, or its sound is missing or damaged.
        MediaTooLargeError: the video exceeds the limits.
    """
    section = read_track_section(file, start_s=start_s, duration_s=duration_s, limits=limits)
    if section is None:
        raise MediaInvalidError("The video has no sound.")
    if section.faults:
        raise MediaInvalidError(f"The sound is damaged: {section.faults[0]}.")
    if section.sound is None:
        return np.zeros(0, np.float32)
    mono = resampled(with_channels(section.sound, 1), sample_rate_hz).waveform[0]
    ends = section.given[-1][1]
    clipped: np.ndarray = np.clip(mono[: round(ends * sample_rate_hz)], -1.0, 1.0)
    return clipped
