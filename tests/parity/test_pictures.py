"""Frames and pictures are read as the published program reads them, where that is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.media.probe import MediaLimits
from mmaudio_model.media.reference import read_image_exactly, read_video_frames_exactly
from mmaudio_model.variants import get_variant
from tests.parity.vectors import DATA, case
from tests.unit.mmaudio_model.media.videos import write_video

VARIANT = get_variant("small_16k")
SIZES = {"clip_size": VARIANT.clip.frame_size, "sync_size": VARIANT.sync.frame_size}
# The same 8-bit levels; only the last bit of their conversion to float32 may differ.
SAME_LEVEL = 1e-6
VIDEOS = [
    *("video_late_start_2s", "video_rot90_odd_2s", "video_v24_2s", "video_v24_8s", "video_v25_1.3s", "video_v25_2s"),
    *("video_v25_short_2s", "video_v2997_2s", "video_v60_1.7s", "video_vfr_2s"),
]


def as_floats(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() * (1 / 255)


@pytest.mark.parametrize("name", VIDEOS)
def test_each_sample_is_the_published_frame(name: str) -> None:
    recorded = case(name)
    options = recorded.options
    with (DATA / options["file"]).open("rb") as file:
        frames = read_video_frames_exactly(
            file, duration_s=options["duration_requested"], **SIZES, limits=MediaLimits()
        )

    assert list(frames.clip_indices) == recorded.expected("clip_source_index").tolist()
    assert list(frames.sync_indices) == recorded.expected("sync_source_index").tolist()
    assert frames.video.duration_s == options["duration_used"]
    assert recorded.difference("clip_frames", as_floats(frames.video.clip)) <= SAME_LEVEL
    assert recorded.difference("sync_frames", as_floats(frames.video.sync) * 2 - 1) <= SAME_LEVEL


@pytest.mark.parametrize("name", ["image_photo_odd", "image_tiny"])
def test_a_picture_is_stretched_as_published(name: str) -> None:
    recorded = case(name)
    with (DATA / recorded.options["file"]).open("rb") as file:
        image = read_image_exactly(file, clip_size=SIZES["clip_size"], limits=MediaLimits())

    assert recorded.difference("clip_frames", as_floats(image.clip)) <= SAME_LEVEL


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_other_pictures_than_rgb_are_refused_as_published(mode: str) -> None:
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.new(mode, (32, 32)).save(file, "PNG")
    file.seek(0)

    with pytest.raises(MediaInvalidError, match="only RGB"):
        read_image_exactly(file, clip_size=96, limits=MediaLimits())


def test_a_video_that_gives_no_frame_for_clip_is_refused(tmp_path: Path) -> None:
    # One frame at 0 s: within 0.04 s of it, CLIP would see nothing.
    video = write_video(tmp_path / "one_frame.mp4", [0.0])

    with video.open("rb") as file, pytest.raises(MediaInvalidError, match="less than one frame for CLIP"):
        read_video_frames_exactly(file, duration_s=2.0, **SIZES, limits=MediaLimits())
