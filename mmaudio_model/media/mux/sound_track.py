"""The new sound as packets of the written file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Disposition

from mmaudio_model.media.audio import AUDIO_FORMATS, add_audio_stream, audio_frames

OPUS_RATE_HZ = 48_000


def add_sound(out: Any, audio_format: str, sample_rate_hz: int) -> AudioStream:
    """Add the track of the new sound, which players choose."""
    # FFmpeg's muxer takes the delay of Opus to be counted at this rate, which is the codec's own.
    rate = OPUS_RATE_HZ if audio_format == "opus" else sample_rate_hz
    stream = add_audio_stream(out, AUDIO_FORMATS[audio_format], rate)
    stream.disposition = Disposition.default
    return stream


def encoded_sound(stream: Any, sound: np.ndarray, sample_rate_hz: int) -> Iterator[Packet[AudioStream]]:
    for frame in audio_frames(sound, sample_rate_hz):
        yield from stream.encode(frame)
    yield from stream.encode(None)
