"""Writes sound files with FFmpeg, under a temporary name that is replaced when the file is complete."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream

from mmaudio_model.errors import RequestInvalidError

CHUNK_SAMPLES = 16_384


@dataclass(frozen=True)
class AudioFormat:
    """Codec and container of a format; `rates` are the codec's sample rates in Hz (None: any)."""

    container: str
    codec: str
    sample_format: str
    content_type: str
    bit_rate: int | None = None
    rates: tuple[int, ...] | None = None


AUDIO_FORMATS = MappingProxyType(
    {
        # s32 makes FFmpeg write 24-bit FLAC, which is lossless for practical purposes.
        "flac": AudioFormat("flac", "flac", "s32", "audio/flac"),
        "wav": AudioFormat("wav", "pcm_s24le", "s32", "audio/wav"),
        "mp3": AudioFormat("mp3", "libmp3lame", "fltp", "audio/mpeg", bit_rate=192_000),
        "opus": AudioFormat("ogg", "libopus", "flt", "audio/ogg", bit_rate=128_000, rates=(16_000, 24_000, 48_000)),
        "m4a": AudioFormat("ipod", "aac", "fltp", "audio/mp4", bit_rate=192_000),
    }
)


def write_audio(path: Path, waveform: np.ndarray, sample_rate_hz: int, audio_format: str) -> None:
    """Write a mono waveform, float32 (samples,), to `path`; values beyond [-1, 1] are clipped.

    Raises:
        RequestInvalidError: the format is unknown.
    """
    if audio_format not in AUDIO_FORMATS:
        raise RequestInvalidError(f"Got audio format {audio_format!r}; there are {', '.join(AUDIO_FORMATS)}.")
    chosen = AUDIO_FORMATS[audio_format]
    draft = path.with_name(f".{path.name}.part")
    try:
        with av.open(str(draft), "w", format=chosen.container) as container:
            stream = add_audio_stream(container, chosen, sample_rate_hz)
            for frame in audio_frames(waveform, sample_rate_hz):
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def add_audio_stream(container: Any, chosen: AudioFormat, sample_rate_hz: int) -> AudioStream:
    """Add a mono stream to an output container, at the next higher sample rate the codec supports."""
    rate = sample_rate_hz
    if chosen.rates is not None and rate not in chosen.rates:
        rate = next((known for known in chosen.rates if known >= rate), chosen.rates[-1])
    stream: AudioStream = container.add_stream(chosen.codec, rate=rate, layout="mono", format=chosen.sample_format)
    if chosen.bit_rate is not None:
        stream.bit_rate = chosen.bit_rate
    return stream


def audio_frames(waveform: np.ndarray, sample_rate_hz: int) -> Iterator[AudioFrame]:
    """Cut a mono waveform into frames with time stamps."""
    clipped = np.clip(waveform, -1.0, 1.0).astype(np.float32)
    for start in range(0, len(clipped), CHUNK_SAMPLES):
        part = np.ascontiguousarray(clipped[start : start + CHUNK_SAMPLES][None])
        frame = AudioFrame.from_ndarray(part, format="flt", layout="mono")
        frame.sample_rate = sample_rate_hz
        frame.pts = start
        yield frame
