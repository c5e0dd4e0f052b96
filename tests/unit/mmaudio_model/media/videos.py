"""Small videos whose every frame carries its number, so that a test can say which frame was chosen."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.packet import Packet
from av.video.frame import VideoFrame

from mmaudio_model.media.frames import VideoFrames, read_video_frames
from mmaudio_model.media.probe import MediaLimits

SIDE = 64
BITS = 8
SOURCE_HZ = 48_000
TIME_BASE = Fraction(1, 90_000)
LIMITS = MediaLimits()
MUXER_OPTIONS = {"matroska": {"allow_raw_vfw": "1"}}


def numbered(number: int) -> np.ndarray:
    """Return a grey picture, uint8 (SIDE, SIDE, 3), that shows a number below 256 as eight upright bars."""
    bars = [255 * (number >> bit & 1) for bit in range(BITS)]
    row = np.repeat(np.array(bars, dtype=np.uint8), SIDE // BITS)
    return np.broadcast_to(row[None, :, None], (SIDE, SIDE, 3)).copy()


def number_in(picture: np.ndarray) -> int:
    """Read the number of a picture of any size, uint8 (H, W, 3), out of the middle of its bars."""
    height, width = picture.shape[:2]
    bars = [picture[height // 2, (2 * bit + 1) * width // (2 * BITS)].mean() > 127 for bit in range(BITS)]
    return sum(1 << bit for bit, bright in enumerate(bars) if bright)


def regular(count: int, rate: float, first_s: float = 0.0) -> list[float]:
    return [first_s + index / rate for index in range(count)]


def write_video(
    path: Path,
    times_s: Sequence[float],
    *,
    pictures: Sequence[np.ndarray] | None = None,
    container: str = "mp4",
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: int = 25,
    keyframe_every: int = 250,
    options: dict[str, str] | None = None,
    rotation: int = 0,
    sound: np.ndarray | None = None,
    muxer_options: dict[str, str] | None = None,
) -> Path:
    """Write a video with a picture at each of `times_s`, numbered unless `pictures` says otherwise.

    Args:
        rotation: degrees that a player turns the picture, counter-clockwise.
        sound: the video's own sound from time zero on, float32 (samples,) at SOURCE_HZ.
    """
    shown = pictures if pictures is not None else [numbered(index) for index in range(len(times_s))]
    precise = {"crf": "10", "threads": "1", "sc_threshold": "0"} if codec == "libx264" else {}
    try:
        with av.open(
            str(path), "w", format=container, options=muxer_options or MUXER_OPTIONS.get(container, {})
        ) as out:
            stream: Any = out.add_stream(codec, rate=rate, options={**precise, **(options or {})})
            stream.height, stream.width = shown[0].shape[:2]
            stream.pix_fmt = pix_fmt
            stream.codec_context.gop_size = keyframe_every
            coarse = container in {"avi", "mxf"} or codec in {"mpeg4", "mpeg2video"}
            stream.codec_context.time_base = Fraction(1, rate) if coarse else TIME_BASE
            if rotation:
                stream.set_display_rotation(rotation)
            track: Any = out.add_stream("aac", rate=SOURCE_HZ, layout="mono") if sound is not None else None
            for time_s, picture in zip(times_s, shown, strict=True):
                frame = VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
                base = stream.codec_context.time_base
                frame.pts, frame.time_base = round(time_s / base), base
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
            if sound is not None:
                frame = AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
                frame.sample_rate, frame.pts = SOURCE_HZ, 0
                out.mux(track.encode(frame))
                out.mux(track.encode(None))
    finally:
        if codec == "libsvtav1":
            # As root this encoder makes the calling thread a real-time one, and every thread that it starts later:
            # torch's threads, which wait by spinning, then let nothing else run for good.
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return path


def with_edit_list(path: Path, edits: Sequence[tuple[float, float | None]]) -> Path:
    """Replace the edit list of an MP4 whose index is at its end and whose only track is the video.

    Args:
        edits: each plays so many seconds from that time of the media on; from None on, nothing is shown.
    """
    content = path.read_bytes()
    media_scale, movie_scale = (_time_scale(content, kind) for kind in (b"mdhd", b"mvhd"))
    # version, flags, count; then duration, media time and rate 1.0 of each
    entries = struct.pack(">II", 0, len(edits)) + b"".join(
        struct.pack(">IiI", round(s * movie_scale), -1 if at is None else round(at * media_scale), 0x10000)
        for s, at in edits
    )
    return with_box(path, b"edts", _box(b"elst", entries), (b"moov", b"trak"))


def with_box(path: Path, kind: bytes, inside: bytes, parents: Sequence[bytes]) -> Path:
    """Replace what is in the first box of a kind of an MP4 whose index is at its end; `parents` are its boxes."""
    content = path.read_bytes()
    assert content.index(b"mdat") < content.index(b"moov"), "offsets would be wrong"
    index = content.index(b"moov")
    begin = content.index(kind, index) - 4
    end = begin + int.from_bytes(content[begin : begin + 4])
    box = _box(kind, inside)
    changed = bytearray(content[:begin] + box + content[end:])
    for parent in parents:
        place = content.index(parent, index) - 4
        size = int.from_bytes(content[place : place + 4]) + len(box) - (end - begin)
        changed[place : place + 4] = size.to_bytes(4)
    path.write_bytes(changed)
    return path


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _time_scale(content: bytes, kind: bytes) -> int:
    place = content.index(kind) + 16
    return int.from_bytes(content[place : place + 4])


def sine(frequency_hz: float, seconds: float, sample_rate_hz: int, *, amplitude: float = 0.25) -> np.ndarray:
    times = np.arange(round(seconds * sample_rate_hz)) / sample_rate_hz
    return (amplitude * np.sin(2 * np.pi * frequency_hz * times)).astype(np.float32)


def read(path: Path, *, start_s: float = 0.0, duration_s: float, limits: MediaLimits = LIMITS) -> VideoFrames:
    """Read a section at the size of the numbered pictures."""
    with path.open("rb") as file:
        return read_video_frames(
            file, start_s=start_s, duration_s=duration_s, clip_size=SIDE, sync_size=SIDE, limits=limits
        )


def numbers(frames: np.ndarray) -> list[int]:
    return [number_in(picture) for picture in frames]


def video_packets(path: Path) -> list[Packet]:
    """Return the packets of the video stream with something in them, in the file's order."""
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


def sound_of(path: Path) -> tuple[np.ndarray, int]:
    """Return a file's sound, float32 (channels, samples), and its rate."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
        parts = [part.to_ndarray() for frame in container.decode(stream) for part in resampler.resample(frame)]
        return np.concatenate(parts, axis=1), stream.rate


def strength(sound: np.ndarray, sample_rate_hz: int, frequency_hz: float) -> float:
    """Return the amplitude of one frequency in a sound, (samples,)."""
    times = np.arange(len(sound)) / sample_rate_hz
    window = np.hanning(len(sound))
    return float(2 * np.abs(np.sum(window * sound * np.exp(-2j * np.pi * frequency_hz * times))) / window.sum())


class WatchedFile(io.BytesIO):
    """A file that counts the bytes that were read of it."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        self.taken += len(content)
        return content
