"""Mixes a video's original sound into a new one."""

from __future__ import annotations

from typing import Any, BinaryIO

import av
import numpy as np
from av.error import FFmpegError

from mmaudio_model.media.probe import MediaLimits, first_time_s, opened


def mix_original(
    source: BinaryIO,
    waveform: np.ndarray,
    sample_rate_hz: int,
    start_s: float,
    gain_db: float,
    limits: MediaLimits,
    warnings: list[str],
) -> np.ndarray:
    """Mix the video's original sound into the waveform."""
    with opened(source, limits) as (container, stream):
        if not container.streams.audio:
            warnings.append("The video has no original sound to mix in.")
            return waveform
        original = _original_sound(container, first_time_s(stream) + start_s, len(waveform), sample_rate_hz)
    return np.clip(waveform + original * 10 ** (gain_db / 20), -1.0, 1.0).astype(np.float32)


def _original_sound(container: Any, from_s: float, samples: int, sample_rate_hz: int) -> np.ndarray:
    """Decode `samples` mono samples of the first audio stream from the container time `from_s` on."""
    stream = container.streams.audio[0]
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=sample_rate_hz)
    sound = np.zeros(samples, dtype=np.float32)
    if from_s > 1:
        container.seek(int((from_s - 0.5) / stream.time_base), stream=stream, backward=True)
    place: int | None = None
    try:
        for frame in container.decode(stream):
            if place is None:
                place = round(((frame.time or 0.0) - from_s) * sample_rate_hz)
            for part in resampler.resample(frame):
                place = _lay(sound, part.to_ndarray()[0], place)
            if place >= samples:
                break
    except FFmpegError:
        pass  # mix what could be decoded
    return sound


def _lay(sound: np.ndarray, part: np.ndarray, place: int) -> int:
    """Write a part at an index that may be out of range; return the index after it."""
    begin, end = max(place, 0), min(place + len(part), len(sound))
    if begin < end:
        sound[begin:end] = part[begin - place : end - place]
    return place + len(part)
