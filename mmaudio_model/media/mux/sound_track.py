"""The new sound as packets of the written file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Disposition

from mmaudio_model.media.audio import AUDIO_FORMATS, FittedSound, Sound, add_audio_stream, audio_frames, fitted_sound


def add_sound(out: Any, audio_format: str, sound: Sound) -> tuple[AudioStream, FittedSound]:
    """Add the track of the new sound, which players choose; return it with the sound as its codec can hold it."""
    chosen = AUDIO_FORMATS[audio_format]
    fitted = fitted_sound(sound, chosen)
    stream = add_audio_stream(out, chosen, fitted.sound)
    stream.disposition = Disposition.default
    return stream, fitted


def encoded_sound(stream: Any, sound: Sound) -> Iterator[Packet[AudioStream]]:
    for frame in audio_frames(sound):
        yield from stream.encode(frame)
    yield from stream.encode(None)
