"""Pictures of phones: HEIC files of several kinds, and what libheif is kept from."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmaudio_model.errors import MediaInvalidError, MediaTooLargeError
from mmaudio_model.media.image import read_image
from mmaudio_model.media.probe import MediaLimits
from tests.unit.mmaudio_model.media.heif import heic
from tests.unit.mmaudio_model.media.icc import in_srgb

DATA = Path(__file__).parents[3] / "data" / "media" / "heic"
SIZE = 32
GREEN, RED, BLUE = (30, 200, 30), (220, 30, 30), (30, 30, 220)
PICTURE = np.zeros((64, 96, 3), np.uint8)
PICTURE[:32], PICTURE[32:] = RED, BLUE
PICTURE[:32, :48] = GREEN
NAMES = "RGB"


def corners(content: bytes) -> str:
    """Return the colours of the upper left, upper right, lower left and lower right corner."""
    clip = read_image(io.BytesIO(content), clip_size=SIZE, limits=MediaLimits()).clip[0]
    return "".join(NAMES[int(clip[y, x].argmax())] for y in (3, 28) for x in (3, 28))


def test_a_heic_is_read() -> None:
    assert corners(heic(PICTURE)) == "GRBB"


@pytest.mark.parametrize(("turns", "expected"), [(1, "RBGB"), (2, "BBRG"), (3, "BGBR")])
def test_it_is_turned_as_its_header_says(turns: int, expected: str) -> None:
    assert corners(heic(PICTURE, turns=turns)) == expected


@pytest.mark.parametrize(("mirror", "expected"), [(0, "BBGR"), (1, "RGBB")])
def test_it_is_mirrored_as_its_header_says(mirror: int, expected: str) -> None:
    assert corners(heic(PICTURE, mirror=mirror)) == expected


def test_an_orientation_in_its_exif_data_is_not_applied_again() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = exif.tobytes().removeprefix(b"Exif\0\0")

    assert corners(heic(PICTURE, turns=3, exif=content)) == corners(heic(PICTURE, turns=3))
    assert corners(heic(PICTURE, exif=content)) == corners(heic(PICTURE))


def test_a_grid_of_tiles_and_ten_bits_are_read() -> None:
    assert corners(heic(PICTURE, grid=3)) == "GRBB"
    assert corners(heic(PICTURE, ten_bits=True)) == "GRBB"
    assert corners(heic(PICTURE, brand=b"mif1")) == "GRBB"


def test_of_a_burst_the_main_picture_is_read_with_a_warning() -> None:
    frame = read_image(io.BytesIO(heic(PICTURE, pictures=3)), clip_size=SIZE, limits=MediaLimits())

    assert "only the main one was read" in frame.warnings[0].text


@pytest.mark.parametrize("side", [11_000, 20_000])
def test_a_declared_size_beyond_the_limit_is_refused_before_decoding(side: int) -> None:
    with pytest.raises(MediaTooLargeError, match=r"pixels; at most 120\.0 megapixels are allowed"):
        corners(heic(PICTURE, declared=(side, side)))


def test_a_bitstream_that_is_larger_than_declared_is_refused_by_the_decoder() -> None:
    limits = MediaLimits(max_image_pixels=32 * 32)
    with pytest.raises(MediaInvalidError) as caught:
        read_image(io.BytesIO(heic(PICTURE, declared=(32, 32))), clip_size=SIZE, limits=limits)
    assert "Security limit exceeded" in str(caught.value.__cause__)


def test_the_limit_of_one_picture_does_not_stay_for_the_next() -> None:
    small = MediaLimits(max_image_pixels=100)
    with pytest.raises(MediaTooLargeError):
        read_image(io.BytesIO(heic(PICTURE)), clip_size=SIZE, limits=small)

    assert corners(heic(PICTURE)) == "GRBB"


@pytest.mark.parametrize("name", ["plain", "ten_bits", "thumbnail", "transparent", "profile"])
def test_files_of_another_program_are_read(name: str) -> None:
    frame = read_image(io.BytesIO((DATA / f"{name}.heic").read_bytes()), clip_size=SIZE, limits=MediaLimits())

    assert frame.warnings == ()
    expected = {"transparent": (255, 255, 255), "profile": in_srgb(GREEN)}.get(name, GREEN)
    assert np.abs(frame.clip[0, 3, 3].astype(int) - expected).max() <= 6
    assert int(frame.clip[0, 28, 28].argmax()) == NAMES.index("B")
