"""The new sound as packets of the written file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from av.audio.stream import AudioStream
from av.packet import Packet

from mmaudio_model.media.audio import Sound, audio_frames


def encoded_sound(stream: Any, sound: Sound) -> Iterator[Packet[AudioStream]]:
    for frame in audio_frames(sound):
        yield from stream.encode(frame)
    yield from stream.encode(None)


def packet_time_s(packet: Packet[AudioStream]) -> float:
    return float((packet.dts or 0) * (packet.time_base or 0))
