"""Frames of a section of a video, sampled by presentation time at both encoders' rates and resized.

Decoding starts at the key frame before the section and stops at its end. Each distinct frame is converted and resized
once, so memory grows with the section's duration and not with the frame size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import BinaryIO

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.lengths import frame_counts
from mmaudio_model.media.media_warning import MediaWarning, WarningCode
from mmaudio_model.media.probe import MediaLimits, opened
from mmaudio_model.media.resizing import Resize, crop, pillow_resize, stretch
from mmaudio_model.media.section import section_frames
from mmaudio_model.variants import CLIP_FPS, SYNC_FPS


@dataclass(frozen=True)
class VideoFrames:
    """Frames for the encoders, uint8 RGB: clip (T, size, size, 3) at 8 fps, sync (F, size, size, 3) at 25 fps."""

    clip: np.ndarray
    sync: np.ndarray
    duration_s: float
    """Duration that the video actually covers, in seconds."""
    warnings: tuple[MediaWarning, ...] = ()


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

    def wants(self, until_s: Fraction) -> bool:
        """Return whether a sample time before `until_s` has no frame yet."""
        return len(self.chosen) < self.count and Fraction(len(self.chosen), self.rate) < until_s

    def show(self, picture: np.ndarray, until_s: Fraction) -> None:
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

    def show(frame: VideoFrame, until_s: Fraction) -> None:
        """Convert a frame once, if any sample time needs it, and pass it to the samplers."""
        if not (clip.wants(until_s) or sync.wants(until_s)):
            return
        picture = _upright(frame)
        if clip.wants(until_s):
            clip.show(stretch(picture, clip_size, resize), until_s)
        if sync.wants(until_s):
            sync.show(crop(picture, sync_size, resize), until_s)

    end_s = Fraction(0)
    damaged: list[str] = []
    with opened(file, limits) as (container, stream):
        for shown in section_frames(container, stream, start_s, duration_s, limits, damaged):
            show(shown.frame, shown.until_s)
            end_s = shown.until_s
    if not end_s:
        raise MediaInvalidError(_nothing_there(start_s, bool(damaged)))
    wanted_clip, wanted_sync = frame_counts(float(end_s))
    skipped = f"{len(damaged)} parts of the video are damaged and were skipped."
    return VideoFrames(
        clip=clip.stacked()[:wanted_clip],
        sync=sync.stacked()[:wanted_sync],
        duration_s=float(end_s),
        warnings=(MediaWarning(WarningCode.VIDEO_DAMAGED, skipped),) if damaged else (),
    )


def timed_frames(
    container: av.container.InputContainer,
    stream: VideoStream,
    start_s: float,
    limits: MediaLimits,
    damaged: list[str],
) -> Iterator[tuple[float, VideoFrame]]:
    """Yield (seconds from the start of the section, frame) in presentation order.

    The first frame is the one shown at the start.
    """
    for shown in section_frames(container, stream, start_s, None, limits, damaged):
        yield float(shown.time_s), shown.frame


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
