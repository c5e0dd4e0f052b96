"""Colours of still pictures: profiles, printers' colours, levels of more than eight bits."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from mmaudio_model.media.frames import ImageFrame
from mmaudio_model.media.image import read_image
from mmaudio_model.media.probe import MediaLimits
from tests.unit.mmaudio_model.media.heif import heic
from tests.unit.mmaudio_model.media.icc import SRGB, grey_profile, in_srgb, rgb_profile, srgb_levels

SIZE = 16
ORANGE = (200, 120, 40)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def read(content: bytes) -> ImageFrame:
    return read_image(io.BytesIO(content), clip_size=SIZE, limits=MediaLimits())


def colour(frame: ImageFrame) -> np.ndarray:
    return frame.clip[0, SIZE // 2, SIZE // 2].astype(int)


def plain(mode: str, level: Any) -> Image.Image:
    return Image.new(mode, (32, 32), level)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_a_wide_profile_is_converted_to_srgb(kind: str) -> None:
    options = {"quality": 95} if kind != "TIFF" else {}
    frame = read(encoded(plain("RGB", ORANGE), kind, icc_profile=rgb_profile(), **options))

    assert np.abs(colour(frame) - in_srgb(ORANGE)).max() <= 3
    assert frame.warnings == ()


def test_a_phones_heic_is_converted_by_its_profile() -> None:
    frame = read(heic(np.asarray(plain("RGB", ORANGE)), profile=rgb_profile()))

    assert np.abs(colour(frame) - in_srgb(ORANGE)).max() <= 3


def test_a_picture_in_srgb_stays_exactly_as_it_is() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = Image.fromarray(pixels)

    assert np.array_equal(read(encoded(picture, icc_profile=own)).clip, read(encoded(picture)).clip)


def test_transparency_stays_where_a_profile_is_applied() -> None:
    half = plain("RGBA", (*ORANGE, 128))
    expected = in_srgb(ORANGE) * 128 / 255 + 255 * 127 / 255

    assert np.abs(colour(read(encoded(half, icc_profile=rgb_profile()))) - expected).max() <= 2


def test_a_palette_is_converted_by_its_profile() -> None:
    palette = plain("P", 1)
    palette.putpalette([0, 0, 0, *ORANGE])

    assert np.abs(colour(read(encoded(palette, icc_profile=rgb_profile()))) - in_srgb(ORANGE)).max() <= 2


def test_a_grey_profile_is_applied() -> None:
    frame = read(encoded(plain("L", 100), icc_profile=grey_profile(1.0)))

    assert np.abs(colour(frame) - srgb_levels(np.array(100 / 255))).max() <= 2


@pytest.mark.parametrize(
    ("picture", "profile"),
    [
        (plain("RGB", ORANGE), b"no profile at all"),
        (plain("RGB", ORANGE), rgb_profile(SRGB)[:200]),
        (plain("RGB", ORANGE), grey_profile(1.0)),
        (plain("CMYK", (0, 100, 200, 50)), rgb_profile()),
    ],
    ids=["noise", "cut off", "of another kind", "of another kind for printers"],
)
def test_a_broken_profile_is_a_warning_and_no_failure(picture: Image.Image, profile: bytes) -> None:
    kind = "TIFF"
    frame = read(encoded(picture, kind, icc_profile=profile))

    assert np.array_equal(frame.clip, read(encoded(picture, kind)).clip)
    assert [warning.code for warning in frame.warnings] == ["picture_read"]
    assert "profile" in frame.warnings[0].text


@pytest.mark.parametrize(
    ("picture", "kind", "grey", "warned"),
    [
        (Image.fromarray(np.full((32, 32), 0.5, np.float32)), "TIFF", 127, True),
        (Image.fromarray(np.full((32, 32), 128.0, np.float32)), "TIFF", 128, True),
        (Image.fromarray(np.full((32, 32), 30_000, np.int32)), "TIFF", 116, True),
        (Image.fromarray(np.full((32, 32), 30_000, np.uint16)), "TIFF", 117, False),
        (Image.fromarray(np.full((32, 32), 30_000, np.uint16)), "PNG", 117, False),
    ],
)
def test_levels_of_more_than_eight_bits_are_scaled(picture: Image.Image, kind: str, grey: int, warned: bool) -> None:
    frame = read(encoded(picture, kind))

    assert np.abs(colour(frame) - grey).max() <= 1
    assert bool(frame.warnings) == warned


def test_colours_in_lab_are_converted() -> None:
    picture = ImageCms.applyTransform(
        plain("RGB", ORANGE),
        ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"),
    )
    assert picture is not None

    assert np.abs(colour(read(encoded(picture, "TIFF"))) - ORANGE).max() <= 4


def test_the_gamma_of_a_png_is_ignored() -> None:
    content = encoded(plain("RGB", ORANGE))
    place = content.index(b"IDAT") - 4
    with_gamma = content[:place] + bytes.fromhex("0000000467414d41000186a031e8965f") + content[place:]

    assert np.array_equal(read(with_gamma).clip, read(content).clip)


@pytest.mark.parametrize(("primaries", "transfer", "said"), [(9, 16, "HDR"), (12, 13, "wider than sRGB")])
def test_colours_that_are_declared_wide_without_a_profile_are_named(primaries: int, transfer: int, said: str) -> None:
    frame = read(heic(np.asarray(plain("RGB", ORANGE)), nclx=(primaries, transfer)))

    assert said in frame.warnings[0].text
    assert read(heic(np.asarray(plain("RGB", ORANGE)), nclx=(1, 13))).warnings == ()
