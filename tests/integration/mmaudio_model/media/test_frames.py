"""Which frames of a video the encoders see: every frame of these videos carries its number."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

import numpy as np
import pytest

from mmaudio_model.errors import MediaInvalidError, MediaTooLargeError
from mmaudio_model.media import frames as frames_module
from mmaudio_model.media.probe import MediaLimits
from mmaudio_model.media.resizing import Resize, crop, pillow_resize, stretch, torch_resize
from mmaudio_model.variants import CLIP_FPS, SYNC_FPS
from tests.unit.mmaudio_model.media.videos import (
    SIDE,
    numbered,
    numbers,
    read,
    regular,
    with_edit_list,
    write_video,
)

RED, GREEN, BLUE, WHITE = (230, 20, 20), (20, 230, 20), (20, 20, 230), (230, 230, 230)


def shown(times_s: list[float], rate: int, duration_s: float, start_s: float = 0.0) -> list[int]:
    """Say which frame a player shows at each sample time: the last one whose time has come."""
    instants = [start_s + index / rate for index in range(round(duration_s * rate))]
    return [max(0, bisect_right(times_s, instant + 1e-9) - 1) for instant in instants]


def quarters() -> np.ndarray:
    """Return a picture whose corners are red, green (on top), blue and white."""
    corners = np.array([[RED, GREEN], [BLUE, WHITE]], dtype=np.uint8)
    return corners.repeat(SIDE // 2, axis=0).repeat(SIDE // 2, axis=1)


def corners_of(picture: np.ndarray) -> list[tuple[int, int, int]]:
    """Name the four corners, clockwise from the upper left, by the nearest of the four colours."""
    far = len(picture) * 3 // 4
    found = [picture[row, column].astype(int) for row, column in ((9, 9), (9, far), (far, far), (far, 9))]
    colours = (RED, GREEN, BLUE, WHITE)
    return [min(colours, key=lambda colour: int(np.abs(pixel - colour).sum())) for pixel in found]


@pytest.mark.parametrize("rate", [5, 10, 24, 25, 30, 60])
@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_every_sample_shows_the_frame_that_a_player_shows_at_its_instant(
    tmp_path: Path, rate: int, container: str
) -> None:
    times = regular(2 * rate, rate)
    if container == "matroska":
        times = [round(time_s, 3) for time_s in times]  # it stores milliseconds
    video = read(write_video(tmp_path / "v", times, rate=rate, container=container), duration_s=2.0)

    assert video.duration_s == pytest.approx(2.0, abs=0.002)
    assert numbers(video.clip) == shown(times, CLIP_FPS, 2.0)[: len(video.clip)]
    assert numbers(video.sync) == shown(times, SYNC_FPS, 2.0)[: len(video.sync)]
    assert len(video.clip) >= 15
    assert len(video.sync) >= 49


def test_a_video_of_25_frames_a_second_gives_each_frame_once_wherever_it_begins(tmp_path: Path) -> None:
    for first_s in (0.0, 0.04, 1.4, 3.0, 7.32):
        video = read(write_video(tmp_path / "v.mp4", regular(50, 25, first_s)), duration_s=2.0)
        assert numbers(video.sync) == list(range(50)), first_s
        assert video.duration_s == 2.0


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_a_variable_frame_rate_is_sampled_by_time_and_not_by_count(tmp_path: Path, container: str) -> None:
    gaps = [0.04, 0.2, 0.04, 0.36, 0.04, 0.04, 0.28, 0.12, 0.4, 0.08]
    times = [round(sum(gaps[:index]), 3) for index in range(len(gaps) + 1)]
    video = read(write_video(tmp_path / "v", times, container=container), duration_s=1.6)

    assert numbers(video.clip) == shown(times, CLIP_FPS, 1.6)[: len(video.clip)]
    assert numbers(video.sync) == shown(times, SYNC_FPS, 1.6)[: len(video.sync)]


def test_an_empty_edit_before_the_picture_is_no_part_of_it(tmp_path: Path) -> None:
    path = with_edit_list(write_video(tmp_path / "v.mp4", regular(50, 25)), [(3.0, None), (2.0, 0.08)])

    assert numbers(read(path, duration_s=5.0).sync) == list(range(50))


def test_what_an_edit_list_hides_at_the_beginning_is_not_seen(tmp_path: Path) -> None:
    # The codec's reordering delay of two frames is part of the media's times.
    path = with_edit_list(write_video(tmp_path / "v.mp4", regular(50, 25)), [(1.0, 1.08)])

    video = read(path, duration_s=2.0)
    assert numbers(video.sync) == list(range(25, 50))
    assert video.duration_s == 1.0


@pytest.mark.parametrize(
    ("degrees", "clockwise_from_upper_left"),
    [
        (0, [RED, GREEN, WHITE, BLUE]),
        (90, [GREEN, WHITE, BLUE, RED]),
        (180, [WHITE, BLUE, RED, GREEN]),
        (-90, [BLUE, RED, GREEN, WHITE]),
    ],
)
def test_a_rotated_video_is_seen_upright(
    tmp_path: Path, degrees: int, clockwise_from_upper_left: list[tuple[int, int, int]]
) -> None:
    path = write_video(tmp_path / "v.mp4", regular(10, 25), pictures=[quarters()] * 10, rotation=degrees)
    video = read(path, duration_s=0.4)

    assert corners_of(video.clip[0]) == clockwise_from_upper_left
    assert corners_of(video.sync[0]) == clockwise_from_upper_left


def test_a_portrait_made_by_rotation_is_cropped_as_a_portrait(tmp_path: Path) -> None:
    lying = np.full((SIDE, 2 * SIDE, 3), BLUE, dtype=np.uint8)
    lying[:, : SIDE // 2] = RED  # a quarter of the long side, which the middle square leaves out
    path = write_video(tmp_path / "v.mp4", regular(10, 25), pictures=[lying] * 10, rotation=90)
    video = read(path, duration_s=0.4)

    assert np.abs(video.sync[0].astype(int) - BLUE).max() < 60
    assert np.abs(video.clip[0, -9].astype(int) - RED).max() < 60


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
@pytest.mark.parametrize("start_s", [0.04, 0.5, 1.0, 2.0, 2.02, 3.48, 4.0])
def test_a_stretch_begins_with_the_frame_that_is_shown_at_its_start(
    tmp_path: Path, container: str, start_s: float
) -> None:
    times = regular(150, 25)
    path = write_video(tmp_path / "v", times, container=container, keyframe_every=12)
    video = read(path, start_s=start_s, duration_s=1.0)

    assert numbers(video.clip) == shown(times, CLIP_FPS, 1.0, start_s)
    assert numbers(video.sync) == shown(times, SYNC_FPS, 1.0, start_s)
    assert video.duration_s == 1.0


def test_a_stretch_longer_than_the_video_ends_with_the_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", regular(75, 25))

    assert read(path, start_s=0.0, duration_s=30.0).duration_s == 3.0
    assert read(path, start_s=2.0, duration_s=30.0).duration_s == 1.0


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
@pytest.mark.parametrize("start_s", [1.0, 9.0])
def test_a_stretch_behind_the_end_is_refused(tmp_path: Path, container: str, start_s: float) -> None:
    path = write_video(tmp_path / "v", regular(25, 25), container=container)

    with pytest.raises(MediaInvalidError, match=rf"no frame at {start_s:g} s or later; choose an earlier start"):
        read(path, start_s=start_s, duration_s=1.0)


def test_decoding_stops_at_the_end_of_the_stretch(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", regular(200, 25), keyframe_every=25)
    few = MediaLimits(max_decoded_frames=30)

    assert numbers(read(path, duration_s=1.0, limits=few).sync) == list(range(25))
    with pytest.raises(MediaTooLargeError, match="more than 30 frames; choose a shorter one"):
        read(path, duration_s=2.0, limits=few)


def test_decoding_begins_at_the_key_frame_before_the_stretch(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", regular(200, 25), keyframe_every=25)
    few = MediaLimits(max_decoded_frames=30)

    assert numbers(read(path, start_s=6.0, duration_s=1.0, limits=few).sync) == list(range(150, 175))


@pytest.mark.parametrize(("rate", "stretched", "cropped"), [(5, 10, 10), (60, 16, 50)])
def test_each_frame_is_resized_once_and_only_if_a_sample_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int, stretched: int, cropped: int
) -> None:
    calls: list[str] = []

    def counting(name: str) -> None:
        real = getattr(frames_module, name)
        monkeypatch.setattr(frames_module, name, lambda *args: [calls.append(name), real(*args)][1])

    counting("stretch")
    counting("crop")
    counting("_upright")
    video = read(write_video(tmp_path / "v.mp4", regular(2 * rate, rate), rate=rate), duration_s=2.0)

    assert (calls.count("stretch"), calls.count("crop")) == (stretched, cropped)
    assert calls.count("_upright") == len({*numbers(video.clip), *numbers(video.sync)})
    assert (len(video.clip), len(video.sync)) == (16, 50)


def test_a_video_shorter_than_a_synchformer_segment_is_read_as_it_is(tmp_path: Path) -> None:
    video = read(write_video(tmp_path / "v.mp4", regular(10, 25)), duration_s=8.0)

    assert video.duration_s == 0.4
    assert numbers(video.clip) == [0, 3, 6]
    assert numbers(video.sync) == list(range(10))


@pytest.mark.parametrize(
    ("container", "codec", "pix_fmt"),
    [
        ("mp4", "libx264", "yuv422p10le"),
        ("mp4", "libx264", "yuv444p"),
        ("mp4", "libx264", "gray"),
        ("matroska", "ffv1", "yuv422p10le"),
        ("matroska", "ffv1", "gray"),
        ("matroska", "ffv1", "gray16le"),
        ("matroska", "ffv1", "bgr0"),
        ("matroska", "ffv1", "bgra"),
        ("matroska", "rawvideo", "rgb24"),
        ("avi", "rawvideo", "bgr24"),
        ("avi", "mjpeg", "yuvj420p"),
        ("avi", "mpeg4", "yuv420p"),
        ("webm", "libvpx", "yuv420p"),
        ("webm", "libvpx-vp9", "yuv420p"),
        ("mp4", "libx265", "yuv420p10le"),
        ("mp4", "libsvtav1", "yuv420p10le"),
    ],
)
def test_pixel_formats_and_codecs_of_every_kind_are_read(
    tmp_path: Path, container: str, codec: str, pix_fmt: str
) -> None:
    path = write_video(tmp_path / "v", regular(25, 25), container=container, codec=codec, pix_fmt=pix_fmt)

    assert numbers(read(path, duration_s=1.0).sync) == list(range(25))


def test_colours_without_loss_are_read_without_loss(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "v.mkv",
        regular(10, 25),
        pictures=[quarters()] * 10,
        container="matroska",
        codec="ffv1",
        pix_fmt="bgr0",
    )

    picture = read(path, duration_s=0.4).clip[0]
    assert np.array_equal(picture[9, 9], RED)
    assert corners_of(picture) == [RED, GREEN, WHITE, BLUE]


def test_reordered_pictures_in_avi_come_in_the_order_of_showing(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi", regular(50, 25), container="avi", options={"bf": "3"})

    assert numbers(read(path, duration_s=2.0).sync) == list(range(50))


def test_several_recordings_in_one_file_are_read_one_after_the_other(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.ts", regular(25, 25), container="mpegts")
    path.write_bytes(path.read_bytes() * 4)

    video = read(path, duration_s=4.0)
    assert numbers(video.sync) == list(range(25)) * 4
    assert video.duration_s == 4.0
    for start_s in (0.96, 1.0, 1.48, 2.0, 2.96, 3.4):
        part = read(path, start_s=start_s, duration_s=0.4)
        first = round(start_s * 25)
        assert numbers(part.sync) == [number % 25 for number in range(first, first + 10)], start_s


def test_a_picture_that_grows_beyond_the_limit_in_the_middle_is_refused(tmp_path: Path) -> None:
    small = write_video(tmp_path / "small.ts", regular(25, 25), container="mpegts")
    huge = [np.tile(numbered(index), (4, 4, 1)) for index in range(25)]
    big = write_video(tmp_path / "big.ts", regular(25, 25, 1.0), container="mpegts", pictures=huge)
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + big.read_bytes())

    assert len(read(both, duration_s=0.4, limits=MediaLimits(max_pixels=2 * SIDE * SIDE)).sync) == 10
    with pytest.raises(MediaTooLargeError, match=r"256x256 pixels; at most 0\.0 megapixels"):
        read(both, duration_s=2.0, limits=MediaLimits(max_pixels=2 * SIDE * SIDE))


@pytest.mark.parametrize("resize", [pillow_resize, torch_resize])
def test_the_clip_square_ignores_the_aspect_ratio_and_the_sync_square_is_the_middle(resize: Resize) -> None:
    wide = np.zeros((40, 120, 3), dtype=np.uint8)
    wide[:, 40:80] = 255

    assert stretch(wide, 60, resize)[30, :, 0].tolist().count(255) in range(16, 22)
    assert (crop(wide, 60, resize)[:, 2:-2] == 255).all()
    assert crop(wide.transpose(1, 0, 2), 60, resize).shape == (60, 60, 3)


@pytest.mark.parametrize("shape", [(40, 120), (211, 333), (120, 50)])
def test_both_ways_to_resize_are_a_level_apart_at_most(shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)

    for square in (stretch, crop):
        by_pillow, by_torch = (square(picture, 96, resize).astype(int) for resize in (pillow_resize, torch_resize))
        assert by_pillow.shape == by_torch.shape == (96, 96, 3)
        assert np.abs(by_pillow - by_torch).max() <= 1
