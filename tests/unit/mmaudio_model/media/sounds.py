"""Videos with any kind of sound track, and sounds whose channels can be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame

FPS = 5
PACKET_SAMPLES = 1024


def tones(channels: int, seconds: float, sample_rate_hz: int, *, amplitude: float = 0.2) -> np.ndarray:
    """Return a tone of 300 Hz in the first channel, and 100 Hz more in each further one, float32."""
    times = np.arange(round(seconds * sample_rate_hz)) / sample_rate_hz
    pitches = 300 + 100 * np.arange(channels)
    return (amplitude * np.sin(2 * np.pi * pitches[:, None] * times)).astype(np.float32)


def pitches(sound: np.ndarray, sample_rate_hz: int, *, least: float = 0.02) -> list[int | None]:
    """Return which of `tones` each channel has; None where it is silent."""
    found: list[int | None] = []
    for channel in sound:
        spectrum = np.abs(np.fft.rfft(channel * np.hanning(len(channel))))
        pitch = np.argmax(spectrum) * sample_rate_hz / len(channel)
        found.append(round((pitch - 300) / 100) if np.abs(channel).max() > least else None)
    return found


def bursts(sample_rate_hz: int, seconds: float, times_s: Sequence[float]) -> np.ndarray:
    """Return mono silence with short bursts that begin at these times, float32 (samples,)."""
    sound = np.zeros(round(seconds * sample_rate_hz), np.float32)
    burst = 0.8 * np.hanning(300) * np.sin(np.arange(300) * 0.6)
    for time_s in times_s:
        start = round(time_s * sample_rate_hz)
        sound[start : start + 300] = burst
    return sound


def lag(sound: np.ndarray, expected: np.ndarray) -> int:
    """Return by how many samples a sound is later than expected."""
    size = len(sound) + len(expected)
    match = np.fft.irfft(np.fft.rfft(sound, size) * np.conj(np.fft.rfft(expected, size)), size)
    place = int(np.argmax(match))
    return place if place < len(sound) else place - size


def write_video_with_sounds(
    path: Path,
    seconds: float,
    sounds: Sequence[np.ndarray],
    *,
    container: str = "mp4",
    codec: str = "aac",
    rate: int = 48_000,
    layouts: Sequence[str] = ("stereo",),
    default: int | None = None,
    left_out_s: Sequence[tuple[float, float]] = (),
    sound_from_s: float = 0.0,
) -> Path:
    """Write a video with audio tracks, each float32 (channels, samples).

    Args:
        default: which of the tracks is marked as the default one; None: as the muxer does.
        left_out_s: the packets of the audio tracks that begin in these times are left out.
        sound_from_s: when the sound begins.
    """
    with av.open(str(path), "w", format=container) as out:
        video: Any = out.add_stream("libvpx" if container == "webm" else "mpeg4", rate=FPS)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        packets: list[Packet] = []
        tracks: list[Any] = [out.add_stream(codec, rate=rate, layout=layout) for layout in layouts]
        for index in range(round(seconds * FPS)):
            frame = VideoFrame(64, 64, "yuv420p")
            frame.pts = index
            packets += video.encode(frame)
        packets += video.encode(None)
        for index, (track, sound, layout) in enumerate(zip(tracks, sounds, layouts, strict=True)):
            if default is not None:
                track.disposition = Disposition.default if index == default else 0
            encoded = _encoded(track, sound, rate, layout, round(sound_from_s * rate))
            packets += [
                packet for packet in encoded if not any(begin <= _time(packet) < end for begin, end in left_out_s)
            ]
        for packet in sorted(packets, key=_time):
            out.mux(packet)
    return path


def _encoded(track: Any, sound: np.ndarray, rate: int, layout: str, first: int) -> list[Packet]:
    packets: list[Packet] = []
    for start in range(0, sound.shape[1], PACKET_SAMPLES):
        part = np.ascontiguousarray(sound[:, start : start + PACKET_SAMPLES].T).reshape(1, -1)
        frame = AudioFrame.from_ndarray(part, format="flt", layout=layout)
        frame.sample_rate, frame.pts = rate, first + start
        packets += track.encode(frame)
    return packets + track.encode(None)


def _time(packet: Packet) -> Fraction:
    assert packet.dts is not None
    assert packet.time_base is not None
    return packet.dts * packet.time_base
