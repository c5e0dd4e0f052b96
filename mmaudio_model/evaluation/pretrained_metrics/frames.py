"""Video frames in the form the pretrained networks need, read by `media.frames`."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.media.frames import VideoFrames, read_video_frames
from mmaudio_model.media.probe import MediaLimits
from mmaudio_model.media.resizing import Resize, Window, pillow_resize
from mmaudio_model.variants import CLIP_FPS


def square_frames(video: Path, *, side: int, duration_s: float) -> np.ndarray:
    """Return centre crops at 25 fps, uint8 (F, side, side, 3).

    Raises:
        MediaInvalidError: not a video.
        OSError: it cannot be opened.
    """
    return _read(video, side, duration_s, pillow_resize).sync


def uncropped_frames(video: Path, *, side: int, every_s: float, duration_s: float) -> np.ndarray:
    """Return a frame every `every_s` seconds, the shorter side `side` pixels, uint8 (T, H, W, 3).

    Raises:
        MediaInvalidError: not a video, or shorter than two pictures.
        OSError: it cannot be opened.
    """

    def keep_shape(picture: np.ndarray, _shape: tuple[int, int], _window: Window) -> np.ndarray:
        height, width = (round(side * length / min(picture.shape[:2])) for length in picture.shape[:2])
        return pillow_resize(picture, (height, width), (0, 0, height, width))

    frames = _read(video, side, duration_s, keep_shape)
    pictures = frames.clip[:: round(every_s * CLIP_FPS)][: math.ceil(duration_s / every_s)]
    if len(pictures) < 2:
        raise MediaInvalidError(f"{video} is {frames.duration_s:.1f} s long; more than {every_s:g} s are needed.")
    return pictures


def _read(video: Path, side: int, duration_s: float, resize: Resize) -> VideoFrames:
    with video.open("rb") as file:
        return read_video_frames(
            file,
            start_s=0.0,
            duration_s=duration_s,
            clip_size=side,
            sync_size=side,
            limits=MediaLimits(),
            resize=resize,
        )
