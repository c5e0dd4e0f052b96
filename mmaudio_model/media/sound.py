"""The sound of a section of a video, mono at a given sample rate. Only training needs it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.media.probe import MediaLimits, first_time_s, opened

SEEK_FROM_S = 5.0
SEEK_EARLY_S = 1.0
"""Seek this much earlier, since codecs need some frames to decode correctly."""


def read_sound(
    file: BinaryIO, *, start_s: float, duration_s: float, sample_rate_hz: int, limits: MediaLimits
) -> np.ndarray:
    """Return the sound of a section, float32 (samples,), mono, in [-1, 1].

    It is shorter if the sound ends within the section, and empty after its end. Times are relative to the first
    presented frame, as in `read_video_frames`; sound that starts later is preceded by silence.

    Raises:
        MediaInvalidError: not a video, or its sound is missing or damaged.
        MediaTooLargeError: the video exceeds the limits.
    """
    with opened(file, limits) as (container, video):
        if not container.streams.audio:
            raise MediaInvalidError("The video has no sound.")
        stream = container.streams.audio[0]
        origin_s = first_time_s(video) + start_s
        try:
            sound = _read(container, stream, origin_s, duration_s, sample_rate_hz, seek=start_s >= SEEK_FROM_S)
        except FFmpegError as exc:
            raise MediaInvalidError(f"The sound is damaged: {exc}.") from exc
    clipped: np.ndarray = np.clip(sound, -1.0, 1.0)
    return clipped


def _read(
    container: InputContainer, stream: AudioStream, origin_s: float, duration_s: float, rate: int, *, seek: bool
) -> np.ndarray:
    if seek and stream.time_base is not None:
        container.seek(int((origin_s - SEEK_EARLY_S) / stream.time_base), stream=stream, backward=True)
    frames = _frames(container, stream)
    first = next(frames, None)
    if seek and (first is None or first.time is None or first.time > origin_s):
        container.seek(0)  # the index is missing or wrong
        frames = _frames(container, stream)
        first = next(frames, None)
    if first is None:
        return np.zeros(0, np.float32)
    # Only the first time stamp is used; after it, samples are counted.
    begins = round(((first.time or 0.0) - origin_s) * rate)
    wanted = round(duration_s * rate)
    resampler = AudioResampler(format="flt", layout="mono", rate=rate)
    parts: list[np.ndarray] = [np.zeros(max(0, begins), np.float32)]
    end = begins
    for frame in _and_then(first, frames):
        for given in resampler.resample(frame):
            samples = given.to_ndarray().reshape(-1)
            parts.append(samples[max(0, -end) :] if end < 0 else samples)
            end += len(samples)
        if end >= wanted:
            break
    else:
        for given in resampler.resample(None):
            samples = given.to_ndarray().reshape(-1)
            parts.append(samples[max(0, -end) :] if end < 0 else samples)
            end += len(samples)
    return np.concatenate(parts)[:wanted] if end > 0 else np.zeros(0, np.float32)


def _frames(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    for packet in container.demux(stream):
        yield from packet.decode()


def _and_then(first: AudioFrame, rest: Iterator[AudioFrame]) -> Iterator[AudioFrame | None]:
    yield first
    yield from rest
