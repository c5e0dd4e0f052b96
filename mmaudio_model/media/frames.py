"""Frames of a section of a video, sampled by presentation time at both encoders' rates and resized.

Decoding starts at the key frame before the section and stops at its end. Each distinct frame is converted and resized
once, so memory grows with the section's duration and not with the frame size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, partial
from typing import BinaryIO

import numpy as np
from av.video.frame import VideoFrame

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.lengths import frame_counts
from mmaudio_model.media.media_warning import MediaWarning, skipped_parts
from mmaudio_model.media.orientation import Orientation, orientation
from mmaudio_model.media.plane_scaling import Planes, PlaneScaler, is_large
from mmaudio_model.media.probe import MediaLimits, opened, time_base
from mmaudio_model.media.resizing import Resize, crop, crop_window, pillow_resize, stretch
from mmaudio_model.media.section import exact_seconds, section_frames
from mmaudio_model.media.skipping import Skipping
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
    resize: Resize | None = None,
) -> VideoFrames:
    """Read a section of a video.

    Times are relative to the first presented frame, whatever its time stamp. Rotation and mirroring in the metadata are
    applied. A frame is shown from its time until that of the next frame.

    Args:
        file: positioned at its start; it is read and sought, but not closed.
        start_s, duration_s: the section, in seconds.
        clip_size, sync_size: sides of the encoders' square inputs, in pixels.
        resize: see `media.resizing`; None: `pillow_resize`, and large pictures by `media.plane_scaling`.

    Raises:
        MediaInvalidError: not a video, or no frame of the section can be decoded.
        MediaTooLargeError: the video exceeds the limits.
    """
    section = _Section(start_s, duration_s, clip_size, sync_size, limits, resize)
    frames = section.read(file, leave_out=True)
    if frames is None:
        file.seek(0)
        frames = section.read(file, leave_out=False)
    assert frames is not None, "everything was decoded"
    return frames


@dataclass(frozen=True)
class _Section:
    start_s: float
    duration_s: float
    clip_size: int
    sync_size: int
    limits: MediaLimits
    resize: Resize | None

    def read(self, file: BinaryIO, *, leave_out: bool) -> VideoFrames | None:
        """Return the frames.

        Args:
            leave_out: do not decode what no sample shows. The result is None if it might differ: in place of a damaged
                frame the one before it is shown, which may have been left out.
        """
        clip_count, sync_count = (math.ceil(self.duration_s * rate) for rate in (CLIP_FPS, SYNC_FPS))
        clip, sync = _Sampler(CLIP_FPS, clip_count), _Sampler(SYNC_FPS, sync_count)
        scaler, end_s, skipping = PlaneScaler(), Fraction(0), None
        damaged: list[str] = []
        with opened(file, self.limits) as (container, stream):
            if leave_out:
                skipping = Skipping(partial(_is_sampled, exact_seconds(self.duration_s)), time_base(stream))
            for shown in section_frames(
                container, stream, self.start_s, self.duration_s, self.limits, damaged, skipping
            ):
                end_s = shown.until_s
                picture = _Picture(shown.frame, self.resize, scaler)
                if clip.wants(end_s):
                    clip.show(picture.stretched(self.clip_size), end_s)
                if sync.wants(end_s):
                    sync.show(picture.cropped(self.sync_size), end_s)
            if skipping is not None and (damaged or skipping.missed):
                return None
        if not end_s:
            raise MediaInvalidError(_nothing_there(self.start_s, bool(damaged)))
        wanted_clip, wanted_sync = frame_counts(float(end_s))
        return VideoFrames(
            clip=clip.stacked()[:wanted_clip],
            sync=sync.stacked()[:wanted_sync],
            duration_s=float(end_s),
            warnings=(skipped_parts(len(damaged)),) if damaged else (),
        )


class _Picture:
    """A frame that is converted when it is first asked for, and once."""

    def __init__(self, frame: VideoFrame, resize: Resize | None, scaler: PlaneScaler) -> None:
        self._frame, self._resize, self._scaler = frame, resize, scaler

    def stretched(self, size: int) -> np.ndarray:
        if self._is_large((size, size)):
            return self._scaler.stretch(self._planes, size)
        return stretch(self._pixels, size, self._resize or pillow_resize)

    def cropped(self, size: int) -> np.ndarray:
        shape, _ = crop_window((self._frame.height, self._frame.width), size)
        if self._is_large(shape):
            return self._scaler.crop(self._planes, size)
        return crop(self._pixels, size, self._resize or pillow_resize)

    def _is_large(self, shape: tuple[int, int]) -> bool:
        frame = self._frame
        return self._resize is None and is_large(frame.width, frame.height, shape) and not has_alpha(frame)

    @cached_property
    def _pixels(self) -> np.ndarray:
        return _upright(self._frame)

    @cached_property
    def _planes(self) -> Planes:
        turned = orientation(self._frame)
        planes = self._scaler.planes(self._frame)
        if turned == Orientation():
            return planes
        red, green, blue = (np.ascontiguousarray(turned.applied(plane)) for plane in planes)
        return red, green, blue


def _is_sampled(end_s: Fraction, time_s: Fraction, until_s: Fraction) -> bool:
    """Return whether a sample time lies in a part of the section; what comes after it ends the reading."""
    return time_s >= end_s or any(
        -(-max(time_s, Fraction(0)) * rate // 1) < min(until_s, end_s) * rate for rate in (CLIP_FPS, SYNC_FPS)
    )


def _upright(frame: VideoFrame) -> np.ndarray:
    """Return a frame as RGB, uint8 (H, W, 3), turned and mirrored as its metadata ask for, transparency on white."""
    if has_alpha(frame):
        layered = frame.to_ndarray(format="rgba", threads=1).astype(np.uint16)
        opaque = layered[..., 3:]
        picture: np.ndarray = ((layered[..., :3] * opaque + 255 * (255 - opaque) + 127) // 255).astype(np.uint8)
    else:
        picture = frame.to_ndarray(format="rgb24", threads=1)
    return orientation(frame).applied(picture)


def has_alpha(frame: VideoFrame) -> bool:
    return any(component.is_alpha for component in frame.format.components)


def _nothing_there(start_s: float, damaged: bool) -> str:
    if damaged:
        return "The video is damaged: none of its frames can be decoded."
    if start_s:
        return f"The video has no frame at {start_s:g} s or later; choose an earlier start."
    return "The video has no frames."
