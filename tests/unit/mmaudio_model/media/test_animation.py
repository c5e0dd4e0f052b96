"""Animated WebP as a video, and what is refused instead."""

from __future__ import annotations

import contextlib
import io
import random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmaudio_model.errors import MediaError, MediaInvalidError, MediaTooLargeError
from mmaudio_model.media import animation
from mmaudio_model.media.frames import read_video_frames
from mmaudio_model.media.probe import MediaLimits, opened
from mmaudio_model.media.source_container import SourceContainer, source_container
from tests.unit.mmaudio_model.media.videos import SIDE, numbered, numbers

LIMITS = MediaLimits()
DURATIONS_MS = [120, 200, 5, 80, 600]
SHOWN_MS = [120, 200, 100, 80, 600]  # as browsers show it


def animated(alpha: int | None = None, **options: Any) -> bytes:
    pictures = [Image.fromarray(numbered(number)) for number in range(len(DURATIONS_MS))]
    if alpha is not None:
        for picture in pictures:
            picture.putalpha(alpha)
    buffer = io.BytesIO()
    first, *rest = pictures
    first.save(
        buffer, "WEBP", save_all=True, append_images=rest, **{"duration": DURATIONS_MS, "lossless": True, **options}
    )
    return buffer.getvalue()


def convert(content: bytes, limits: MediaLimits = LIMITS) -> None:
    with animation.as_video(io.BytesIO(content), limits):
        pass


def test_every_frame_has_its_time_and_its_pixels() -> None:
    with opened(io.BytesIO(animated()), LIMITS) as (container, stream):
        frames = list(container.decode(stream))

    assert [round(1000 * frame.time) for frame in frames] == [0, 120, 320, 420, 500]
    assert [round(1000 * frame.duration * frame.time_base) for frame in frames] == SHOWN_MS
    assert all(np.array_equal(frame.to_ndarray(format="rgb24"), numbered(n)) for n, frame in enumerate(frames))


def test_it_is_read_as_a_video_of_one_pass() -> None:
    frames = read_video_frames(
        io.BytesIO(animated(loop=0)), start_s=0.0, duration_s=8.0, clip_size=SIDE, sync_size=SIDE, limits=LIMITS
    )

    assert frames.duration_s == pytest.approx(sum(SHOWN_MS) / 1000)
    assert numbers(frames.clip) == [0, 1, 1, 2, 4, 4, 4, 4]


def test_transparency_stays() -> None:
    with opened(io.BytesIO(animated(alpha=100)), LIMITS) as (container, stream):
        frame = next(container.decode(stream))

    assert frame.format.name == "rgba"
    assert (frame.to_ndarray()[..., 3] == 100).all()


def test_frames_that_change_only_a_part_are_laid_on_those_before() -> None:
    content = animated(minimize_size=True, allow_mixed=True, kmin=3, kmax=5)
    with opened(io.BytesIO(content), LIMITS) as (container, stream):
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]

    assert numbers(np.stack(pictures)) == [0, 1, 2, 3, 4]


def test_a_still_webp_is_no_video() -> None:
    buffer = io.BytesIO()
    Image.fromarray(numbered(3)).save(buffer, "WEBP")

    with pytest.raises(MediaInvalidError, match=r"a still picture \(WebP\), not a video; give it as `image`"):
        convert(buffer.getvalue())


def test_any_other_file_is_left_alone() -> None:
    file = io.BytesIO(b"RIFF\0\0\0\0AVI " + bytes(100))

    with animation.as_video(file, LIMITS) as video:
        assert video is file
    assert file.tell() == 0


@pytest.mark.parametrize("limits", [MediaLimits(max_pixels=SIDE * SIDE - 1), MediaLimits(max_decoded_frames=4)])
def test_limits_hold(limits: MediaLimits) -> None:
    with pytest.raises(MediaTooLargeError):
        convert(animated(), limits)


def test_all_pixels_together_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animation, "MOST_PIXELS", 5 * SIDE * SIDE - 1)

    with pytest.raises(MediaTooLargeError, match="5 frames of 64x64 pixels"):
        convert(animated())


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_cut_off_animation_is_refused(share: float) -> None:
    content = animated()

    with pytest.raises(MediaInvalidError, match="damaged or cut off"):
        convert(content[: int(share * len(content))])


def test_mutated_animations_are_read_or_refused() -> None:
    content = animated()
    chance = random.Random(4)
    for _ in range(60):
        changed = bytearray(content)
        for _ in range(chance.choice((1, 2, 8))):
            changed[chance.randrange(12, len(changed))] = chance.randrange(256)
        with contextlib.suppress(MediaError):
            convert(bytes(changed))


def test_its_kind_is_that_of_the_file_and_not_of_the_video_made_of_it() -> None:
    file = io.BytesIO(animated())
    with opened(file, LIMITS) as (container, _):
        assert source_container(container, file) is SourceContainer.WEBP
