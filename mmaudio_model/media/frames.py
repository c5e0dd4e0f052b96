"""Frames of a section of a video, sampled by presentation time at both encoders' rates and resized.

Decoding starts at the key frame before the section and stops at its end. Each distinct frame is converted and resized
once, so memory grows with the section's duration and not with the frame size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import av
import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mmaudio_model.errors import MediaInvalidError, MediaTooLargeError
from mmaudio_model.lengths import frame_counts
from mmaudio_model.media.media_warning import MediaWarning
from mmaudio_model.media.probe import MediaLimits, first_time_s, frame_rate, opened, seek_keyframe, too_many_pixels
from mmaudio_model.media.resizing import Resize, crop, pillow_resize, stretch
from mmaudio_model.variants import CLIP_FPS, SYNC_FPS

# Below this start, decoding from the beginning is cheaper and more reliable than seeking.
SEEK_FROM_S = 2.0
# Tolerance for equal times, which are differences of doubles.
SAME_INSTANT_S = 1e-6


@dataclass(frozen=True)
class VideoFrames:
    """Frames for the encoders, uint8 RGB: clip (T, size, size, 3) at 8 fps, sync (F, size, size, 3) at 25 fps."""

    clip: np.ndarray
    sync: np.ndarray
    duration_s: float
    """Duration that the video actually covers, in seconds."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageFrame:
    """A still picture: uint8 RGB, clip (1, size, size, 3)."""

    clip: np.ndarray
    warnings: tuple[MediaWarning, ...] = ()


@dataclass
class _Sampler:
    """Assigns to each sample time k / rate the frame shown at that instant."""

    rate: int
    count: int
    frames: list[np.ndarray] = field(default_factory=list)
    chosen: list[int] = field(default_factory=list)
    _shown: np.ndarray | None = None

    def wants(self, until_s: float) -> bool:
        """Return whether a sample time before `until_s` has no frame yet."""
        return len(self.chosen) < self.count and len(self.chosen) / self.rate < until_s - SAME_INSTANT_S

    def show(self, picture: np.ndarray, until_s: float) -> None:
        """Use `picture` for all sample times before `until_s`."""
        self.frames.append(picture)
        while self.wants(until_s):
            self.chosen.append(len(self.frames) - 1)

    def stacked(self) -> np.ndarray:
        return np.stack([self.frames[index] for index in self.chosen])


def read_video_frames(
    file: BinaryIO,
    *,
    start_s: float,
    duration_s: float,
    clip_size: int,
    sync_size: int,
    limits: MediaLimits,
    resize: Resize = pillow_resize,
) -> VideoFrames:
    """Read a section of a video.

    Times are relative to the first presented frame, whatever its time stamp. The rotation in the metadata is applied.
    A frame is shown from its time until that of the next frame.

    Args:
        file: positioned at its start; it is read and sought, but not closed.
        start_s, duration_s: the section, in seconds.
        clip_size, sync_size: sides of the encoders' square inputs, in pixels.
        resize: see `media.resizing`.

    Raises:
        MediaInvalidError: not a video, or no frame of the section can be decoded.
        MediaTooLargeError: the video exceeds the limits.
    """
    clip_count, sync_count = math.ceil(duration_s * CLIP_FPS), math.ceil(duration_s * SYNC_FPS)
    clip, sync = _Sampler(CLIP_FPS, clip_count), _Sampler(SYNC_FPS, sync_count)

    def show(frame: VideoFrame, until_s: float) -> None:
        """Convert a frame once, if any sample time needs it, and pass it to the samplers."""
        if not (clip.wants(until_s) or sync.wants(until_s)):
            return
        picture = _upright(frame)
        if clip.wants(until_s):
            clip.show(stretch(picture, clip_size, resize), until_s)
        if sync.wants(until_s):
            sync.show(crop(picture, sync_size, resize), until_s)

    with opened(file, limits) as (container, stream):
        damaged: list[str] = []
        shown: VideoFrame | None = None
        end_s = 0.0
        rate = float(frame_rate(stream))
        for time_s, frame in timed_frames(container, stream, start_s, limits, damaged):
            if shown is not None:
                show(shown, min(time_s, duration_s))
            shown, end_s = frame, time_s + _frame_duration_s(frame, rate)
            if time_s >= duration_s:
                end_s = duration_s
                break
        end_s = min(round(end_s, 6), duration_s)
        if shown is None or end_s <= SAME_INSTANT_S:
            raise MediaInvalidError(_nothing_there(start_s, bool(damaged)))
        show(shown, end_s)
    wanted_clip, wanted_sync = frame_counts(end_s)
    return VideoFrames(
        clip=clip.stacked()[:wanted_clip],
        sync=sync.stacked()[:wanted_sync],
        duration_s=end_s,
        warnings=(f"{len(damaged)} parts of the video are damaged and were skipped.",) if damaged else (),
    )


