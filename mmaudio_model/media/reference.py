"""Reads frames and pictures exactly as the published program does, faults included (`--reference-exact`).

Only for numerical comparison with it. Differences from `media.frames` and `media.image`, which are correct: sample
times are accumulated in double precision, so a 25 fps source is one frame late from the sixth sample on; a sample uses
the next frame instead of the one being shown; time stamps are relative to zero instead of the first frame; a section
that lacks its last samples is shortened (8 s at 25 fps become 7.96 s); rotation and EXIF orientation are ignored;
pictures must be RGB.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
from av.error import FFmpegError
from PIL import Image, UnidentifiedImageError

from mmaudio_model.errors import MediaInvalidError, MediaTooLargeError
from mmaudio_model.media.frames import ImageFrame, VideoFrames
from mmaudio_model.media.media_warning import MediaWarning, WarningCode
from mmaudio_model.media.picture_file import FORMATS
from mmaudio_model.media.probe import MediaLimits, opened
from mmaudio_model.media.resizing import crop, stretch, torch_resize
from mmaudio_model.variants import CLIP_FPS, SYNC_FPS


@dataclass
class _SummedSampler:
    """Takes the first frame at or after each sample time; the times are a running sum."""

    rate: int
    frames: list[np.ndarray] = field(default_factory=list)
    source_indices: list[int] = field(default_factory=list)
    _next_s: float = 0.0

    def wants(self, time_s: float) -> bool:
        return time_s >= self._next_s

    def take(self, picture: np.ndarray, index: int, time_s: float) -> None:
        while self.wants(time_s):
            self.frames.append(picture)
            self.source_indices.append(index)
            self._next_s += 1.0 / self.rate


@dataclass(frozen=True)
class ReferenceFrames:
    """The frames, and the index of the source frame of each sample before the section was shortened."""

    video: VideoFrames
    clip_indices: tuple[int, ...]
    sync_indices: tuple[int, ...]


def read_video_frames_exactly(
    file: BinaryIO, *, duration_s: float, clip_size: int, sync_size: int, limits: MediaLimits
) -> ReferenceFrames:
    """Read the first `duration_s` seconds of a video as the published program does.

    Raises:
        MediaInvalidError: not a video, or no frame of the section can be decoded.
        MediaTooLargeError: the video exceeds the limits.
    """
    clip, sync = _SummedSampler(CLIP_FPS), _SummedSampler(SYNC_FPS)
    count = 0
    with opened(file, limits) as (container, stream):
        stream.thread_type = "AUTO"
        try:
            for frame in container.decode(stream):
                if frame.time is None:
                    raise MediaInvalidError("The video has no time stamps.")
                if frame.time > duration_s:
                    break
                if frame.time < 0:
                    continue
                if count >= limits.max_decoded_frames:
                    raise MediaTooLargeError(
                        f"The section has more than {limits.max_decoded_frames} frames; choose a shorter one."
                    )
                if clip.wants(frame.time) or sync.wants(frame.time):
                    picture = frame.to_ndarray(format="rgb24", threads=1)
                    if clip.wants(frame.time):
                        clip.take(stretch(picture, clip_size, torch_resize), count, frame.time)
                    if sync.wants(frame.time):
                        sync.take(crop(picture, sync_size, torch_resize), count, frame.time)
                count += 1
        except FFmpegError as exc:
            raise MediaInvalidError("The video is damaged.") from exc
    if not clip.frames or not sync.frames:
        raise MediaInvalidError("The video has no frames.")
    warnings: list[MediaWarning] = []
    for sampler in (clip, sync):
        if len(sampler.frames) / sampler.rate < duration_s:
            duration_s = len(sampler.frames) / sampler.rate
            warnings = [MediaWarning(WarningCode.VIDEO_SHORTER, f"The video covers only {duration_s:g} s.")]
    if duration_s < 1 / CLIP_FPS:
        raise MediaInvalidError(f"The video covers only {duration_s:g} s, less than one frame for CLIP.")
    return ReferenceFrames(
        VideoFrames(
            clip=np.stack(clip.frames[: int(float(CLIP_FPS) * duration_s)]),
            sync=np.stack(sync.frames[: int(float(SYNC_FPS) * duration_s)]),
            duration_s=duration_s,
            warnings=tuple(warnings),
        ),
        tuple(clip.source_indices),
        tuple(sync.source_indices),
    )


def read_image_exactly(file: BinaryIO, *, clip_size: int, limits: MediaLimits) -> ImageFrame:
    """Read an RGB picture as stored.

    Raises:
        MediaInvalidError: not a picture, or not an RGB one.
        MediaTooLargeError: it has too many pixels.
    """
    with contextlib.ExitStack() as stack:
        try:
            picture = stack.enter_context(Image.open(file, formats=FORMATS))
            if picture.width * picture.height > limits.max_image_pixels:
                raise MediaTooLargeError(
                    f"The picture has {picture.width}x{picture.height} pixels; that exceeds the limit."
                )
            pixels = np.array(picture)
        except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as exc:
            raise MediaInvalidError("The file is not a readable picture.") from exc
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise MediaInvalidError(f"The picture's mode is {picture.mode}; the published program reads only RGB.")
    return ImageFrame(clip=stretch(pixels, clip_size, torch_resize)[None])