def timed_frames(
    container: av.container.InputContainer,
    stream: VideoStream,
    start_s: float,
    limits: MediaLimits,
    damaged: list[str],
) -> Iterator[tuple[float, VideoFrame]]:
    """Yield (seconds from the start of the section, frame) in presentation order.

    The first frame is the one shown at the start, so its time may be negative.
    """
    stream.thread_type = "AUTO"
    origin = first_time_s(stream)
    # AVI has no presentation times; those that FFmpeg derives are wrong for reordered frames.
    decoding_times = container.format.name == "avi"
    sought = False
    if start_s >= SEEK_FROM_S and stream.time_base is not None:
        seek_keyframe(container, stream, origin + start_s)
        sought = True
    before: tuple[float, VideoFrame] | None = None
    last_s, fallback_s, step_s = -math.inf, origin, 1 / float(frame_rate(stream))
    for count, frame in enumerate(_decoded(container, stream, damaged)):
        if count >= limits.max_decoded_frames:
            raise MediaTooLargeError(
                f"The section has more than {limits.max_decoded_frames} frames; choose a shorter one."
            )
        if frame.width * frame.height > limits.max_pixels:  # the size may change within the stream
            raise MediaTooLargeError(too_many_pixels(frame.width, frame.height, limits))
        stamp = _stamp_s(frame, decoding_times)
        if stamp is None:
            if sought and count == 0:
                raise MediaInvalidError("The video has no time stamps, so no section of it can be selected.")
            stamp = fallback_s
        if stamp <= last_s:  # the time stamps restart (two recordings in one file): skip the second
            continue
        last_s, fallback_s = stamp, stamp + step_s
        if count == 0 and not sought:
            origin = stamp  # the first presented frame defines time zero, whatever the header says
        time_s = stamp - origin - start_s
        if time_s <= 0:
            before = (time_s, frame)
            continue
        if before is not None:
            yield before
            before = None
        yield time_s, frame
    if before is not None:
        yield before


def _decoded(container: av.container.InputContainer, stream: VideoStream, damaged: list[str]) -> Iterator[VideoFrame]:
    """Decode packet by packet; damaged packets are recorded and skipped."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError as exc:  # the file is truncated
            damaged.append(str(exc))
            return
        if packet is None:
            return
        try:
            yield from packet.decode()
        except FFmpegError as exc:
            damaged.append(str(exc))


def _stamp_s(frame: VideoFrame, decoding_times: bool) -> float | None:
    if decoding_times:
        return None if frame.dts is None or frame.time_base is None else float(frame.dts * frame.time_base)
    return frame.time


def _frame_duration_s(frame: VideoFrame, rate: float) -> float:
    if frame.duration and frame.time_base:
        return float(frame.duration * frame.time_base)
    return 1 / rate


def _upright(frame: VideoFrame) -> np.ndarray:
    """Return a frame as RGB, uint8 (H, W, 3), with its rotation applied."""
    picture = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.rot90(picture, turns) if turns else picture


def _nothing_there(start_s: float, damaged: bool) -> str:
    if damaged:
        return "The video is damaged: none of its frames can be decoded."
    if start_s:
        return f"The video has no frame at {start_s:g} s or later; choose an earlier start."
    return "The video has no frames."
